use super::*;
use crate::transport::fake::Fake;
use crate::transport::link::Link;

#[test]
fn a_write_always_succeeds_and_the_rest_spills_in_order() {
    let fake = Fake::with_room(4);
    let mut wire = Wire::new(fake.clone());
    wire.write_all(b"abcdef").unwrap();
    wire.write_all(b"ghi").unwrap();
    assert_eq!((wire.taken(), wire.spilled(), wire.handed()), (4, 5, 9));
    fake.0.lock().unwrap().room = 3;
    wire.flush().unwrap();
    assert_eq!((wire.taken(), wire.spilled()), (7, 2));
    fake.0.lock().unwrap().room = 100;
    wire.flush().unwrap();
    assert_eq!(fake.0.lock().unwrap().written, b"abcdefghi");
    assert_eq!((wire.taken(), wire.spilled(), wire.handed()), (9, 0, 9));
}

#[test]
fn a_large_spill_gives_its_memory_back() {
    let fake = Fake::with_room(0);
    let mut wire = Wire::new(fake.clone());
    wire.write_all(&vec![0; 1 << 20]).unwrap();
    fake.0.lock().unwrap().room = usize::MAX;
    wire.flush().unwrap();
    assert_eq!(wire.spill.capacity(), 0);
}

#[test]
fn a_system_that_takes_any_write_whole_is_not_given_all_there_is() {
    let fake = Fake::with_room(0);
    let mut wire = Wire::new(fake.clone());
    wire.write_all(&vec![0; 1 << 20]).unwrap();
    for round in 1..=3 {
        let mut script = fake.0.lock().unwrap();
        (script.room, script.takes_whole_writes) = (1, true);
        drop(script);
        wire.flush().unwrap();
        let most = if cfg!(windows) { 128 << 10 } else { 256 << 10 };
        assert_eq!(wire.taken(), round * most);
    }
    let fake = Fake::with_room(300_000);
    let mut wire = Wire::new(fake.clone());
    wire.write_all(&vec![0; 250_000]).unwrap();
    assert_eq!(wire.spilled(), 0, "what has room is not copied");
}

#[test]
fn a_short_read_spares_the_next_but_never_hides_the_end() {
    let fake = Fake::default();
    let mut wire = Wire::new(fake.clone());
    let mut buffer = [0; 8];
    fake.feed("ab");
    fake.feed("cd");
    assert_eq!(wire.read(&mut buffer).unwrap(), 2);
    assert_eq!(wire.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock, "no system call");
    wire.edge_of_end();
    assert_eq!(wire.read(&mut buffer).unwrap(), 2);
    fake.feed("");
    assert_eq!(wire.read(&mut buffer).unwrap(), 0, "the end that came with the last bytes");
}

#[test]
fn an_error_is_told_at_each_further_read_and_not_as_an_end() {
    let fake = Fake::default();
    fake.0.lock().unwrap().write_fails = true;
    let mut link = Link::Plain(Wire::new(fake.clone()));
    link.write_all(b"lost").unwrap();
    fake.feed("");
    for _ in 0..3 {
        assert_eq!(link.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::BrokenPipe);
        fake.feed("");
    }
}

#[test]
fn what_the_peer_said_is_read_before_a_failed_write_is_told() {
    let fake = Fake::default();
    fake.0.lock().unwrap().write_fails = true;
    let mut wire = Wire::new(fake.clone());
    wire.write_all(b"lost").unwrap();
    wire.flush().unwrap();
    assert_eq!((wire.taken(), wire.is_readable()), (0, true));
    fake.feed("goodbye");
    let mut buffer = [0; 64];
    assert_eq!(wire.read(&mut buffer).unwrap(), 7);
    assert_eq!(wire.read(&mut buffer).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn what_a_failed_write_drops_is_not_counted_as_taken() {
    let fake = Fake::with_room(4);
    let mut wire = Wire::new(fake.clone());
    wire.write_all(b"abcd").unwrap();
    fake.0.lock().unwrap().write_fails = true;
    wire.write_all(b"efg").unwrap();
    wire.write_all(b"hi").unwrap();
    assert_eq!((wire.taken(), wire.handed()), (4, 9));
}

#[test]
fn the_peer_sees_the_end_though_a_forked_process_holds_the_descriptor() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
    // The copy of the descriptor that a child has after a fork.
    let childs = stream.try_clone().unwrap();
    let (mut peer, _) = server.accept().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut wire = Wire::new(Stream::from(stream));
    wire.write_all(b"last words").unwrap();
    drop(wire);
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"last words");
    drop(childs);
}
