use super::*;
use crate::secrets::masking::STEPS;

fn secrets(url: &str, headers: &[(&str, &str)]) -> Secrets {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Secrets::of(url, &headers, &[])
}

#[test]
fn each_part_is_hidden_by_itself_and_the_rest_stays() {
    for (url, headers, said, shown) in [
        ("ws://h/x?a=first1&token=s3cret", &[][..], "Bad token s3cret", "Bad token ***"),
        ("ws://h/x?a=first1&token=s3cret", &[], "GET /x?a=first1&token=s3cret", "GET /x?a=***&token=***"),
        ("ws://h?a=one;b=s3cret", &[], "s3cret", "***"),
        ("ws://h?s3cret", &[], "no s3cret", "no ***"),
        ("ws://h?a=one&b=twotwotwo", &[], "twotwotwo one", "*** one"),
        ("ws://h?t=c2VjcmV0==", &[], "c2VjcmV0, c2VjcmV0==", "***, ***=="),
        ("ws://bob:pass@h", &[], "bob has no pass", "bob has no ***"),
        ("ws://bob:p%40ss@h", &[], "p@ss, p%40ss, bob:p@ss", "***, ***, ***"),
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
fn a_secret_is_looked_for_in_bounded_steps_however_many_ways_there_are_to_read_it() {
    let digit = |n: u16| char::from(b"0123456789ABCDEF"[usize::from(n % 16)]);
    let various: String = (0..400_u16).flat_map(|n| ['%', digit(n / 16), digit(n * 7)]).collect();
    let many = |escape: &str| (escape.repeat(400), escape.repeat(2000));
    for (secret, repeated, shown) in [
        (various.clone(), various.repeat(3), "<***>"),
        // Where the steps do not suffice, the rest is hidden.
        (many("%25").0, many("%25").1, "<***"),
        (many("\\").0, many("\\").1, "<***"),
        (many("&amp;").0, many("&amp;").1, "<***"),
    ] {
        let secrets = secrets("ws://h", &[("X-Key", &secret)]);
        let text = format!("<{repeated}>");
        let search = secrets.search(&text);
        let bound = (STEPS * (text.len() + 1) + 1) * secrets.0.len();
        assert!(search.steps <= bound, "{} of {bound}", search.steps);
        assert_eq!(search.shown(), shown);
    }
}

#[test]
fn a_short_secret_is_hidden_only_where_it_is_no_piece_of_a_word() {
    let secrets = secrets("ws://bob:pass@h?a=12345", &[]);
    for (said, shown) in [
        ("your password, your passes, compass, bypass", "your password, your passes, compass, bypass"),
        ("pass", "***"),
        ("a=pass&b", "a=***&b"),
        ("\"pass\"", "\"***\""),
        ("%3Dpass%26", "%3D***%26"),
        ("%253Dpass%2526", "%253D***%2526"),
        ("%3dPASS", "%3d***"),
        (r"a\npass\nb", r"a\n***\nb"),
        (r"\u003dpass\u0026", r"\u003d***\u0026"),
        ("&quot;pass&quot;", "&quot;***&quot;"),
        ("my_pass_1 pass-word", "my_***_1 ***-word"),
        ("p%61ss", "***"),
        ("\u{201C}pass\u{201D}", "\u{201C}***\u{201D}"),
        ("\u{e4}pass pass\u{e4}", "\u{e4}pass pass\u{e4}"),
        ("123456 and 012345, but 12345", "123456 and 012345, but ***"),
    ] {
        assert_eq!(secrets.hide(said), shown);
    }
}

#[test]
fn what_html_has_escaped_is_found() {
    let secrets = secrets("ws://h", &[("X-Key", "a<b>&c'd\"e/f")]);
    for said in [
        "a&lt;b&gt;&amp;c&#39;d&quot;e/f",
        "a&lt;b&gt;&amp;c&#039;d&#34;e&#x2F;f",
        "a&#x3c;b&#X3E;&#38;c&apos;d&quot;e&#47;f",
        "a&amp;lt;b&amp;gt;&amp;amp;c&amp;#39;d&amp;quot;e/f",
        r"a&lt;b&gt;&amp;c'd\&quot;e\/f",
        "A&lt;b&gt;&c'd%22e/f",
    ] {
        assert_eq!(secrets.hide(&format!("<{said}>")), "<***>", "{said}");
    }
    assert_eq!(secrets.hide("a&lt;b&gt;&amp;c&#39;d&quo"), "***");
    let harmless = "a &amp; b &lt; &#x; &#; &#99999999; &nosuch; & &#xD800;";
    assert_eq!(secrets.hide(harmless), harmless);
}

#[test]
fn a_subprotocol_is_secret_where_it_is_announced_or_looks_so() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    let kubernetes = "base64url.bearer.authorization.k8s.io.dDBrZW4tZm9yLWs4cw";
    for (offered, shown) in [
        (&["bearer.t0ken"][..], &["bearer.***"][..]),
        (&["access_token", "t0ken", "mqtt"], &["access_token", "***", "mqtt"]),
        (&["bearer", jwt], &["bearer", "***"]),
        (&[jwt], &["***"]),
        (&["v1.json", "0123456789abcdef0123456789abcdef"], &["v1.json", "***"]),
        (&["realtime", "insecure-api-key.sk-t0ken"], &["realtime", "insecure-api-key.***"]),
        (&[kubernetes], &["base64url.bearer.***"]),
        (&["550e8400-e29b-41d4-a716-446655440000"], &["***"]),
    ] {
        let offered: Vec<_> = offered.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(shown_subprotocols(&offered), shown);
        let said = format!("bad {}", offered.join(", "));
        assert_eq!(Secrets::of("ws://h", &[], &offered).hide(&said), format!("bad {}", shown.join(", ")));
    }
    let offered = [kubernetes.to_owned()];
    assert_eq!(Secrets::of("ws://h", &[], &offered).hide("dDBrZW4tZm9yLWs4cw"), "***");
}

#[test]
fn a_subprotocol_that_is_a_name_stays() {
    let names = [
        "mqtt",
        "mqttv3.1",
        "graphql-transport-ws",
        "graphql-ws",
        "v12.stomp",
        "actioncable-v1-json",
        "wamp.2.msgpack.batched",
        "ocpp2.0.1",
        "v5.channel.k8s.io",
        "base64.channel.k8s.io",
        "binary.ircv3.net",
        "protobuf.reliable.webpubsub.azure.v1",
        "ch.example.2024-05-01",
        "janus-protocol",
        "bfcp",
        "xmpp",
    ]
    .map(str::to_owned);
    assert_eq!(shown_subprotocols(&names), names);
    let said = names.join(", ");
    assert_eq!(Secrets::of("ws://h", &[], &names).hide(&said), said);
}

#[test]
fn what_looks_random_in_the_path_is_hidden() {
    for (path, said, shown) in [
        (
            "/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/ws",
            "no /bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/ws, nor ABC-DEF1234ghIkl-zyx57W2v1u123ew11",
            "no /***/ws, nor ***",
        ),
        (
            "/socket/c2VjcmV0LXRva2VuLTE3/x?y=z",
            "GET /socket/c2VjcmV0LXRva2VuLTE3/x?y=z",
            "GET /socket/***/x?y=z",
        ),
        ("/t%3Ac2VjcmV0LXRva2VuLTE3", "t:c2VjcmV0LXRva2VuLTE3", "***"),
        ("/r/550e8400-e29b-41d4-a716-446655440000", "/r/550e8400-e29b-41d4-a716-446655440000", "/r/***"),
        ("/k/0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef", "***"),
    ] {
        assert_eq!(secrets(&format!("ws://h{path}"), &[]).hide(said), shown);
    }
    for path in [
        "/api/v2/stream",
        "/socket.io/websocket",
        "/ws/btcusdt@kline_1m",
        "/rooms/12345678/events",
        "/guilds/175928847299117063",
        "/very-long-and-descriptive-name-of-a-room/device0001234",
        "/at/2024-05-01T10:00:00Z/My%20Room",
        "/k8s/base64url/internationalization",
    ] {
        let said = format!("no {path}");
        assert_eq!(secrets(&format!("ws://h{path}"), &[]).hide(&said), said);
    }
}

#[test]
fn a_user_beside_a_password_and_what_is_short_beside_it_are_hidden() {
    let secrets = secrets("ws://alice:pw@h", &[]);
    assert_eq!(secrets.hide("alice, malice, alice:pw, alice%3Apw"), "***, malice, ***, ***");
    // Alone, `pw` occurs in too many texts.
    assert_eq!(secrets.hide("a pw"), "a pw");
    assert_eq!(
        self::secrets("ws://al:pw@h?a=1&b=22&c=333", &[]).hide("al:pw al 1 22 333"),
        "*** al 1 22 333"
    );
}

#[test]
fn of_a_login_all_is_secret_but_words() {
    let login = serde_json::json!({
        "op": "user.login", "type": "POST_LOGIN", "version": "1.2", "id": 7, "lang": "en-US", "name": "web client",
        "email": "me@example.com", "pw": "sesame", "auth": ["letmein", {"p": "hunter2"}], "pin": 4711,
        "data": {"password": "correct horse", "blob": "c2VjcmV0\"LXRva2Vu", "code": "123456", "api-key": "open"},
    });
    let secrets = Secrets::of_login(&login);
    let said = serde_json::json!({"error": "user.login failed: POST_LOGIN 1.2 7 en-US web client, password, code", "was": login});
    let shown = secrets.hide(&said.to_string());
    for harmless in [
        "user.login failed: POST_LOGIN 1.2 7 en-US web client, password, code\"",
        "\"op\":\"user.login\"",
        "\"lang\":\"en-US\"",
    ] {
        assert!(shown.contains(harmless), "{shown}");
    }
    for secret in
        ["example", "sesame", "letmein", "hunter2", "4711", "horse", "c2Vj", "LXRv", "123456", "open"]
    {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert_eq!(Secrets::of_login(&"letmein".into()).hide("no letmein"), "no ***");
    assert_eq!(Secrets::of_text("letmein").hide("no letmein"), "no ***");
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
