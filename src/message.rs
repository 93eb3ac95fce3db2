//! Messages.

mod conversions;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};

use arrayvec::{ArrayString, ArrayVec};
use tungstenite::{Bytes, Utf8Bytes};

/// A message, as the application sends and receives it.
///
/// Cloning a message shares the payload. A payload of up to 80 bytes is stored in the message itself and copied.
///
/// ```
/// use tautline::Message;
///
/// let message = Message::from(r#"{"celsius": 21.5}"#);
/// let value: serde_json::Value = message.json()?;
/// assert_eq!(value["celsius"], 21.5);
/// assert_eq!(Message::from(vec![1, 2, 3]).as_bytes(), [1, 2, 3]);
///
/// // Whatever holds text or bytes can be sent, also by reference, which copies it.
/// let (name, reading) = (String::from("boiler"), vec![0x15, 0x80]);
/// assert_eq!(Message::from(&name).as_text(), Some("boiler"));
/// assert_eq!(Message::from(&reading).as_bytes(), reading);
/// # Ok::<(), tautline::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Message {
    /// A text message. The payload is always valid UTF-8.
    Text(Text),
    /// A binary message.
    Binary(Binary),
}

/// The payload of a text message. Dereferences to [`str`].
#[derive(Clone)]
pub struct Text(Payload<ArrayString<SMALL>, Utf8Bytes>);

/// The payload of a binary message. Dereferences to `[u8]`.
#[derive(Clone)]
pub struct Binary(Payload<ArrayVec<u8, SMALL>, Bytes>);

/// A small payload is stored in the message itself: allocating memory on one thread and freeing it on another costs
/// more than all else that a message needs.
#[derive(Clone)]
enum Payload<S, L> {
    Small(S, Compress),
    Shared(L, Compress),
}

/// Whether the message may be compressed where that was agreed on.
type Compress = bool;

/// The largest payload that is stored in the message itself. With it a message is as large as the largest other event.
const SMALL: usize = 80;

/// A piece of a message, as a frame of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) position: Position,
    pub(crate) payload: Binary,
}

/// A fragment's place in its message, which always has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    First {
        text: bool,
        /// How many bytes the message has.
        of: usize,
    },
    Middle,
    Last,
}

impl<S, L> Payload<S, L> {
    fn compress(&mut self) -> &mut Compress {
        let (Self::Small(_, compress) | Self::Shared(_, compress)) = self;
        compress
    }
}

impl Binary {
    /// Whether the message may be compressed.
    pub(crate) fn may_be_compressed(&self) -> bool {
        let (Payload::Small(_, compress) | Payload::Shared(_, compress)) = self.0;
        compress
    }
}

impl Message {
    /// Returns the payload as bytes, whichever kind the message has.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(binary) => binary,
        }
    }

    /// Returns the payload of a text message, or `None` for a binary one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Returns the length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets whether the message may be compressed, on a line with [`Compression`](crate::Compression). Default `true`.
    ///
    /// Set it to `false` for what is compressed already, such as an image, and for a message that holds a secret beside text
    /// that somebody else chooses: its length would tell of the secret. The receiver sees no difference, and messages are
    /// equal with and without. A protocol that sends another message in its place has to pass it on:
    /// [`may_be_compressed`](Self::may_be_compressed).
    ///
    /// ```
    /// use tautline::Message;
    ///
    /// let image = Message::from(vec![0x89, 0x50, 0x4E, 0x47]).compress(false);
    /// assert_eq!(image.len(), 4);
    /// ```
    pub fn compress(mut self, compress: bool) -> Self {
        match &mut self {
            Self::Text(text) => *text.0.compress() = compress,
            Self::Binary(binary) => *binary.0.compress() = compress,
        }
        self
    }

    /// Whether the message may be compressed: see [`compress`](Self::compress). A protocol that makes another message of it in
    /// [`on_send`](crate::Protocol::on_send) passes this on.
    ///
    /// ```
    /// use tautline::Message;
    ///
    /// let secret = Message::from("secret").compress(false);
    /// let wrapped = Message::from(format!("<{secret}>")).compress(secret.may_be_compressed());
    /// assert!(!wrapped.may_be_compressed());
    /// ```
    pub fn may_be_compressed(&self) -> bool {
        match self {
            Self::Text(Text(Payload::Small(_, compress) | Payload::Shared(_, compress))) => *compress,
            Self::Binary(binary) => binary.may_be_compressed(),
        }
    }

    /// A part of the payload, without a copy.
    pub(crate) fn slice(&self, part: Range<usize>) -> Binary {
        Binary(match self {
            Self::Text(Text(Payload::Shared(text, compress))) => {
                Payload::Shared(Bytes::from(text.clone()).slice(part), *compress)
            }
            Self::Binary(Binary(Payload::Shared(bytes, compress))) => {
                Payload::Shared(bytes.slice(part), *compress)
            }
            small => {
                let mut piece = Binary::copied(&small.as_bytes()[part]);
                *piece.0.compress() = self.may_be_compressed();
                return piece;
            }
        })
    }
}

/// How many bytes of a payload `Debug` shows.
const SHOWN: usize = 64;

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Binary(binary) => binary.fmt(f),
        }
    }
}

/// Text as it is; of a binary message, its length.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Binary(binary) => write!(f, "<{} bytes>", binary.len()),
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() <= SHOWN {
            return write!(f, "Text({:?})", &**self);
        }
        let cut = (0..=SHOWN).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0);
        write!(f, "Text({:?}… {} bytes)", &self[..cut], self.len())
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() <= SHOWN {
            return write!(f, "Binary({:02x?})", &**self);
        }
        write!(f, "Binary({:02x?}… {} bytes)", &self[..SHOWN], self.len())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Payload::Small(text, _) => text,
            Payload::Shared(text, _) => text,
        }
    }
}

impl Deref for Binary {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Payload::Small(bytes, _) => bytes,
            Payload::Shared(bytes, _) => bytes,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq for Binary {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Binary {}

impl Hash for Binary {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        self
    }

    /// Shares this memory, unless it is too small for that to pay.
    pub(crate) fn new(text: Utf8Bytes) -> Self {
        match ArrayString::from(&text) {
            Ok(small) => Self(Payload::Small(small, true)),
            Err(_) => Self(Payload::Shared(text, true)),
        }
    }

    /// Copies these bytes.
    #[inline]
    pub(crate) fn copied(text: &str) -> Self {
        match ArrayString::from(text) {
            Ok(small) => Self(Payload::Small(small, true)),
            Err(_) => Self(Payload::Shared(text.into(), true)),
        }
    }
}

impl Binary {
    /// Shares this memory, unless it is too small for that to pay.
    pub(crate) fn new(bytes: Bytes) -> Self {
        match ArrayVec::try_from(&*bytes) {
            Ok(small) => Self(Payload::Small(small, true)),
            Err(_) => Self(Payload::Shared(bytes, true)),
        }
    }

    /// Copies these bytes.
    #[inline]
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        match ArrayVec::try_from(bytes) {
            Ok(small) => Self(Payload::Small(small, true)),
            Err(_) => Self(Payload::Shared(Bytes::copy_from_slice(bytes), true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::collections::HashSet;

    #[test]
    fn a_clone_shares_the_payload() {
        let message = Message::from(vec![7; 1000]);
        assert_eq!(message.clone().as_bytes().as_ptr(), message.as_bytes().as_ptr());
        let text = Message::from("x".repeat(1000));
        assert_eq!(text.clone().as_bytes().as_ptr(), text.as_bytes().as_ptr());
    }

    #[test]
    fn a_payload_is_the_same_however_it_is_held() {
        for size in [0, 1, SMALL - 1, SMALL, SMALL + 1, 1000] {
            let text = "x".repeat(size);
            let messages: [Message; 3] =
                [text.as_str().into(), text.clone().into(), Message::Text(Text::new(text.as_str().into()))];
            let bytes: [Message; 4] = [
                text.as_bytes().into(),
                text.clone().into_bytes().into(),
                Message::Binary(Binary::new(Bytes::copy_from_slice(text.as_bytes()))),
                Message::Binary(Message::from(format!("{text}y")).slice(0..size)),
            ];
            assert!(messages.iter().all(|message| message.as_text() == Some(&text)));
            assert!(bytes.iter().all(|message| message.as_bytes() == text.as_bytes()));
            let all: HashSet<_> = messages.iter().chain(&bytes).collect();
            assert_eq!(all.len(), 2, "one text and one binary message of {size} bytes");
            assert!(bytes.iter().cloned().all(|message| match message {
                Message::Binary(binary) => Vec::from(binary) == text.as_bytes(),
                Message::Text(_) => false,
            }));
        }
    }

    #[test]
    fn whatever_holds_text_or_bytes_can_be_sent() {
        for size in [0, SMALL, SMALL + 1] {
            let text = "é".repeat(size);
            let (bytes, value) = (text.as_bytes().to_vec(), serde_json::json!({"t": text}));
            let message = Message::from(text.as_str());
            let texts: [Message; 8] = [
                (&text).into(),
                (&text.as_str()).into(),
                text.clone().into_boxed_str().into(),
                Cow::Borrowed(text.as_str()).into(),
                Cow::<str>::Owned(text.clone()).into(),
                (&message).into(),
                Text::copied(&text).into(),
                message.clone(),
            ];
            assert!(texts.iter().all(|message| message.as_text() == Some(&text)));
            let binaries: [Message; 6] = [
                (&bytes).into(),
                (&bytes.as_slice()).into(),
                bytes.clone().into_boxed_slice().into(),
                Cow::Borrowed(bytes.as_slice()).into(),
                Cow::<[u8]>::Owned(bytes.clone()).into(),
                Binary::copied(&bytes).into(),
            ];
            assert!(
                binaries.iter().all(|message| message.as_text().is_none() && message.as_bytes() == bytes)
            );
            assert_eq!(Message::from(&value), Message::from(value.to_string()));
        }
    }

    #[test]
    fn a_byte_order_mark_in_front_of_json_is_ignored() {
        for json in ["\u{feff}[1]", "[1]"] {
            for message in [Message::from(json), json.as_bytes().into()] {
                assert_eq!(message.json::<Vec<u8>>().unwrap(), [1]);
            }
        }
        for wrong in ["\u{feff}\u{feff}[1]", "[1]\u{feff}", "\u{feff}", ""] {
            assert!(Message::from(wrong).json::<Vec<u8>>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn debug_output_is_short_and_cuts_at_a_character() {
        assert_eq!(format!("{:?}", Message::from("hi")), r#"Text("hi")"#);
        assert_eq!(format!("{:?}", Message::from([0xAB, 1])), "Binary([ab, 01])");
        let long = format!("{:?}", Message::from("é".repeat(1000)));
        assert!(long.len() < 200 && long.ends_with("2000 bytes)"), "{long}");
        assert!(format!("{:?}", Message::from(vec![0; 1 << 20])).len() < 400);
    }

    #[test]
    fn a_message_displays_as_its_text() {
        assert_eq!(Message::from("hello").to_string(), "hello");
        assert_eq!(Message::from([1, 2, 3]).to_string(), "<3 bytes>");
    }
}
