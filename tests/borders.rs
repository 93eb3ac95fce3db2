//! The examples `mqtt`, `nats` and `stomp` take their packets, operations and frames out of the WebSocket's frames however
//! the server cuts them.

#[path = "../examples/mqtt/packets.rs"]
#[allow(dead_code, reason = "what comes is tested here")]
mod mqtt;
#[path = "../examples/nats.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod nats;
#[path = "../examples/stomp/frames.rs"]
#[allow(dead_code, reason = "what comes is tested here")]
mod stomp;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fmt::Debug;

use tautline::Error;

type Cut<T> = fn(&mut Vec<u8>, &[u8]) -> Result<Vec<T>, Error>;

/// What is taken out of `stream` when it comes in frames of `size` bytes.
fn in_frames<T>(cut: Cut<T>, stream: &[u8], size: usize) -> Vec<T> {
    let mut inbox = Vec::new();
    let pieces = stream.chunks(size).flat_map(|frame| cut(&mut inbox, frame).unwrap()).collect();
    assert!(inbox.is_empty(), "{inbox:?}");
    pieces
}

/// Whatever the frames, the pieces are the same.
fn assert_cut<T: PartialEq + Debug>(cut: Cut<T>, stream: &[u8], pieces: &[T]) {
    for size in 1..=stream.len() {
        assert_eq!(in_frames(cut, stream, size), pieces, "frames of {size} bytes");
    }
}

#[test]
fn packets_are_found_in_any_frames() {
    let (long, longer) = (vec![7; 128], vec![9; 20_000]);
    let stream = [
        mqtt::packet(0xD0, &[]),
        mqtt::packet(0x30, &[&long]),
        mqtt::packet(0x90, &[&[0, 1], &[1]]),
        mqtt::packet(0x30, &[&long[..127]]),
    ];
    assert_eq!(stream[1][..4], [0x30, 0x80, 0x01, 7], "128, the lowest seven bits first");
    assert_eq!(stream[3][..3], [0x30, 0x7F, 7]);
    let packets = [(0xD0, vec![]), (0x30, long.clone()), (0x90, vec![0, 1, 1]), (0x30, long[..127].to_vec())];
    assert_cut(mqtt::cut, &stream.concat(), &packets);
    let large = mqtt::packet(0x32, &[&longer]);
    assert_eq!(in_frames(mqtt::cut, &large, 4096), [(0x32, longer)]);
}

#[test]
fn what_mqtt_has_no_form_for_makes_no_packet() {
    let long = "x".repeat(65_536);
    assert!(mqtt::connect("me", Some("name:password"), 60).is_some());
    for (name, login) in [(&*long, None), ("a\0b", None), ("", Some(format!("me:{long}")))] {
        assert_eq!(mqtt::connect(name, login.as_deref(), 60), None);
    }
}

#[test]
fn operations_are_found_in_any_frames() {
    let stream = b"INFO {\"max_payload\":1048576} \r\nPING\r\nMSG a.b 1 5\r\nx\r\nyz\r\n+OK\r\nMSG a 1 _INBOX.1 0\r\n\r\n-ERR 'No'\r\n";
    let operations = [
        ("INFO {\"max_payload\":1048576} ", ""),
        ("PING", ""),
        ("MSG a.b 1 5", "x\r\nyz"),
        ("+OK", ""),
        ("MSG a 1 _INBOX.1 0", ""),
        ("-ERR 'No'", ""),
    ];
    let operations = operations.map(|(line, text)| (line.to_owned(), text.to_owned()));
    assert_cut(nats::cut, stream, &operations);
}

/// A STOMP frame with these headers.
fn frame(command: &str, headers: &[(&str, &str)], body: &str) -> stomp::Frame {
    let headers = headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    stomp::Frame { command: command.to_owned(), headers, body: body.to_owned() }
}

#[test]
fn stomp_frames_are_found_in_any_frames() {
    let stream = "\nCONNECTED\nheart-beat:0,0\nserver:a\\nb:c\n\n\0\n\n\
        MESSAGE\r\ndestination:/queue/a\\cb\\\\n\\n\r\ncontent-length:6\r\n\r\nx\n\n\0yz\0\r\n\
        RECEIPT\nreceipt-id:7\nreceipt-id:8\n\n\0ERROR\nmessage:no\n\nwords: \u{e4}\n\0\n";
    let frames = [
        frame("CONNECTED", &[("heart-beat", "0,0"), ("server", "a\\nb:c")], ""),
        frame("MESSAGE", &[("destination", "/queue/a:b\\n\n"), ("content-length", "6")], "x\n\n\0yz"),
        frame("RECEIPT", &[("receipt-id", "7"), ("receipt-id", "8")], ""),
        frame("ERROR", &[("message", "no")], "words: \u{e4}\n"),
    ];
    assert_cut(stomp::cut, stream.as_bytes(), &frames);
}

#[test]
fn what_stomp_sends_comes_back_as_it_was() {
    let sent = stomp::message("/a:b\\c\n text with\0 and\n\n", "7").unwrap();
    let headers =
        [("destination", "/a:b\\c\n"), ("receipt", "7"), ("content-length", "16"), ("persistent", "true")];
    assert_cut(stomp::cut, sent.as_bytes(), &[frame("SEND", &headers, "text with\0 and\n\n")]);
}

#[test]
fn a_broken_stomp_frame_is_an_error() {
    for broken in [
        "MESSAGE\ncontent-length:2\n\nabc\0",
        "MESSAGE\ncontent-length:-1\n\n\0",
        "MESSAGE\ncontent-length:two\n\nab\0",
        "MESSAGE\ndestination\n\n\0",
        "MESSAGE\ndestination:a\\tb\n\n\0",
        "MESSAGE\ndestination:a\\\n\n\0",
    ] {
        assert!(stomp::cut(&mut Vec::new(), broken.as_bytes()).is_err(), "{broken:?}");
    }
}

#[test]
fn what_never_ends_is_an_error() {
    let endless = |cut: &mut dyn FnMut(&[u8]) -> bool| (0..8).any(|_| cut(&vec![0xFF; 1 << 20]));
    let (mut packets, mut operations, mut frames) = (Vec::new(), Vec::new(), Vec::new());
    assert!(endless(&mut |bytes| mqtt::cut(&mut packets, bytes).is_err()));
    assert!(endless(&mut |bytes| nats::cut(&mut operations, bytes).is_err()));
    assert!(endless(&mut |bytes| stomp::cut(&mut frames, bytes).is_err()));
    assert!(packets.len() + operations.len() + frames.len() < 9 << 20);
    let mut announced = b"MESSAGE\ncontent-length:18446744073709551615\n\n".to_vec();
    assert!(endless(&mut |bytes| stomp::cut(&mut announced, bytes).is_err()));
}
