//! The client's compression against real servers: Python's websockets and Node's ws, plain, over TLS and behind nginx, with
//! each kind of takeover.
//!
//! `tests/interop/run.sh compression` starts them and runs these tests. The heads of `echo.py` and `ws-server.js` in
//! `interop/` list what a message can ask a server to do.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[macro_use]
#[path = "interop/client.rs"]
mod client;
mod common;

use std::thread;

use client::{config, connect, receive, server};
use common::LONG;
use tautline::{Client, Compression, Message};

on_each_line! {
    {
        with_python: "PY_WS",
        with_python_over_tls: "PY_WSS",
        with_python_that_has_the_client_forget: "PY_CLIENT_ALONE",
        with_python_that_forgets: "PY_SERVER_ALONE",
        with_node: "NODE_WS",
        with_node_over_tls: "NODE_WSS",
        with_node_that_has_the_client_forget: "NODE_CLIENT_ALONE",
        with_node_that_forgets: "NODE_SERVER_ALONE",
        with_node_behind_nginx: "NGINX_DEFLATE_WS",
        with_node_behind_nginx_over_tls: "NGINX_DEFLATE_WSS"
    }
    each_offer_is_accepted_and_both_sides_do_as_agreed,
    compressed_messages_of_every_size_come_back_as_they_went,
    compressed_fragments_are_joined,
    ten_thousand_compressed_messages_go_both_ways_in_order,
    a_line_that_breaks_compresses_anew,
}

/// An offer with takeover or without it: of the client, and of the server.
fn offer(client: bool, server: bool) -> Compression {
    Compression::default().client_no_context_takeover(client).server_no_context_takeover(server)
}

fn open(url: &str, offer: Compression) -> Client {
    connect(config(url).compression(offer))
}

fn each_offer_is_accepted_and_both_sides_do_as_agreed(url: &str) {
    let asks = |whose: &str| ["PY", "NODE"].iter().any(|of| server(&format!("{of}_{whose}_ALONE")) == url);
    for (client_forgets, server_forgets) in [(false, false), (true, false), (false, true), (true, true)] {
        let offered = offer(client_forgets, server_forgets);
        let client = open(url, offered.clone());
        client.send("extensions").unwrap();
        let answer = receive(&client);
        assert!(answer.starts_with("permessage-deflate"), "{answer}");
        assert!(!asks("CLIENT") || answer.contains("client_no_context_takeover"), "{answer}");
        assert!(!asks("SERVER") || answer.contains("server_no_context_takeover"), "{answer}");
        let agreed = client.handshake().unwrap().compression.clone().unwrap();
        let expected = offer(client_forgets || asks("CLIENT"), server_forgets || asks("SERVER"));
        assert_eq!(agreed, expected, "{answer}");

        for n in 0..100 {
            let reading = reading(n).repeat(20);
            client.send(&*reading).unwrap();
            assert_eq!(receive(&client), reading);
        }
        // A message refers to those before it unless its sender forgets them.
        let stats = client.stats();
        for (forgets, counts) in [
            (agreed.client_no_context_takeover, stats.compressed_written),
            (agreed.server_no_context_takeover, stats.compressed_read),
        ] {
            assert!(counts.after * 4 < counts.before, "{stats:?}");
            assert_eq!(counts.after * 40 > counts.before, forgets, "{agreed:?}, {counts:?}");
        }
    }
}

fn compressed_messages_of_every_size_come_back_as_they_went(url: &str) {
    let mut random = fastrand::Rng::with_seed(15);
    let readings: String = (0..5_000).map(reading).collect();
    for forgets in [false, true] {
        let client = open(url, offer(forgets, forgets));
        for size in [0, 1, 31, 32, 125, 126, 1_023, 1_024, 65_535, 65_536, 1 << 20, 16 << 20] {
            let text = readings.repeat(size / readings.len() + 1);
            let mut noise = vec![0; size];
            random.fill(&mut noise);
            for message in [Message::from(&text[..size]), noise.into()] {
                client.send(message.clone()).unwrap();
                let echo = client.recv_timeout(LONG).unwrap();
                assert!(echo == message, "{message:?} came back as {echo:?}");
            }
        }
        let stats = client.stats();
        assert!(stats.compressed_written.after * 4 < stats.compressed_written.before, "{stats:?}");
        let left = client.close();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn compressed_fragments_are_joined(url: &str) {
    let client = open(url, offer(false, false));
    for count in [1, 2, 1_000] {
        client.send(format!("frag:{count}")).unwrap();
        let whole = receive(&client);
        assert!(whole.split_terminator(' ').eq((0..count).map(|n| n.to_string())), "{whole}");
    }
    // The client's own. A large message is compressed in pieces, also where it need not go out in fragments.
    let long: String = (0..50_000).map(reading).collect();
    for settings in [config(url), config(url).fragment(1), config(url).fragment(1_000)] {
        let long = if settings.fragment == Some(1) { &long[..2_000] } else { &long };
        let client = connect(settings.compression(offer(false, false)));
        for _ in 0..3 {
            client.send(long).unwrap();
            assert!(receive(&client) == long);
        }
    }
}

fn ten_thousand_compressed_messages_go_both_ways_in_order(url: &str) {
    for forgets in [false, true] {
        let client = open(url, offer(forgets, forgets).threshold(1));
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..10_000 {
                    client.send_timeout(reading(n), LONG).unwrap();
                }
            });
            for n in 0..10_000 {
                assert_eq!(receive(&client), reading(n));
            }
        });
        client.send("flood:10000:2000").unwrap();
        for n in 0..10_000 {
            assert_eq!(receive(&client).trim_end(), n.to_string());
        }
        let left = client.close();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn a_line_that_breaks_compresses_anew(url: &str) {
    let client = open(url, offer(false, false));
    for _ in 0..3 {
        for n in 0..20 {
            let reading = reading(n).repeat(30);
            client.send(&*reading).unwrap();
            assert_eq!(receive(&client), reading);
        }
        client.send("abort").unwrap();
        let _ = client::lost(&client);
        client::connected(&client);
    }
}

/// JSON as gateways send it.
fn reading(n: usize) -> String {
    format!(r#"{{"sensor":"vib-{}","t":{},"rms":{}.25,"unit":"mm/s"}}"#, n % 8, 1_700_000_000 + n, n % 97)
}
