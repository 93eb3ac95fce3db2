use super::*;

fn parsed(url: &str) -> (bool, String, u16, String) {
    let e = Endpoint::parse(url).unwrap();
    (e.secure, e.host.into(), e.port, e.resource.into())
}

#[test]
fn urls_are_taken_apart() {
    assert_eq!(parsed("ws://example.com"), (false, "example.com".into(), 80, "/".into()));
    assert_eq!(parsed("wss://example.com"), (true, "example.com".into(), 443, "/".into()));
    assert_eq!(parsed("WSS://h:9000/a/b?x=1"), (true, "h".into(), 9000, "/a/b?x=1".into()));
    assert_eq!(parsed("ws://h?x=1"), (false, "h".into(), 80, "/?x=1".into()));
    assert_eq!(parsed("ws://h:/x"), (false, "h".into(), 80, "/x".into()));
    assert_eq!(parsed("ws://[::1]:81/"), (false, "::1".into(), 81, "/".into()));
    assert_eq!(parsed("ws://h/a@b:c"), (false, "h".into(), 80, "/a@b:c".into()));
}

#[test]
fn a_unix_socket_stands_in_front_of_the_resource() {
    if LONGEST_SOCKET_PATH.is_none() {
        let error = Endpoint::parse("ws+unix:/run/app.sock").unwrap_err().to_string();
        assert!(error.contains("which this system does not have"), "{error}");
        return;
    }
    let parsed = |url| {
        let endpoint = Endpoint::parse(url).unwrap();
        (endpoint.to_string(), endpoint.resource.into_string())
    };
    let app = |resource: &str| ("unix:/run/app.sock".to_owned(), resource.to_owned());
    assert_eq!(parsed("ws+unix:/run/app.sock"), app("/"));
    assert_eq!(parsed("ws+unix:/run/app.sock:"), app("/"));
    assert_eq!(parsed("WS+UNIX:/run/app.sock:/feed?x=1"), app("/feed?x=1"));
    assert_eq!(parsed("ws+unix:///run/app.sock:/a:b"), app("/a:b"));
    assert_eq!(parsed("ws+unix:/run/app.sock?x=1"), app("/?x=1"));
    assert_eq!(parsed("ws+unix:/run/a%3Ab%20c:/x").0, "unix:/run/a:b c");
    let secure = Endpoint::parse("wss+unix:/run/app.sock:/s3cret").unwrap();
    assert_eq!(
        (secure.secure, secure.host_header(), secure.tls_name()),
        (true, "localhost".into(), "localhost")
    );
    assert_eq!(format!("{secure:?}"), "wss+unix:/run/app.sock");
    for bad in ["ws+unix:", "ws+unix:run/app.sock", "ws+unix://host/run/app.sock", "ws+unix:/run/%0A"] {
        assert!(Endpoint::parse(bad).unwrap_err().to_string().contains("absolute path"), "{bad}");
    }
    assert!(Endpoint::parse("ws+unix:/run/%zz").unwrap_err().to_string().contains("write %25"));
    assert!(Endpoint::parse("ws+unix:/run/a:/ü").unwrap_err().to_string().contains("outside ASCII"));
    assert_eq!(parsed("ws+unix:/run/ü:/x").0, "unix:/run/ü");
    assert!(Endpoint::parse("ws+unix:/run/a#b").unwrap_err().to_string().contains("fragment"));
}

#[test]
fn a_host_outside_ascii_is_in_punycode_wherever_it_is_used_or_shown() {
    let endpoint = Endpoint::parse("wss://me:pw@Bücher.Example:81/x").unwrap();
    assert_eq!((&*endpoint.host, &*endpoint.name()), ("xn--bcher-kva.example", "xn--bcher-kva.example"));
    assert_eq!(endpoint.host_header(), "xn--bcher-kva.example:81");
    assert_eq!(endpoint.tls_name(), "xn--bcher-kva.example");
    assert_eq!(endpoint.to_string(), "xn--bcher-kva.example:81");
    for (url, host) in [
        ("ws://例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("ws://faß.example.", "xn--fa-hia.example."),
        // A full stop of another script is one of a host name, too, and so are digits.
        ("ws://bücher。example", "xn--bcher-kva.example"),
        ("ws://１２７.0.0.1", "127.0.0.1"),
        // What is ASCII already stays as it is.
        ("ws://XN--Bcher-KVA.Example", "XN--Bcher-KVA.Example"),
    ] {
        assert_eq!(&*Endpoint::parse(url).unwrap().host, host, "{url}");
    }
    let long = format!("ws://{}.example", "ü".repeat(64));
    assert!(Endpoint::parse(&long).unwrap_err().to_string().contains("is too long"));
}

#[test]
fn userinfo_is_decoded_and_never_shown() {
    let endpoint = Endpoint::parse("ws://bob:p%40ss@h:1/x?token=s3cret").unwrap();
    assert_eq!(endpoint.userinfo.as_deref(), Some("bob:p@ss"));
    for shown in [format!("{endpoint}"), format!("{endpoint:?}")] {
        assert!(!shown.contains("ss@") && !shown.contains("bob") && !shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn userinfo_is_sent_only_where_there_is_any() {
    let userinfo = |url| Endpoint::parse(url).unwrap().userinfo;
    for none in ["ws://h", "ws://@h", "ws://:@h"] {
        assert_eq!(userinfo(none), None, "{none}");
    }
    assert_eq!(userinfo("ws://bob@h").as_deref(), Some("bob:"));
    assert_eq!(userinfo("ws://:pw@h").as_deref(), Some(":pw"));
    assert_eq!(userinfo("ws://bob:p:w%3A@h").as_deref(), Some("bob:p:w:"));
    assert_eq!(userinfo("ws://bob:p@w@h").as_deref(), Some("bob:p@w"), "the last '@' ends it");
    assert_eq!(userinfo("ws://bob:p%2F%3F%23%40%25@h").as_deref(), Some("bob:p/?#@%"));
    assert_eq!(userinfo("ws://h:1/bob:p@w"), None, "it stands in the path");
}

#[test]
fn the_dot_behind_an_absolute_name_is_no_part_of_the_name_that_tls_checks() {
    let endpoint = Endpoint::parse("wss://name.example.").unwrap();
    assert_eq!((endpoint.tls_name(), &*endpoint.name()), ("name.example", "name.example."));
    assert_eq!(
        (endpoint.host_header(), endpoint.to_string()),
        ("name.example.".into(), "name.example.:443".into())
    );
    assert_eq!(Endpoint::parse("wss://h").unwrap().tls_name(), "h");
}

#[test]
fn the_zone_of_an_address_is_shown_and_dialled_and_not_sent() {
    let endpoint = Endpoint::parse("wss://[fe80::1%25eth0]/x").unwrap();
    assert_eq!((endpoint.host_header(), endpoint.tls_name()), ("[fe80::1]".into(), "fe80::1"));
    assert_eq!((endpoint.to_string(), &*endpoint.name()), ("[fe80::1%25eth0]:443".into(), "fe80::1%eth0"));
    assert_eq!(endpoint.address(), None, "the system knows the number of an interface");
    let numbered = Endpoint::parse("ws://[fe80::1%257]:81").unwrap();
    assert_eq!(numbered.host_header(), "[fe80::1]:81");
    assert_eq!(numbered.address(), Some("[fe80::1%7]:81".parse().unwrap()));
}

#[test]
fn an_address_needs_no_look_up() {
    let address = |url| Endpoint::parse(url).unwrap().address();
    assert_eq!(address("ws://127.0.0.1:81"), Some("127.0.0.1:81".parse().unwrap()));
    assert_eq!(address("ws://[::1]"), Some("[::1]:80".parse().unwrap()));
    assert_eq!(address("ws://localhost"), None);
}

#[test]
fn the_host_header_brackets_ipv6_and_leaves_the_default_port_out() {
    let host = |url| Endpoint::parse(url).unwrap().host_header();
    assert_eq!(host("ws://h"), "h");
    assert_eq!(host("ws://h:443"), "h:443");
    assert_eq!(host("wss://h:443"), "h");
    assert_eq!(host("wss://[::1]:8443"), "[::1]:8443");
}

#[test]
fn a_bad_url_says_what_is_wrong_and_repeats_no_secret() {
    for (url, says) in [
        ("", "it has no scheme; it must start with ws:// or wss://, as in ws://example.com:80/path"),
        ("example.com", "it has no scheme; it must start with ws:// or wss://, as in ws://"),
        ("h:80/x", "it has no scheme; it must start with ws:// or wss://, as in ws://"),
        ("h:80/x?s3cret=a://b", "it has no scheme; it must start with ws:// or wss://, as in ws://"),
        ("//h", "it has no scheme in front of its '//'; it must start with ws:// or wss://, as in ws://"),
        ("ws:/h", "it has no '//' behind its scheme; it must start with ws:// or wss://, as in ws://"),
        ("WS:h", "it has no '//' behind its scheme; it must start with ws:// or wss://, as in ws://"),
        ("wss:/h?s3cret=a://b", "it has no '//' behind its scheme; it must start with ws:// or wss://"),
        ("wss//h", "it has no ':' behind its scheme; it must start with ws:// or wss://, as in ws://"),
        ("http://h", "http://"),
        ("s3cret s3cret://h", "white space"),
        ("s3cretsecret://h", "must start with"),
        ("ws:// h", "white space"),
        ("ws://h\r\nX: y", "control character"),
        ("ws://", "no host"),
        ("ws:///path", "no host"),
        ("ws://user:s3cret@", "no host"),
        ("ws://:80", "no host"),
        ("ws://h:0", "port"),
        ("ws://h:99999", "port"),
        ("ws://h:+80", "port"),
        ("ws://user:s3cret/@h", "the user name or password, write %2F, %3F or %23"),
        ("ws://user:s3c/ret@h:1/x", "the user name or password, write %2F, %3F or %23"),
        ("ws://user:s3cret?@h", "the user name or password, write %2F, %3F or %23"),
        ("ws://user:s3cret#@h", "write %23 for a '#'"),
        ("ws://h:s3cret/x@y", "its port is not a number from 1 to 65535; if a '/', '?' or '#' in front of"),
        ("ws:///s3cret:x@h", "the user name or password, write %2F, %3F or %23"),
        ("ws://user:s3cret%@h", "has a '%' without two hexadecimal digits behind it; write %25 for a '%'"),
        ("ws://user:s3cret%FF@h", "its user name or password is not UTF-8"),
        ("ws://h:s3cret/x", "port"),
        ("unix:/run/s3cret", "its scheme is unix:, which says nothing of WebSocket; write ws+unix:/path"),
        ("UNIX:///run/s3cret", "its scheme is unix:, which says nothing of WebSocket; write ws+unix:/path"),
        ("/run/s3cret", "if it is that of a Unix socket, write ws+unix:/path"),
        ("ws://h#s3cret", "fragment"),
        ("ws://h/x#s3cret", "fragment"),
        ("ws://::1", "brackets"),
        ("ws://[::1", "closing bracket"),
        ("ws://[s3cret]", "IPv6"),
        ("ws://[::1]s3cret", "port"),
        ("ws://[fe80::1%eth0]", "[fe80::1%25eth0]"),
        ("ws://[fe80::1%25]", "[fe80::1%25eth0]"),
        ("ws://[fe80::1%25s3cret%2F]", "write the number"),
        ("ws://[s3cret%25eth0]", "not an IPv6 address"),
        ("ws://.", "no host"),
        ("ws://us%3Aer:s3cret@h", "user name has a colon (%3A)"),
        ("ws://us%3As3cret@h", "user name has a colon (%3A)"),
        ("ws://user:s3cret%0A@h", "control character"),
        ("ws://b%zz@h", "write %25"),
        ("ws://b%4@h", "write %25"),
        ("ws://bücher.example/s3cret/ü", "a character outside ASCII at byte 28; write it percent-encoded"),
        ("ws://h?s3cret=ü", "a character outside ASCII at byte 14; write it percent-encoded"),
        ("ws://ü:s3cret@h", "a character outside ASCII at byte 5; write it percent-encoded"),
        ("ws://h:8ü", "port"),
        ("ws://[::1ü]", "not an IPv6 address"),
        ("wsü://h", "must start with ws://"),
        ("ws://bü<s3cret", "its host has a character that no host name has"),
        ("ws://s3cret\u{fffd}.example", "the character at byte 6 of its host can't stand in a host name"),
        ("ws://bücher\u{2488}example", "the character at byte 7 of its host can't stand in a host name"),
        ("ws://s3cret\u{5d0}.example", "letters of both directions"),
        ("ws://bücher..s3cret", "has an empty part"),
        ("ws://\u{ad}", "no host"),
        ("ws://\u{3002}", "no host"),
        ("ws://a<b", "character"),
    ] {
        let error = Endpoint::parse(url).expect_err(url).to_string();
        assert!(error.contains(says), "{url}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
