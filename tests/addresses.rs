//! The addresses of a host: which are tried, in which order, from where, and what is said of those that fail.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/full.rs"]
mod full;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    LONG, MS, Nobody, Server, accept, config, disconnected, echo, good_answer, read_frame, read_head,
    wait_for,
};
use tautline::{
    AddressErrors, AddressFamily, Builder, Client, DisconnectReason, Error, Event, NetworkConfig,
};

/// Longer than any test takes: nothing may wait for it.
const FOR_EVER: Duration = Duration::from_secs(600);

/// A client of a host that has these addresses.
fn host(addresses: impl Into<Vec<SocketAddr>>, network: NetworkConfig) -> Builder {
    let addresses = addresses.into();
    let config = config("ws://h").network(network).connect_timeout(FOR_EVER);
    Client::builder(config).resolver(move |_, _| Ok(addresses.clone()))
}

fn network() -> NetworkConfig {
    NetworkConfig::default()
}

/// Where the client is connected to.
fn address(client: &Client) -> SocketAddr {
    client.handshake().unwrap().address.unwrap()
}

fn lines(source: &std::io::Error) -> Vec<(SocketAddr, String)> {
    let errors = source.get_ref().and_then(|error| error.downcast_ref::<AddressErrors>()).unwrap();
    errors.iter().map(|(address, error)| (address, error.to_string())).collect()
}

/// A server on IPv6, if the system has that.
fn echo_on_ipv6() -> Option<Server> {
    let listener = TcpListener::bind("[::1]:0").ok()?;
    Some(Server::start_on(listener, |_, stream| echo(accept(stream))))
}

#[test]
fn a_dead_ipv6_does_not_hide_a_live_ipv4() {
    let server = Server::echo();
    // Nobody listens on the first port, whether there is IPv6 or not.
    let addresses = ["[::1]:1".parse().unwrap(), server.address()];
    let client = host(addresses, network().attempt_delay(FOR_EVER)).connect().unwrap();
    assert_eq!(address(&client), server.address());
    assert!(client.close().is_empty());
}

#[test]
fn the_preferred_family_comes_first_and_a_required_one_is_the_only_one() {
    let (four, Some(six)) = (Server::echo(), echo_on_ipv6()) else { return };
    for (family, expected) in [
        (AddressFamily::Any, &six),
        (AddressFamily::PreferIpv4, &four),
        (AddressFamily::PreferIpv6, &six),
        (AddressFamily::Ipv4Only, &four),
        (AddressFamily::Ipv6Only, &six),
    ] {
        let network = network().family(family).attempt_delay(FOR_EVER);
        let client = host([six.address(), four.address()], network).connect().unwrap();
        assert_eq!(address(&client), expected.address(), "{family:?}");
        let _ = client.terminate();
    }
}

#[test]
fn a_host_without_an_address_of_the_required_family_is_an_error_that_says_so_and_is_tried_again() {
    let server = Server::echo();
    let network = network().family(AddressFamily::Ipv6Only);
    let error = host([server.address()], network.clone()).connect().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "connecting to h:80: left out, because network.family is Ipv6Only; choose Any, or a host with an IPv6 address"
    );
    let literal = Client::connect(config(&server.url()).network(network.clone())).unwrap_err();
    assert!(literal.to_string().contains("network.family is Ipv6Only"), "{literal}");
    let client = host([server.address()], network).start().unwrap();
    assert!(wait_for(&client, disconnected).1.is_some(), "with backoff");
    let _ = client.terminate();
}

#[test]
fn all_dead_lists_every_address_with_its_error_once() {
    let dead: Vec<_> = (0..3).map(|_| Nobody::new()).collect();
    let mut addresses: Vec<_> = dead.iter().map(Nobody::address).collect();
    addresses.push("[::1]:1".parse().unwrap());
    let network = network().family(AddressFamily::Ipv4Only);
    let error = host(addresses.clone(), network).connect().unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("connecting to h:80: none of its 4 addresses can be reached: (1) [::1]:1: "),
        "{text}"
    );
    for address in &addresses {
        assert_eq!(text.matches(&address.to_string()).count(), 1, "{text}");
    }
    let Error::Connect { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    let lines = lines(&source);
    assert!(lines[0].1.contains("left out") && lines[1..].iter().all(|(_, error)| error.contains("refused")));
    assert_eq!(lines[1..].iter().map(|(address, _)| *address).collect::<Vec<_>>(), addresses[..3]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_does_not_answer_costs_no_more_than_the_attempt_delay() {
    let (full, server) = (full::Full::listen(), Server::echo());
    let client = host([full.address, server.address()], network()).connect().unwrap();
    let took = client.handshake().unwrap().timings.connect.unwrap();
    // A share of the time would be minutes. A busy machine needs some more than the delay.
    assert!((250 * MS..LONG).contains(&took), "{took:?}");
    assert!(client.close().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_delay_longer_than_the_attempt_does_not_keep_the_second_address_from_being_tried() {
    let (full, server) = (full::Full::listen(), Server::echo());
    let (addresses, config) = ([full.address, server.address()], config("ws://h").connect_timeout(2000 * MS));
    let config = config.network(network().attempt_delay(FOR_EVER));
    let client = Client::builder(config).resolver(move |_, _| Ok(addresses.into())).connect().unwrap();
    assert_eq!(address(&client), server.address());
    assert!(client.close().is_empty());
}

/// How many connections to this address wait for its answer.
#[cfg(target_os = "linux")]
fn waiting_for(address: SocketAddr) -> usize {
    let SocketAddr::V4(v4) = address else { panic!("{address}") };
    let remote = format!("{:08X}:{:04X} 02 ", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    std::fs::read_to_string("/proc/self/net/tcp")
        .unwrap()
        .lines()
        .filter(|line| line.contains(&remote))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn the_losers_of_the_race_are_closed() {
    let (full, server) = (full::Full::listen(), Server::echo());
    let (all_in, all) = crossbeam_channel::bounded::<Vec<SocketAddr>>(1);
    let config = config("ws://h").network(network().attempt_delay(2000 * MS));
    let client = Client::builder(config).resolver(move |_, _| Ok(all.recv().unwrap())).start().unwrap();
    all_in.send(vec![full.address, server.address()]).unwrap();
    common::eventually("the first attempt", || waiting_for(full.address) == 1);
    client.wait_ready(LONG).unwrap();
    assert_eq!(waiting_for(full.address), 0);
    assert!(client.close().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn an_end_during_the_race_stops_it_at_once_and_closes_all_in_it() {
    let holes: Vec<_> = (0..3).map(|_| full::Full::listen()).collect();
    let addresses: Vec<_> = holes.iter().map(|full| full.address).collect();
    let racing = || addresses.iter().map(|address| waiting_for(*address)).sum::<usize>();
    let ends: [fn(&Client); 2] = [|client| drop(client.terminate()), |client| drop(client.close())];
    for end in ends {
        let client = host(addresses.clone(), network().attempt_delay(10 * MS)).start().unwrap();
        common::eventually("all three at once", || racing() == 3);
        let start = std::time::Instant::now();
        end(&client);
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
        assert_eq!(racing(), 0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_timeout_of_tcp_lists_the_addresses_that_failed_and_those_that_were_silent() {
    let (full, nobody) = (full::Full::listen(), Nobody::new());
    let addresses = vec![full.address, nobody.address()];
    let config = config("ws://h").connect_timeout(1000 * MS);
    let error = Client::builder(config).resolver(move |_, _| Ok(addresses.clone())).connect().unwrap_err();
    let text = error.to_string();
    let Error::ConnectTimeout { phase: tautline::Phase::Connect, source: Some(source), .. } = error else {
        panic!("{text}")
    };
    let lines = lines(&source);
    assert_eq!(
        lines.iter().map(|(address, _)| *address).collect::<Vec<_>>(),
        [nobody.address(), full.address]
    );
    assert!(lines[0].1.contains("refused") && lines[1].1.starts_with("no answer within "), "{lines:?}");
    assert!(text.contains("while waiting for the connection: none of its 2 addresses"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_begins_at_the_local_address() {
    let (from_in, from) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        from_in.send(stream.peer_addr().unwrap().ip()).unwrap();
        echo(accept(stream));
    });
    let local = [127, 0, 0, 2].into();
    let client = host([server.address()], network().local_address(local)).connect().unwrap();
    assert_eq!(from.recv_timeout(LONG).unwrap(), local);
    assert!(client.close().is_empty());
    // Addresses of the other family are left out.
    let client = host(["[::1]:1".parse().unwrap(), server.address()], network().local_address(local));
    let client = client.connect().unwrap();
    assert_eq!(from.recv_timeout(LONG).unwrap(), local);
    let _ = client.terminate();
    let error = host(["[::1]:1".parse().unwrap()], network().local_address(local)).connect().unwrap_err();
    assert!(error.to_string().contains("left out, because network.local_address is 127.0.0.2"), "{error}");
}

#[test]
fn a_local_address_that_is_not_of_this_machine_is_named_with_its_setting() {
    let server = Server::echo();
    // An address for documentation, which no machine has. Nothing is sent.
    let network = network().local_address([192, 0, 2, 1].into());
    let error = host([server.address()], network).connect().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    let says = "connecting to h:80: network.local_address (192.0.2.1) must be an address of this machine: ";
    assert!(error.to_string().starts_with(says), "{error}");
}

#[test]
fn an_address_that_refused_goes_last_in_the_next_attempt() {
    let (server, nobody) = (Server::echo(), Nobody::new());
    let refusing = nobody.address();
    let client = host([refusing, server.address()], network().attempt_delay(FOR_EVER)).connect().unwrap();
    assert_eq!(address(&client), server.address());
    let _now_there = Server::start_on(nobody.listen(), |_, stream| echo(accept(stream)));
    server.cut();
    wait_for(&client, disconnected);
    client.wait_ready(LONG).unwrap();
    assert_eq!(address(&client), server.address(), "the first of the resolver's is the last now");
    let _ = client.terminate();
}

/// A client of a host with two addresses: this server, and one that echoes. Returns how many attempts it took to be
/// connected, and whether it is with the first.
fn second_to(
    serve: impl Fn(usize, TcpStream) + Send + Sync + 'static,
    connect_timeout: Duration,
) -> (u64, bool) {
    let (first, second) = (Server::start(serve), Server::echo());
    let addresses = vec![first.address(), second.address()];
    let config = config("ws://h").network(network().attempt_delay(FOR_EVER)).connect_timeout(connect_timeout);
    let client = Client::builder(config).resolver(move |_, _| Ok(addresses.clone())).start().unwrap();
    client.wait_ready(LONG).unwrap();
    let found = (client.stats().attempts, address(&client) == first.address());
    let _ = client.terminate();
    found
}

#[test]
fn an_address_that_breaks_off_or_stalls_behind_tcp_goes_last_in_the_next_attempt() {
    assert_eq!(second_to(|_, stream| drop(stream), LONG), (2, false), "it breaks off");
    let silent = |_, mut stream: TcpStream| {
        while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {}
    };
    assert_eq!(second_to(silent, 1000 * MS), (2, false), "it stalls");
}

#[test]
fn an_address_that_answers_keeps_its_place_even_if_it_refuses() {
    let busy_at_first = |n, mut stream: TcpStream| {
        let head = read_head(&mut stream);
        if n == 0 {
            stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").unwrap();
        } else {
            stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
            while read_frame(&mut stream).is_some() {}
        }
    };
    assert_eq!(second_to(busy_at_first, LONG), (2, true));
}

#[test]
fn a_host_outside_ascii_is_looked_up_and_asked_for_in_punycode() {
    let (head_in, head) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, mut stream| {
        let request = read_head(&mut stream);
        stream.write_all(good_answer(&request, "").as_bytes()).unwrap();
        head_in.send(request).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let (asked_in, asked) = crossbeam_channel::unbounded();
    let address = server.address();
    let resolver = move |name: &str, _| {
        asked_in.send(name.to_owned()).unwrap();
        Ok(vec![address])
    };
    let client =
        Client::builder(config("ws://me:pw@bücher.example/x?y=z")).resolver(resolver).connect().unwrap();
    assert_eq!(asked.recv_timeout(LONG).unwrap(), "xn--bcher-kva.example");
    let head = head.recv_timeout(LONG).unwrap();
    assert!(head.contains("\r\nHost: xn--bcher-kva.example\r\n"), "{head}");
    let _ = client.terminate();
}

#[test]
fn a_name_is_looked_up_anew_for_each_attempt() {
    let (server, nobody) = (Server::echo(), Nobody::new());
    let (before, after) = (nobody.address(), server.address());
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let resolver = move |_: &str, _| Ok(vec![if count.fetch_add(1, SeqCst) < 2 { before } else { after }]);
    let client = Client::builder(config("ws://h")).resolver(resolver).start().unwrap();
    client.wait_ready(LONG).unwrap();
    assert_eq!((client.stats().attempts, calls.load(SeqCst)), (3, 3));
    let _ = client.terminate();
}

#[test]
fn a_look_up_that_an_attempt_left_behind_is_too_old_for_the_one_after_the_next() {
    let (server, nobody) = (Server::echo(), Nobody::new());
    let (old, new) = (nobody.address(), server.address());
    let (answer_in, answer) = crossbeam_channel::bounded::<()>(0);
    let (fetched_in, fetched) = crossbeam_channel::bounded::<()>(0);
    let (fetching_in, fetching) = crossbeam_channel::unbounded();
    let (lookups, requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let config = config("ws://h").connect_timeout(1000 * MS);
    let client = Client::builder(config)
        .resolver(move |_, _| {
            if lookups.fetch_add(1, SeqCst) > 0 {
                return Ok(vec![new]);
            }
            let _ = answer.recv();
            Ok(vec![old])
        })
        .fetch(move |request| {
            let n = requests.fetch_add(1, SeqCst);
            fetching_in.send(n).unwrap();
            if n == 1 {
                let _ = fetched.recv();
            }
            Ok(request)
        })
        .start()
        .unwrap();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let timed_out = || {
        let (reason, _) = wait_for(&client, disconnected);
        failures.lock().unwrap().push(reason);
    };
    // The look-up of the first attempt ends while the next one waits for it, whose fetch then hangs.
    timed_out();
    common::eventually("the second attempt", || client.stats().attempts > 1);
    drop(answer_in);
    while fetching.recv_timeout(LONG).unwrap() != 1 {}
    timed_out();
    let attempts = client.stats().attempts;
    common::eventually("the attempt after the next", || client.stats().attempts > attempts);
    drop(fetched_in);
    wait_for(&client, |event| match event {
        Event::Disconnected { reason, .. } => {
            failures.lock().unwrap().push(reason);
            None
        }
        Event::Connected { .. } => Some(()),
        _ => None,
    });
    for reason in &*failures.lock().unwrap() {
        assert!(matches!(reason, DisconnectReason::ConnectFailed(Error::ConnectTimeout { .. })), "{reason}");
    }
    let _ = client.terminate();
}
