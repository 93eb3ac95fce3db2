//! How a secret is found in a text, in any encoding.

use std::collections::{BTreeMap, BTreeSet};

/// If a secret is cut off at the end of the text, it is hidden if this many bytes of it are there. A shorter secret may
/// be part of a word: it is hidden only where it stands alone.
const LONG: usize = 8;

/// How many levels of escaping are undone.
pub(super) const LEVELS: usize = 4;

/// How many steps the search may take for each byte of a text and each secret, on average. Text with more possible
/// readings than that is hidden as a whole.
pub(super) const STEPS: usize = 32;

/// A text in which secrets are looked for.
pub(super) struct Search<'a> {
    text: &'a str,
    /// What each escape may mean, by where it begins: the bytes, and where the escape ends.
    readings: BTreeMap<usize, Vec<(Vec<u8>, usize)>>,
    /// Where escapes end.
    ends: BTreeSet<usize>,
    /// Which bytes are not shown.
    hidden: Vec<bool>,
    /// How many steps the search has taken.
    pub(super) steps: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let escapes = (0..bytes.len()).filter(|at| is_escape(bytes[*at]));
        let read =
            |at: usize| escaped(&bytes[at..], LEVELS).into_iter().map(move |(means, n)| (means, at + n));
        let readings: BTreeMap<_, Vec<_>> = escapes.map(|at| (at, read(at).collect())).collect();
        let ends = readings.values().flatten().map(|(_, end)| *end).collect();
        Self { text, readings, ends, hidden: vec![false; text.len()], steps: 0 }
    }

    /// Hides a secret wherever it occurs, even if the text ends within it. The text is read once from start to end,
    /// with all its readings in parallel.
    pub(super) fn hide(&mut self, part: &[u8]) {
        let text = self.text.as_bytes();
        let last_step = self.steps + STEPS * (text.len() + 1);
        // How far the text and the part have been read, and where the earliest such match began.
        let mut states = BTreeMap::new();
        for at in 0..=text.len() {
            if self.may_begin(part, at) {
                states.insert((at, 0), at);
            }
            while let Some(state) = states.first_entry().filter(|state| state.key().0 == at) {
                let ((_, known), start) = state.remove_entry();
                self.steps += 1;
                if self.steps > last_step {
                    let first = states.into_values().fold(start, usize::min);
                    self.hidden[first..].fill(true);
                    return;
                }
                let missing = &part[known..];
                if missing.is_empty() && self.may_end(part, at) {
                    self.hidden[start..at].fill(true);
                }
                if known >= LONG && self.breaks_off(at) {
                    self.hidden[start..].fill(true);
                }
                let (Some(first), Some(next)) = (missing.first(), text.get(at)) else { continue };
                let mut go_on = |key| {
                    let earliest: &mut usize = states.entry(key).or_insert(start);
                    *earliest = start.min(*earliest);
                };
                if same(*first, *next) {
                    go_on((at + 1, known + 1));
                }
                for (bytes, end) in self.readings.get(&at).into_iter().flatten() {
                    let fits =
                        missing.len() >= bytes.len() && bytes.iter().zip(missing).all(|(a, b)| same(*a, *b));
                    if fits {
                        go_on((*end, known + bytes.len()));
                    }
                }
            }
        }
    }

    /// The text with `***` in place of what is hidden.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::with_capacity(self.text.len());
        let mut inside = false;
        for (at, c) in self.text.char_indices() {
            let hide = self.hidden[at..at + c.len_utf8()].contains(&true);
            match (inside, hide) {
                (false, true) => shown.push_str("***"),
                (_, false) => shown.push(c),
                (true, true) => {}
            }
            inside = hide;
        }
        shown
    }

    /// Whether `part` may begin here. A short part may not begin in the middle of a word.
    fn may_begin(&self, part: &[u8], at: usize) -> bool {
        let (Some(first), Some(next)) = (part.first(), self.text.as_bytes().get(at)) else { return false };
        let escape = self.readings.contains_key(&at);
        if !escape && !same(*first, *next) {
            return false;
        }
        let before = || self.text.get(..at).and_then(|text| text.chars().next_back());
        part.len() >= LONG || !is_of_word(*first) || self.is_between_words(at) || !is_letter(before())
    }

    /// Whether `part` may end here.
    fn may_end(&self, part: &[u8], at: usize) -> bool {
        let behind = || self.text.get(at..).and_then(|text| text.chars().next());
        let is_word = part.last().is_some_and(|last| is_of_word(*last));
        part.len() >= LONG || !is_word || self.is_between_words(at) || !is_letter(behind())
    }

    /// Whether an escape begins or ends here. It separates words.
    fn is_between_words(&self, at: usize) -> bool {
        self.ends.contains(&at) || self.readings.get(&at).is_some_and(|readings| !readings.is_empty())
    }

    /// Whether the text ends here, or within an escape that begins here.
    fn breaks_off(&self, at: usize) -> bool {
        let rest = &self.text.as_bytes()[at..];
        match rest.first() {
            None => true,
            Some(first) => is_escape(*first) && rest.len() < LONGEST_ESCAPE && escaped(rest, 0).is_empty(),
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn is_letter(c: Option<char>) -> bool {
    c.is_some_and(char::is_alphanumeric)
}

fn same(a: u8, b: u8) -> bool {
    // In a query, a '+' is a space.
    let is_space = |byte| byte == b' ' || byte == b'+';
    a.eq_ignore_ascii_case(&b) || is_space(a) && is_space(b)
}

fn is_escape(byte: u8) -> bool {
    byte == b'%' || byte == b'\\' || byte == b'&'
}

/// As in `\u00e4` and `&quot;`.
const LONGEST_ESCAPE: usize = 6;

/// What an escape at the start of the text may mean, with its length: `%XX` (RFC 3986, section 2.1), a backslash
/// sequence (RFC 8259, section 7), or a character reference of HTML. Each may have been escaped again.
fn escaped(text: &[u8], levels: usize) -> Vec<(Vec<u8>, usize)> {
    let mut found = Vec::new();
    match text {
        [b'%', rest @ ..] => {
            let mut read = 0;
            while let Some(byte) = rest.get(read..).and_then(percent).filter(|_| read <= 2 * levels) {
                read += 2;
                found.push((vec![byte], 1 + read));
                if byte != b'%' {
                    break;
                }
            }
        }
        [b'&', rest @ ..] => {
            let mut read = 0;
            for _ in 0..=levels {
                let Some((c, length)) = reference(&rest[read..]) else { break };
                read += length;
                found.push((c.to_string().into_bytes(), 1 + read));
                if c != '&' {
                    break;
                }
            }
        }
        [b'\\', rest @ ..] => {
            match rest {
                [b'n', ..] => found.push((vec![b'\n'], 2)),
                [b'r', ..] => found.push((vec![b'\r'], 2)),
                [b't', ..] => found.push((vec![b'\t'], 2)),
                [b'u', digits @ ..] => {
                    let c = digits.get(..4).and_then(hex).and_then(char::from_u32);
                    found.extend(c.map(|c| (c.to_string().into_bytes(), LONGEST_ESCAPE)));
                }
                [other, ..] => found.push((vec![*other], 2)),
                [] => {}
            }
            if levels > 0 {
                found
                    .extend(escaped(rest, levels - 1).into_iter().map(|(bytes, length)| (bytes, length + 1)));
            }
        }
        _ => {}
    }
    found
}

pub(super) fn percent(digits: &[u8]) -> Option<u8> {
    digits.get(..2).and_then(hex).and_then(|code| u8::try_from(code).ok())
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}

/// A character reference without its `&`, and its length: the five that every encoder uses, and any number.
fn reference(text: &[u8]) -> Option<(char, usize)> {
    const NAMED: [(&[u8], char); 5] =
        [(b"amp;", '&'), (b"lt;", '<'), (b"gt;", '>'), (b"quot;", '"'), (b"apos;", '\'')];
    if let Some((name, c)) = NAMED.iter().find(|(name, _)| text.starts_with(name)) {
        return Some((*c, name.len()));
    }
    let (radix, prefix) = match text {
        [b'#', b'x' | b'X', ..] => (16, 2),
        [b'#', ..] => (10, 1),
        _ => return None,
    };
    // Seven digits can write any character; allow for a leading zero or two.
    let digits = text[prefix..].iter().take(8).take_while(|byte| **byte != b';').count();
    let end = prefix + digits;
    if text.get(end) != Some(&b';') {
        return None;
    }
    let code =
        std::str::from_utf8(&text[prefix..end]).ok().and_then(|code| u32::from_str_radix(code, radix).ok());
    Some((char::from_u32(code?)?, end + 1))
}
