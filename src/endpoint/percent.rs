//! Percent-encoding (RFC 3986, section 2.1).

use crate::error::Error;

pub(crate) const LOGIN: &str = "its user name or password";

/// Undoes the percent-encoding of a part of the URL.
pub(crate) fn decode(encoded: &str, part: &str) -> Result<Box<str>, Error> {
    let wrong = |why| Error::InvalidUrl { reason: format!("{part} {why}").into() };
    let bad = || wrong("has a '%' without two hexadecimal digits behind it; write %25 for a '%'");
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let [high, low, tail @ ..] = rest else { return Err(bad()) };
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(bad);
            bytes.push(digit(*high)? << 4 | digit(*low)?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).map(Into::into).map_err(|_| wrong("is not UTF-8 once it is percent-decoded"))
}
