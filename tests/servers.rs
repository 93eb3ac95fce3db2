//! Several servers: one of them dies, refuses, or names others.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::error::Error as _;
use std::sync::{Arc, Mutex};

use common::{LONG, MS, Nobody, Server, accept, answer, disconnected, echo, wait_for};
use tautline::{
    Attempt, Client, ConnectionConfig, Context, DisconnectReason, Error, Event, Handshake, Message, Protocol,
    ReconnectConfig, UpgradeRequest,
};

fn list<const N: usize>(urls: [String; N]) -> ConnectionConfig {
    let reconnect = ReconnectConfig::default().initial_delay(MS).max_delay(20 * MS);
    ConnectionConfig::from(urls).reconnect(reconnect)
}

/// Waits for the next connection. Returns the port of its server.
fn port(client: &Client) -> u16 {
    wait_for(client, |event| match event {
        Event::Connected { handshake, .. } => handshake.address.map(|address| address.port()),
        _ => None,
    })
}

#[test]
fn when_one_server_dies_the_line_goes_on_at_the_other() {
    let servers = [Server::echo(), Server::echo()];
    let client = Client::connect(list([servers[0].url(), servers[1].url()])).unwrap();
    assert_eq!(port(&client), servers[0].address().port());
    let [first, second] = servers;
    drop(first);
    client.send("to the other").unwrap();
    assert_eq!(port(&client), second.address().port());
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("to the other"));
    assert!(client.close().is_empty());
}

#[test]
fn when_all_servers_are_dead_the_first_that_comes_back_is_found() {
    let nobodies = [Nobody::new(), Nobody::new()];
    let client = Client::start(list([nobodies[0].url(), nobodies[1].url()])).unwrap();
    let hosts: Vec<_> = (0..4)
        .map(|_| match wait_for(&client, disconnected).0 {
            DisconnectReason::ConnectFailed(Error::Connect { host, .. }) => host.to_string(),
            other => panic!("{other}"),
        })
        .collect();
    let [first, second] = nobodies;
    let (one, two) = (first.address().to_string(), second.address().to_string());
    assert_eq!(hosts, [&*one, &two, &one, &two]);
    let back = Server::start_on(second.listen(), |_, stream| echo(accept(stream)));
    assert_eq!(port(&client), back.address().port());
    let _ = client.terminate();
}

#[test]
fn a_server_that_refuses_does_not_keep_connect_from_the_next() {
    let refuses = Server::start(|_, stream| {
        answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")(stream);
    });
    let accepts = Server::echo();
    let client = Client::connect(list([refuses.url(), accepts.url()])).unwrap();
    assert_eq!(client.stats().attempts, 2);
    assert!(client.close().is_empty());
}

#[test]
fn connect_names_the_failure_of_each_server() {
    let refuses = Server::start(|_, stream| {
        answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")(stream);
    });
    let nobody = Nobody::new();
    let error = Client::connect(list([refuses.url(), nobody.url()])).unwrap_err();
    let text = error.to_string();
    let (first, second) = (refuses.address(), nobody.address());
    assert!(text.starts_with(&format!("all 2 servers failed: (1) {first} answered 403")), "{text}");
    assert!(text.contains(&format!("; (2) connecting to {second}: ")), "{text}");
    assert!(error.source().is_none(), "the text says it all");
    let Error::AllServersFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(&failures[1], (_, Error::Connect { .. })));
}

#[test]
fn each_server_has_a_whole_connect_timeout() {
    let silent = Nobody::new().listen();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let (gone, server) = (Nobody::new(), Server::echo());
    let config = list([url.clone(), url + "/again", gone.url(), server.url()]);
    let client = Client::connect(config.connect_timeout(500 * MS)).unwrap();
    assert_eq!(client.stats().attempts, 4, "two that were silent, one that was gone");
    let _ = client.terminate();
}

/// Takes a message as the list of servers, and notes the URLs that it is asked to prepare.
struct Listed(Arc<Mutex<Vec<String>>>);

impl Protocol for Listed {
    fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        self.0.lock().unwrap().push(request.url.clone());
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        cx.set_servers(message.as_text().unwrap_or_default().split_whitespace());
        cx.deliver(message);
        Ok(())
    }
}

#[test]
fn a_server_names_the_one_that_follows_it() {
    let (first, gone, second) = (Server::echo(), Nobody::new(), Server::echo());
    let prepared = Arc::new(Mutex::new(Vec::new()));
    let fetched = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&fetched);
    let client = Client::builder(list([first.url(), gone.url()]))
        .protocol(Listed(Arc::clone(&prepared)))
        .fetch(move |request| {
            asked.lock().unwrap().push(request.url.clone());
            Ok(request)
        })
        .connect()
        .unwrap();
    client.send(format!("{} {} {}", first.url(), second.url(), gone.url())).unwrap();
    client.recv_timeout(LONG).unwrap();
    first.cut();
    assert_eq!(port(&client), second.address().port());
    let expected = vec![first.url(), second.url()];
    assert_eq!((&*prepared.lock().unwrap(), &*fetched.lock().unwrap()), (&expected, &expected));
    let _ = client.terminate();
}

#[test]
fn a_list_that_cannot_be_used_ends_the_connection_with_a_clear_text() {
    let server = Server::echo();
    let client = Client::builder(list([server.url(), server.url() + "/other"]))
        .protocol(Listed(Arc::default()))
        .connect()
        .unwrap();
    client.send("ws://user:s3cret@h:0").unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    let text = reason.to_string();
    let says = "the protocol's list of servers can't be used: the URL of server 1 of 1: its port is not";
    assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
    let _ = client.terminate();
}
