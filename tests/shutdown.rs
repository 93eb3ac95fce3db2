//! Every way to end a line, from every phase, within its bound.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/full.rs"]
mod full;

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, MS, Nobody, Server, accept, accept_raw, listen, read_frame};
use tautline::ConnectionState::{Closing, Connected, Connecting, Disconnected};
use tautline::{
    Client, CloseReason, ConnectionConfig, ConnectionState, Context, Ending, Error, Event, Handshake,
    HeartbeatConfig, Protocol, Proxy, ReconnectConfig, Shutdown,
};

fn silent(mut stream: TcpStream) {
    while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {}
}

#[test]
fn close_tells_the_server_the_code_and_the_reason() {
    let (frame_in, frame) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if let tungstenite::Message::Close(frame) = message {
                frame_in.send(frame).unwrap();
            }
        }
    });
    let client = Client::connect(server.url()).unwrap();
    assert!(client.close_with(4001, "done for today").unwrap().is_empty());
    let frame = frame.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "done for today"));
}

#[test]
fn close_lets_everything_out_first() {
    let (count_in, count) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        let mut count = 0;
        while let Ok(message) = socket.read() {
            count += u32::from(message.is_text());
        }
        count_in.send(count).unwrap();
    });
    let client = Client::connect(server.url()).unwrap();
    for _ in 0..1000 {
        client.send("x").unwrap();
    }
    assert!(client.close().is_empty());
    assert_eq!(count.recv_timeout(LONG).unwrap(), 1000);
}

#[test]
fn after_close_nothing_is_accepted_and_nothing_revives_the_line() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    let _ = client.close();
    let error = client.send("late").unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.into_message().as_text()),
        ("the client is closed: the application closed it; the message is inside this error", Some("late"))
    );
    client.reconnect_now();
    assert_eq!(client.state(), ConnectionState::Closed);
    assert!(matches!(client.wait_ready(LONG), Err(Error::Closed { .. })));
    assert!(client.close().is_empty(), "a second close returns what the first one did");
}

#[test]
fn a_server_that_never_answers_the_close_costs_the_timeout_and_no_more() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(ConnectionConfig::new(server.url()).close_timeout(60 * MS)).unwrap();
    let ticket = client.send("unconfirmed").unwrap();
    let start = Instant::now();
    let left = client.close();
    assert!(start.elapsed() >= 60 * MS && start.elapsed() < LONG, "{:?}", start.elapsed());
    assert!(left.never_written.is_empty());
    assert!(left.maybe_delivered.contains(ticket), "{left:?}");
}

#[test]
fn a_server_that_does_not_read_leaves_what_was_not_written() {
    let server = Server::start(|_, stream| {
        let stream = accept_raw(stream);
        thread::park();
        drop(stream);
    });
    let client = Client::connect(ConnectionConfig::new(server.url()).close_timeout(60 * MS)).unwrap();
    for n in 0..10_u8 {
        client.send(vec![n; 1 << 20]).unwrap();
    }
    let left = client.close();
    let known = left.never_written.len() as u64 + left.maybe_delivered.len();
    assert_eq!(known, 10, "each message has a fate: {left:?}");
    assert!(left.never_written.is_sorted_by_key(|(_, message)| message.as_bytes()[0]));
}

/// In an hour.
const FAR: Duration = Duration::from_secs(3600);

/// Nothing that is waited for comes within the hour.
fn patient(url: &str) -> ConnectionConfig {
    let reconnect = ReconnectConfig::default().initial_delay(FAR).max_delay(FAR);
    ConnectionConfig::new(url).reconnect(reconnect).connect_timeout(FAR).login_timeout(FAR)
}

/// Brings a client into a phase, and checks that `terminate`, `close` and a drop get it out of there.
fn ends_from(phase: &str, client: impl Fn() -> Client) {
    for end in [Client::terminate, Client::close] {
        let client = client();
        client.send("unsent").unwrap();
        let (left_in, left) = crossbeam_channel::bounded(1);
        let ending = client.clone();
        thread::spawn(move || left_in.send(end(&ending)));
        let left = left.recv_timeout(LONG).unwrap_or_else(|_| panic!("no end while {phase}"));
        assert_eq!(left.never_written.len(), 1, "{phase}");
        assert!(matches!(client.wait_closed(), CloseReason::ByCaller), "{phase}");
        assert!(matches!(client.events().iter().last(), Some(Event::Closed { .. })), "{phase}");
    }
    let client = client();
    let events = client.events().clone();
    let (dropped_in, dropped) = crossbeam_channel::bounded(1);
    thread::spawn(move || {
        drop(client);
        dropped_in.send(())
    });
    dropped.recv_timeout(LONG).unwrap_or_else(|_| panic!("no end while {phase}"));
    assert!(matches!(events.iter().last(), Some(Event::Closed { .. })), "{phase}");
}

#[test]
fn a_line_that_is_not_up_ends_from_every_phase() {
    let server = Server::start(|_, stream| silent(stream));
    let dialling = |client: Client| {
        common::eventually("an attempt", || client.state() == ConnectionState::Connecting);
        client
    };
    ends_from("upgrading", || dialling(Client::start(patient(&server.url())).unwrap()));
    #[cfg(feature = "native-tls")]
    {
        let over_tls = server.url().replace("ws", "wss");
        ends_from("in the TLS handshake", || dialling(Client::start(patient(&over_tls)).unwrap()));
    }
    for scheme in ["http", "socks5h"] {
        let proxy = Proxy::new(format!("{scheme}://{}", server.address()));
        let config = patient("ws://gateway.invalid").proxy(proxy);
        ends_from("the proxy opens the way", || dialling(Client::start(config.clone()).unwrap()));
    }

    // Its system takes the connection, and it does not.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = format!("ws://{}", deaf.local_addr().unwrap());
    ends_from("connecting", || dialling(Client::start(patient(&deaf)).unwrap()));

    let nobody = Nobody::new();
    ends_from("backing off", || {
        let client = Client::start(patient(&nobody.url())).unwrap();
        common::eventually("a failure", || {
            client.stats().attempts == 1 && client.state() == ConnectionState::Disconnected
        });
        client
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_line_that_waits_for_tcp_ends_too() {
    let full = full::Full::listen();
    ends_from("waiting for TCP", || Client::start(patient(&format!("ws://{}", full.address))).unwrap());
}

#[test]
fn a_line_that_is_logging_in_ends_too() {
    struct Mute;
    impl Protocol for Mute {
        fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            Ok(())
        }
    }
    let server = Server::start(|_, stream| listen(accept(stream)));
    ends_from("logging in", || {
        let client = Client::builder(patient(&server.url())).protocol(Mute).start().unwrap();
        common::eventually("the login", || client.state() == ConnectionState::Connected);
        client
    });
}

#[test]
fn after_a_close_no_connection_is_made_however_it_falls_between_two_attempts() {
    let mut rounds = Vec::new();
    for round in 0..200_u32 {
        // Tells of each connection, in their order, whether it is ours.
        let (seen_in, seen) = crossbeam_channel::unbounded();
        let server = common::BareServer::start(move |_, mut stream| {
            let mut first = [0];
            let read = std::io::Read::read(&mut stream, &mut first);
            let _ = seen_in.send(read.is_ok_and(|n| n == 1) && first == *b"!");
        });
        let client = Client::start(common::quick(&server.url())).unwrap();
        common::eventually("an attempt", || client.stats().attempts > u64::from(round % 3));
        // So that the end comes now in the backoff, and now in an attempt.
        for _ in 0..(round * 7919) % 20_000 {
            std::hint::spin_loop();
        }
        let _ = if round % 2 == 0 { client.close() } else { client.terminate() };
        client.reconnect_now();
        assert_eq!(client.state(), ConnectionState::Closed);
        let mut ours = TcpStream::connect(server.url().strip_prefix("ws://").unwrap()).unwrap();
        std::io::Write::write_all(&mut ours, b"!").unwrap();
        rounds.push((server, seen));
    }
    for (server, seen) in rounds {
        // Its own end is a connection, too.
        drop(server);
        let after = seen.iter().skip_while(|ours| !ours).count();
        assert_eq!(after, 1, "ours was the last");
    }
}

/// A client whose look-up does not return before the sender is dropped.
fn inside_a_look_up() -> (Client, crossbeam_channel::Sender<()>) {
    let (inside_in, inside) = crossbeam_channel::bounded(1);
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let client = Client::builder("ws://gateway.invalid")
        .resolver(move |_, _| {
            inside_in.send(()).unwrap();
            let _ = held.recv();
            Err(std::io::Error::other("released"))
        })
        .start()
        .unwrap();
    inside.recv_timeout(LONG).unwrap();
    (client, release)
}

#[test]
fn a_thread_inside_a_look_up_is_named_and_left_behind() {
    let (client, release) = inside_a_look_up();
    let left = client.terminate();
    assert_eq!(left.still_inside.as_deref(), Some("tautline-dial: looking up gateway.invalid"));
    drop(release);
}

#[test]
fn a_shutdown_waits_for_a_thread_that_an_end_has_left_behind() {
    let (client, release) = inside_a_look_up();
    client.send("unsent").unwrap();
    assert!(client.terminate().still_inside.is_some());
    let running = client.shutdown(Ending::Close, Duration::ZERO);
    let Shutdown::StillRunning(threads) = running else { panic!("{running:?}") };
    assert_eq!(&*threads, "tautline-dial: looking up gateway.invalid");
    drop(release);
    let first = client.shutdown(Ending::Terminate, LONG);
    for gone in [first, client.shutdown(Ending::Close, Duration::ZERO)] {
        let Shutdown::Gone(left) = gone else { panic!("{gone:?}") };
        assert_eq!((left.never_written.len(), left.still_inside), (1, None));
    }
}

#[test]
fn a_shutdown_by_a_callback_starts_the_end_and_says_who_is_running() {
    let server = Server::echo();
    let (said_in, said) = crossbeam_channel::unbounded();
    let (client_in, its_client) = crossbeam_channel::bounded::<Client>(1);
    let client = Client::builder(server.url())
        .on_event_ready(move || {
            if let Ok(client) = its_client.try_recv() {
                said_in.send(client.shutdown(Ending::Terminate, LONG)).unwrap();
            }
        })
        .connect()
        .unwrap();
    client_in.send(client.clone()).unwrap();
    // An event of the connect may have called it already: then the client is closed, and takes no message.
    let _ = client.send("hello");
    let running = said.recv_timeout(LONG).unwrap();
    let Shutdown::StillRunning(threads) = running else { panic!("{running:?}") };
    assert_eq!(&*threads, "tautline-io: the caller of shutdown");
    assert!(matches!(client.shutdown(Ending::Terminate, LONG), Shutdown::Gone(_)));
}

#[test]
fn a_shutdown_closes_the_line_within_its_time_also_with_a_server_that_does_not_answer() {
    let (closed_in, closed) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = common::read_frame(&mut stream) {
            closed_in.send((opcode, payload)).unwrap();
        }
    });
    let hour = Duration::from_secs(3600);
    let client = Client::connect(ConnectionConfig::new(server.url()).close_timeout(hour)).unwrap();
    client.send("last words").unwrap();
    let gone = client.shutdown(Ending::Close, Duration::from_secs(1));
    assert!(matches!(gone, Shutdown::Gone(_)), "{gone:?}");
    assert_eq!(closed.recv_timeout(LONG).unwrap().1, b"last words");
}

#[test]
fn a_look_neither_cuts_a_close_short_nor_waits_for_it() {
    let (go, held) = crossbeam_channel::bounded::<()>(0);
    let (heard_in, heard) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        let _ = held.recv();
        let messages = std::iter::from_fn(|| read_frame(&mut stream)).take_while(|(opcode, _)| *opcode != 8);
        heard_in.send(messages.filter(|(opcode, _)| *opcode == 2).count()).unwrap();
        let _ = std::io::Write::write_all(&mut stream, &common::close_frame(1000, ""));
    });
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off()).close_timeout(LONG);
    let client = Client::connect(config.outbox(tautline::QueueLimit::new(100, 64 << 20))).unwrap();
    // More than the system takes of a line that is not read.
    client.send_all((0..30).map(|_| vec![7; 1 << 20])).unwrap();
    for how in [Ending::Close; 3] {
        let running = client.shutdown(how, Duration::ZERO);
        let Shutdown::StillRunning(threads) = running else { panic!("{running:?}") };
        assert_eq!(&*threads, "tautline-io: closing the line");
    }
    assert!(matches!(client.shutdown(Ending::Close, MS), Shutdown::StillRunning(_)));
    drop(go);
    let gone = client.shutdown(Ending::Close, LONG);
    assert!(matches!(&gone, Shutdown::Gone(left) if left.never_written.is_empty()), "{gone:?}");
    assert_eq!(heard.recv_timeout(LONG).unwrap(), 30);
}

#[test]
fn a_terminate_cuts_a_close_short_that_is_under_way() {
    let (go, held) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let _unread = accept_raw(stream);
        let _ = held.recv();
    });
    let hour = Duration::from_secs(3600);
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off()).close_timeout(hour);
    let client = Client::connect(config.outbox(tautline::QueueLimit::new(100, 64 << 20))).unwrap();
    client.send_all((0..30).map(|_| vec![7; 1 << 20])).unwrap();
    assert!(matches!(client.shutdown(Ending::Close, Duration::ZERO), Shutdown::StillRunning(_)));
    let gone = client.shutdown(Ending::Terminate, LONG);
    assert!(matches!(&gone, Shutdown::Gone(left) if !left.never_written.is_empty()), "{gone:?}");
    drop(go);
}

#[test]
fn a_dial_thread_waits_for_the_end_of_another_client_and_not_for_that_of_its_own() {
    let server = Server::echo();
    let other = Client::connect(server.url()).unwrap();
    let (client_in, itself) = crossbeam_channel::bounded::<Client>(1);
    let (said_in, said) = crossbeam_channel::unbounded();
    let client = Client::builder("ws://gateway.invalid")
        .resolver(move |_, _| {
            said_in.send(other.shutdown(Ending::Close, LONG)).unwrap();
            said_in.send(itself.recv().unwrap().shutdown(Ending::Terminate, LONG)).unwrap();
            Err(std::io::Error::other("on purpose"))
        })
        .start()
        .unwrap();
    client_in.send(client.clone()).unwrap();
    let others = said.recv_timeout(LONG).unwrap();
    assert!(matches!(others, Shutdown::Gone(_)), "{others:?}");
    let own = said.recv_timeout(LONG).unwrap();
    let Shutdown::StillRunning(threads) = own else { panic!("{own:?}") };
    assert_eq!(&*threads, "tautline-dial: the caller of shutdown");
    assert!(matches!(client.shutdown(Ending::Terminate, LONG), Shutdown::Gone(_)));
}

#[test]
fn an_open_line_is_terminated_at_once_also_with_a_consumer_that_takes_nothing() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while socket.send("flood".into()).is_ok() {}
    });
    let config = ConnectionConfig::new(server.url()).events(tautline::QueueLimit::new(5, 1000));
    let client = Client::connect(config).unwrap();
    common::eventually("the bound", || client.stats().messages_received >= 5);
    let _ = client.terminate();
    assert_eq!(client.messages().count(), 5, "what had arrived is still there");
}

#[test]
fn dropping_the_last_handle_closes_the_line() {
    let (closed_in, closed) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_close() {
                closed_in.send(()).unwrap();
            }
        }
    });
    let client = Client::connect(server.url()).unwrap();
    let events = client.events().clone();
    drop(client.clone());
    assert_eq!(client.state(), ConnectionState::Connected, "a clone is not the last handle");
    drop(client);
    closed.recv_timeout(LONG).unwrap();
    assert!(matches!(events.iter().last(), Some(Event::Closed { reason: CloseReason::ByCaller, .. })));
}

#[test]
fn two_closes_at_once_return_the_same() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(ConnectionConfig::new(server.url()).close_timeout(40 * MS)).unwrap();
    client.send("unconfirmed").unwrap();
    let other = client.clone();
    let second = thread::spawn(move || other.close());
    let first = client.close();
    let second = second.join().unwrap();
    assert_eq!((first.maybe_delivered.len(), second.maybe_delivered.len()), (1, 1));
}

#[test]
fn many_clients_that_are_closed_at_once_take_the_time_of_one() {
    const CLIENTS: u32 = 20;
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let close_timeout = 500 * MS;
    let config = ConnectionConfig::new(server.url()).close_timeout(close_timeout);
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(config.clone()).unwrap()).collect();
    let start = Instant::now();
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| client.close());
        }
    });
    drop(clients);
    let took = start.elapsed();
    assert!(took >= close_timeout && took < close_timeout * CLIENTS / 2, "{took:?}");
}

#[test]
fn a_send_that_races_a_close_is_counted_or_refused() {
    for round in 0..50 {
        let (count_in, count) = crossbeam_channel::bounded(1);
        let server = Server::start(move |_, stream| {
            let mut socket = accept(stream);
            let mut count = 0;
            while let Ok(message) = socket.read() {
                count += u64::from(message.is_text());
            }
            count_in.send(count).unwrap();
        });
        let client = Client::connect(server.url()).unwrap();
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                thread::spawn(move || (0..u64::MAX).take_while(|_| client.send("x").is_ok()).count() as u64)
            })
            .collect();
        common::eventually("sending", || client.stats().messages_accepted > round);
        let left = client.close();
        let accepted: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(count.recv_timeout(LONG).unwrap(), accepted, "round {round}");
    }
}

#[test]
fn a_handle_dropped_in_a_callback_does_not_wait_for_itself() {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        go.recv().unwrap();
        socket.send("call back".into()).unwrap();
        listen(socket);
    });
    let (handle_in, handle) = crossbeam_channel::bounded::<Client>(1);
    let callback = move || {
        if let Ok(client) = handle.try_recv() {
            assert!(matches!(client.recv(), Err(Error::WouldDeadlock)));
            assert!(matches!(client.wait_ready(LONG), Err(Error::WouldDeadlock)));
            assert!(matches!(client.wait_closed(), CloseReason::Failed(Error::WouldDeadlock)));
            assert!(matches!(Client::connect("ws://h"), Err(Error::WouldDeadlock)));
            drop(client);
        }
    };
    let client = Client::builder(server.url()).on_event_ready(callback).connect().unwrap();
    let events = client.events().clone();
    handle_in.send(client).unwrap();
    go_in.send(()).unwrap();
    assert!(matches!(events.iter().last(), Some(Event::Closed { reason: CloseReason::ByCaller, .. })));
}

#[test]
fn a_close_in_a_callback_returns_at_once_and_happens() {
    let server = Server::echo();
    let (handle_in, handle) = crossbeam_channel::bounded::<Client>(1);
    let callback = move || {
        if let Ok(client) = handle.try_recv() {
            assert!(client.close().unfinished);
        }
    };
    let client = Client::builder(server.url()).on_event_ready(callback).connect().unwrap();
    handle_in.send(client.clone()).unwrap();
    // An event of the connect may have called it already: then the client is closed, and takes no message.
    let _ = client.send("call back");
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::ByCaller)));
}

#[test]
fn a_callback_that_panics_closes_its_client_and_no_other() {
    let server = Server::echo();
    let other = Client::connect(server.url()).unwrap();
    let client = Client::builder(server.url()).on_event_ready(|| panic!("on purpose")).start().unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(
        matches!(reason, CloseReason::Failed(Error::Panicked { callback: "on_event_ready", .. })),
        "{reason:?}"
    );
    other.send("still here").unwrap();
    assert!(other.recv_timeout(LONG).is_ok());
}

#[test]
fn a_resolver_that_panics_is_a_failed_attempt() {
    let error = Client::builder("ws://h").resolver(|_, _| panic!("on purpose")).connect().unwrap_err();
    assert!(matches!(error, Error::Panicked { callback: "resolver", .. }), "{error:?}");
}

#[test]
fn the_servers_close_is_answered_and_waited_for() {
    let (answered_in, answered) = crossbeam_channel::bounded(1);
    let server = Server::start(move |n, stream| {
        let mut socket = accept(stream);
        if n > 0 {
            return listen(socket);
        }
        socket.close(None).unwrap();
        loop {
            match socket.read() {
                Ok(message) if message.is_close() => answered_in.send(()).unwrap(),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off());
    let client = Client::connect(config.reconnect(ReconnectConfig::default().initial_delay(MS))).unwrap();
    answered.recv_timeout(LONG).unwrap();
    let states: Vec<_> = client
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::StateChanged { to, .. } => Some(to),
            _ => None,
        })
        .take(6)
        .collect();
    assert_eq!(states, [Connecting, Connected, Closing, Disconnected, Connecting, Connected]);
}

#[test]
fn an_iterator_of_messages_ends_with_the_client() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        socket.send("one".into()).unwrap();
        socket.send("two".into()).unwrap();
        let normal = tungstenite::protocol::frame::coding::CloseCode::Normal;
        socket.close(Some(tungstenite::protocol::CloseFrame { code: normal, reason: "".into() })).unwrap();
        while socket.read().is_ok() {}
    });
    let client = Client::connect(server.url()).unwrap();
    assert_eq!(client.messages().map(|message| message.to_string()).collect::<Vec<_>>(), ["one", "two"]);
    client.wait_closed().into_result().unwrap();
}
