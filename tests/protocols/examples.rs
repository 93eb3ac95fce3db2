//! The protocols of the examples, where the application says what they can't carry.

use tautline::ConnectionState::{Authenticated, Connecting};
use tautline::{Beat, CloseReason, Confirmation, Delivery, Event};

use super::*;

#[path = "../../examples/discord.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod discord;
#[path = "../../examples/graphql_ws.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod graphql_ws;
#[path = "../../examples/json_rpc.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod json_rpc;
#[path = "../../examples/mqtt/main.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod mqtt;
#[path = "../../examples/nats.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod nats;
#[path = "../../examples/socket_io.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod socket_io;
#[path = "../../examples/stomp/main.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod stomp;

/// The line is open, and the server has said this.
fn greeted(protocol: impl Protocol + 'static, greetings: &[&str]) -> Line {
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol);
    let mut line =
        Line::new(quiet().heartbeat(heartbeat).subprotocol("graphql-transport-ws"), protocol).unwrap();
    line.open_with("graphql-transport-ws");
    for greeting in greetings {
        line.say(*greeting);
    }
    assert!(line.events().iter().any(|event| matches!(event, Event::Connected { .. })));
    line.heard_messages();
    line
}

/// Neither as messages nor as requests do these go out, end the line, or keep what follows from going out.
fn assert_refused(mut line: Line, unfit: &[&str], fit: &str) {
    let unfit = unfit.iter().map(|text| Message::from(*text)).chain([[0xFF].into()]);
    for message in unfit {
        line.send(message.clone());
        let asked = line.request(message.clone());
        let why = answer(&mut line, asked);
        assert!(why.starts_with("the message can't be used: it is n"), "{message:?}: {why}");
        assert_eq!(
            (line.last_failure().map(|error| error.to_string()), line.heard_messages()),
            (None, vec![]),
            "{message:?}"
        );
    }
    line.request(fit);
    assert_eq!(line.heard_messages().len(), 1);
    assert!(line.events().is_empty());
}

#[test]
fn nats_refuses_what_is_no_operation() {
    let mut line = greeted(nats::Nats::default(), &["INFO {}\r\n", "PONG\r\n"]);
    line.send("SUB a.*.>");
    assert_eq!(line.heard_messages(), [Message::from(b"SUB a.*.> 0\r\n")]);
    let unfit = [
        "",
        "SUB",
        "SUB ",
        "SUB a b",
        "SUB a..b",
        "SUB a\r\nPING",
        "PUB a",
        "PUB  text",
        "PUB a\r\nPING text",
        "PUB a\tb text",
        "PING",
        "QUIT now",
    ];
    assert_refused(line, &unfit, "PUB a.b any\r\ntext");
}

#[test]
fn nats_makes_no_subscription_anew_that_was_refused() {
    let mut line = greeted(nats::Nats::default(), &["INFO {}\r\n", "PONG\r\n"]);
    line.send("SUB a b c d");
    line.send("SUB a");
    line.break_off();
    line.step(line.next_attempt().unwrap());
    line.open();
    line.say("INFO {}\r\n");
    line.heard_messages();
    line.say("PONG\r\n");
    assert_eq!(line.heard_messages(), [Message::from(b"SUB a 0\r\n")]);
}

#[test]
fn nats_goes_to_the_servers_that_the_cluster_has_named() {
    let servers = vec!["wss://one.example".to_owned()];
    let mut protocol = nats::Nats::default();
    protocol.servers.extend(servers.clone());
    let mut line = Line::new(ConnectionConfig::from(servers), protocol).unwrap();
    line.open();
    line.say("INFO {\"connect_urls\":[\"two.example:8080\",\"three.example:8080\"]}\r\n");
    line.say("PONG\r\n");
    line.step(Duration::from_secs(5));
    line.break_off();
    let mut urls = Vec::new();
    for _ in 0..4 {
        line.step(line.next_attempt().unwrap());
        urls.push(line.attempt().url.clone());
        line.refuse();
    }
    let [one, two, three] = ["wss://one.example", "wss://two.example:8080", "wss://three.example:8080"];
    assert_eq!(urls, [two, three, one, two]);
}

#[test]
fn mqtt_refuses_what_it_has_no_packet_for() {
    let line = greeted(mqtt::Mqtt::default(), &["\x20\x02\0\0"]);
    let long = "x".repeat(65_536);
    let (topic, filter) = (format!("PUB {long} text"), format!("SUB {long}"));
    let unfit = [
        "",
        "SUB",
        "SUB ",
        "SUB a\0b",
        "PUB a",
        "PUB  text",
        "PUB a/+ text",
        "PUB # text",
        "PUB a\0b text",
        "QUIT a b",
        &topic,
        &filter,
    ];
    assert_refused(line, &unfit, "PUB a/b any text");
}

#[test]
fn socket_io_refuses_what_is_neither_event_nor_answer() {
    let unfit = ["", "text", "[]", "[7]", r#"["cut""#, r#"{"no":"array"}"#, "seven[]", r#"-1["yes"]"#];
    let mut line = greeted(socket_io::SocketIo::default(), &["0{}", "40{}"]);
    line.send(r#"7["yes"]"#);
    line.send("8[]");
    assert_eq!(line.heard(), [r#"437["yes"]"#, "438[]"]);
    assert_refused(line, &unfit, r#"["event", {"of": "any kind"}]"#);
}

#[test]
fn graphql_refuses_what_is_no_json_object() {
    let line = greeted(graphql_ws::GraphQl::default(), &[r#"{"type":"connection_ack"}"#]);
    assert_refused(line, &["", "text", "[]", r#"{"cut":"#], r#"{"query":"subscription { ticks }"}"#);
}

#[test]
fn json_rpc_refuses_what_is_no_call() {
    let line = greeted(json_rpc::JsonRpc::default(), &[]);
    assert_refused(line, &["", "text", "[]", "{}", r#"{"method":7}"#], r#"{"method":"Runtime.enable"}"#);
}

#[test]
fn discord_refuses_what_is_no_payload() {
    let hello = r#"{"op":10,"d":{"heartbeat_interval":41250}}"#;
    let line = greeted(discord::session("token".into()), &[hello, r#"{"op":0,"t":"READY","s":1,"d":{}}"#]);
    assert_refused(line, &["", "text", "[]", "{}", r#"{"op":"3"}"#], r#"{"op":3,"d":{}}"#);
}

const CONNECTED: &str = "CONNECTED\nversion:1.2\n\n\0";

#[test]
fn stomp_refuses_what_has_no_destination() {
    let line = greeted(stomp::Stomp::default(), &[CONNECTED]);
    assert_refused(line, &["", "text", " text", "/queue/a", "/queue/\0a text"], "/queue/a any text");
}

fn stomp(change: impl FnOnce(&mut stomp::Stomp)) -> stomp::Stomp {
    let mut session = stomp::Stomp::default();
    change(&mut session);
    session
}

/// An open line, on which the broker's receipts confirm, at least once.
fn stomp_line(session: stomp::Stomp) -> Line {
    let config = ConnectionConfig::new(URL)
        .heartbeat(HeartbeatConfig::default().beat(Beat::Protocol))
        .delivery(Delivery::AtLeastOnce)
        .confirmation(Confirmation::Acknowledgement);
    let mut line = Line::new(config, session).unwrap();
    line.open();
    line
}

fn sent(text: &str, receipt: u64) -> String {
    let length = text.len();
    format!("SEND\ndestination:/q\nreceipt:{receipt}\ncontent-length:{length}\npersistent:true\n\n{text}\0")
}

#[test]
fn stomp_logs_in_subscribes_and_acknowledges_what_comes() {
    let session = stomp(|session| {
        session.host = "/".into();
        session.login = Some("bob:open:sesame".into());
        session.subscriptions = vec!["/queue/a".into(), "/topic/b:c".into()];
    });
    let mut line = stomp_line(session);
    let connect =
        "CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\nlogin:bob\npasscode:open:sesame\n\n\0";
    assert_eq!(line.heard(), [connect]);
    line.say(CONNECTED);
    assert_eq!(
        line.heard(),
        [
            "SUBSCRIBE\nid:0\ndestination:/queue/a\nack:client-individual\n\n\0",
            "SUBSCRIBE\nid:1\ndestination:/topic/b\\cc\nack:client-individual\nreceipt:subscribed\n\n\0",
        ]
    );
    assert_ne!(line.state(), Authenticated, "nobody has said that the subscriptions stand");
    // One message over two WebSocket messages, one of which has the receipt in it.
    line.say("RECEIPT\nreceipt-id:subscribed\n\n\0\nMESSAGE\nack:a\\c1\nsubscription:0\ndesti");
    assert_eq!(line.state(), Authenticated);
    line.say("nation:/queue/a\nmessage-id:m\n\nany text\0");
    assert_eq!(line.messages(), ["/queue/a any text"]);
    assert_eq!(line.heard(), ["ACK\nid:a\\c1\n\n\0"]);
    line.close_client();
    assert_eq!(line.heard(), ["DISCONNECT\nreceipt:goodbye\n\n\0"]);
}

#[test]
fn a_stomp_receipt_confirms_its_message_and_what_has_none_is_sent_again() {
    let mut line = stomp_line(stomp::Stomp::default());
    line.say(CONNECTED);
    line.heard();
    for text in ["/q a", "/q b", "/q c"] {
        line.send(text);
    }
    assert_eq!(line.heard(), [sent("a", 1), sent("b", 2), sent("c", 3)]);
    line.say("RECEIPT\nreceipt-id:2\n\n\0");
    line.say("RECEIPT\nreceipt-id:nobody's\n\n\0");
    assert_eq!(line.stats().messages_confirmed, 1);
    line.break_off();
    line.step(line.next_attempt().unwrap());
    line.open();
    line.heard();
    line.say(CONNECTED);
    assert_eq!(line.heard(), [sent("a", 1), sent("c", 3)]);
    line.say("RECEIPT\nreceipt-id:1\n\n\0RECEIPT\nreceipt-id:3\n\n\0");
    assert_eq!((line.stats().messages_confirmed, line.stats().messages_queued), (3, 0));
    let asked = line.request("/q d");
    line.say("RECEIPT\nreceipt-id:4\n\n\0");
    assert_eq!(answer(&mut line, asked), "");
}

#[test]
fn a_stomp_error_ends_the_line_with_the_brokers_words() {
    let mut line = stomp_line(stomp(|session| session.login = Some("bob:open sesame".into())));
    line.say(CONNECTED);
    let asked = line.request("/nowhere a");
    line.say("ERROR\nmessage:Unknown destination\nreceipt-id:1\ncontent-length:15\n\nnot /nowhere/a\n\0");
    assert_eq!(
        (answer(&mut line, asked), trouble(&line)),
        (
            "the server answered with an error: Unknown destination: not /nowhere/a".into(),
            "the session can't go on: Unknown destination: not /nowhere/a".into()
        )
    );
    line.step(line.next_attempt().unwrap());
    assert_eq!(line.state(), Connecting, "it comes back");

    let mut line = stomp_line(stomp(|session| session.login = Some("bob:open sesame".into())));
    line.say("ERROR\nmessage:Bad CONNECT\n\nbob can't have 'open sesame'\0");
    let why = "the server refused the login: Bad CONNECT: bob can't have '***'";
    assert_eq!(trouble(&line), why);
    assert!(matches!(line.close_reason(), Some(CloseReason::NotRetried(_))), "{:?}", line.close_reason());
}

#[test]
fn stomp_does_not_send_again_what_an_error_names() {
    let mut line = stomp_line(stomp::Stomp::default());
    line.say(CONNECTED);
    line.send("/q a");
    line.send("/q b");
    line.heard();
    line.say("ERROR\nmessage:no\nreceipt-id:1\n\n\0");
    line.step(line.next_attempt().unwrap());
    line.open();
    line.heard();
    line.say(CONNECTED);
    assert_eq!(line.heard(), [sent("b", 2)]);
    line.say("RECEIPT\nreceipt-id:2\n\n\0");
    let up_to = line.confirmed_up_to().map(tautline::Ticket::number);
    assert_eq!((up_to, line.stats().messages_confirmed), (Some(2), 1), "the first is known as undelivered");
}

#[test]
fn stomp_heart_beats_are_those_that_both_sides_can_and_want() {
    // What the broker can send and wants, and after how long the client sends one and gives up.
    for (beats, ours, theirs) in [
        ("0,0", None, None),
        ("0,2000", Some(10 * S), None),
        ("0,30000", Some(30 * S), None),
        ("2000,0", None, Some(20 * S)),
        ("15000,10000", Some(10 * S), Some(30 * S)),
        ("nonsense", None, None),
    ] {
        let mut line = stomp_line(stomp(|session| session.beat = 10 * S));
        assert!(line.heard()[0].contains("\nheart-beat:10000,10000\n"));
        line.say(format!("CONNECTED\nversion:1.2\nheart-beat:{beats}\n\n\0"));
        for _ in 0..9 {
            line.step(9 * S);
            line.say("\n");
        }
        line.step(9 * S); // 90 s in all
        let sent = ours.map_or(0, |every: Duration| (90 * S).as_secs() / every.as_secs());
        assert_eq!(line.heard(), vec!["\n"; usize::try_from(sent).unwrap()], "{beats}");
        line.say("\n");
        let Some(patience) = theirs else {
            line.step(3600 * S);
            assert_eq!((line.state(), line.stats().round_trip), (Authenticated, None), "{beats}");
            continue;
        };
        line.step(patience.saturating_sub(MS));
        assert_eq!(line.state(), Authenticated, "{beats}");
        line.step(MS);
        assert_eq!(
            trouble(&line),
            format!("the session can't go on: nothing from the broker for {patience:?}")
        );
    }
}

#[test]
fn stomp_does_not_start_with_what_it_can_not_say() {
    let with = |change: fn(&mut stomp::Stomp)| Line::new(quiet(), stomp(change)).unwrap_err().to_string();
    assert!(with(|session| session.login = Some("bob:a\nb".into())).contains("can't carry this passcode"));
    assert!(with(|session| session.host = "a\rb".into()).contains("can't carry this host"));
    assert!(with(|session| session.subscriptions = vec!["\0".into()]).contains("this destination"));
}
