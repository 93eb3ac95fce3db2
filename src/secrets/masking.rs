//! How a secret is found in a text, however it is written there.

use std::collections::BTreeSet;

/// Of a secret that is cut off where the text ends, so much is hidden.
const SHORTEST_START: usize = 8;

/// How often what is escaped may have been escaped again.
pub(super) const LEVELS: usize = 4;

/// Where `part` ends if the text begins with it, or with its start and breaks off there.
pub(super) fn end_of(part: &[u8], text: &[u8]) -> Option<usize> {
    let begins = matches!((part, text), ([a, ..], [b, ..]) if is_escape(*b) || same(*a, *b));
    if !begins {
        return None;
    }
    let mut longest = None;
    // How far the part and the text were read. What is escaped can be read in more than one way.
    let mut states = BTreeSet::from([(0, 0)]);
    while let Some((known, at)) = states.pop_first() {
        let (missing, rest) = (&part[known..], &text[at..]);
        let breaks_off = match rest {
            [] => true,
            _ => is_escape(rest[0]) && rest.len() < LONGEST_ESCAPE && escaped(rest, 0).is_empty(),
        };
        if missing.is_empty() {
            longest = longest.max(Some(at));
        } else if breaks_off && known >= SHORTEST_START {
            longest = longest.max(Some(text.len()));
        }
        let Some(first) = rest.first() else { continue };
        if missing.first().is_some_and(|byte| same(*byte, *first)) {
            states.insert((known + 1, at + 1));
        }
        if is_escape(*first) {
            for (bytes, length) in escaped(rest, LEVELS) {
                let fits =
                    missing.len() >= bytes.len() && bytes.iter().zip(missing).all(|(a, b)| same(*a, *b));
                if fits {
                    states.insert((known + bytes.len(), at + length));
                }
            }
        }
    }
    longest
}

fn same(a: u8, b: u8) -> bool {
    // In a query, a '+' is a space.
    let is_space = |byte| byte == b' ' || byte == b'+';
    a.eq_ignore_ascii_case(&b) || is_space(a) && is_space(b)
}

fn is_escape(byte: u8) -> bool {
    byte == b'%' || byte == b'\\'
}

/// `\u00e4`
const LONGEST_ESCAPE: usize = 6;

/// What an escape at the start of the text may stand for, with its length: `%XX` (RFC 3986, section 2.1), or a backslash
/// and what follows (RFC 8259, section 7). Either may have been escaped again.
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
