//! Several servers: which one is next, and when.

use super::*;
use crate::protocol::{Attempt, Context, Loss, Retry, UpgradeRequest};

fn list(names: &[&str]) -> ConnectionConfig {
    let urls: Vec<_> = names.iter().map(|name| format!("ws://{name}")).collect();
    ConnectionConfig::from(urls).reconnect(reconnect()).heartbeat(HeartbeatConfig::off())
}

fn started(config: ConnectionConfig, one_attempt: bool) -> Rig {
    let mut rig = Rig::new(config, one_attempt);
    rig.session.start(rig.now);
    rig
}

/// Makes the planned attempt, if one is planned. Returns the host of the attempt under way.
fn dialled(rig: &mut Rig) -> String {
    let mut actions = rig.actions();
    if let Some(plan) = rig.plan.take() {
        rig.now = rig.now.max(plan.at);
        rig.session.handle_retry(rig.now, plan.generation);
        actions = rig.actions();
    }
    let mut urls = actions.into_iter().filter_map(|action| match action {
        Action::Dial { request, .. } => Some(request.url.trim_start_matches("ws://").to_owned()),
        _ => None,
    });
    urls.next_back().unwrap_or_else(|| panic!("no attempt in {}", rig.session.state()))
}

/// An attempt that fails: its host, and the delay of the next in ms.
fn failed(rig: &mut Rig, error: Error) -> (String, u128) {
    let host = dialled(rig);
    rig.events();
    rig.session.handle_dial_failed(rig.now, rig.generation, error);
    (host, rig.disconnected().1.map(|delay| delay.as_millis()).unwrap_or_default())
}

fn failures(rig: &mut Rig, count: usize) -> Vec<(String, u128)> {
    (0..count).map(|_| failed(rig, refused())).collect()
}

/// The line opens, is ready for this long, and is lost. Returns its host, and the delay of the next attempt in ms.
fn lost_after(rig: &mut Rig, time: Duration) -> (String, u128) {
    let host = dialled(rig);
    rig.open();
    rig.step(time);
    rig.events();
    rig.lose();
    (host, rig.disconnected().1.map(|delay| delay.as_millis()).unwrap_or_default())
}

fn said(all: &[(&str, u128)]) -> Vec<(String, u128)> {
    all.iter().map(|(host, delay)| ((*host).to_owned(), *delay)).collect()
}

/// Why the session closed. Its events have been taken.
fn closed(rig: &mut Rig) -> CloseReason {
    rig.session.take_close_reason().unwrap_or_else(|| panic!("{}", rig.session.state()))
}

fn hosts(error: &Error) -> Vec<&str> {
    match error {
        Error::AllServersFailed { failures } => failures.iter().map(|(host, _)| &**host).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_round_through_the_list_costs_one_step_of_the_backoff() {
    let mut rig = started(list(&["a", "b", "c"]), false);
    let expected =
        [("a", 100), ("b", 100), ("c", 1000), ("a", 100), ("b", 100), ("c", 2000), ("a", 100), ("b", 100)];
    assert_eq!(failures(&mut rig, 8), said(&expected));
    assert_eq!(rig.session.stats().attempts, 8);
}

#[test]
fn one_server_and_a_list_with_its_url_twice_are_the_same() {
    for config in [list(&["a"]), list(&["a", "a:80", "a"]), list(&["a"]).server_order(ServerOrder::Random)] {
        let mut rig = started(config, false);
        assert_eq!(failures(&mut rig, 3), said(&[("a", 1000), ("a", 2000), ("a", 4000)]));
        assert_eq!(failed(&mut rig, rejected(503, Some("60"))), ("a".into(), 60_000));
        rig.open();
        rig.lose();
        rig.events();
        assert_eq!(failed(&mut rig, rejected(403, Some("60"))), ("a".into(), 60_000));
        rig.open();
        rig.events();
        rig.step(5 * S);
        rig.lose();
        assert_eq!(rig.retry_in(), Some(S));
    }
    let mut rig = started(list(&["a"]), false);
    rig.fail(rejected(403, None));
    let CloseReason::NotRetried(DisconnectReason::ConnectFailed(error)) = rig.closed() else { panic!() };
    assert!(matches!(error, Error::UpgradeRejected(_)), "{error}");
}

#[test]
fn a_line_that_was_stable_begins_a_new_round_when_it_is_lost() {
    let mut rig = started(list(&["a", "b", "c"]), false);
    assert_eq!(failures(&mut rig, 4), said(&[("a", 100), ("b", 100), ("c", 1000), ("a", 100)]));
    assert_eq!(lost_after(&mut rig, 5 * S), ("b".into(), 100));
    assert_eq!(failures(&mut rig, 3), said(&[("c", 100), ("a", 1000), ("b", 100)]));
}

#[test]
fn servers_that_accept_and_drop_are_not_hammered() {
    let mut rig = started(list(&["a", "b"]), false);
    let losses: Vec<_> = (0..6).map(|_| lost_after(&mut rig, S)).collect();
    assert_eq!(losses, said(&[("a", 100), ("b", 1000), ("a", 100), ("b", 2000), ("a", 100), ("b", 4000)]));
}

#[test]
fn a_server_that_refuses_is_left_out_for_max_delay() {
    let mut rig = started(list(&["a", "b"]), false);
    assert_eq!(failed(&mut rig, rejected(404, None)), ("a".into(), 100));
    let expected = [("b", 1000), ("b", 2000), ("b", 4000), ("b", 8000), ("b", 16_000)];
    assert_eq!(failures(&mut rig, 5), said(&expected), "31.1 s in all");
    assert_eq!(failures(&mut rig, 2), said(&[("a", 100), ("b", 30_000)]));
}

#[test]
fn with_all_servers_left_out_the_rules_of_one_server_apply() {
    let mut rig = started(list(&["a", "b"]), false);
    failed(&mut rig, rejected(404, None));
    failed(&mut rig, rejected(403, None));
    let CloseReason::NotRetried(DisconnectReason::ConnectFailed(error)) = closed(&mut rig) else {
        panic!("never ready")
    };
    assert_eq!(hosts(&error), ["a:80", "b:80"]);

    let mut rig = started(list(&["a", "b"]), false);
    assert_eq!(lost_after(&mut rig, 5 * S), ("a".into(), 100));
    assert_eq!(failed(&mut rig, rejected(403, None)), ("b".into(), 1000));
    assert_eq!(failed(&mut rig, rejected(403, None)), ("a".into(), 30_000));
    assert_eq!(failed(&mut rig, refused()).0, "b");
}

#[test]
fn with_all_servers_left_out_the_shortest_retry_after_holds() {
    let mut rig = started(list(&["a", "b"]), false);
    assert_eq!(lost_after(&mut rig, 5 * S), ("a".into(), 100));
    assert_eq!(failed(&mut rig, rejected(403, Some("50"))), ("b".into(), 1000));
    assert_eq!(failed(&mut rig, rejected(403, Some("60"))), ("a".into(), 49_000), "until b may be tried");
    assert_eq!(dialled(&mut rig), "b");
}

#[test]
fn retry_after_holds_for_the_server_that_said_it() {
    let mut rig = started(list(&["a", "b"]), false);
    assert_eq!(failed(&mut rig, rejected(503, Some("10"))), ("a".into(), 100));
    let expected = [("b", 1000), ("b", 2000), ("b", 4000), ("b", 8000), ("a", 100)];
    assert_eq!(failures(&mut rig, 5), said(&expected), "15 s in all");
    assert_eq!(failed(&mut rig, rejected(503, Some("60"))), ("b".into(), 16_000));
    assert_eq!(failed(&mut rig, rejected(503, Some("300"))), ("a".into(), 44_000), "until b may be tried");
    assert_eq!(dialled(&mut rig), "b");
}

#[test]
fn connect_tries_each_server_once_and_names_all_failures() {
    for config in [list(&["a", "b", "c"]), list(&["a", "b", "c"]).reconnect(ReconnectConfig::never())] {
        let mut rig = started(config, true);
        assert_eq!(failed(&mut rig, refused()), ("a".into(), 100));
        assert_eq!(failed(&mut rig, rejected(404, None)), ("b".into(), 100));
        failed(&mut rig, unresolved());
        let error = closed(&mut rig).into_result().unwrap_err();
        assert_eq!(hosts(&error), ["a:80", "b:80", "c:80"]);
        assert!(
            error.to_string().contains(
                "; (2) b:80: the server answered 404 to the WebSocket upgrade; check the path of the URL"
            ),
            "{error}"
        );
    }
    let mut rig = started(list(&["a", "b"]), true);
    failed(&mut rig, refused());
    assert_eq!(dialled(&mut rig), "b");
    rig.open();
    assert_eq!(rig.told().last().unwrap(), "connected, attempt 2");
}

#[test]
fn the_maximum_of_attempts_counts_rounds() {
    let mut rig = started(list(&["a", "b"]).reconnect(reconnect().max_attempts(1)), false);
    assert_eq!(failures(&mut rig, 4), said(&[("a", 100), ("b", 1000), ("a", 100), ("b", 0)]));
    let CloseReason::GaveUp { attempts: 1, last: DisconnectReason::ConnectFailed(error) } = closed(&mut rig)
    else {
        panic!("not given up")
    };
    assert_eq!(hosts(&error), ["a:80", "b:80"]);
}

#[test]
fn a_client_that_never_reconnects_goes_through_its_servers_once() {
    let mut rig = started(list(&["a", "b"]).reconnect(ReconnectConfig::never()), false);
    assert_eq!(failed(&mut rig, refused()), ("a".into(), 100));
    assert_eq!(lost_after(&mut rig, 5 * S), ("b".into(), 0));
    let CloseReason::GaveUp { attempts: 0, last } = closed(&mut rig) else { panic!("not given up") };
    assert!(matches!(last, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{last}");
}

#[test]
fn fresh_credentials_are_tried_at_the_server_that_wants_them() {
    let mut rig = Rig::new(list(&["a", "b"]), false);
    rig.session.startup.fetches = true;
    rig.session.start(rig.now);
    assert_eq!(failed(&mut rig, rejected(401, None)), ("a".into(), 0));
    assert_eq!(failed(&mut rig, rejected(401, None)), ("a".into(), 100));
    assert_eq!(failures(&mut rig, 1), said(&[("b", 1000)]));
}

#[test]
fn fresh_credentials_of_a_protocol_are_tried_there_as_well_and_only_once() {
    let mut rig = Rig::with(list(&["a", "b"]), Some(Box::new(Listed(Some(Retry::Now)))), true);
    rig.session.start(rig.now);
    assert_eq!(failed(&mut rig, rejected(401, None)), ("a".into(), 0));
    assert_eq!(failed(&mut rig, rejected(401, None)), ("a".into(), 100));
    assert_eq!(failed(&mut rig, rejected(401, None)), ("b".into(), 0));
    assert!(matches!(closed(&mut rig), CloseReason::NotRetried(_)));
}

#[test]
fn fresh_credentials_are_part_of_their_round_and_cost_no_reconnect() {
    let fetching = |config: ConnectionConfig, one_attempt| {
        let mut rig = Rig::new(config, one_attempt);
        rig.session.startup.fetches = true;
        rig.session.start(rig.now);
        rig
    };
    for names in [&["a"][..], &["a", "b"]] {
        for one_attempt in [false, true] {
            let mut rig = fetching(list(names).reconnect(ReconnectConfig::never()), one_attempt);
            assert_eq!(failed(&mut rig, rejected(401, None)), ("a".into(), 0));
            assert_eq!(dialled(&mut rig), "a", "{names:?}: it goes on");
            rig.open();
            assert_eq!(rig.session.stats().attempts, 2);
        }
    }
    let mut rig = fetching(list(&["a"]).reconnect(reconnect().max_attempts(1)), false);
    assert_eq!(failed(&mut rig, rejected(401, None)), ("a".into(), 0));
    assert_eq!(failures(&mut rig, 2), said(&[("a", 1000), ("a", 0)]), "one reconnect, after its delay");
    assert!(matches!(closed(&mut rig), CloseReason::GaveUp { attempts: 1, .. }));
}

#[test]
fn a_retry_now_takes_the_server_that_was_planned() {
    let mut rig = started(list(&["a", "b"]), false);
    for expected in ["a", "b", "a"] {
        rig.session.handle_reconnect_now(rig.now);
        assert_eq!(dialled(&mut rig), expected);
        rig.session.handle_dial_failed(rig.now, rig.generation, refused());
    }
    assert_eq!(rig.now, rig.start, "without a wait");
}

/// Sets a list at each message: the hosts in it.
struct Listed(Option<Retry>);

impl Protocol for Listed {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        if attempt.moving {
            request.url.push_str("/moved");
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some("move") => cx.move_line(),
            text => cx.set_servers(text.unwrap_or_default().split_whitespace()),
        }
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        assert!(down.url.starts_with("ws://"), "{down:?}");
        self.0.unwrap_or_else(|| down.default_retry())
    }
}

fn listed(retry: Option<Retry>) -> Rig {
    let mut rig = Rig::with(list(&["a", "b"]), Some(Box::new(Listed(retry))), false);
    rig.session.start(rig.now);
    rig.open();
    rig
}

#[test]
fn a_protocol_can_change_the_list() {
    let mut rig = listed(None);
    rig.receive("ws://c ws://a ws://d");
    rig.step(5 * S);
    rig.lose();
    rig.events();
    let expected = [("d", 100), ("c", 1000), ("a", 100), ("d", 100), ("c", 2000)];
    assert_eq!(failures(&mut rig, 5), said(&expected), "behind a, where the line was");
}

#[test]
fn a_server_that_is_taken_from_the_list_is_not_tried_again() {
    let mut rig = listed(None);
    rig.receive("ws://c ws://d");
    rig.lose();
    rig.events();
    assert_eq!(failures(&mut rig, 3), said(&[("c", 1000), ("d", 100), ("c", 2000)]));
}

#[test]
fn a_list_that_cannot_be_used_loses_the_connection_and_changes_nothing() {
    for (list, says) in [
        ("", "can't be used: the list is empty; name at least one server"),
        (
            "ws://c wss://x:s3cret@ http://h",
            "the URL of server 2 of 3: it has no host; the URL of server 3 of 3",
        ),
    ] {
        let mut rig = listed(None);
        rig.step(5 * S);
        rig.events();
        rig.receive(list);
        let (reason, retry_in, _) = rig.disconnected();
        let text = reason.to_string();
        assert!(text.contains("the protocol's list of servers") && text.contains(says), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(retry_in, Some(100 * MS));
        assert_eq!(dialled(&mut rig), "b");
    }
}

#[test]
fn a_protocol_says_when_and_the_list_says_where() {
    let mut rig = listed(Some(Retry::After(7 * S)));
    rig.lose();
    rig.events();
    assert_eq!(failures(&mut rig, 2), said(&[("b", 7000), ("a", 7000)]));
    let mut rig = listed(Some(Retry::Now));
    rig.lose();
    rig.events();
    assert_eq!(rig.now, rig.start);
    assert_eq!(failures(&mut rig, 2), said(&[("b", 100), ("a", 100)]), "only the first at once");
    let mut rig = listed(Some(Retry::Never));
    rig.lose();
    assert!(matches!(rig.closed(), CloseReason::NotRetried(DisconnectReason::Lost(_))));
}

#[test]
fn a_move_starts_from_the_server_of_the_line_and_leaves_the_list_alone() {
    let mut rig = Rig::with(list(&["a", "b"]), Some(Box::new(Listed(None))), false);
    rig.session.start(rig.now);
    failed(&mut rig, refused());
    assert_eq!(dialled(&mut rig), "b");
    rig.open();
    rig.receive("move");
    assert_eq!(dialled(&mut rig), "b/moved");
    rig.session.handle_dial_failed(rig.now, rig.generation, refused());
    rig.step(5 * S);
    rig.lose();
    rig.events();
    assert_eq!(failures(&mut rig, 2), said(&[("a", 1000), ("b", 100)]));
}

#[test]
fn a_server_does_not_lead_connect_from_server_to_server() {
    struct Refuses;
    impl Protocol for Refuses {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.set_servers(["ws://a", "ws://b", "ws://evil"]);
            cx.close(4000, "not here");
            Ok(())
        }
    }
    let mut rig = Rig::with(list(&["a", "b"]), Some(Box::new(Refuses)), true);
    rig.session.start(rig.now);
    for (host, state) in [("a", ConnectionState::Disconnected), ("b", ConnectionState::Closed)] {
        assert_eq!(dialled(&mut rig), host);
        rig.try_open(rig.generation);
        rig.session.handle_fault(rig.now, rig.id(), crate::error::Fault::Broken(broken()));
        assert_eq!(rig.session.state(), state);
    }
}

#[test]
fn what_the_application_asks_for_is_no_failure_of_a_server() {
    let mut rig = started(list(&["a", "b"]), false);
    assert_eq!(dialled(&mut rig), "a");
    rig.session.handle_reconnect(rig.now);
    rig.session.handle_reconnect(rig.now);
    rig.session.handle_suspend(rig.now);
    rig.session.handle_resume(rig.now);
    assert_eq!(dialled(&mut rig), "b");
    rig.open();
    rig.events();
    assert!(rig.session.retries.servers.failures().is_empty());
    rig.lose();
    assert_eq!(rig.retry_in(), Some(100 * MS));
    assert_eq!(failures(&mut rig, 2), said(&[("a", 1000), ("b", 100)]));
}

#[test]
fn a_line_that_the_application_reconnects_goes_to_the_next_server() {
    let mut rig = started(list(&["a", "b"]), false);
    assert_eq!(dialled(&mut rig), "a");
    rig.open();
    rig.step(5 * S);
    rig.session.handle_reconnect(rig.now);
    rig.step(S);
    rig.lose();
    assert_eq!(dialled(&mut rig), "b");
    assert_eq!(rig.now, rig.start + 6 * S, "at once");
}
