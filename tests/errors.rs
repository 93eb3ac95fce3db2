//! What errors say where the application meets them.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::{self, Write};
use std::thread;

use common::{LONG, Nobody, Server, config, eventually, read_head};
use crossbeam_channel::RecvError;
use serde_json::{Value, json};
use tautline::{Client, CloseReason, Error, JsonSession, QueueLimit, SendError};

/// The outcome of a call as the `?` of an application passes it on.
fn passed_on<T>(outcome: Result<T, impl Into<Error>>) -> Result<(), Error> {
    outcome.map(drop).map_err(Into::into)
}

#[test]
fn every_call_on_a_client_that_gave_up_says_why() {
    let nobody = Nobody::new();
    let mut config = config(&nobody.url());
    config.reconnect.max_attempts = Some(1);
    let client = Client::builder(config).protocol(JsonSession::new().answers_by("id")).start().unwrap();
    client.send("is never written").unwrap();
    client.wait_closed();
    let outcomes = [
        ("send", passed_on(client.send("x"))),
        ("try_send", passed_on(client.try_send("x"))),
        ("send_timeout", passed_on(client.send_timeout("x", LONG))),
        ("send_all", passed_on(client.send_all(["x", "y"]))),
        ("send_json", passed_on(client.send_json(&json!({})))),
        ("request", passed_on(client.request(json!({}), LONG))),
        ("request_many", passed_on(client.request_many(json!({}), LONG))),
        ("recv", passed_on(client.recv())),
        ("recv_timeout", passed_on(client.recv_timeout(LONG))),
        ("try_recv", passed_on(client.try_recv())),
        ("flush", passed_on(client.flush(LONG))),
    ];
    for (call, outcome) in outcomes {
        let error = outcome.unwrap_err();
        let Error::Closed { reason: Some(reason), .. } = &error else { panic!("{call}: {error:?}") };
        assert!(matches!(**reason, CloseReason::GaveUp { attempts: 1, .. }), "{call}: {reason:?}");
        let why = "the client is closed: gave up after one reconnect attempt: connecting to ";
        assert!(error.to_string().starts_with(why), "{call}: {error}");
    }
    assert!(matches!(client.wait_ready(LONG), Err(Error::GaveUp { attempts: 1, .. })));
}

#[test]
fn a_sender_that_waits_for_room_learns_why_the_client_closed() {
    let (release, released) = crossbeam_channel::bounded::<()>(0);
    let mut config = config("ws://nobody.example").outbox(QueueLimit::new(1, 1 << 20));
    config.reconnect.max_attempts = Some(0);
    let resolver = move |_: &str, _| {
        let _ = released.recv();
        Err(io::Error::other("no such host"))
    };
    let client = Client::builder(config).resolver(resolver).start().unwrap();
    client.send("fills the outbox").unwrap();
    let error = thread::scope(|scope| {
        let waits = scope.spawn(|| client.send("waits").unwrap_err());
        drop(release);
        waits.join().unwrap()
    });
    assert_eq!(
        error.to_string(),
        "the client is closed: not reconnecting: looking up nobody.example: no such host; check the name, and that \
         this machine is online; the message is inside this error"
    );
    assert_eq!(error.into_message().as_text(), Some("waits"));
}

#[test]
fn a_call_that_meets_the_close_of_another_thread_says_who_closed_it() {
    let server = Server::start(|_, stream| common::listen(common::accept(stream)));
    let session = JsonSession::new().answers_by("id");
    let client = Client::builder(server.url()).protocol(session).connect().unwrap();
    let errors = thread::scope(|scope| {
        let recv = scope.spawn(|| client.recv().map(drop).unwrap_err());
        let request = scope.spawn(|| client.request(json!({}), LONG).map(drop).unwrap_err());
        eventually("the request is out", || client.stats().messages_written == 1);
        let _ = client.terminate();
        [recv.join().unwrap(), request.join().unwrap()]
    });
    for error in errors {
        assert_eq!(error.to_string(), "the client is closed: the application closed it");
    }
}

#[test]
fn main_prints_a_refusal_as_a_sentence_with_the_servers_own_words_and_no_secret() {
    let server = Server::start(|_, mut stream| {
        read_head(&mut stream);
        let body = "<html>\n<h1>No</h1> s3cret-t0ken\n<p>Ask your administrator</p>\n";
        write!(stream, "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let error = Client::connect(format!("{}/?token=s3cret-t0ken", server.url())).unwrap_err();
    // As Rust prints what `main` returns.
    assert_eq!(
        format!("Error: {error:?}").replace(&server.address().to_string(), "HOST"),
        "Error: HOST answered 403 Forbidden to the WebSocket upgrade; check the credentials, and the headers, such as Origin\n\
         the server's answer:\n    <html>\n    <h1>No</h1> ***\n    <p>Ask your administrator</p>"
    );
}

/// Whatever an application returns, one `?` carries each error into it.
fn talk<E>(url: &str) -> Result<(), E>
where
    E: From<Error> + From<SendError> + From<RecvError>,
{
    let client = Client::builder(url).protocol(JsonSession::new().answers_by("id")).connect()?;
    client.wait_ready(LONG)?;
    client.events().recv()?;
    client.send("[1]")?;
    client.try_send("[2]")?;
    client.send_timeout("[3]", LONG)?;
    client.send_json(&[4])?;
    client.flush(LONG)?;
    client.confirm(client.send_all(["[5]", "[6]"])?, LONG)?;
    let values: [Vec<u32>; 3] =
        [client.recv()?.json()?, client.recv_timeout(LONG)?.json()?, client.recv_json()?];
    assert_eq!(values.concat(), [1, 2, 3]);
    assert_eq!(client.try_recv()?.map(|message| message.json::<Vec<u32>>()).transpose()?, Some(vec![4]));
    assert_eq!(client.request(json!({"n": 1}), LONG)?.json::<Value>()?["n"], 1);
    client.request_many(json!({"n": 2}), LONG)?.next().transpose()?;
    let _ = client.close_with(1000, "done")?;
    client.wait_closed_timeout(LONG)?.into_result()?;
    Ok(())
}

#[test]
fn one_question_mark_carries_every_error() {
    let server = Server::echo();
    talk::<Error>(&server.url()).unwrap();
    talk::<Box<dyn std::error::Error + Send + Sync>>(&server.url()).unwrap();
    talk::<Box<dyn std::error::Error>>(&server.url()).unwrap();
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Reading {
    celsius: f64,
}

#[test]
fn a_message_that_is_no_such_value_is_in_the_error_and_the_next_call_reads_the_next_message() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    let sent = [r#"{"celsius": 21.5}"#, r#"{"celsius": "s3cret"}"#, "s3cret", r#"{"celsius": 22.0}"#];
    client.send_all(sent).unwrap();
    assert_eq!(client.recv_json::<Reading>().unwrap(), Reading { celsius: 21.5 });
    let texts = [
        "the message is not the JSON that was expected: invalid type: string, expected f64 at line 1 column 20",
        "the message is no JSON: expected value at line 1 column 1",
    ];
    for (sent, text) in sent[1..3].iter().zip(texts) {
        let error = client.recv_json::<Reading>().unwrap_err();
        assert_eq!((error.to_string().as_str(), format!("{error:?}").as_str()), (text, text));
        let Error::Json { message: Some(message), .. } = error else { panic!("{error:?}") };
        assert_eq!(message.as_text(), Some(*sent));
    }
    assert_eq!(client.recv_json::<Reading>().unwrap(), Reading { celsius: 22.0 });
    assert_eq!(client.stats().disconnects, 0, "the line stayed up");
    assert!(client.close().is_empty());
    assert!(matches!(client.recv_json::<Reading>(), Err(Error::Closed { reason: Some(_), .. })));
}
