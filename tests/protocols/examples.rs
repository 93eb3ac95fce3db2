//! The protocols of the examples, where the application says what they can't carry.

use tautline::{Beat, Event};

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
