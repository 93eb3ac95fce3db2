//! Messages read as JSON, and what the errors about that may say.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::error::Error;
use crate::message::Message;

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How `serde` begins the sentences in which it quotes the input.
const QUOTING: [&str; 4] = ["invalid type: ", "invalid value: ", "unknown variant ", "unknown field "];

impl Message {
    /// Parses the payload, text or binary, as JSON. A byte-order mark at its start is ignored, as RFC 8259 (section
    /// 8.1) allows.
    ///
    /// It reads whatever a client receives: `client.recv_timeout(timeout)?.json()`, the answer
    /// `client.request(question, timeout)?.json()`, or all messages, `client.messages().map(|message| message.json())`.
    ///
    /// # Errors
    /// [`Error::Json`], which holds the message, too. Its text says whether the message is no JSON or not the JSON that
    /// `T` needs, what `T` needs, and at which line and column. It does not repeat the payload.
    ///
    /// ```
    /// use tautline::{Error, Message};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Reading {
    ///     celsius: f64,
    /// }
    ///
    /// let reading: Reading = Message::from(r#"{"celsius": 21.5}"#).json()?;
    /// assert_eq!(reading.celsius, 21.5);
    ///
    /// let error = Message::from(r#"{"celsius": "warm"}"#).json::<Reading>().err().unwrap();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the message is not the JSON that was expected: invalid type: string, expected f64 at line 1 column 18"
    /// );
    /// assert!(matches!(error, Error::Json { message: Some(message), .. } if message.len() == 19));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let bytes = self.as_bytes();
        serde_json::from_slice(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes))
            .map_err(|source| Error::Json { message: Some(Arc::new(self.clone())), source: Arc::new(source) })
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { message: None, source: Arc::new(error) }
    }
}

/// Says what is wrong with a message, or with other JSON.
pub(super) fn describe(
    f: &mut fmt::Formatter<'_>,
    message: Option<&Message>,
    error: &serde_json::Error,
) -> fmt::Result {
    let what = without_values(error);
    let binary = match message {
        None => return write!(f, "the JSON can't be read or written: {what}"),
        Some(message) if message.is_empty() => {
            return f.write_str("the message is empty, and so it is no JSON");
        }
        Some(Message::Text(_)) => String::new(),
        Some(Message::Binary(binary)) => format!("binary message of {} bytes", binary.len()),
    };
    let message = if binary.is_empty() { "message" } else { &binary };
    let verdict =
        if error.classify() == Category::Data { "is not the JSON that was expected" } else { "is no JSON" };
    write!(f, "the {message} {verdict}: {what}")
}

/// The text of an error without the values that it quotes from the input. What a type's own `Deserialize` says is left
/// as it is.
pub(super) fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let (sentence, place) = text.strip_suffix(&place).map_or((&*text, ""), |sentence| (sentence, &place));
    let Some(start) = QUOTING.iter().find(|start| sentence.starts_with(*start)) else { return text };
    let rest = &sentence[start.len()..];
    let kind = &rest[..rest.find(['`', '"', ',']).unwrap_or(rest.len())];
    // Behind all that is quoted stands what was expected, or that nothing was.
    let nothing = rest.ends_with(", there are no fields") || rest.ends_with(", there are no variants");
    let expected = rest.rfind(", expected ").filter(|_| !nothing).map_or("", |at| &rest[at..]);
    format!("{}{expected}{place}", format!("{start}{kind}").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Quote {
        price: u8,
        #[serde(default)]
        side: Option<Side>,
    }

    #[derive(Debug, Deserialize)]
    enum Side {
        Buy,
        Sell,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    #[derive(Debug, Deserialize)]
    enum Never {}

    fn error<T: DeserializeOwned + fmt::Debug>(message: impl Into<Message>) -> String {
        let error = message.into().json::<T>().unwrap_err();
        let text = error.to_string();
        assert_eq!(format!("{error:?}"), text);
        text
    }

    #[test]
    fn an_error_about_json_says_where_and_what_was_expected_and_no_value() {
        for (payload, what) in [
            (r#"{"price":"s3cret"}"#, "invalid type: string, expected u8 at line 1 column 17"),
            (r#"{"price":"s3cret, expected \"x"}"#, "invalid type: string, expected u8 at line 1 column 31"),
            (r#"{"price":-77}"#, "invalid value: integer, expected u8 at line 1 column 12"),
            (r#"{"price":null}"#, "invalid type: null, expected u8 at line 1 column 13"),
            ("{\n\"price\":[]}", "invalid type: sequence, expected u8 at line 2 column 8"),
            (r#"{"price":1} s3cret"#, "trailing characters at line 1 column 13"),
            ("{}", "missing field `price` at line 1 column 2"),
            (r#"{"s3cret":1}"#, "unknown field, expected `price` or `side` at line 1 column 9"),
            (
                r#"{"price":1,"side":"s3cret"}"#,
                "unknown variant, expected `Buy` or `Sell` at line 1 column 26",
            ),
        ] {
            let kind =
                if what.starts_with("trailing") { "no JSON" } else { "not the JSON that was expected" };
            assert_eq!(error::<Quote>(payload), format!("the message is {kind}: {what}"));
        }
        let nothing = r#"{"s3cret, expected x":1}"#;
        assert!(
            error::<Nothing>(nothing).ends_with("unknown field at line 1 column 21"),
            "{}",
            error::<Nothing>(nothing)
        );
        let never = error::<Never>(r#""s3cret, expected x""#);
        assert!(never.contains("unknown variant at line 1"), "{never}");
    }

    #[test]
    fn an_error_about_json_says_what_kind_of_message_it_is() {
        for (message, text) in [
            (Message::from("s3cret"), "the message is no JSON: expected value at line 1 column 1"),
            (
                Message::from("{\"a\":"),
                "the message is no JSON: EOF while parsing a value at line 1 column 5",
            ),
            (Message::from(""), "the message is empty, and so it is no JSON"),
            (
                Message::from(b"\x01\x02"),
                "the binary message of 2 bytes is no JSON: expected value at line 1 column 1",
            ),
        ] {
            assert_eq!(error::<Value>(message), text);
        }
        assert_eq!(
            error::<Quote>(b"7"),
            "the binary message of 1 bytes is not the JSON that was expected: \
             invalid type: integer, expected struct Quote at line 1 column 1"
        );
        let ours = serde_json::from_value::<Quote>(json!({"price": "s3cret"})).unwrap_err();
        assert_eq!(
            Error::from(ours).to_string(),
            "the JSON can't be read or written: invalid type: string, expected u8"
        );
    }
}
