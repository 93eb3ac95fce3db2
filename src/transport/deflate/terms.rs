//! What is offered, and what the server makes of it (RFC 7692, section 7.1).

use crate::compression::Compression;

const NAME: &str = "permessage-deflate";

/// The value of `Sec-WebSocket-Extensions`. It has no window sizes: servers that know only some of their forms reject the
/// offer, or crash. Without `client_max_window_bits` the server can't limit ours.
pub(crate) fn offer(compression: &Compression) -> String {
    let mut offer = NAME.to_owned();
    if compression.client_no_context_takeover {
        offer.push_str("; client_no_context_takeover");
    }
    if compression.server_no_context_takeover {
        offer.push_str("; server_no_context_takeover");
    }
    offer
}

/// What the server's answer agrees to: nothing, or the offer with what the answer adds. The error says what is wrong with the
/// answer.
pub(crate) fn agree<'a>(
    offered: Option<&Compression>,
    answer: impl Iterator<Item = &'a str>,
) -> Result<Option<Compression>, String> {
    let mut agreed = None;
    for extension in answer.flat_map(|value| split(value, ',')).filter(|item| !item.is_empty()) {
        let mut parts = split(extension, ';');
        let name = parts.next().unwrap_or_default();
        let Some(offered) = offered else {
            return Err(format!("it chose the extension {extension:?}, and none was offered"));
        };
        if !name.eq_ignore_ascii_case(NAME) {
            return Err(format!("it chose the extension {extension:?}; offered: {}", offer(offered)));
        }
        if agreed.is_some() {
            return Err(format!("it chose {NAME} twice"));
        }
        let terms = parameters(parts, offered).map_err(|why| format!("it chose {extension:?}: {why}"))?;
        agreed = Some(terms);
    }
    Ok(agreed)
}

/// What the parameters of the answer make of the offer.
fn parameters<'a>(
    parameters: impl Iterator<Item = &'a str>,
    offered: &Compression,
) -> Result<Compression, String> {
    let mut seen: Vec<&str> = Vec::new();
    for parameter in parameters {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquoted(value.trim()))),
            None => (parameter, None),
        };
        if seen.contains(&name) {
            return Err(format!("{name} is there twice"));
        }
        match (name, value) {
            // Any window of the server's fits ours.
            ("client_no_context_takeover" | "server_no_context_takeover", None)
            | ("server_max_window_bits", Some("8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")) => {}
            ("client_no_context_takeover" | "server_no_context_takeover", Some(_)) => {
                return Err(format!("{name} has a value, where none is allowed"));
            }
            ("server_max_window_bits", _) => {
                return Err(format!("{name} must be a number from 8 to 15"));
            }
            ("client_max_window_bits", _) => return Err(format!("{name} was not offered")),
            _ => return Err(format!("the parameter {name:?} is unknown")),
        }
        seen.push(name);
    }
    if offered.server_no_context_takeover && !seen.contains(&"server_no_context_takeover") {
        return Err("server_no_context_takeover, which was offered, is not in it".into());
    }
    Ok(Compression {
        client_no_context_takeover: offered.client_no_context_takeover
            || seen.contains(&"client_no_context_takeover"),
        server_no_context_takeover: seen.contains(&"server_no_context_takeover"),
        ..offered.clone()
    })
}

/// The items of a list, without the white space around them. A separator inside quotes is none.
fn split(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .map(str::trim)
}

/// A value may stand in quotes (RFC 6455, section 9.1). None of ours needs an escape.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Compression {
        Compression::default()
    }

    fn answer(offered: &Compression, values: &[&str]) -> Result<Option<Compression>, String> {
        agree(Some(offered), values.iter().copied())
    }

    #[test]
    fn the_offer_says_nothing_of_windows() {
        assert_eq!(offer(&plain()), "permessage-deflate");
        let both = plain().client_no_context_takeover(true).server_no_context_takeover(true);
        assert_eq!(
            offer(&both),
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
        );
    }

    #[test]
    fn what_the_server_may_answer_is_taken() {
        assert_eq!(answer(&plain(), &[]), Ok(None));
        assert_eq!(answer(&plain(), &["", " , "]), Ok(None));
        assert_eq!(agree(None, [""].into_iter()), Ok(None));
        let ours = plain().client_no_context_takeover(true);
        let theirs = plain().server_no_context_takeover(true);
        for (values, agreed) in [
            (&["permessage-deflate"][..], plain()),
            (&["Permessage-Deflate ; server_max_window_bits=\"12\""], plain()),
            (&["", "permessage-deflate;server_max_window_bits = 8"], plain()),
            (&["permessage-deflate; client_no_context_takeover"], ours.clone()),
            (&["permessage-deflate; server_no_context_takeover, "], theirs.clone()),
        ] {
            assert_eq!(answer(&plain(), values), Ok(Some(agreed)), "{values:?}");
        }
        // The client does what it has offered, whether the answer repeats it or not.
        assert_eq!(answer(&ours, &["permessage-deflate"]), Ok(Some(ours.clone())));
        assert_eq!(answer(&theirs, &["permessage-deflate; server_no_context_takeover"]), Ok(Some(theirs)));
    }

    #[test]
    fn what_it_must_not_answer_is_named() {
        for (values, says) in [
            (
                &["x-webkit-deflate-frame"][..],
                "the extension \"x-webkit-deflate-frame\"; offered: permessage-deflate",
            ),
            (&["permessage-deflate", "permessage-deflate"], "permessage-deflate twice"),
            (&["permessage-deflate, permessage-deflate"], "permessage-deflate twice"),
            (&["permessage-deflate; client_max_window_bits=15"], "client_max_window_bits was not offered"),
            (&["permessage-deflate; client_max_window_bits"], "client_max_window_bits was not offered"),
            (&["permessage-deflate; server_max_window_bits"], "must be a number from 8 to 15"),
            (&["permessage-deflate; server_max_window_bits=7"], "must be a number from 8 to 15"),
            (&["permessage-deflate; server_max_window_bits=16"], "must be a number from 8 to 15"),
            (&["permessage-deflate; server_max_window_bits=08"], "must be a number from 8 to 15"),
            (&["permessage-deflate; server_max_window_bits=\"\""], "must be a number from 8 to 15"),
            (&["permessage-deflate; server_no_context_takeover=1"], "has a value"),
            (&["permessage-deflate; client_no_context_takeover=true"], "has a value"),
            (
                &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
                "server_no_context_takeover is there twice",
            ),
            (&["permessage-deflate; mem_level=8"], "the parameter \"mem_level\" is unknown"),
            (&["permessage-deflate;"], "the parameter \"\" is unknown"),
            (&["permessage-deflate; \"a;b\""], "is unknown"),
        ] {
            let error = answer(&plain(), values).unwrap_err();
            assert!(error.contains(says), "{values:?}: {error}");
        }
        let strict = plain().server_no_context_takeover(true);
        let error = answer(&strict, &["permessage-deflate"]).unwrap_err();
        assert!(error.contains("which was offered, is not in it"), "{error}");
        let error = agree(None, ["permessage-deflate"].into_iter()).unwrap_err();
        assert_eq!(error, "it chose the extension \"permessage-deflate\", and none was offered");
    }
}
