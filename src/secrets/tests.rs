use super::*;

fn secrets(url: &str, headers: &[(&str, &str)]) -> Secrets {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Secrets::of(url, &headers)
}

#[test]
fn each_part_is_hidden_by_itself_and_the_rest_stays() {
    for (url, headers, said, shown) in [
        ("ws://h/x?a=first1&token=s3cret", &[][..], "Bad token s3cret", "Bad token ***"),
        ("ws://h/x?a=first1&token=s3cret", &[], "GET /x?a=first1&token=s3cret", "GET /x?a=***&token=***"),
        ("ws://h?a=one;b=s3cret", &[], "s3cret", "***"),
        ("ws://h?s3cret", &[], "no s3cret", "no ***"),
        ("ws://h?t=c2VjcmV0==", &[], "c2VjcmV0, c2VjcmV0==", "***, ***=="),
        ("ws://bob:pass@h", &[], "bob has no pass", "bob has no ***"),
        ("ws://bob:p%40ss@h", &[], "p@ss, p%40ss, bob:p@ss", "***, ***, bob:***"),
        ("ws://bob:p%40ss@h", &[], "Basic Ym9iOnBAc3M=", "Basic ***="),
        ("ws://t0ken@h", &[], "t0ken, dDBrZW46", "***, ***"),
        ("ws://h", &[("Authorization", "Bearer t0ken")], "Bearer t0ken, t0ken", "Bearer ***, ***"),
        ("ws://h", &[("Authorization", "t0ken")], "t0ken is no scheme", "*** is no scheme"),
        ("ws://h", &[("authorization", "Basic Ym9iOnBAc3M=")], "p@ss is not bob's", "*** is not bob's"),
        (
            "ws://h",
            &[("Authorization", "Digest username=\"me\", response=\"6629fae\"")],
            "a bad response 6629fae of me",
            "a bad response *** of me",
        ),
        ("ws://h", &[("X-Auth", "Token t0ken")], "t0ken", "***"),
        ("ws://h", &[("Cookie", "sid=s3cret; theme=blue2")], "sid=s3cret? s3cret", "sid=***? ***"),
        ("ws://h", &[("X-Key", "k3y text")], "X-Key: k3y text", "X-Key: ***"),
    ] {
        assert_eq!(secrets(url, headers).hide(said), shown, "{url} {headers:?}");
    }
}

#[test]
fn a_secret_is_found_however_it_is_written() {
    let secrets = secrets("ws://h?t=s3%2Fcr%20%C3%A4t&u=a+b%22c", &[("X-Key", "k\"3/y<\\")]);
    for said in [
        "s3/cr ät",
        "s3%2Fcr%20%C3%A4t",
        "s3%2fcr+%c3%a4t",
        "s3%252Fcr%2520%25C3%25A4t",
        "S3/CR ät",
        r"s3\/cr \u00e4t",
        r"s3\u002fcr\u0020ät",
        "a b\"c",
        "a+b%22c",
        r#"a b\"c"#,
        "a%2Bb%22c",
        r#"k\"3\/y\u003c\\"#,
        "k%223/y%3C%5C",
    ] {
        assert_eq!(secrets.hide(&format!("<{said}>")), "<***>", "{said}");
    }
}

#[test]
fn what_is_no_secret_stays() {
    let url = "ws://bob@h.example:81/path/of/it?v=10&transport=websocket&encoding=json&compress=true";
    let headers = [
        ("X", "1"),
        ("User-Agent", "agent"),
        ("Origin", "https://origin.example"),
        ("Accept-Language", "de-AT"),
        ("Host", "virtual.example"),
        ("Sec-WebSocket-Extensions", "deflate"),
        ("X-Request-Id", "request-17"),
    ];
    let said = "HTTP/1.1 404 no websocket (json, v 10, true) at /path/of/it on h.example:81, virtual.example: agent, \
                https://origin.example, de-AT, deflate, request-17, transport, Bearer, 100%, %zz, \\";
    assert_eq!(secrets(url, &headers).hide(said), said);
    assert_eq!(Secrets::default().hide(said), said);
}

#[test]
fn a_secret_that_breaks_off_with_the_text_is_hidden_too() {
    let secrets = secrets("ws://h?t=0123456789abcdef", &[]);
    assert_eq!(secrets.hide("it was 0123456789a"), "it was ***");
    assert_eq!(secrets.hide("it was 01234567%3"), "it was ***");
    assert_eq!(secrets.hide("it was 0123456789a?"), "it was 0123456789a?");
    assert_eq!(secrets.hide("it was 012"), "it was 012");
}

#[test]
fn what_can_be_read_in_many_ways_is_read_in_no_time() {
    let backslashes = "\\".repeat(50);
    let percents = "%25".repeat(50);
    let secrets = secrets(&format!("ws://h?t={percents}"), &[("X-Key", &backslashes)]);
    assert_eq!(secrets.hide(&format!("<{backslashes}{percents}>")), "<***>");
}

#[test]
fn of_a_name_what_stands_behind_it_is_not_shown() {
    assert_eq!(shown_name("X-Key"), "X-Key");
    assert_eq!(shown_name("Authorization: Bearer tok"), "Authorization");
    assert_eq!(shown_name("Bearer tok"), "Bearer");
    assert_eq!(shown_name("ä"), "");
}

#[test]
fn debug_shows_no_secret() {
    assert_eq!(format!("{:?}", secrets("ws://h?t=s3cret", &[])), "***");
}
