//! Messages for this connection only.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::net::Shutdown;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use common::hooks::{Hooks, next};
use common::{LONG, Nobody, Server, accept, accept_raw, config, fate, read_frame, wait_for};
use crossbeam_channel::unbounded;
use tautline::{
    Client, ConnectionState, Context, Delivery, Error, Event, Message, QueueLimit, SendErrorKind,
    SendOptions, WhileDown,
};
use tungstenite::Message as Frame;

fn for_this() -> SendOptions {
    SendOptions::new().this_connection()
}

#[test]
fn while_the_line_is_not_ready_it_comes_back_though_others_are_queued() {
    let nobody = Nobody::new();
    for while_down in [WhileDown::Queue, WhileDown::Refuse] {
        let client = Client::start(config(&nobody.url()).while_down(while_down)).unwrap();
        for error in [client.send_with("here", for_this()), client.try_send_with("here", for_this())] {
            let error = error.unwrap_err();
            assert!(matches!(error.kind(), SendErrorKind::NotReady { .. }), "{error:?}");
            assert!(error.to_string().contains("this connection only"), "{error}");
            assert_eq!(error.into_message().as_text(), Some("here"));
        }
        let other = client.send_with("anywhere", SendOptions::new());
        assert_eq!(other.is_ok(), while_down == WhileDown::Queue);
        let _ = client.terminate();
        assert_eq!(client.send_with("late", for_this()).unwrap_err().kind(), SendErrorKind::Closed);
    }
}

#[test]
fn it_is_accepted_as_soon_as_connect_returns_or_the_event_says_that_the_line_is_ready() {
    let server = Server::echo();
    for _ in 0..50 {
        let client = Client::connect(config(&server.url()).while_down(WhileDown::Refuse)).unwrap();
        let ticket = client.send_with("here", for_this()).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("here"));
        assert_eq!(fate(&client, ticket), "received");
        let _ = client.terminate();
        let client = Client::start(config(&server.url())).unwrap();
        wait_for(&client, |event| matches!(event, Event::Connected { .. }).then_some(()));
        client.try_send_with("here", for_this()).unwrap();
        let _ = client.terminate();
    }
}

#[test]
fn one_that_the_loss_overtakes_is_named_while_the_line_is_down_and_not_sent_when_it_is_back() {
    let (go, may_go) = unbounded::<()>();
    let (open, may_open) = unbounded::<()>();
    let (hear, heard) = unbounded();
    let server = Server::start(move |n, stream| {
        if n == 0 {
            let mut socket = accept(stream);
            may_go.recv().unwrap();
            socket.send(Frame::text("go")).unwrap();
            common::listen(socket);
        } else if may_open.recv().is_ok() {
            let mut socket = accept(stream);
            while let Ok(message) = socket.read() {
                hear.send(message.to_string()).unwrap();
            }
        }
    });
    let (tell, told) = unbounded();
    let handle = Arc::new(OnceLock::<Client>::new());
    let own = Arc::clone(&handle);
    let hooks = Hooks {
        // It is accepted while callers see the line as ready. Then the line is lost, before it can be taken.
        text: Some(Box::new(move |_: &mut Context<'_>, _: String| {
            let ticket = own.get().unwrap().send_with("stale", for_this()).unwrap();
            tell.send(ticket).unwrap();
            Err(Error::session("enough"))
        })),
        ..Hooks::default()
    };
    let config = config(&server.url()).connect_timeout(LONG);
    let client = Client::builder(config).protocol(hooks).connect().unwrap();
    assert!(handle.set(client.clone()).is_ok());
    go.send(()).unwrap();
    let ticket = told.recv_timeout(LONG).unwrap();
    assert_eq!(fate(&client, ticket), format!("never {ticket}"));
    assert_ne!(client.state(), ConnectionState::Connected);
    let expired = wait_for(&client, |event| match event {
        Event::Expired { tickets, .. } => Some(tickets),
        _ => None,
    });
    assert!(expired.contains(ticket) && expired.len() == 1, "{expired}");
    client.send("fresh").unwrap();
    open.send(()).unwrap();
    assert_eq!(next(&heard), "fresh");
    assert!(client.terminate().never_written.is_empty());
}

#[test]
fn one_that_was_written_is_in_doubt_after_a_loss_and_is_not_sent_again_though_the_others_are() {
    let texts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&texts);
    let server = Server::start(move |n, stream| {
        if n == 0 {
            let mut stream = accept_raw(stream);
            // Both have come.
            while read_frame(&mut stream).is_some_and(|(_, payload)| payload != b"for any") {}
            let _ = stream.shutdown(Shutdown::Both);
        } else {
            let mut socket = accept(stream);
            while let Ok(message) = socket.read() {
                if let Frame::Text(text) = message {
                    seen.lock().unwrap().push(text.to_string());
                }
            }
        }
    });
    let client = Client::connect(config(&server.url()).delivery(Delivery::AtLeastOnce)).unwrap();
    let once = client.send_with("for this", for_this()).unwrap();
    let again = client.send("for any").unwrap();
    let in_doubt = wait_for(&client, |event| match event {
        Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
        _ => None,
    });
    assert!(in_doubt.contains(once) && !in_doubt.contains(again), "{in_doubt}");
    assert_eq!(fate(&client, ..), format!("maybe {once}"));
    assert_eq!(*texts.lock().unwrap(), ["for any"]);
    let _ = client.terminate();
}

#[test]
fn one_that_waits_for_room_comes_back_when_the_line_is_lost() {
    let server = Server::start(|n, stream| {
        // The first connection is not read, and there is no second one: the sender may come after the loss.
        let _stream = if n == 0 { accept_raw(stream) } else { stream };
        thread::park();
    });
    let config = config(&server.url()).outbox(QueueLimit::new(1, usize::MAX));
    let client = Client::connect(config).unwrap();
    client.send(Message::from(vec![0; 32 << 20])).unwrap();
    let waiting = client.clone();
    let sender = thread::spawn(move || waiting.send_with("here", for_this()));
    server.cut();
    let error = sender.join().unwrap().unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::NotReady { .. }), "{error:?}");
    assert_eq!(error.into_message().as_text(), Some("here"));
    let _ = client.terminate();
}
