//! Answers to the request of an upgrade: good ones, and those that break the rules.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::{
    BareServer, LONG, MS, Server, accept, await_unread, close_frame, disconnected, echo, frame, good_answer,
    is_reset, quick, read_head, wait_for,
};
use crate::{Failure, answer, as_it_is, bad_answer, failure, flood, outlast};
use tautline::{Client, DisconnectReason, Error, Event, Phase};
use tungstenite::WebSocket;
use tungstenite::protocol::Role;

/// Connects to a server that answers the upgrade by `write`, and talks to it.
fn accepted(write: impl Fn(&mut TcpStream, String) + Send + Sync + 'static) {
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        write(&mut stream, good_answer(&head, ""));
        echo(WebSocket::from_raw_socket(stream, Role::Server, None));
    });
    let client = Client::connect(server.url()).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    assert!(client.close().is_empty());
}

#[test]
fn garbage_in_place_of_http_is_named() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "220 mail.example ESMTP\r\n",
        "-ERR unknown command 'GET'\r\n",
        "\x15 is no TLS",
        "\0\0\0\0\0\0\0\0",
        "<!doctype html><title>Log in to the hotel's network</title>",
        "HTTP/9.9 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 one-oh-one\r\n\r\n",
    ] {
        let text = bad_answer(as_it_is, move |stream| {
            read_head(stream);
            stream.write_all(garbage.as_bytes()).unwrap();
            outlast(stream);
        });
        assert!(text.contains("did not answer the WebSocket upgrade as it should: it is not HTTP"), "{text}");
    }
}

#[test]
fn half_an_answer_and_then_silence_is_a_timeout_of_the_upgrade() {
    let Failure { error, retry_in, took } = failure(
        |config| config.connect_timeout(1000 * MS),
        |stream| {
            let head = read_head(stream);
            let answer = good_answer(&head, "");
            stream.write_all(&answer.as_bytes()[..answer.len() / 2]).unwrap();
            outlast(stream);
        },
    );
    let Error::ConnectTimeout { phase, after, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*phase, *after), (Phase::Upgrade, 1000 * MS));
    assert!(
        error
            .to_string()
            .contains(" timed out after 1s while waiting for the server's answer to the upgrade; check that")
    );
    assert!(retry_in.is_some() && took >= 1000 * MS, "{took:?}");
}

#[test]
fn an_answer_in_single_bytes_is_accepted() {
    accepted(|stream, answer| {
        for byte in answer.bytes() {
            stream.write_all(&[byte]).unwrap();
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_list_in_the_connection_header_is_accepted() {
    accepted(|stream, answer| {
        let listed = answer.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade");
        assert_ne!(listed, answer);
        stream.write_all(listed.as_bytes()).unwrap();
    });
}

#[test]
fn headers_that_matter_to_nobody_are_no_reason_to_refuse_an_answer() {
    accepted(|stream, answer| {
        let odd = "X-Folded: a\r\n b\r\nX-Spaced : c\r\nX Y: d\r\nno colon\r\nX-Odd: \0\u{1}\r\n";
        let many = "X-Filler: x\r\n".repeat(200);
        stream.write_all(answer.replacen("\r\n", &format!("\r\n{odd}{many}"), 1).as_bytes()).unwrap();
    });
}

#[test]
fn an_upgrade_in_http_1_0_is_refused() {
    let text = bad_answer(as_it_is, answer(|good| good.replace("HTTP/1.1", "HTTP/1.0")));
    assert!(text.contains("status 101 in HTTP/1.0"), "{text}");
}

#[test]
fn an_endless_header_is_cut_off() {
    let text = bad_answer(
        |config| config.max_response_size(4096),
        |stream| {
            read_head(stream);
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nX-Filler: ").unwrap();
            flood(stream, &[b'x'; 1024]);
        },
    );
    assert!(text.ends_with("its headers exceed 4096 bytes (max_response_size)"), "{text}");
}

#[test]
fn endless_interim_answers_are_cut_off() {
    let text = bad_answer(
        |config| config.max_response_size(4096),
        |stream| {
            read_head(stream);
            flood(stream, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        },
    );
    assert!(text.ends_with("its headers exceed 4096 bytes (max_response_size)"), "{text}");
}

#[test]
fn a_second_accept_key_that_is_wrong_is_refused() {
    let second: fn(String) -> String =
        |good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    let text = bad_answer(as_it_is, answer(second));
    assert!(text.contains("Sec-WebSocket-Accept does not belong to our key"), "{text}");
}

#[test]
fn a_wrong_accept_key_is_refused() {
    let text = bad_answer(
        as_it_is,
        answer(|good| {
            let (start, rest) = good.split_once("Sec-WebSocket-Accept: ").unwrap();
            let (_, end) = rest.split_once("\r\n").unwrap();
            format!("{start}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{end}")
        }),
    );
    assert!(text.contains("Sec-WebSocket-Accept does not belong to our key"), "{text}");
}

#[test]
fn a_subprotocol_that_nobody_offered_is_refused() {
    let choose: fn(String) -> String =
        |good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
    let text = bad_answer(as_it_is, answer(choose));
    assert!(text.ends_with(r#"it chose the subprotocol "chat"; offered: none"#), "{text}");
    let text = bad_answer(|config| config.subprotocol("v1").subprotocol("v2"), answer(choose));
    assert!(text.ends_with(r#"it chose the subprotocol "chat"; offered: v1, v2"#), "{text}");
}

#[test]
fn an_extension_that_nobody_offered_is_refused() {
    let text = bad_answer(
        as_it_is,
        answer(|good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")),
    );
    assert!(text.ends_with(r#"it chose the extension "permessage-deflate", and none was offered"#), "{text}");
}

#[test]
fn of_the_frames_glued_to_the_answer_none_is_lost() {
    const COUNT: usize = 500;
    // More than the answer may have: what is behind it is no part of it.
    for max_response_size in [256, 64 << 10] {
        let server = Server::start(|_, mut stream| {
            let head = read_head(&mut stream);
            let mut bytes = good_answer(&head, "").into_bytes();
            for n in 0..COUNT {
                bytes.extend(frame(0x81, format!("{n:0>1000}").as_bytes()));
            }
            bytes.extend(close_frame(4000, "that was all"));
            stream.write_all(&bytes).unwrap();
            outlast(&mut stream);
        });
        let client = Client::connect(quick(&server.url()).max_response_size(max_response_size)).unwrap();
        let mut count = 0;
        let (reason, _) = wait_for(&client, |event| match event {
            Event::Message(message) => {
                assert_eq!(message.as_text().map(str::parse), Some(Ok(count)));
                count += 1;
                None
            }
            other => disconnected(other),
        });
        assert_eq!(count, COUNT);
        assert_eq!(reason.to_string(), r#"the server closed the line with close code 4000: "that was all""#);
        let _ = client.terminate();
    }
}

#[test]
fn an_end_at_any_byte_of_the_answer_is_a_clean_failure() {
    let length = good_answer("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "").len();
    let server = Server::start(move |n, mut stream| {
        let head = read_head(&mut stream);
        let answer = good_answer(&head, "");
        stream.write_all(&answer.as_bytes()[..n.min(length)]).unwrap();
        if n >= length {
            echo(WebSocket::from_raw_socket(stream, Role::Server, None));
        }
    });
    let client = Client::start(quick(&server.url())).unwrap();
    for end in 0..length {
        let (reason, retry_in) = wait_for(&client, disconnected);
        let DisconnectReason::ConnectFailed(error) = reason else { panic!("{end} bytes: {reason:?}") };
        match &error {
            Error::Upgrade { reason, .. } if end == 0 => {
                assert!(reason.starts_with("it ended the connection without a word"), "{reason}");
            }
            Error::Upgrade { reason, .. } if end > 0 => {
                assert_eq!(&**reason, "the connection ended in the middle of the headers", "{end} bytes");
            }
            other => panic!("{end} bytes: {other:?}"),
        }
        assert_eq!(retry_in, Some(10 * MS), "{end} bytes");
    }
    client.wait_ready(LONG).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    assert_eq!(client.stats().attempts, length as u64 + 1);
    assert!(client.close().is_empty());
}

#[test]
fn a_reset_during_the_handshake_is_a_clean_failure() {
    let server = BareServer::start(|n, mut stream| match n {
        0 => await_unread(&stream),
        1 => {
            stream.read_exact(&mut [0; 1]).unwrap();
            await_unread(&stream);
            stream.write_all(b"HTTP/1.1 101 Swit").unwrap();
        }
        _ => echo(accept(stream)),
    });
    let client = Client::start(quick(&server.url())).unwrap();
    let (reason, retry_in) = wait_for(&client, disconnected);
    let cause = |reason: &DisconnectReason| match reason {
        DisconnectReason::ConnectFailed(Error::Upgrade { source: Some(source), .. }) => source.clone(),
        other => panic!("{other:?}"),
    };
    assert!(is_reset(&*cause(&reason)), "{reason:?}");
    assert!(reason.to_string().contains(&format!("the connection broke: {}", cause(&reason))), "{reason}");
    assert!(retry_in.is_some());
    let (reason, retry_in) = wait_for(&client, disconnected);
    assert!(is_reset(&*cause(&reason)), "{reason:?}");
    assert!(reason.to_string().ends_with("the connection ended in the middle of the headers"), "{reason}");
    assert!(retry_in.is_some());
    client.wait_ready(LONG).unwrap();
    assert!(client.close().is_empty());
}
