//! What a protocol of the application's own can ask for.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{LONG, Nobody, Server, accept, accept_raw, eventually, frame, listen, read_frame, wait_for};
use crossbeam_channel::{Receiver, Sender, unbounded};
use tautline::{
    Attempt, Client, CloseReason, ConnectionConfig, ConnectionState, Context, Delivery, DisconnectReason,
    Error, Event, Handshake, HeartbeatConfig, Loss, Message, Outgoing, Protocol, QueueLimit, ReconnectConfig,
    RequestId, Retry, Tickets, UpgradeRequest,
};
use tungstenite::{Message as Raw, WebSocket};

const MS: Duration = Duration::from_millis(1);

type OnDown = Box<dyn FnMut(&Loss<'_>) -> Retry + Send>;
type Prepare = Box<dyn FnMut(&Attempt<'_>, &mut UpgradeRequest) + Send>;
type Hook<T> = Box<dyn FnMut(&mut Context<'_>, T) -> Result<(), Error> + Send>;

/// A protocol in closures; what it does not say is as by default, and it is ready when it is open.
#[derive(Default)]
struct Hooks {
    open: Option<Hook<()>>,
    text: Option<Hook<String>>,
    send: Option<Hook<Outgoing>>,
    control: Option<Hook<String>>,
    work: Option<Hook<Result<Message, Error>>>,
    timer: Option<Hook<u32>>,
    withdrawn: Option<Hook<RequestId>>,
    move_failed: Option<Hook<String>>,
    down: Option<OnDown>,
    prepare: Option<Prepare>,
}

#[expect(clippy::unnecessary_wraps, reason = "what a field of `Hooks` holds")]
fn hook<T>(mut f: impl FnMut(&mut Context<'_>, T) + Send + 'static) -> Option<Hook<T>> {
    Some(Box::new(move |cx, argument| {
        f(cx, argument);
        Ok(())
    }))
}

impl Protocol for Hooks {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        if let Some(prepare) = &mut self.prepare {
            prepare(attempt, request);
        }
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        if self.open.is_none() {
            cx.ready();
        }
        self.open.as_mut().map_or(Ok(()), |hook| hook(cx, ()))
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        if let Some(hook) = &mut self.text {
            return hook(cx, message.to_string());
        }
        cx.deliver(message);
        Ok(())
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        let text = format!("ping {}", String::from_utf8_lossy(payload));
        self.control.as_mut().map_or(Ok(()), |hook| hook(cx, text))
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        let text = format!("pong {}", String::from_utf8_lossy(payload));
        self.control.as_mut().map_or(Ok(()), |hook| hook(cx, text))
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        if let Some(hook) = &mut self.send {
            return hook(cx, outgoing);
        }
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        self.withdrawn.as_mut().map_or(Ok(()), |hook| hook(cx, request))
    }

    fn on_work(&mut self, cx: &mut Context<'_>, _: u32, result: Result<Message, Error>) -> Result<(), Error> {
        self.work.as_mut().map_or(Ok(()), |hook| hook(cx, result))
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        self.timer.as_mut().map_or(Ok(()), |hook| hook(cx, id))
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        self.move_failed.as_mut().map_or(Ok(()), |hook| hook(cx, error.to_string()))
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.down.as_mut().map_or_else(|| down.default_retry(), |on_down| on_down(down))
    }
}

fn config(url: &str) -> ConnectionConfig {
    ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
}

fn connect(server: &Server, hooks: Hooks) -> Client {
    Client::builder(config(&server.url())).protocol(hooks).connect().unwrap()
}

/// A server that passes on what it hears, and says what it is told; a connection ends when the next begins.
fn puppet() -> (Server, Sender<Raw>, Receiver<String>) {
    let (say, to_say) = unbounded::<Raw>();
    let (heard, hearing) = unbounded();
    let server = Server::start(move |_, stream: TcpStream| {
        let mut reader = accept(stream.try_clone().unwrap());
        let (to_say, heard) = (to_say.clone(), heard.clone());
        let (ended, end) = unbounded::<()>();
        let writer = thread::spawn(move || {
            let mut writer = WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Server, None);
            loop {
                crossbeam_channel::select! {
                    recv(to_say) -> said => match said {
                        Ok(said) => drop(writer.send(said)),
                        Err(_) => return,
                    },
                    recv(end) -> _ => return,
                }
            }
        });
        while let Ok(message) = reader.read() {
            match message {
                Raw::Text(text) => drop(heard.send(text.to_string())),
                Raw::Close(frame) => {
                    drop(heard.send(format!("close {:?}", frame.map(|f| u16::from(f.code)))));
                }
                _ => {}
            }
        }
        drop(ended);
        writer.join().unwrap();
    });
    (server, say, hearing)
}

fn next(heard: &Receiver<String>) -> String {
    heard.recv_timeout(LONG).expect("the server hears something")
}

#[test]
fn pings_and_pongs_reach_the_protocol_in_wire_order() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        for message in
            [Raw::text("a"), Raw::Ping("1".into()), Raw::text("b"), Raw::Pong("2".into()), Raw::text("c")]
        {
            socket.send(message).unwrap();
        }
        listen(socket);
    });
    let hooks = Hooks { control: hook(|cx, text: String| cx.deliver(text)), ..Hooks::default() };
    let client = connect(&server, hooks);
    let order: Vec<_> = (0..5).map(|_| client.recv_timeout(LONG).unwrap().to_string()).collect();
    assert_eq!(order, ["a", "ping 1", "b", "pong 2", "c"]);
}

#[test]
fn a_session_that_is_resumed_says_so() {
    let server = Server::echo();
    let mut opened = 0;
    let open = hook(move |cx, ()| {
        opened += 1;
        if opened == 1 { cx.ready() } else { cx.resumed() }
    });
    let client = connect(&server, Hooks { open, ..Hooks::default() });
    let resumed = |event| match event {
        Event::Connected { resumed, .. } => Some(resumed),
        _ => None,
    };
    assert!(!wait_for(&client, resumed));
    server.cut();
    assert!(wait_for(&client, resumed));
}

#[test]
fn a_hold_keeps_the_applications_messages_back_and_not_the_protocols() {
    let (server, say, heard) = puppet();
    let text = hook(|cx: &mut Context<'_>, text: String| match &*text {
        "hold" => {
            cx.hold(Duration::from_secs(3600));
            cx.send("held");
        }
        "tick" => cx.send("tock"),
        "release" => cx.release(),
        _ => cx.deliver(text),
    });
    let client = connect(&server, Hooks { text, ..Hooks::default() });
    say.send(Raw::text("hold")).unwrap();
    assert_eq!(next(&heard), "held");
    client.send("mine").unwrap();
    say.send(Raw::text("tick")).unwrap();
    assert_eq!(next(&heard), "tock", "ahead of a message that was accepted before");
    say.send(Raw::text("release")).unwrap();
    assert_eq!(next(&heard), "mine");
}

#[test]
fn a_hold_ends_by_itself_and_closes_wait_for_it() {
    let (server, _say, heard) = puppet();
    let mut number = 0;
    let send = hook(move |cx: &mut Context<'_>, outgoing: Outgoing| {
        number += 1;
        cx.send(format!("{number}: {}", outgoing.message));
        cx.hold(20 * MS);
    });
    let client = connect(&server, Hooks { send, ..Hooks::default() });
    client.send_all(["a", "b", "c"]).unwrap();
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!([next(&heard), next(&heard), next(&heard)], ["1: a", "2: b", "3: c"]);
}

#[test]
fn work_is_done_elsewhere_and_its_result_comes_back() {
    let (server, _say, heard) = puppet();
    let open = hook(|cx: &mut Context<'_>, ()| {
        cx.work(1, || {
            assert_eq!(thread::current().name(), Some("tautline-work"));
            Ok("token".into())
        });
        cx.work(2, || panic!("work"));
        cx.work(3, || Err(Error::session("no token to be had")));
    });
    let mut done = 0;
    let work = hook(move |cx: &mut Context<'_>, result: Result<Message, Error>| {
        done += 1;
        cx.send(result.map_or_else(|error| error.to_string(), |message| message.to_string()));
        if done == 3 {
            cx.ready();
        }
    });
    let client = connect(&server, Hooks { open, work, ..Hooks::default() });
    assert_eq!(client.state(), ConnectionState::Authenticated);
    assert_eq!(next(&heard), "token");
    assert_eq!(next(&heard), "the application's work callback panicked");
    assert_eq!(next(&heard), "the session can't go on: no token to be had");
}

#[test]
fn work_of_a_connection_that_is_gone_is_dropped_and_one_that_hangs_is_named() {
    let server = Server::echo();
    let (go, gone) = unbounded::<()>();
    let mut opened = 0;
    let open = hook(move |cx: &mut Context<'_>, ()| {
        opened += 1;
        let gone = gone.clone();
        let n = opened;
        cx.work(n, move || {
            let _ = gone.recv();
            Ok(n.to_string().into())
        });
        cx.ready();
    });
    let work = hook(|cx: &mut Context<'_>, result: Result<Message, Error>| cx.deliver(result.unwrap()));
    let client = connect(&server, Hooks { open, work, ..Hooks::default() });
    server.cut();
    let connected = |event| matches!(event, Event::Connected { .. }).then_some(());
    wait_for(&client, connected);
    wait_for(&client, connected);
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("2"), "the first connection's is dropped");

    server.cut();
    wait_for(&client, connected);
    eventually("the work to have begun", || go.is_empty());
    let left = client.terminate();
    // The thread may not have come to it yet.
    if let Some(inside) = left.still_inside {
        assert_eq!(&*inside, "tautline-work: the protocol's work");
    }
    drop(go);
}

#[test]
fn a_protocol_closes_its_connection_with_a_code_after_what_it_sent_and_comes_back() {
    let (server, say, heard) = puppet();
    let text = hook(|cx: &mut Context<'_>, text: String| {
        if text == "go" {
            cx.send("bye");
            cx.close(4001, "resume me");
            cx.close(4002, "once is enough");
            cx.send("never sent");
        }
    });
    let mut losses = 0;
    let down: Option<OnDown> = Some(Box::new(move |down| {
        losses += 1;
        assert!(down.ready_for.is_some() && down.failures == losses, "{down:?}");
        Retry::Now
    }));
    let client = connect(&server, Hooks { text, down, ..Hooks::default() });
    say.send(Raw::text("go")).unwrap();
    assert_eq!([next(&heard), next(&heard)], ["bye", "close Some(4001)"]);
    let reason = wait_for(&client, common::disconnected).0;
    assert_eq!(
        reason.to_string(),
        "the session can't go on: the protocol closed it with close code 4001: \"resume me\""
    );
    client.wait_ready(LONG).unwrap();
}

#[test]
fn a_code_that_may_not_be_sent_loses_the_line() {
    let server = Server::echo();
    let text = hook(|cx: &mut Context<'_>, _: String| cx.close(1006, ""));
    let client = connect(&server, Hooks { text, ..Hooks::default() });
    client.send("anything").unwrap();
    let reason = wait_for(&client, common::disconnected).0;
    assert!(reason.to_string().contains("1006 may not be sent"), "{reason}");
}

#[test]
fn a_protocol_that_stops_ends_the_client_whatever_follows_a_loss() {
    let (server, say, heard) = puppet();
    let text =
        hook(|cx: &mut Context<'_>, _: String| cx.stop(Error::login_refused("this account is closed")));
    let down: Option<OnDown> = Some(Box::new(|_| Retry::Now));
    let client = connect(&server, Hooks { text, down, ..Hooks::default() });
    say.send(Raw::text("44")).unwrap();
    assert_eq!(next(&heard), "close Some(1000)");
    match client.wait_closed_timeout(LONG).unwrap() {
        CloseReason::NotRetried(DisconnectReason::Lost(Error::LoginRefused { reason, .. })) => {
            assert_eq!(&*reason, "this account is closed");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_timer_knows_whether_the_line_was_listened_to() {
    let (server, say, heard) = puppet();
    let ready = hook(|cx: &mut Context<'_>, ()| {
        cx.set_timer(1, 10 * MS);
        cx.ready();
    });
    let timer = hook(|cx: &mut Context<'_>, _: u32| {
        cx.send(if cx.missed_input() { "deaf" } else { "listening" });
        cx.set_timer(1, 10 * MS);
    });
    let hooks = Hooks { open: ready, timer, ..Hooks::default() };
    let config = config(&server.url()).events(QueueLimit::new(10, 1 << 20));
    let client = Client::builder(config).protocol(hooks).connect().unwrap();
    let wait_for_word = |what: &str| while next(&heard) != what {};
    wait_for_word("listening");
    for _ in 0..100 {
        say.send(Raw::text("untaken")).unwrap();
    }
    wait_for_word("deaf");
    for _ in 0..100 {
        client.recv_timeout(LONG).unwrap();
    }
    wait_for_word("listening");
}

#[test]
fn what_a_hook_answers_goes_out_ahead_of_the_close_over_what_came_behind() {
    let (heard, hearing) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        // A message, and behind it in the same segment a frame with a reserved bit.
        stream.write_all(&[frame(0x81, b"hello"), frame(0xC1, b"bad")].concat()).unwrap();
        while let Some(said) = read_frame(&mut stream) {
            heard.send(said).unwrap();
        }
    });
    let text = hook(|cx: &mut Context<'_>, text: String| cx.send(text));
    let _client = connect(&server, Hooks { text, ..Hooks::default() });
    assert_eq!(hearing.recv_timeout(LONG).unwrap(), (1, b"hello".to_vec()));
    assert_eq!(hearing.recv_timeout(LONG).unwrap(), (8, 1002_u16.to_be_bytes().to_vec()));
}

/// Requests are answered in the order in which they were sent: by `text`, by `text…` in part, `!` ends, `?` fails.
fn in_order() -> Hooks {
    let open = Arc::new(Mutex::new(VecDeque::new()));
    let asked = Arc::clone(&open);
    let send = hook(move |cx: &mut Context<'_>, outgoing: Outgoing| {
        open.lock().unwrap().extend(outgoing.request);
        cx.send(outgoing.message);
    });
    let text = hook(move |cx: &mut Context<'_>, text: String| {
        let mut asked = asked.lock().unwrap();
        let Some(request) = asked.front().copied() else { return cx.deliver(text) };
        if text.ends_with('…') {
            return cx.answer_part(request, text);
        }
        asked.pop_front();
        match &*text {
            "!" => cx.end_request(request),
            "?" => cx.fail_request(request, Error::session("no more")),
            _ => cx.answer(request, text),
        }
    });
    let withdrawn = hook(|cx: &mut Context<'_>, _| cx.send("withdrawn"));
    Hooks { text, send, withdrawn, ..Hooks::default() }
}

#[test]
fn a_request_may_have_many_answers_and_an_end_of_each_kind() {
    let (server, say, heard) = puppet();
    let client = connect(&server, in_order());
    let ask = |answers: &[&str]| {
        let asked = client.request_many("subscribe", LONG).unwrap();
        assert_eq!(next(&heard), "subscribe");
        for answer in answers {
            say.send(Raw::text(*answer)).unwrap();
        }
        asked
            .map(|answer| answer.map_or_else(|error| error.to_string(), |a| a.to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ask(&["a…", "b…", "!"]), ["a…", "b…"]);
    assert_eq!(ask(&["a…", "b"]), ["a…", "b"]);
    assert_eq!(ask(&["!"]), [""; 0]);
    assert_eq!(ask(&["a…", "?"]), ["a…", "the session can't go on: no more"]);

    let one = thread::scope(|scope| {
        let one = scope.spawn(|| client.request("once", LONG));
        assert_eq!(next(&heard), "once");
        say.send(Raw::text("first…")).unwrap();
        one.join().unwrap()
    });
    assert_eq!(one.unwrap().as_text(), Some("first…"), "one who waits for one answer takes the first");
}

#[test]
fn answers_end_with_the_line_and_a_wait_that_is_too_long_does_not_end_them() {
    let (server, say, heard) = puppet();
    let client = connect(&server, in_order());
    let mut answers = client.request_many("subscribe", 50 * MS).unwrap();
    assert_eq!(next(&heard), "subscribe");
    assert!(matches!(answers.next(), Some(Err(Error::Timeout { .. }))));
    assert!(answers.try_next().unwrap().is_none() && !answers.has_ended());
    say.send(Raw::text("late…")).unwrap();
    let late = answers.find_map(Result::ok).unwrap();
    assert_eq!(late.as_text(), Some("late…"));
    server.cut();
    let last = answers.find(|answer| !matches!(answer, Err(Error::Timeout { .. })));
    assert!(matches!(last, Some(Err(Error::ConnectionLost { .. }))), "{last:?}");
    assert!(answers.next().is_none() && answers.has_ended());
}

#[test]
fn answers_that_are_dropped_withdraw_the_request_and_the_protocol_is_told() {
    let (server, say, heard) = puppet();
    let client = connect(&server, in_order());
    let answers = client.request_many("subscribe", LONG).unwrap();
    assert_eq!(next(&heard), "subscribe");
    drop(answers);
    assert_eq!(next(&heard), "withdrawn");
    say.send(Raw::text("late…")).unwrap();
    say.send(Raw::text("!")).unwrap();
    say.send(Raw::text("plain")).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("plain"));
}

#[test]
fn answers_that_are_not_taken_push_back_and_none_is_lost() {
    const ANSWERS: usize = 2_000;
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        let _ = socket.read();
        for n in 0..ANSWERS {
            socket.send(Raw::text(format!("{n}…"))).unwrap();
        }
        socket.send(Raw::text("!")).unwrap();
        listen(socket);
    });
    let config = config(&server.url()).events(QueueLimit::new(10, 1 << 20));
    let client = Client::builder(config).protocol(in_order()).connect().unwrap();
    let answers = client.request_many("all", LONG).unwrap();
    eventually("as many answers as may wait", || client.stats().messages_received >= 10);
    // A heartbeat later all would be here, if nothing held them back.
    client.reconnect_now();
    eventually("the heartbeat", || client.stats().heartbeats > 0);
    assert!(client.stats().messages_received < 200, "{:?}", client.stats());
    let all: Vec<_> = answers.map(|answer| answer.unwrap().to_string()).collect();
    assert_eq!(all, (0..ANSWERS).map(|n| format!("{n}…")).collect::<Vec<_>>());
}

#[test]
fn so_many_timers_and_pieces_of_work_may_wait_and_one_more_loses_the_line() {
    for too_many in [false, true] {
        let server = Server::echo();
        let mut losses = 0;
        let text = hook(move |cx: &mut Context<'_>, text: String| {
            losses += 1;
            cx.deliver(text);
            for id in 0..if too_many && losses == 1 { 1_025 } else { 1_024 } {
                cx.set_timer(id, LONG);
            }
        });
        let client = connect(&server, Hooks { text, ..Hooks::default() });
        client.send("anything").unwrap();
        client.recv_timeout(LONG).unwrap();
        client.reconnect_now();
        eventually("a sign", || client.stats().heartbeats > 0 || client.stats().disconnects > 0);
        assert_eq!(client.stats().disconnects > 0, too_many);
    }
    let server = Server::echo();
    let text = hook(|cx: &mut Context<'_>, _: String| (0..100).for_each(|id| cx.work(id, || Ok("".into()))));
    let client = connect(&server, Hooks { text, ..Hooks::default() });
    client.send("anything").unwrap();
    let reason = wait_for(&client, common::disconnected).0;
    assert!(reason.to_string().contains("64 pieces"), "{reason}");
}

#[test]
fn a_message_that_is_let_fall_when_it_would_be_sent_again_is_in_doubt() {
    let server = Server::start(|n, stream| {
        let mut socket = accept(stream);
        // The first connection ends over the first message.
        while socket.read().is_ok_and(|message| n > 0 || !message.is_text()) {}
    });
    let send = hook(|cx: &mut Context<'_>, outgoing: Outgoing| {
        static SEEN: AtomicBool = AtomicBool::new(false);
        if !SEEN.swap(true, SeqCst) {
            cx.send(outgoing.message);
        }
    });
    let config = config(&server.url()).delivery(Delivery::AtLeastOnce);
    let client = Client::builder(config).protocol(Hooks { send, ..Hooks::default() }).connect().unwrap();
    let ticket = client.send("once").unwrap();
    assert_eq!(common::fate(&client, ticket), format!("maybe {ticket}"));
    assert!(client.close().is_empty());
}

/// Moves to `to` when the server says "move", and is ready there when that server says "welcome".
fn mover(to: String) -> Hooks {
    let prepare: Option<Prepare> = Some(Box::new(move |attempt, request| {
        if attempt.moving {
            request.url.clone_from(&to);
        }
    }));
    let open = hook(|cx: &mut Context<'_>, ()| {
        if !cx.is_moving() {
            cx.ready();
        }
    });
    let text = hook(|cx: &mut Context<'_>, text: String| match &*text {
        "move" => cx.move_line(),
        "welcome" if cx.is_moving() => {
            cx.send("hello");
            cx.ready();
        }
        _ => cx.deliver(text),
    });
    let move_failed = hook(|cx: &mut Context<'_>, error: String| cx.deliver(error));
    Hooks { open, text, move_failed, prepare, ..Hooks::default() }
}

fn moved(event: Event) -> Option<Tickets> {
    match event {
        Event::Moved { maybe_delivered, .. } => Some(maybe_delivered),
        Event::Disconnected { reason, .. } => panic!("{reason}"),
        _ => None,
    }
}

#[test]
fn a_line_moves_to_another_server_and_the_old_one_is_heard_to_its_end() {
    let (old, tell_old, heard_by_old) = puppet();
    let (new, tell_new, heard_by_new) = puppet();
    let client = connect(&old, mover(new.url()));
    client.send("before").unwrap();
    assert_eq!(next(&heard_by_old), "before");
    tell_old.send(Raw::text("move")).unwrap();
    tell_old.send(Raw::text("meanwhile")).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("meanwhile"));
    client.send("still here").unwrap();
    assert_eq!(next(&heard_by_old), "still here");
    tell_new.send(Raw::text("welcome")).unwrap();
    assert_eq!(wait_for(&client, moved), Tickets::default(), "all was confirmed");
    assert_eq!(next(&heard_by_old), "close Some(1000)");
    client.send("after").unwrap();
    assert_eq!([next(&heard_by_new), next(&heard_by_new)], ["hello", "after"]);
    tell_new.send(Raw::text("from the new one")).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("from the new one"));
    let stats = client.stats();
    assert_eq!((stats.disconnects, stats.connects), (0, 1), "no gap");
    assert!(client.close().is_empty());
}

#[test]
fn a_move_that_fails_leaves_the_line_as_it_is() {
    let nobody = Nobody::new();
    let (old, tell_old, heard_by_old) = puppet();
    let client = connect(&old, mover(nobody.url()));
    for _ in 0..2 {
        tell_old.send(Raw::text("move")).unwrap();
        let why = client.recv_timeout(LONG).unwrap().to_string();
        assert!(why.contains("connecting to"), "{why}");
        client.send("still here").unwrap();
        assert_eq!(next(&heard_by_old), "still here");
    }
    // One whose login is not answered, and one that ends.
    for seconds in [0, 20] {
        let (old, tell_old, _heard) = puppet();
        let new = Server::start(move |_, stream| {
            let mut socket = accept(stream);
            if seconds > 0 {
                let _ = socket.close(None);
            }
            listen(socket);
        });
        let config = config(&old.url()).login_timeout(if seconds > 0 { LONG } else { 50 * MS });
        let client = Client::builder(config).protocol(mover(new.url())).connect().unwrap();
        tell_old.send(Raw::text("move")).unwrap();
        let why = client.recv_timeout(LONG).unwrap().to_string();
        assert!(why.contains(if seconds > 0 { "closed the line" } else { "login" }), "{why}");
        assert_eq!(client.stats().disconnects, 0);
    }
}

#[test]
fn a_line_that_is_lost_while_it_moves_is_tried_again_as_ever() {
    let (old, tell_old, heard_by_old) = puppet();
    let (new, _tell_new, _heard_by_new) = puppet();
    let client = connect(&old, mover(new.url()));
    tell_old.send(Raw::text("move")).unwrap();
    eventually("the new connection", || client.stats().attempts == 2);
    old.cut();
    wait_for(&client, common::disconnected);
    client.wait_ready(LONG).unwrap();
    client.send("back").unwrap();
    assert_eq!(next(&heard_by_old), "back");
}

#[test]
fn an_answer_may_come_on_the_connection_that_was_left() {
    let (old, tell_old, heard_by_old) = puppet();
    let (new, tell_new, _heard_by_new) = puppet();
    let asks = in_order();
    let moves = mover(new.url());
    let (mut on_answer, mut on_move) = (asks.text.unwrap(), moves.text.unwrap());
    let text: Option<Hook<String>> = Some(Box::new(move |cx, text| {
        if text == "move" || text == "welcome" { on_move(cx, text) } else { on_answer(cx, text) }
    }));
    let hooks = Hooks { text, send: asks.send, ..moves };
    let client = connect(&old, hooks);
    let mut answers = client.request_many("slow", LONG).unwrap();
    assert_eq!(next(&heard_by_old), "slow");
    tell_old.send(Raw::text("move")).unwrap();
    tell_new.send(Raw::text("welcome")).unwrap();
    wait_for(&client, moved);
    tell_old.send(Raw::text("an answer")).unwrap();
    // Unless it comes too late: the server ends the old connection as soon as it may.
    match answers.next() {
        Some(Ok(answer)) => assert_eq!(answer.as_text(), Some("an answer")),
        other => assert!(matches!(other, Some(Err(Error::Unanswered { .. }))), "{other:?}"),
    }
}

#[test]
fn what_the_old_server_did_not_take_goes_to_the_new_one_alone() {
    const SIZE: usize = 256 << 10;
    let arrived = |seen: &Arc<Mutex<Vec<u8>>>, stream: &mut TcpStream| {
        while let Some((opcode, payload)) = read_frame(stream) {
            if opcode == 2 && payload.len() == SIZE {
                seen.lock().unwrap().push(payload[0]);
            }
        }
    };
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let (seen_by_old, seen_by_new) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // It takes little before it reads, and it reads when the line has moved.
        socket2::SockRef::from(&listener).set_recv_buffer_size(64 << 10).unwrap();
        let (go_on, goes_on) = unbounded::<()>();
        let (full, is_full) = unbounded::<()>();
        let (end, ended) = unbounded::<()>();
        let seen = Arc::clone(&seen_by_old);
        let old = Server::start_on(listener, move |_, stream| {
            let mut stream = accept_raw(stream);
            is_full.recv().unwrap();
            stream.write_all(&frame(0x81, b"move")).unwrap();
            let _ = goes_on.recv();
            arrived(&seen, &mut stream);
            end.send(()).unwrap();
        });
        let seen = Arc::clone(&seen_by_new);
        let new = Server::start(move |_, stream| {
            let mut stream = accept_raw(stream);
            stream.write_all(&frame(0x81, b"welcome")).unwrap();
            arrived(&seen, &mut stream);
        });
        let config = config(&old.url()).delivery(delivery).close_timeout(100 * MS);
        let client = Client::builder(config).protocol(mover(new.url())).connect().unwrap();
        for n in 0..40 {
            client.send(vec![n; SIZE]).unwrap();
        }
        full.send(()).unwrap();
        let doubtful = wait_for(&client, moved);
        go_on.send(()).unwrap();
        eventually("the rest", || seen_by_new.lock().unwrap().contains(&39));
        client.terminate();
        ended.recv_timeout(LONG).unwrap();
        let (old, new) = (seen_by_old.lock().unwrap(), seen_by_new.lock().unwrap());
        if delivery == Delivery::AtMostOnce {
            assert!(old.iter().all(|n| !new.contains(n)), "{old:?} and {new:?}");
            let named = |n: &u8| doubtful.iter().any(|ticket| ticket.number() == u64::from(*n) + 1);
            assert!((0..40).all(|n| new.contains(&n) || named(&n)), "{doubtful}, and {new:?}");
        } else {
            assert_eq!(*new, (0..40).collect::<Vec<_>>());
        }
    }
}

/// Numbers the messages that arrive at either server.
fn collector(
    seen: &Arc<Mutex<Vec<u32>>>,
    other: impl Fn(&mut WebSocket<TcpStream>, usize) + Send + Sync + 'static,
) -> Server {
    let seen = Arc::clone(seen);
    Server::start(move |n, stream| {
        let mut socket = accept(stream);
        other(&mut socket, n);
        let mut heard = 0;
        while let Ok(message) = socket.read() {
            if let Ok(number) = message.to_text().unwrap_or_default().parse() {
                seen.lock().unwrap().push(number);
                heard += 1;
                // Back and forth, with messages on the way.
                if heard == 50 {
                    let _ = socket.send(Raw::text("move"));
                }
            }
        }
    })
}

/// Says so when it is dropped: a scope waits for its threads, also when a test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_line_that_moves_while_many_send_loses_nothing_and_doubles_nothing() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = collector(&seen, |socket, n| {
            if n > 0 {
                let _ = socket.send(Raw::text("welcome"));
            }
        });
        let config = config(&server.url()).delivery(delivery);
        let client = Client::builder(config).protocol(mover(server.url())).connect().unwrap();
        let (numbers, done) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        client.send(numbers.fetch_add(1, SeqCst).to_string()).unwrap();
                    }
                });
            }
            let _done = Done(&done);
            for _ in 0..5 {
                assert_eq!(wait_for(&client, moved), Tickets::default(), "all was confirmed");
            }
        });
        client.confirm(.., LONG).unwrap();
        let mut all = seen.lock().unwrap().clone();
        all.sort_unstable();
        assert_eq!(all, (0..numbers.load(SeqCst)).collect::<Vec<_>>(), "{delivery:?}");
        assert_eq!(client.stats().disconnects, 0);
        client.terminate();
    }
}

#[test]
fn an_answer_that_came_while_a_hook_took_its_time_is_heard_before_the_peer_is_judged() {
    let (asked_in, asked) = unbounded();
    let (busy, is_busy) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 9 {
                asked_in.send(()).unwrap();
                // The first answer comes when nobody listens.
                let _ = is_busy.recv_timeout(LONG);
                stream.write_all(&frame(0x8A, &payload)).unwrap();
            }
        }
    });
    let timeout = 1000 * MS;
    let send = hook(move |cx: &mut Context<'_>, outgoing: Outgoing| {
        cx.send(outgoing.message);
        // A word in stock for each ping that is still to come.
        (0..10).for_each(|_| busy.send(()).unwrap());
        thread::sleep(timeout * 2);
    });
    let heartbeat = HeartbeatConfig::default().interval(LONG).timeout(timeout);
    let config = config(&server.url()).heartbeat(heartbeat);
    let client = Client::builder(config).protocol(Hooks { send, ..Hooks::default() }).connect().unwrap();
    client.reconnect_now();
    asked.recv_timeout(LONG).unwrap();
    client.send("takes longer than an answer may").unwrap();
    client.confirm(.., LONG).unwrap();
    assert_eq!(client.stats().disconnects, 0);
    client.terminate();
}
