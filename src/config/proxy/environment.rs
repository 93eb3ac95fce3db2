//! The variables of the environment that name a proxy.

use std::ffi::OsString;

use crate::system::facts::VARIABLES_IGNORE_CASE;

/// Looks up a variable. Tests bring their own.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The names for a scheme, in the order in which they count. Each stands for its form in lower case as well.
pub(super) fn names(secure: bool) -> [&'static str; 3] {
    if secure { ["WSS_PROXY", "HTTPS_PROXY", "ALL_PROXY"] } else { ["WS_PROXY", "HTTP_PROXY", "ALL_PROXY"] }
}

/// The first of these that is set: its name and its value. The error names the variable.
///
/// `HTTP_PROXY` is ignored in a CGI program: there it is the header `Proxy` of a request, from anyone (RFC 3875, section
/// 4.1.18; CVE-2016-5385, "httpoxy").
pub(super) fn first(names: &[&str], lookup: Lookup<'_>) -> Result<Option<(String, String)>, String> {
    let cgi = lookup("REQUEST_METHOD").is_some();
    for name in names {
        for name in [name.to_ascii_lowercase(), (*name).to_owned()] {
            let forged = name == "HTTP_PROXY" || VARIABLES_IGNORE_CASE && name == "http_proxy";
            if cgi && forged {
                continue;
            }
            match lookup(&name).filter(|value| !value.is_empty()).map(OsString::into_string) {
                None => {}
                Some(Ok(value)) => return Ok(Some((name, value))),
                Some(Err(_)) => return Err(format!("the variable {name}: it is not valid Unicode")),
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::facts::no_text;

    fn found(variables: &[(&str, &str)], secure: bool) -> Option<String> {
        let lookup = |name: &str| {
            let value = variables.iter().find(|(other, _)| *other == name);
            value.map(|(_, value)| OsString::from(*value))
        };
        first(&names(secure), &lookup).unwrap().map(|(name, _)| name)
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        let mut all = vec![
            ("ALL_PROXY", "p"),
            ("all_proxy", "p"),
            ("HTTPS_PROXY", "p"),
            ("https_proxy", "p"),
            ("WSS_PROXY", "p"),
            ("wss_proxy", "p"),
        ];
        while let Some((name, _)) = all.last().copied() {
            assert_eq!(found(&all, true).as_deref(), Some(name));
            all.pop();
        }
        let mut all = vec![
            ("ALL_PROXY", "p"),
            ("all_proxy", "p"),
            ("HTTP_PROXY", "p"),
            ("http_proxy", "p"),
            ("WS_PROXY", "p"),
            ("ws_proxy", "p"),
        ];
        while let Some((name, _)) = all.last().copied() {
            assert_eq!(found(&all, false).as_deref(), Some(name));
            all.pop();
        }
        assert_eq!(found(&[("HTTP_PROXY", "p"), ("WS_PROXY", "p")], true), None);
        assert_eq!(found(&[("HTTPS_PROXY", "p"), ("WSS_PROXY", "p")], false), None);
    }

    #[test]
    fn an_empty_variable_is_none() {
        assert_eq!(found(&[("wss_proxy", ""), ("HTTPS_PROXY", "p")], true).as_deref(), Some("HTTPS_PROXY"));
    }

    #[test]
    fn what_a_request_can_set_is_ignored_in_a_cgi_program() {
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil"), ("ALL_PROXY", "p")];
        assert_eq!(found(&cgi, false).as_deref(), Some("ALL_PROXY"));
        assert_eq!(found(&cgi[..2], false), None);
        let lower = [("REQUEST_METHOD", "GET"), ("http_proxy", "p")];
        assert_eq!(found(&lower, false).is_none(), VARIABLES_IGNORE_CASE, "else no request can set it");
    }

    #[test]
    fn a_variable_that_is_no_text_is_an_error_that_names_it() {
        let lookup = |name: &str| (name == "https_proxy").then(no_text);
        let error = first(&names(true), &lookup).unwrap_err();
        assert_eq!(error, "the variable https_proxy: it is not valid Unicode");
    }
}
