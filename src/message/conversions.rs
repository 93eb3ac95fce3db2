//! What a message is made from, and what becomes of it.

use std::borrow::Cow;

use arrayvec::{ArrayString, ArrayVec};

use crate::message::{Binary, Message, Payload, Text};

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl From<Binary> for Vec<u8> {
    fn from(binary: Binary) -> Self {
        match binary.0 {
            Payload::Small(bytes, _) => bytes.to_vec(),
            Payload::Shared(bytes, _) => bytes.into(),
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(Text::copied(text))
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(match ArrayString::from(&text) {
            Ok(small) => Text(Payload::Small(small, true)),
            Err(_) => Text(Payload::Shared(text.into(), true)),
        })
    }
}

/// The value as compact JSON text.
impl From<serde_json::Value> for Message {
    fn from(value: serde_json::Value) -> Self {
        Self::from(&value)
    }
}

/// The value as compact JSON text.
impl From<&serde_json::Value> for Message {
    fn from(value: &serde_json::Value) -> Self {
        value.to_string().into()
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(match ArrayVec::try_from(&*bytes) {
            Ok(small) => Binary(Payload::Small(small, true)),
            Err(_) => Binary(Payload::Shared(bytes.into(), true)),
        })
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Binary::copied(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for Message {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

/// Conversions from a reference to a payload, which copy it.
macro_rules! from_reference {
    ($($holder:ty),*) => {$(
        impl From<$holder> for Message {
            fn from(payload: $holder) -> Self {
                (**payload).into()
            }
        }
    )*};
}

from_reference!(&String, &&str, &Vec<u8>, &&[u8]);

/// Conversions from owned or shared payloads, which copy only what is small or borrowed.
macro_rules! from_owner {
    ($($holder:ty, $owned:ident => $message:expr;)*) => {$(
        impl From<$holder> for Message {
            fn from($owned: $holder) -> Self {
                $message
            }
        }
    )*};
}

from_owner! {
    Box<str>, text => String::from(text).into();
    Cow<'_, str>, text => text.into_owned().into();
    Box<[u8]>, bytes => Vec::from(bytes).into();
    Cow<'_, [u8]>, bytes => bytes.into_owned().into();
    Text, text => Self::Text(text);
    Binary, binary => Self::Binary(binary);
    &Message, message => message.clone();
}
