//! The proxy that makes faults makes the ones that it is asked for.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use common::faults::{Fault, Pace, Plan, Point, Proxy, Way};
use common::{LONG, MS, Server, eventually};
use crossbeam_channel::Receiver;
use fastrand::Rng;

/// A server that sends everything back and tells what it got, in pieces; an empty one is the end of a connection.
fn echo() -> (Server, Receiver<Vec<u8>>) {
    let (heard_in, heard) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, mut stream| {
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer).unwrap_or(0);
            heard_in.send(buffer[..n].to_vec()).unwrap();
            if n == 0 {
                return;
            }
            let _ = stream.write_all(&buffer[..n]);
        }
    });
    (server, heard)
}

/// The first connection suffers `plan`, and the others nothing.
fn first(server: &Server, plan: impl Into<Plan>) -> Proxy {
    let plan = plan.into();
    Proxy::start(server.address(), move |n| if n == 0 { plan.clone() } else { Plan::calm() })
}

fn dial(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).unwrap()
}

fn at(way: Way, after: u64) -> Point {
    Point { way, after }
}

/// What the server hears, up to the end of a connection.
fn up_to_the_end(heard: &Receiver<Vec<u8>>) -> String {
    let mut all = Vec::new();
    loop {
        match heard.recv_timeout(LONG).unwrap() {
            piece if piece.is_empty() => return String::from_utf8(all).unwrap(),
            piece => all.extend(piece),
        }
    }
}

fn read(mut stream: &TcpStream, bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    stream.read_exact(&mut buffer).unwrap();
    String::from_utf8(buffer).unwrap()
}

/// The stream is open, and brings nothing for a while.
fn is_silent(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(30 * MS)).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_read_timeout(None).unwrap();
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_cut_ends_both_sides_in_order_after_so_many_bytes() {
    for (way, heard_up, heard_down) in [(Way::Up, "12345", None), (Way::Down, "1234567890", Some("12345"))] {
        let (server, heard) = echo();
        let proxy = first(&server, Fault::Cut(at(way, 5)));
        let mut client = dial(&proxy);
        client.write_all(b"1234567890").unwrap();
        assert_eq!(up_to_the_end(&heard), heard_up);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(heard_down.is_none_or(|wanted| answer == wanted) && "12345".starts_with(&answer), "{answer}");
        drop(client);
        assert_eq!(proxy.finish(), 1);
    }
}

#[test]
fn a_reset_reaches_both_sides() {
    let (server, heard) = echo();
    let proxy = first(&server, Fault::Reset(at(Way::Up, 5)));
    let mut client = dial(&proxy);
    client.write_all(b"1234567890").unwrap();
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!("12345".starts_with(&up_to_the_end(&heard)));
    assert_eq!(proxy.finish(), 1);
}

#[test]
fn a_stall_silences_both_ways_until_another_connection_comes() {
    let (server, heard) = echo();
    let proxy = first(&server, Fault::Stalled(at(Way::Up, 5)));
    let mut client = dial(&proxy);
    client.write_all(b"12345").unwrap();
    assert_eq!(heard.recv_timeout(LONG).unwrap(), b"12345");
    client.write_all(b"67890").unwrap();
    // What was on its way back when it began may have come through.
    let mut came = [0; 5];
    client.set_read_timeout(Some(30 * MS)).unwrap();
    let _ = client.read_exact(&mut came);
    assert!(is_silent(&client), "the client's side is open");
    assert!(heard.is_empty(), "the server's side is open, and hears nothing");
    let mut next = dial(&proxy);
    assert_eq!(up_to_the_end(&heard), "");
    next.write_all(b"x").unwrap();
    assert_eq!(read(&next, 1), "x");
    drop((client, next));
    assert_eq!(proxy.finish(), 2);
}

#[test]
fn a_mute_silences_one_way_only() {
    let (server, heard) = echo();
    let proxy = first(&server, Fault::Muted(at(Way::Down, 2)));
    let mut client = dial(&proxy);
    client.write_all(b"1234").unwrap();
    assert_eq!(read(&client, 2), "12");
    assert!(is_silent(&client));
    client.write_all(b"5").unwrap();
    let mut all = String::new();
    eventually("the server hears all", || {
        all.extend(heard.try_iter().map(|piece| String::from_utf8(piece).unwrap()));
        all == "12345"
    });
    drop(client);
    assert_eq!(proxy.finish(), 1);
}

#[test]
fn what_is_late_arrives_behind_what_a_newer_connection_brought() {
    let (server, heard) = echo();
    let proxy = first(&server, Fault::Late { after: 3, lead: 2 });
    let mut old = dial(&proxy);
    old.write_all(b"old").unwrap();
    assert_eq!(read(&old, 3), "old");
    old.write_all(b"est").unwrap();
    drop(old);
    let mut new = dial(&proxy);
    new.write_all(b"n").unwrap();
    assert_eq!(read(&new, 1), "n");
    new.write_all(b"ew").unwrap();
    assert_eq!(read(&new, 2), "ew");
    drop(new);
    let mut all = String::new();
    eventually("the server hears all", || {
        all.extend(heard.try_iter().map(|piece| String::from_utf8(piece).unwrap()));
        all.len() == 9
    });
    assert!(all.starts_with("oldn") && all.contains("est"), "{all}");
    assert_eq!(proxy.finish(), 2);
}

#[test]
fn a_refused_connection_never_reaches_the_server() {
    let (server, heard) = echo();
    let proxy = first(&server, Fault::Refused);
    let mut refused = dial(&proxy);
    assert!(!refused.read(&mut [0; 1]).is_ok_and(|n| n > 0));
    let mut next = dial(&proxy);
    next.write_all(b"x").unwrap();
    assert_eq!(read(&next, 1), "x");
    drop(next);
    assert_eq!(up_to_the_end(&heard), "x");
    assert_eq!(proxy.finish(), 1);
}

#[test]
fn nobody_listens_for_a_while() {
    let (server, _heard) = echo();
    // Long enough to be met there on any machine.
    let absent = Plan { absent: 500 * MS, ..Plan::calm() };
    let proxy = Proxy::start(server.address(), move |n| if n == 1 { absent.clone() } else { Plan::calm() });
    let first = dial(&proxy);
    let mut refused = 0;
    eventually("somebody listens again", || match TcpStream::connect(proxy.address()) {
        // Taken by the listener that is about to go.
        Ok(stream) => (&stream).write_all(b"x").is_ok() && (&stream).read(&mut [0; 1]).is_ok_and(|n| n == 1),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            refused += 1;
            false
        }
    });
    assert!(refused > 0);
    drop(first);
    assert_eq!(proxy.finish(), 2);
}

#[test]
fn the_pace_changes_nothing_but_the_pace() {
    for pace in [Pace::Even, Pace::Trickle(7), Pace::Delayed(2 * MS)] {
        let (server, _heard) = echo();
        let proxy = first(&server, Plan { pace, ..Plan::calm() });
        let mut client = dial(&proxy);
        let text = "one after the other ".repeat(500);
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(read(&client, text.len()), text);
        drop(client);
        assert_eq!(proxy.finish(), 1);
    }
}

#[test]
fn a_seed_draws_the_same_faults_again() {
    let draw = |seed| {
        let mut random = Rng::with_seed(seed);
        format!("{:?}", (0..100).map(|_| Plan::draw(&mut random, 4_000, 500)).collect::<Vec<_>>())
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    for kind in ["Refused", "Cut", "Reset", "Stalled", "Muted", "Late", "Trickle", "Delayed", "Up", "Down"] {
        assert!(draw(1).contains(kind), "{kind}");
    }
}
