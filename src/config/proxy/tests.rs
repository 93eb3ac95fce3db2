use std::ffi::OsString;

use super::*;

fn via(proxy: &Proxy) -> Via {
    let ways = proxy.ways(&|_| None).unwrap();
    ways.to(&Endpoint::parse("ws://h").unwrap()).unwrap().clone()
}

fn lookup<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
    |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(*value))
}

#[test]
fn a_url_is_taken_apart_with_the_default_port_of_its_scheme() {
    for (url, shown) in [
        ("proxy.local:3128", "http://proxy.local:3128"),
        ("proxy.local", "http://proxy.local:80"),
        ("HTTP://proxy.local/", "http://proxy.local:80"),
        ("http://proxy.local:", "http://proxy.local:80"),
        #[cfg(any(feature = "native-tls", feature = "rustls"))]
        ("https://proxy.local", "https://proxy.local:443"),
        ("socks5://10.0.0.1", "socks5://10.0.0.1:1080"),
        ("socks5h://[::1]", "socks5h://[::1]:1080"),
        ("socks5h://[::1]:9", "socks5h://[::1]:9"),
        ("ann:s3cret@proxy.local", "http://proxy.local:80"),
        ("http://ann:s3cret@proxy.local:3128/", "http://proxy.local:3128"),
        ("http://s3cret://x@proxy.local", "unusable"),
    ] {
        let proxy = Proxy::new(url);
        assert_eq!(proxy.to_string(), shown);
        assert!(!format!("{proxy:?}").contains("s3cret"), "{proxy:?}");
        assert!(shown == "unusable" || via(&proxy).to_string() == shown);
    }
}

#[test]
fn a_login_is_decoded_and_one_that_is_given_replaces_it() {
    let headers = |proxy: &Proxy| via(proxy).headers;
    let basic = |value: &str| vec![("Proxy-Authorization".to_owned(), format!("Basic {value}"))];
    assert_eq!(headers(&Proxy::new("http://ann:p%40ss@h")), basic("YW5uOnBAc3M="));
    assert_eq!(headers(&Proxy::new("http://ann:p@ss@h")), basic("YW5uOnBAc3M="));
    assert_eq!(headers(&Proxy::new("http://ann@h")), basic("YW5uOg=="));
    assert_eq!(headers(&Proxy::new("http://bob:x@h").login("ann", "p@ss")), basic("YW5uOnBAc3M="));
    assert_eq!(headers(&Proxy::new("http://:@h")), []);
    let own = Proxy::new("http://bob:x@h").header("proxy-authorization", "Bearer t");
    assert_eq!(headers(&own), [("proxy-authorization".to_owned(), "Bearer t".to_owned())]);
    let socks = via(&Proxy::new("socks5://us%3Aer:p%40ss@h"));
    assert_eq!(socks.login, Some(("us:er".into(), "p@ss".into())));
}

#[test]
fn a_proxy_that_can_not_be_used_is_an_error_that_says_why_and_shows_no_credential() {
    let long = "s3cret".repeat(50);
    for (proxy, says) in [
        (Proxy::new(""), "it is empty"),
        (Proxy::new("http://ann:s3cret @h"), "white space or a control character at byte"),
        (
            Proxy::new("socks4://ann:s3cret@h"),
            "its scheme is socks4://, which is SOCKS 4; it must be http://",
        ),
        (Proxy::new("wss://h"), "its scheme is wss://; it must be http://"),
        (Proxy::new("s3cret://h"), "its scheme is an unknown one; it must be http://"),
        (Proxy::new("http://"), "it has no host"),
        (Proxy::new("http://ann:s3cret@"), "it has no host"),
        (Proxy::new("http://h:0"), "its port is not a number from 1 to 65535"),
        (Proxy::new("http://h:s3cret"), "its port is not a number from 1 to 65535"),
        (Proxy::new("http://ann:s3c/ret@h:1"), "the user name or password, write %2F, %3F or %23"),
        (Proxy::new("http://ann:s3c?ret@h:1"), "the user name or password, write %2F, %3F or %23"),
        (Proxy::new("http://ann:s3c#ret@h:1"), "the user name or password, write %2F, %3F or %23"),
        (Proxy::new("ann:1/s3cret@h:1"), "the user name or password, write %2F, %3F or %23"),
        (Proxy::new("socks5://ann:s3cret%@h"), "write %25 for a '%'"),
        (Proxy::new("http://h/s3cret"), "something follows its host and port"),
        (Proxy::new("http://h?s3cret"), "something follows its host and port"),
        (Proxy::new("http://h#s3cret"), "something follows its host and port"),
        (Proxy::new("http://::1"), "brackets"),
        (Proxy::new("http://ann:s3cret%4@h"), "write %25 for a '%'"),
        (Proxy::new("http://us%3Aer:s3cret@h"), "its user name has a colon"),
        (Proxy::new("http://user:s3cret%0D@h"), "a control character, which Basic"),
        (Proxy::new("h").login("us:er", "s3cret"), "its user name has a colon"),
        (
            Proxy::new("socks5://h").login(long.clone(), "x"),
            "its user name has 300 bytes; a SOCKS proxy takes 255",
        ),
        (Proxy::new("socks5h://h").login("ann", long), "its password has 300 bytes; a SOCKS proxy takes 255"),
        (Proxy::new("socks5h://:s3cret@h"), "a password and no user name"),
        (
            Proxy::new("socks5://h").header("X-Key", "s3cret"),
            "the header \"X-Key\", and a SOCKS proxy takes no",
        ),
        (Proxy::new("h").header("X-Key", "s3cret\r\n"), "the value of X-Key has a control character"),
        (Proxy::new("h").header("X Key: s3cret", ""), r#"the name that begins with "X" has a ' '"#),
        (Proxy::new("h").header("Content-Length", "7"), "Content-Length is set by the client itself"),
        (
            Proxy::new("h").header("Proxy-Authorization", "s3cret").header("proxy-authorization", "s3cret"),
            "proxy-authorization is there twice",
        ),
        (Proxy::new("h").no_proxy("a, s3cret@b"), "in its no_proxy, its entry number 2 is no host name"),
        (Proxy::from_env().no_proxy("a:b"), "in its no_proxy, its entry number 1 has a port"),
    ] {
        let error = proxy.check().expect_err(says).to_string();
        assert!(error.starts_with("the setting proxy can't be used: "), "{error}");
        assert!(error.contains(says), "{says}: {error}");
        assert!(!error.contains("s3cret") && !format!("{proxy:?}{proxy}").contains("s3cret"), "{error}");
    }
}

#[test]
fn a_login_of_255_bytes_is_what_socks_takes() {
    let most = "x".repeat(255);
    assert!(Proxy::new("socks5://h").login(most.clone(), most).check().is_ok());
}

#[test]
fn a_variable_that_can_not_be_used_is_an_error_that_names_it() {
    for (variables, says) in [
        (&[("https_proxy", "socks4://s3cret@h")][..], "the variable https_proxy: its scheme is socks4://"),
        (&[("HTTP_PROXY", "http://h:s3cret")], "the variable HTTP_PROXY: its port"),
        (&[("ALL_PROXY", "h/s3cret")], "the variable ALL_PROXY: something follows"),
        (&[("NO_PROXY", "a,s3cret@b")], "the variable NO_PROXY: its entry number 2 is no host"),
    ] {
        let Err(error) = Proxy::from_env().ways(&lookup(variables)) else { panic!("{says}") };
        let error = error.to_string();
        assert!(error.starts_with("the setting proxy can't be used: ") && error.contains(says), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn the_environment_says_which_way_and_the_log_which_variable() {
    let servers: Vec<_> =
        ["ws://a", "wss://b", "wss://c", "wss://d.corp"].map(|url| Endpoint::parse(url).unwrap()).into();
    let variables = [("HTTPS_PROXY", "ann:s3cret@p:1"), ("no_proxy", ".corp")];
    let ways = Proxy::from_env().ways(&lookup(&variables)).unwrap();
    let through: Vec<_> = servers.iter().map(|server| ways.to(server).map(ToString::to_string)).collect();
    let p = Some("http://p:1".to_owned());
    assert_eq!(through, [None, p.clone(), p, None]);
    assert_eq!(
        ways.said(&servers),
        [
            "No proxy for a:80: none of WS_PROXY, HTTP_PROXY, ALL_PROXY is set",
            "Through the proxy http://p:1 to b:443 and 1 more, by HTTPS_PROXY",
            "Past the proxy http://p:1 of HTTPS_PROXY to d.corp:443, by no_proxy",
        ]
    );
    let given = Proxy::new("p").no_proxy("a").ways(&lookup(&variables)).unwrap();
    assert_eq!(
        given.said(&servers),
        [
            "Past the proxy http://p:80 of the setting proxy to a:80, by no_proxy",
            "Through the proxy http://p:80 to b:443 and 2 more, by the setting proxy",
        ]
    );
    assert!(given.to(&servers[0]).is_none() && given.to(&servers[3]).is_some());
}

#[test]
fn an_entry_that_may_mean_something_else_is_said_with_its_list() {
    let variables = [("NO_PROXY", "h, ::1:80"), ("ALL_PROXY", "p")];
    let ways = Proxy::from_env().no_proxy("10.").ways(&lookup(&variables)).unwrap();
    let doubts: Vec<_> = ways.doubts().collect();
    let [first, second] = &*doubts else { panic!("{doubts:?}") };
    assert!(first.starts_with("In no_proxy, its entry number 1 ends in a number"), "{first}");
    assert!(second.starts_with("In NO_PROXY, its entry number 2 is taken for an IPv6"), "{second}");
}

#[test]
fn what_the_program_sets_comes_on_top_of_the_environment() {
    let variables = [("all_proxy", "http://bob:x@p"), ("NO_PROXY", "a")];
    let proxy = Proxy::from_env().login("ann", "p@ss").no_proxy("b");
    let ways = proxy.ways(&lookup(&variables)).unwrap();
    let to = |url| ways.to(&Endpoint::parse(url).unwrap());
    assert!(to("ws://a").is_none() && to("wss://b").is_none());
    assert_eq!(to("wss://c").unwrap().headers[0].1, "Basic YW5uOnBAc3M=");
}

#[test]
fn debug_output_says_whether_there_is_a_login_wherever_it_stands() {
    let shown = |proxy: Proxy| format!("{proxy:?}");
    for proxy in [Proxy::new("http://ann:s3cret@h"), Proxy::new("h").login("ann", "s3cret")] {
        let shown = shown(proxy);
        assert!(shown.contains("login: true") && !shown.contains("s3cret"), "{shown}");
    }
    assert!(shown(Proxy::new("h")).contains("login: false"));
}
