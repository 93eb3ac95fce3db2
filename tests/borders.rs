//! The examples `mqtt` and `nats` take their packets and operations out of the frames however the server cuts them.

#[path = "../examples/mqtt/packets.rs"]
#[allow(dead_code, reason = "what comes is tested here")]
mod mqtt;
#[path = "../examples/nats.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod nats;
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

#[test]
fn what_never_ends_is_an_error() {
    let endless = |cut: &mut dyn FnMut(&[u8]) -> bool| (0..8).any(|_| cut(&vec![0xFF; 1 << 20]));
    let (mut packets, mut operations) = (Vec::new(), Vec::new());
    assert!(endless(&mut |bytes| mqtt::cut(&mut packets, bytes).is_err()));
    assert!(endless(&mut |bytes| nats::cut(&mut operations, bytes).is_err()));
    assert!(packets.len() + operations.len() < 6 << 20);
}
