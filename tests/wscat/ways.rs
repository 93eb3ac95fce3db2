//! The options that say which way to the server the program goes.

use std::io::Write;
use std::process::Command;
#[cfg(feature = "native-tls")]
use std::time::Duration;

use crate::common::{LONG, Server, accept, echo, good_answer, read_head};
use crate::program::{Wscat, program, run, talk};
use crate::tunnel::Tunnel;
use crossbeam_channel::unbounded;
#[cfg(feature = "native-tls")]
use tautline::{Client, ConnectionConfig, Error, Proxy, ReconnectConfig};

#[cfg(feature = "native-tls")]
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ca.pem");
#[cfg(feature = "native-tls")]
const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/server.pem");
#[cfg(feature = "native-tls")]
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/server.key");

/// A server over TLS, whose certificate is one for `localhost`.
#[cfg(feature = "native-tls")]
fn secure() -> Server {
    secure_with(crate::common::tls_acceptor())
}

#[cfg(feature = "native-tls")]
fn secure_with(acceptor: native_tls::TlsAcceptor) -> Server {
    Server::start(move |_, stream| {
        // A client that doesn't trust the certificate ends the handshake.
        let Ok(stream) = acceptor.accept(stream) else { return };
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    })
}

/// A line goes there and back with these options.
fn echoes(args: &[&str], url: &str) -> String {
    let (code, out, err) = talk(args, url, "hello\n", 1);
    assert_eq!((code, String::from_utf8(out).unwrap().as_str()), (0, "hello\n"), "{args:?}: {err}");
    err
}

#[test]
fn a_proxy_is_gone_through_and_that_of_the_environment_where_it_is_asked_for() {
    let (server, http, socks) = (Server::echo(), Tunnel::http(None), Tunnel::socks(None));
    let proxies = [format!("http://{}", http.address()), format!("socks5h://{}", socks.address())];
    for (proxy, tunnel) in proxies.iter().zip([&http, &socks]) {
        let err = echoes(&["--proxy", proxy], &server.url());
        let label = format!("CONNECTED  through the proxy {proxy} at {}\n", tunnel.address());
        assert!(err.contains(&label), "{err}");
    }
    assert_eq!((http.asked().len(), socks.asked().len()), (1, 1));
    for (args, asked) in [(&["-q", "--proxy", "env"][..], 2), (&["-q"], 2)] {
        let mut command = Command::new(program());
        command.args(args).args(["--wait", "0", &server.url()]).env("http_proxy", &proxies[0]);
        let (code, _, err) = Wscat::spawn(&mut command).input("hello\n").end();
        assert_eq!((code, http.asked().len()), (0, asked), "{args:?}: {err}");
    }
    let (code, _, err) = run(&["--proxy", "ftp://h"], &server.url(), "");
    assert!(code == 2 && err.contains("proxy"), "{err}");
}

#[cfg(unix)]
#[test]
fn a_unix_socket_takes_the_place_of_the_host() {
    use std::os::unix::net::UnixListener;

    let folder = std::env::temp_dir().join(format!("tautline-wscat-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (seen_in, seen) = unbounded();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream);
        let _ = stream.write_all(good_answer(&head, "").as_bytes());
        let _ = seen_in.send(head);
        let mut socket =
            tungstenite::WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Server, None);
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let _ = socket.send(message);
            }
        }
    });
    let path = path.to_str().unwrap();
    echoes(&["-q", "--unix", path], "ws://app.example/feed");
    let head = seen.recv_timeout(LONG).unwrap();
    assert!(
        head.starts_with("GET /feed HTTP/1.1\r\n") && head.contains("\r\nHost: app.example\r\n"),
        "{head}"
    );
    // Nobody listens there any more.
    std::fs::remove_dir_all(&folder).unwrap();
    let by_url = run(&["-q"], &format!("ws+unix:{path}:/feed"), "");
    assert!(by_url.2.starts_with(&format!("wscat: connecting to unix:{path}: ")), "{}", by_url.2);
    assert_eq!(run(&["-q", "--unix", path], "ws://app.example/feed", ""), by_url);
    let odd = format!("{folder}/a b:c?%41ü.sock", folder = folder.display());
    let (code, _, err) = run(&["-q", "--unix", &odd], "ws://h", "");
    assert!(code == 1 && err.starts_with(&format!("wscat: connecting to unix:{odd}: ")), "{err}");
}

#[cfg(unix)]
#[test]
fn what_has_no_meaning_on_the_way_to_a_unix_socket_is_refused() {
    for (args, url, says) in [
        (&["-4", "--unix", "/s"][..], "ws://h", "a Unix socket has no address"),
        (&["-6", "--unix", "/s"], "ws://h", "a Unix socket has no address"),
        (&["--bind", "127.0.0.9", "--unix", "/s"], "ws://h", "a Unix socket has no address"),
        (&["--proxy", "h:1", "--unix", "/s"], "ws://h", "without a proxy"),
        (&["--follow", "--unix", "/s"], "ws://h", "leave out one of them"),
        (&["-4"], "ws+unix:/s", "a Unix socket has no address"),
        (&["--bind", "127.0.0.9"], "ws+unix:/s", "a Unix socket has no address"),
        (&["--proxy", "env"], "wss+unix:/s", "without a proxy"),
        (&["--unix", "/s"], "ws+unix:/s", "leave out --unix"),
        (&["--unix", "/s"], "http://h", "the URL must begin with ws:// or wss://"),
        (&["--unix", "/s"], "ws:///x", "still needs a host"),
        (&["--unix", "/s"], "ws://ann:pw@h", "give --header"),
    ] {
        let (code, _, err) = run(args, url, "");
        assert!(code == 2 && err.contains(says), "{args:?} {url}: {err}");
    }
}

#[test]
fn the_address_to_connect_from_and_the_family_are_obeyed() {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |_, stream| {
        seen_in.send(stream.peer_addr().unwrap().ip().to_string()).unwrap();
        echo(accept(stream));
    });
    echoes(&["-q", "-4", "--bind", "127.0.0.9"], &server.url());
    assert_eq!(seen.recv_timeout(LONG).unwrap(), "127.0.0.9");
    let (code, _, err) = run(&["-q", "-6"], &server.url(), "");
    assert!(code == 1 && err.contains("127.0.0.1"), "{err}");
    for args in [&["-4", "-6"], &["-6", "-4"]] {
        let (code, _, err) = run(args, &server.url(), "");
        assert!(code == 2 && err.contains("cannot be used with"), "{err}");
    }
    echoes(&["-q", "-4", "-4"], &server.url());
    let (code, _, err) = run(&["--bind", "here"], &server.url(), "");
    assert!(code == 2 && err.contains("'here' for '--bind <ADDRESS>': it is no IP address"), "{err}");
}

#[test]
fn redirects_are_followed_where_that_is_asked_for() {
    let server = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        if head.starts_with("GET / ") {
            let redirect = "HTTP/1.1 302 Found\r\nLocation: /feed\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(redirect.as_bytes());
        } else {
            let _ = stream.write_all(good_answer(&head, "").as_bytes());
            let role = tungstenite::protocol::Role::Server;
            echo(tungstenite::WebSocket::from_raw_socket(stream, role, None));
        }
    });
    echoes(&["-q", "--follow"], &server.url());
    let (code, _, err) = run(&["-q"], &server.url(), "");
    assert!(code == 1 && err.contains("Redirects are not followed"), "{err}");
    assert!(err.ends_with("\nwith wscat: --follow\n"), "{err}");
}

#[cfg(feature = "native-tls")]
#[test]
fn a_proxy_over_tls_has_options_of_its_own() {
    let (server, tunnel) = (Server::echo(), Tunnel::https());
    let proxy = format!("https://localhost:{}", tunnel.address().port());
    let begin = ["-q", "--proxy", &proxy];
    assert_eq!(echoes(&[&begin[..], &["--proxy-ca", ROOT]].concat(), &server.url()), "");
    let identity = ["--proxy-cert", CERT, "--proxy-key", KEY];
    let err = echoes(&[&begin[..], &["--proxy-insecure"], &identity].concat(), &server.url());
    assert_eq!(err, "wscat: warning: any certificate of the proxy is accepted\n");
    assert_eq!(tunnel.asked().len(), 2);
    // The options for the server don't count.
    let (code, _, err) = run(&[&begin[..], &["--ca", ROOT]].concat(), &server.url(), "");
    assert!(code == 1 && err.ends_with("\nwith wscat: --proxy-ca FILE\n"), "{err}");
    // Nor do they where a client gave up over the proxy.
    let reconnect = ReconnectConfig::default().max_attempts(1).initial_delay(Duration::from_millis(10));
    let config = ConnectionConfig::new(server.url()).proxy(Proxy::new(&*proxy)).reconnect(reconnect);
    let error = Client::start(config).unwrap().wait_closed().into_result().unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error:?}");
    assert_eq!(crate::wscat::advice::options(&error).as_deref(), Some("--proxy-ca FILE"));
    let (code, _, err) = run(&[&begin[..], &identity[..2]].concat(), &server.url(), "");
    assert!(code == 2 && err.contains("--proxy-cert and --proxy-key need each other"), "{err}");
    let (code, _, err) = run(&["--proxy-insecure"], &server.url(), "");
    assert!(code == 2 && err.contains("--proxy-ca and its kin need --proxy"), "{err}");
    for other in ["http://localhost:1", "localhost:1", "socks5h://localhost:1"] {
        let (code, _, err) = run(&["--proxy", other, "--proxy-insecure"], &server.url(), "");
        assert!(code == 2 && err.contains("a proxy whose URL begins with https://"), "{other}: {err}");
    }
    let wrong = "00:".repeat(31) + "00";
    for (args, option) in [
        (&["--proxy-ca", ROOT, "--proxy-pin", &wrong][..], "--proxy-pin FINGERPRINT"),
        (&["--proxy-ca", ROOT, "--proxy-sni", "other.example"], "--proxy-sni NAME"),
    ] {
        let (code, _, err) = run(&[&begin[..], args].concat(), &server.url(), "");
        assert!(code == 1 && err.ends_with(&format!("\nwith wscat: {option}\n")), "{err}");
    }
    // One has come to know that the pin is wrong, and has left.
    assert_eq!(tunnel.asked().iter().filter(|head| !head.is_empty()).count(), 2);
}

#[test]
fn an_error_that_names_a_setting_is_followed_by_the_option_for_it() {
    let proxy = Tunnel::http(Some("Basic none is right"));
    let proxy = format!("http://{}", proxy.address());
    let server = Server::echo();
    let pin = ["--pin", "sha1 Fingerprint=AB"];
    for (args, code, option) in [
        (&["--proxy", &proxy][..], 1, "--proxy SCHEME://USER:PASSWORD@HOST:PORT"),
        (&pin, 2, "--pin FINGERPRINT"),
        (&["-6", "--bind", "127.0.0.1"], 2, "--bind ADDRESS, or leave out -4 and -6"),
        (&["--sni", "a b"], 2, "--sni NAME"),
        (&["--heartbeat", "0"], 2, "--heartbeat SECONDS"),
    ] {
        let (ended, _, err) = run(args, &server.url(), "");
        let last = format!("\nwith wscat: {option}\n");
        assert!(ended == code && err.ends_with(&last), "{args:?}: {err}");
    }
}

#[test]
fn a_proxy_in_between_that_wants_a_login_is_followed_by_the_option_for_it() {
    let server = Server::start(|_, mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
    });
    let (code, _, err) = run(&["-q"], &server.url(), "");
    let last = "\nwith wscat: --proxy SCHEME://USER:PASSWORD@HOST:PORT\n";
    assert!(code == 1 && err.ends_with(last), "{err}");
}

#[test]
fn verbose_shows_the_body_of_a_refusal_and_no_line_of_it_as_the_program_s_own() {
    let server = Server::start(|_, mut stream| {
        read_head(&mut stream);
        let body = "<title>400</title>\nwscat: no\u{202E}thing";
        let length = body.len();
        let head =
            format!("HTTP/1.1 400 Bad Request\r\nX-Why: a\u{202E}b\r\nContent-Length: {length}\r\n\r\n");
        let _ = stream.write_all((head + body).as_bytes());
    });
    let (code, _, err) = run(&["-q", "-v"], &server.url(), "");
    assert!(err.contains("\n  < X-Why: a") && !err.contains('\u{202E}'), "{err}");
    assert_eq!(err.matches(" answered 400 Bad Request").count(), 1, "the log does not say it, too: {err}");
    let shown = "\nthe server's answer:\n    <title>400</title>\n    wscat: no\\u{202e}thing\n";
    assert!(code == 1 && err.ends_with(shown), "{err}");
    let (code, _, err) = run(&["-q"], &server.url(), "");
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
}

#[test]
fn a_loss_that_names_a_setting_says_the_option_for_it_too() {
    let server = Server::start(|n, mut stream| {
        if n == 0 {
            return drop(accept(stream));
        }
        read_head(&mut stream);
        let redirect = "HTTP/1.1 302 Found\r\nLocation: /feed\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(redirect.as_bytes());
    });
    let wscat = Wscat::start(&[], &server.url());
    assert!(!wscat.see("DISCONNECTED").contains("with wscat"), "the end of a connection names no setting");
    let loss = wscat.see("or set redirects; next try in");
    assert!(loss.ends_with("; with wscat: --follow\n"), "{loss}");
}

/// All that the library may say stands in its source.
#[test]
fn the_library_speaks_of_settings_in_the_words_that_the_program_looks_for() {
    fn texts(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                texts(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let source = std::fs::read_to_string(path).unwrap();
                let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                text.extend(lines.map(|line| line.trim_start().trim_end_matches('\\')));
            }
        }
    }
    let mut text = String::new();
    texts(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    assert!(text.contains(crate::wscat::advice::ENDED), "the log says the end in other words");
    for (words, ..) in crate::wscat::advice::OPTIONS {
        assert!(text.contains(words), "the library no longer says {words:?}");
    }
    for (setting, _) in crate::wscat::advice::SETTINGS {
        assert!(text.contains(&format!("\"{setting}\"")), "no error names the setting {setting} any more");
    }
}

#[cfg(feature = "native-tls")]
#[test]
fn certificates_are_pinned_named_and_shown() {
    let server = secure();
    let url = server.url().replace("ws://", "wss://");
    let localhost = url.replace("127.0.0.1", "localhost");
    echoes(&["-q", "--ca", ROOT, "--sni", "localhost"], &url);
    echoes(&["-q", "--ca", ROOT, "--cert", CERT, "--key", KEY], &localhost);
    let (code, _, err) = run(&["-q", "--ca", ROOT, "--sni", "other.example"], &localhost, "");
    assert!(
        code == 1 && err.contains("other.example") && err.ends_with("\nwith wscat: --sni NAME\n"),
        "{err}"
    );
    let (code, _, err) = run(&["-q"], &localhost, "");
    assert!(code == 1 && err.ends_with("\nwith wscat: --ca FILE\n"), "{err}");
    let (code, _, err) = run(&["-q", "--cert", CERT], &localhost, "");
    assert!(code == 2 && err.contains("--cert and --key need each other"), "{err}");
    let lone = secure_with(crate::common::tls_acceptor_with(include_bytes!("../data/self_signed.pem")));
    let (code, _, err) = run(&["-q"], &lone.url().replace("ws://127.0.0.1", "wss://localhost"), "");
    let last = "\nwith wscat: --ca FILE, or --pin FINGERPRINT --insecure\n";
    assert!(code == 1 && err.ends_with(last), "{err}");
    // The error about a wrong fingerprint has the right one.
    let wrong = "00:".repeat(31) + "00";
    let (code, _, err) = run(&["-q", "--ca", ROOT, "--pin", &wrong], &localhost, "");
    let right = err.split(|c: char| c != ':' && !c.is_ascii_hexdigit()).find(|word| word.len() == 95);
    assert!(code == 1 && right.is_some(), "{err}");
    assert_eq!(echoes(&["-q", "--insecure", "--pin", right.unwrap()], &url), "", "the pin alone is trusted");
}

#[test]
fn verbose_shows_the_phases_with_their_times_and_the_headers_of_the_answer() {
    let server = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        let _ = stream
            .write_all(good_answer(&head, "X-Node: a\u{202E}b\r\nSet-Cookie: id=geheim\r\n").as_bytes());
        let role = tungstenite::protocol::Role::Server;
        echo(tungstenite::WebSocket::from_raw_socket(stream, role, None));
    });
    let err = echoes(&["-v"], &server.url());
    for part in
        ["connection ", "upgrade ", " in all", "< Upgrade: websocket", "< X-Node: a", "< Set-Cookie: ***\n"]
    {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert!(!err.contains('\u{202E}') && !err.contains("geheim"), "{err:?}");
    assert!(!echoes(&[], &server.url()).contains("X-Node"));
}
