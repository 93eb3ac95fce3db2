//! What a protocol of the application's own is asked and what it can ask for, over real sockets.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::hooks::{Hooks, OnDown, connect, hook, next, puppet};
use common::{
    LONG, MS, Server, accept, accept_raw, config, eventually, frame, listen, parrot, read_frame, wait_for,
};
use crossbeam_channel::unbounded;
use tautline::ConnectionState::Authenticated;
use tautline::{
    Attempt, Beat, Client, CloseReason, ConnectionConfig, ConnectionState, Context, DisconnectReason, Error,
    Event, Handshake, HeartbeatConfig, Loss, Message, Outgoing, Protocol, QueueLimit, Retry, UpgradeRequest,
};
use tungstenite::Message as Raw;

#[test]
fn a_protocol_may_refuse_how_it_is_set_up() {
    struct Fussy;
    impl Protocol for Fussy {
        fn check(&mut self) -> Result<(), Error> {
            Err(Error::session("no device number"))
        }

        fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            unreachable!("it was refused")
        }
    }
    let error = Client::builder("ws://127.0.0.1:9").protocol(Fussy).start().unwrap_err();
    assert_eq!(error.to_string(), "the session can't go on: no device number");
}

/// Exercises every hook; panics or fails in the one that it is told to.
struct Probe {
    breaks: &'static str,
    panics: bool,
}

impl Probe {
    fn reach(&self, hook: &str) -> Result<(), Error> {
        if self.breaks != hook {
            return Ok(());
        }
        assert!(!self.panics, "on purpose");
        Err(Error::session(format!("{hook} fails on purpose")))
    }
}

impl Protocol for Probe {
    fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        request.set_header("X-Prepared", "yes");
        self.reach("prepare")
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.send("open");
        cx.set_timer(1, MS);
        cx.set_timer(2, MS);
        cx.cancel_timer(2);
        self.reach("on_open")
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        if message.as_text() == Some("timer 1") {
            cx.ready();
            cx.ready();
        } else {
            if message.as_text() == Some("beat") {
                cx.beat_answered();
            }
            cx.deliver(format!("got {message}"));
        }
        self.reach("on_message")
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        cx.send(format!("[{}] {}", outgoing.ticket.number(), outgoing.message));
        self.reach("on_send")
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        cx.send(format!("timer {id}"));
        self.reach("on_timer")
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("beat");
        self.reach("on_beat")
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("goodbye");
        self.reach("on_closing")
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        let _ = self.reach("on_down");
        down.default_retry()
    }
}

#[test]
fn every_hook_is_called_in_its_turn() {
    let (server, heard) = parrot();
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(5 * MS);
    let probe = Probe { breaks: "", panics: false };
    let client =
        Client::builder(config(&server.url()).heartbeat(heartbeat)).protocol(probe).connect().unwrap();
    assert_eq!(client.state(), Authenticated);
    client.send("hello").unwrap();
    let expected = ["got open", "got [1] hello", "got beat"];
    let mut missing: Vec<_> = expected.to_vec();
    while !missing.is_empty() {
        let message = client.recv_timeout(LONG).unwrap().to_string();
        missing.retain(|expected| *expected != message);
    }
    common::eventually("a round trip", || client.stats().round_trip.is_some());
    let _ = client.close();
    let heard = heard.lock().unwrap();
    assert_eq!((heard[0].as_str(), heard.last().map(String::as_str)), ("open", Some("goodbye")));
    assert!(!heard.contains(&"timer 2".to_owned()));
}

const HOOKS: [&str; 7] = ["prepare", "on_open", "on_message", "on_send", "on_timer", "on_beat", "on_closing"];

fn broken(url: &str, hook: &'static str, panics: bool) -> Client {
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(MS);
    let probe = Probe { breaks: hook, panics };
    let client = Client::builder(config(url).heartbeat(heartbeat)).protocol(probe).start().unwrap();
    // It may be closed already.
    let _ = client.send("x");
    client
}

#[test]
fn a_hook_that_panics_closes_its_client_and_no_other() {
    let (server, _) = parrot();
    let other = Client::connect(server.url()).unwrap();
    for hook in HOOKS {
        let client = broken(&server.url(), hook, true);
        if hook == "on_closing" {
            client.wait_ready(LONG).unwrap();
            let _ = client.close();
        }
        let reason = client.wait_closed_timeout(LONG).unwrap();
        assert!(
            matches!(&reason, CloseReason::Failed(Error::Panicked { callback: "protocol", .. })),
            "{hook}: {reason:?}"
        );
        assert!(matches!(client.events().iter().last(), Some(Event::Closed { .. })));
    }
    let client = broken(&server.url(), "on_down", true);
    client.wait_ready(LONG).unwrap();
    server.cut();
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::Failed(_))));
    drop(other);
}

#[test]
fn a_hook_that_fails_ends_the_connection_and_the_line_is_tried_again() {
    let (server, _) = parrot();
    for hook in HOOKS.into_iter().filter(|hook| *hook != "on_closing") {
        let client = broken(&server.url(), hook, false);
        let mut failures = 0;
        while failures < 2 {
            if let Event::Disconnected { reason, retry_in, .. } = client.events().recv_timeout(LONG).unwrap()
            {
                assert!(reason.to_string().contains(hook), "{reason}");
                assert!(retry_in.is_some());
                failures += 1;
            }
        }
        let _ = client.terminate();
    }
    let client = broken(&server.url(), "on_closing", false);
    client.wait_ready(LONG).unwrap();
    let _ = client.close();
    assert!(matches!(client.wait_closed(), CloseReason::ByCaller), "a failed goodbye is still a close");
}

#[test]
fn a_protocol_that_sends_without_end_loses_the_line_and_not_the_memory() {
    struct Flood;
    impl Protocol for Flood {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            for _ in 0..2_000 {
                cx.send("x");
            }
            Ok(())
        }
    }
    let (server, _) = parrot();
    let error = Client::builder(server.url()).protocol(Flood).connect().unwrap_err();
    assert!(matches!(error, Error::Session { .. }), "{error:?}");
}

#[test]
fn every_call_from_within_a_hook_is_defined() {
    struct Caller(Arc<Mutex<Option<Client>>>, crossbeam_channel::Sender<()>);
    impl Protocol for Caller {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_message(&mut self, _: &mut Context<'_>, _: Message) -> Result<(), Error> {
            let Some(client) = self.0.lock().unwrap().take() else { return Ok(()) };
            assert!(client.try_send("from a hook").is_ok() && client.send("from a hook").is_ok());
            assert!(matches!(client.request("x", LONG), Err(Error::WouldDeadlock)));
            assert!(matches!(client.recv(), Err(Error::WouldDeadlock)));
            assert!(matches!(client.recv_timeout(LONG), Err(Error::WouldDeadlock)));
            assert!(matches!(client.wait_ready(LONG), Err(Error::WouldDeadlock)));
            assert!(client.try_recv().is_ok());
            let _ = (client.state(), client.stats());
            client.reconnect_now();
            assert!(matches!(client.wait_closed_timeout(LONG), Err(Error::WouldDeadlock)));
            assert!(client.close().unfinished && client.terminate().unfinished);
            self.1.send(()).unwrap();
            Ok(())
        }
    }
    let (server, _) = parrot();
    let slot = Arc::new(Mutex::new(None));
    let (done_in, done) = crossbeam_channel::bounded(1);
    let caller = Caller(Arc::clone(&slot), done_in);
    let client = Client::builder(server.url()).protocol(caller).connect().unwrap();
    *slot.lock().unwrap() = Some(client.clone());
    client.send("call me").unwrap();
    done.recv_timeout(LONG).unwrap();
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::ByCaller)));
}

#[test]
fn a_protocol_may_not_send_more_than_the_limit_allows() {
    struct Large;
    impl Protocol for Large {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.send(vec![0; 101]);
            Ok(())
        }
    }
    let (server, _) = parrot();
    let config = ConnectionConfig::new(server.url()).max_message_size(100);
    let error = Client::builder(config).protocol(Large).connect().unwrap_err();
    assert!(error.to_string().contains("101 bytes"), "{error}");
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
