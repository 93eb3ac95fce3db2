use std::io::{Read, Write};

use super::reading::MOST_DRAINED_BYTES;
use super::*;
use crate::transport::fake::Fake;
use crate::transport::link::Layer;
use crate::transport::wire::Wire;

fn socket(fake: &Fake, config: &ConnectionConfig) -> Socket<Fake> {
    Socket::new(Link::Plain(Wire::new(fake.clone())), Vec::new(), config, None)
}

fn config() -> ConnectionConfig {
    ConnectionConfig::new("ws://h").max_message_size(100)
}

fn violation(bytes: &[u8]) -> (u16, Box<str>) {
    let fake = Fake::with_room(1000);
    fake.feed(bytes);
    match socket(&fake, &config()).read() {
        Err(Fault::Violation { code, reason }) => (code, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_violation_has_its_close_code() {
    assert_eq!(violation(&[0xC1, 1, b'A']).0, 1002, "reserved bit");
    assert_eq!(violation(&[0x83, 0]).0, 1002, "unknown opcode");
    assert_eq!(violation(&[0x81, 0x81, 1, 2, 3, 4, 5]).0, 1002, "masked");
    assert_eq!(violation(&[0x09, 0]).0, 1002, "fragmented ping");
    assert_eq!(violation(&[0x88, 1, 3]).0, 1002, "a close frame with half a code");
    assert_eq!(violation(&[0x81, 2, 0xC3, 0x28]).0, 1007, "bad UTF-8");
    let (code, reason) = violation(&[0x82, 101]);
    assert_eq!(
        (code, &*reason),
        (1009, "a message of at least 101 bytes, where 100 are allowed (max_message_size)")
    );
}

#[test]
fn a_violation_is_refused_by_its_header_behind_what_came_before() {
    let long = [0, 0, 0, 0, 0, 1, 0, 0];
    for (header, says) in [
        (&[0x89, 126, 0, 126][..], "a control frame of 126 bytes"),
        (&[0x09, 5], "a control frame in fragments"),
        (&[0xC1, 5], "a reserved bit"),
        (&[0x81, 0x85, 1, 2, 3, 4], "masked"),
        (&[0x80, 5], "nothing to continue"),
        (&[0x83, 5], "unknown opcode 3"),
        (&[[0x82, 127].as_slice(), &long].concat(), "a message of at least 65536 bytes"),
    ] {
        let fake = Fake::with_room(1000);
        // Also one piece at a time: the start of a header alone is not a header.
        for cut in 0..header.len() {
            fake.feed([&[0x81, 1, b'A'], &header[..cut]].concat());
            fake.feed(&header[cut..]);
            let mut socket = socket(&fake, &config());
            assert!(matches!(socket.read(), Ok(Some(Incoming::Message(_)))), "{says}");
            socket.wire_mut().edge();
            let read = loop {
                match socket.read() {
                    Ok(None) => socket.wire_mut().edge(),
                    other => break other,
                }
            };
            let Err(Fault::Violation { reason, .. }) = read else { panic!("{says}: {read:?}") };
            assert!(reason.contains(says), "{reason}");
        }
    }
}

#[test]
fn limits_below_125_bytes_hold_for_messages_and_not_for_control_frames() {
    let fake = Fake::with_room(1000);
    let config = ConnectionConfig::new("ws://h").max_message_size(1).max_frame_size(1);
    fake.feed([&[0x89, 125][..], &[7; 125], &[0x8A, 125], &[7; 125], &[0x81, 1, b'A']].concat());
    fake.feed([&[0x88, 125, 3, 0xE9][..], &[b'x'; 123]].concat());
    let mut socket = socket(&fake, &config);
    assert!(matches!(socket.read(), Ok(Some(Incoming::Ping(payload))) if payload.len() == 125));
    assert!(matches!(socket.read(), Ok(Some(Incoming::Pong(payload))) if payload.len() == 125));
    assert!(matches!(socket.read(), Ok(Some(Incoming::Message(message))) if message.len() == 1));
    socket.wire_mut().edge();
    let read = socket.read();
    assert!(
        matches!(&read, Ok(Some(Incoming::Close(frame))) if frame.code == 1001 && frame.reason.len() == 123)
    );
}

#[test]
fn a_frame_over_its_own_limit_names_the_setting() {
    let fake = Fake::with_room(1000);
    fake.feed([0x82, 11]);
    let read = socket(&fake, &config().max_frame_size(10)).read();
    let Err(Fault::Violation { code: 1009, reason }) = read else { panic!("{read:?}") };
    assert_eq!(&*reason, "a frame of at least 11 bytes, where 10 are allowed (max_frame_size)");
}

#[test]
fn a_close_frame_whose_reason_cannot_be_read_is_told_with_its_code() {
    let (code, reason) = violation(b"\x88\x06\x03\xF3by\xE2\x82");
    assert_eq!((code, &*reason), (1007, "close code 1011: \"by\u{FFFD}\", a reason that is not UTF-8"));
}

#[test]
fn long_frames_of_text_arrive_whole_however_their_pieces_cut_the_characters() {
    let text = "a€".repeat(900_000);
    let fake = Fake::with_room(1000);
    let header = |first: u8, length: usize| [&[first, 127][..], &(length as u64).to_be_bytes()].concat();
    // A message of two long frames with a ping in between. The second frame begins in the middle of a character.
    let (one, two) = text.as_bytes().split_at(2 << 20);
    fake.feed([&header(0x01, one.len())[..], one, &[0x89, 0], &header(0x80, two.len()), two].concat());
    fake.feed([0x81, 1, b'A']);
    let mut socket = socket(&fake, &ConnectionConfig::new("ws://h"));
    let mut seen = Vec::new();
    while seen.len() < 3 {
        socket.wire_mut().edge();
        seen.extend(socket.read().unwrap());
    }
    assert!(matches!(&seen[0], Incoming::Ping(_)));
    assert!(matches!(&seen[1], Incoming::Message(message) if message.as_text() == Some(&text)));
    assert!(matches!(&seen[2], Incoming::Message(message) if message.as_text() == Some("A")));
}

#[test]
fn close_codes_are_told_as_they_were_sent() {
    let close = |code: u16| {
        let fake = Fake::with_room(1000);
        fake.feed([0x88, 5, code.to_be_bytes()[0], code.to_be_bytes()[1], b'b', b'y', b'e']);
        let mut socket = socket(&fake, &config());
        let read = socket.read();
        socket.close(&CloseFrame::new(1002, "")).unwrap();
        socket.flush().unwrap();
        let written = fake.0.lock().unwrap().written.clone();
        let answer = u16::from_be_bytes([written[6] ^ written[2], written[7] ^ written[3]]);
        (read, answer)
    };
    for code in [1000, 1001, 1013, 1014, 3000, 4999] {
        let (Ok(Some(Incoming::Close(frame))), answer) = close(code) else { panic!("{code}") };
        assert_eq!((frame.code, &*frame.reason, answer), (code, "bye", code));
    }
    let never = "which must never be on the wire (RFC 6455, section 7.4.1)";
    let reserved = "which is reserved and has no meaning (RFC 6455, section 7.4)";
    let outside = "which is not between 1000 and 4999 (RFC 6455, section 7.4.2)";
    for (code, why) in [
        (1005, never),
        (1006, never),
        (1015, never),
        (1004, reserved),
        (1016, reserved),
        (2999, reserved),
        (0, outside),
        (999, outside),
        (5000, outside),
    ] {
        let (Err(Fault::Violation { code: 1002, reason }), answer) = close(code) else { panic!("{code}") };
        assert_eq!(
            *reason,
            *format!("close code {code}: \"bye\", {why}"),
            "the server's own words count too"
        );
        assert_eq!(answer, 1002);
    }
}

#[test]
fn a_close_code_that_breaks_the_protocol_is_named_also_without_a_reason() {
    let (code, reason) = violation(b"\x88\x02\x03\xED");
    let says = "close code 1005, which must never be on the wire (RFC 6455, section 7.4.1)";
    assert_eq!((code, &*reason), (1002, says), "it is no empty close frame");
    let (code, reason) = violation(b"\x88\x01\x03");
    let says = "a close frame of one byte, where a code takes two (RFC 6455, section 5.5.1)";
    assert_eq!((code, &*reason), (1002, says));
}

#[test]
fn after_a_violation_the_close_frame_goes_out_and_the_rest_is_dropped() {
    let fake = Fake::with_room(1000);
    fake.feed([0xC1, 1, b'A', 0x81, 1, b'B']);
    let mut socket = socket(&fake, &config());
    assert!(matches!(socket.read(), Err(Fault::Violation { .. })));
    socket.close(&CloseFrame::new(1002, "")).unwrap();
    socket.flush().unwrap();
    assert!(fake.0.lock().unwrap().half_closed);
    assert_eq!(fake.0.lock().unwrap().written[0], 0x88);
    fake.feed([0x81, 1, b'C']);
    socket.link().wire_mut().edge();
    assert!(matches!(socket.read(), Ok(None)), "not parsed any more");
    fake.feed([]);
    socket.link().wire_mut().edge();
    assert!(matches!(socket.read(), Err(Fault::Broken(Error::ConnectionLost { source: None }))));
}

#[test]
fn a_peer_that_floods_after_its_violation_is_left() {
    let fake = Fake::with_room(1000);
    fake.feed([0xC1, 1, b'A']);
    let mut socket = socket(&fake, &config());
    assert!(socket.read().is_err());
    for _ in 0..MOST_DRAINED_BYTES / 4096 {
        fake.feed(vec![0; 4096]);
    }
    socket.link().wire_mut().edge();
    assert!(matches!(socket.read(), Err(Fault::Broken(_))));
}

#[test]
fn a_small_message_owns_its_memory() {
    let fake = Fake::with_room(1000);
    fake.feed([0x81, 1, b'A', 0x82, 1, 7]);
    let mut socket = socket(&fake, &config());
    let mut next = || match socket.read() {
        Ok(Some(Incoming::Message(message))) => message,
        other => panic!("{other:?}"),
    };
    let (text, binary) = (next(), next());
    assert_eq!((text.as_text(), binary.as_bytes()), (Some("A"), &[7][..]));
    let distance = text.as_bytes().as_ptr().addr().abs_diff(binary.as_bytes().as_ptr().addr());
    assert_ne!(distance, 3, "still side by side in the read buffer");
}

#[test]
fn a_large_message_leaves_no_large_buffer_behind() {
    let fake = Fake::with_room(1000);
    let config = ConnectionConfig::new("ws://h");
    let mut socket = socket(&fake, &config);
    let mut large = vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
    large.resize(large.len() + (64 << 10), 7);
    // The start of a ping and a fragment keep the buffer from being replaced.
    large.extend([0x89, 0, 0x01, 1, b'A', 0x89]);
    fake.feed(large);
    let Ok(Some(Incoming::Message(message))) = socket.read() else { panic!("no message") };
    assert!(matches!(socket.read(), Ok(Some(Incoming::Ping(_)))));
    assert!(matches!(socket.read(), Ok(None)) && socket.swollen, "a ping has begun");
    fake.feed([0, 0x80, 1, b'B']);
    socket.stream.link.wire_mut().edge();
    assert!(matches!(socket.read(), Ok(Some(Incoming::Ping(_)))));
    let Ok(Some(Incoming::Message(joined))) = socket.read() else { panic!("no message") };
    assert_eq!((message.len(), joined.as_text()), (64 << 10, Some("AB")));
    assert!(matches!(socket.read(), Ok(None)) && !socket.swollen, "nothing hangs on it any more");
    assert_eq!(fake.0.lock().unwrap().written.len(), 12, "both pings were answered");
}

#[test]
fn the_end_of_the_stream_is_a_loss_and_not_a_violation() {
    let fake = Fake::with_room(1000);
    fake.feed([]);
    assert!(matches!(
        socket(&fake, &config()).read(),
        Err(Fault::Broken(Error::ConnectionLost { source: None }))
    ));
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let fake = Fake::with_room(1000);
    fake.feed([0x89, 2, b'h', b'i']);
    let mut socket = socket(&fake, &config());
    assert!(matches!(socket.read(), Ok(Some(Incoming::Ping(_)))));
    socket.flush().unwrap();
    let written = fake.0.lock().unwrap().written.clone();
    let unmasked: Vec<u8> = written[6..].iter().zip(&written[2..6]).map(|(byte, mask)| byte ^ mask).collect();
    assert_eq!((&written[..2], &unmasked[..]), (&[0x8A, 0x82][..], &b"hi"[..]));
}

#[test]
fn a_pong_that_waits_goes_ahead_of_a_close_frame() {
    let fake = Fake::with_room(1000);
    fake.feed([0x89, 0]);
    let mut socket = socket(&fake, &config());
    assert!(matches!(socket.read(), Ok(Some(Incoming::Ping(_)))));
    socket.close(&CloseFrame::new(1000, "")).unwrap();
    socket.flush().unwrap();
    let written = fake.0.lock().unwrap().written.clone();
    assert_eq!((written[0], written[6]), (0x8A, 0x88), "nothing follows a close frame");
}

/// The codes of the close frames that were written.
fn closes(fake: &Fake) -> Vec<u16> {
    let written = fake.0.lock().unwrap().written.clone();
    assert!(written.len().is_multiple_of(8), "{written:?}");
    let code = |frame: &[u8]| u16::from_be_bytes([frame[6] ^ frame[2], frame[7] ^ frame[3]]);
    written.chunks(8).map(code).collect()
}

#[test]
fn a_close_frame_with_1014_is_answered_once_whatever_is_read_behind_it() {
    let fake = Fake::with_room(1000);
    fake.feed([0x88, 2, 0x03, 0xF6]);
    let mut socket = socket(&fake, &config());
    assert!(matches!(socket.read(), Ok(Some(Incoming::Close(_)))));
    assert!(matches!(socket.read(), Ok(None)));
    socket.flush().unwrap();
    assert_eq!(closes(&fake), [1014]);
}

#[test]
fn a_rest_loses_nothing_that_was_not_read() {
    let fake = Fake::with_room(1000);
    fake.feed([0x81, 1, b'A', 0x81, 1, b'B']);
    let mut socket = socket(&fake, &config());
    assert!(matches!(socket.read(), Ok(Some(Incoming::Message(_)))));
    socket.shrink();
    let Ok(Some(Incoming::Message(message))) = socket.read() else { panic!("the second message is gone") };
    assert_eq!(message.as_text(), Some("B"));
}

#[test]
fn whole_messages_do_not_pass_tungstenite_and_others_do() {
    let fake = Fake::with_room(1000);
    fake.feed([&[0x81, 1, b'A'][..], &[0x82, 1, 7], &[0x89, 0], &[0x81, 1, b'B']].concat());
    let mut socket = socket(&fake, &config());
    let message = |socket: &mut Socket<Fake>| match socket.read() {
        Ok(Some(Incoming::Message(message))) => message.as_bytes().to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!([message(&mut socket), message(&mut socket)], [[b'A'], [7]]);
    // For messages, tungstenite's buffer becomes larger.
    assert_eq!(socket.config.read_buffer_size, READ_BUFFER_AT_REST);
    assert_eq!((socket.received(), socket.messages_so_far()), (11, (6, false)));
    assert!(matches!(socket.read(), Ok(Some(Incoming::Ping(_)))));
    assert_eq!(message(&mut socket), b"B");
    fake.feed([0x01, 1, b'C', 0x80, 1, b'D']);
    socket.wire_mut().edge();
    assert_eq!(message(&mut socket), b"CD");
    assert_eq!(socket.config.read_buffer_size, READ_BUFFER_AT_WORK);
}

#[test]
fn a_violation_before_more_than_fits_the_buffer_is_one_on_a_line_with_compression_too() {
    let fake = Fake::with_room(1000);
    let agreed = Compression::default();
    let mut socket = Socket::new(Link::Plain(Wire::new(fake.clone())), Vec::new(), &config(), Some(&agreed));
    // A part of the header waits when a whole buffer follows.
    fake.feed([0xA1]);
    assert!(matches!(socket.read(), Ok(None)));
    fake.feed([5; 4 << 10]);
    socket.wire_mut().edge();
    match socket.read() {
        Err(Fault::Violation { code: 1002, reason }) => {
            assert!(reason.contains("a reserved bit"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// The frames are those of RFC 7692, section 7.2.3.1.
#[test]
fn a_quiet_moment_between_two_frames_of_a_compressed_message_takes_nothing_from_it() {
    let fake = Fake::with_room(1000);
    let agreed = Compression::default();
    let mut socket = Socket::new(Link::Plain(Wire::new(fake.clone())), Vec::new(), &config(), Some(&agreed));
    fake.feed([0x41, 3, 0xF2, 0x48, 0xCD]);
    assert!(matches!(socket.read(), Ok(None)));
    socket.shrink();
    fake.feed([0x80, 4, 0xC9, 0xC9, 7, 0]);
    socket.wire_mut().edge();
    match socket.read() {
        Ok(Some(Incoming::Message(message))) => assert_eq!(message.as_text(), Some("Hello")),
        other => panic!("{other:?}"),
    }
}

/// A TLS library that reads nothing any more once its own side has ended.
struct Deaf {
    wire: Wire<Fake>,
    ended: bool,
}

impl Read for Deaf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended { Ok(0) } else { self.wire.read(buffer) }
    }
}

impl Write for Deaf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}

impl Layer<Fake> for Deaf {
    fn wire(&self) -> &Wire<Fake> {
        &self.wire
    }

    fn wire_mut(&mut self) -> &mut Wire<Fake> {
        &mut self.wire
    }

    fn shutdown(&mut self) -> io::Result<()> {
        self.ended = true;
        Ok(())
    }
}

#[test]
fn what_comes_after_a_violation_is_read_also_where_tls_reads_nothing_after_its_own_end() {
    let fake = Fake::with_room(1000);
    fake.feed([0x83, 0]);
    let link = Link::tls(Box::new(Deaf { wire: Wire::new(fake.clone()), ended: false }));
    let mut socket = Socket::new(link, Vec::new(), &config(), None);
    let Err(Fault::Violation { code, .. }) = socket.read() else { panic!("an unknown opcode") };
    socket.close(&CloseFrame::new(code, "")).unwrap();
    socket.flush().unwrap();
    assert!(fake.0.lock().unwrap().half_closed);
    fake.feed([7; 10_000]);
    socket.wire_mut().edge();
    assert!(matches!(socket.read(), Ok(None)), "there may be more");
    assert!(fake.0.lock().unwrap().reads.is_empty(), "what is not read becomes a reset");
    fake.feed("");
    socket.wire_mut().edge();
    assert!(matches!(socket.read(), Err(Fault::Broken(_))));
}
