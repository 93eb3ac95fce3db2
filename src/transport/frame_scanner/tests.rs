use super::*;

/// Text frames of all three forms of length, a ping, and a close frame with 1014 and a reason.
fn stream() -> Vec<u8> {
    let mut stream = vec![0x81, 2, b'h', b'i', 0x82, 126, 1, 0];
    stream.extend([0x88; 256]);
    stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    stream.extend(std::iter::repeat_n(0x88, 65_536));
    stream.extend([0x89, 0, 0x88, 5, 0x03, 0xF6, b'b', b'y', b'e']);
    stream
}

fn tap() -> FrameScanner {
    FrameScanner::new(
        &ConnectionConfig::new("ws://h").max_message_size(usize::MAX).max_frame_size(usize::MAX),
    )
}

/// Feeds `bytes` as a reader does, up to `size` more at a time. Returns what is passed on.
fn passed(tap: &mut FrameScanner, bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut passed, mut bytes, mut read) = (Vec::new(), bytes.to_vec(), 0);
    let mut at = 0;
    while (at < read || read < bytes.len()) && tap.violation().is_none() && !tap.is_closed() {
        if let Some(due) = tap.due() {
            passed.extend(due);
        }
        let end = read.min(at.saturating_add(tap.room()));
        let n = tap.feed(&mut bytes[at..end]);
        passed.extend(&bytes[at..at + n]);
        at += n;
        if n == 0 && tap.violation().is_none() {
            if read == bytes.len() {
                break;
            }
            read = bytes.len().min(read + size);
        }
    }
    passed
}

#[test]
fn frames_are_passed_on_as_they_came_and_the_close_frame_is_found_however_the_stream_is_cut() {
    let stream = stream();
    for size in [1, 2, 3, 7, 1000, 70_000] {
        let mut tap = tap();
        let behind = [&stream[..], &[0x88, 2, 3, 0xE8]].concat();
        assert!(passed(&mut tap, &behind, size) == stream, "chunks of {size}");
        assert_eq!(tap.close(), Some((1014, &b"bye"[..])), "chunks of {size}");
    }
}

#[test]
fn a_long_frame_is_passed_on_in_pieces_each_announced_when_the_one_before_has_come() {
    let long = usize::try_from(PIECE).unwrap() * 2 + 3;
    let announced = |first: u8, length: u64| [&[first, 127][..], &length.to_be_bytes()].concat();
    let payload: Vec<u8> = (0..long).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let stream = [&announced(0x82, long as u64)[..], &payload, &[0x81, 1, b'A']].concat();
    let (one, two) = (PIECE.try_into().unwrap(), 2 * usize::try_from(PIECE).unwrap());
    let expected = [
        &announced(0x02, PIECE)[..],
        &payload[..one],
        &announced(0x00, PIECE),
        &payload[one..two],
        &announced(0x80, 3),
        &payload[two..],
        &[0x81, 1, b'A'],
    ]
    .concat();
    for size in [1, 999, 16 << 10, 4 << 20] {
        let mut tap = tap();
        assert!(passed(&mut tap, &stream, size) == expected, "chunks of {size}");
        assert!(tap.is_between_messages());
    }
}

#[test]
fn a_message_is_over_with_the_last_byte_of_its_last_fragment() {
    let mut tap = tap();
    let mut between = |bytes: &[u8]| {
        passed(&mut tap, bytes, 100);
        tap.is_between_messages()
    };
    assert!(between(&[]));
    assert!(!between(&[0x01, 2]) && !between(b"h") && !between(b"i"), "more fragments are to come");
    assert!(!between(&[0x89, 0]), "a ping in between");
    assert!(!between(&[0x80, 1]) && between(b"!"));
    assert!(between(&[0x82, 0, 0x8A, 0]));
}

#[test]
fn a_length_must_be_in_its_shortest_form() {
    let verdict = |first: u8, length: u64, width: usize| {
        let mut header = vec![first, if width == 2 { 126 } else { 127 }];
        header.extend(&length.to_be_bytes()[8 - width..]);
        let mut tap = tap();
        assert_eq!(passed(&mut tap, &header, 3).is_empty(), tap.violation().is_some());
        tap.violation().map(|Violation { code, reason }| (*code, reason.to_string()))
    };
    for (first, length, width) in
        [(0x82, 126, 2), (0x01, 0xFFFF, 2), (0x82, 0x1_0000, 8), (0x82, isize::MAX as u64 / 2, 8)]
    {
        assert_eq!(verdict(first, length, width), None, "{length} in {width} bytes");
    }
    for (first, length, width) in [
        (0x82, 0, 2),
        (0x01, 125, 2),
        (0x89, 5, 2),
        (0x88, 2, 8),
        (0x82, 0, 8),
        (0x82, 126, 8),
        (0x82, 0xFFFF, 8),
    ] {
        let says = format!(
            "the length {length} in {width} bytes, where the shortest form must be used (RFC 6455, section 5.2)"
        );
        assert_eq!(verdict(first, length, width), Some((1002, says)));
    }
}

#[test]
fn the_highest_bit_of_a_length_must_be_clear() {
    for length in [1 << 63, u64::MAX] {
        let mut tap = tap();
        passed(&mut tap, &[&[0x82, 127][..], &length.to_be_bytes()].concat(), 3);
        let violation = tap.violation().map(|Violation { code, reason }| (*code, &**reason));
        let says = "a length whose highest bit is set (RFC 6455, section 5.2)";
        assert_eq!(violation, Some((1002, says)), "{length}");
    }
}

#[test]
fn a_close_frame_without_a_code_has_none() {
    let mut tap = tap();
    passed(&mut tap, &[0x88, 0], 2);
    assert_eq!((tap.close(), tap.is_closed()), (None, true));
}
