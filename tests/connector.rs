//! Streams that the application supplies, and Unix sockets.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use common::{LONG, MS, Server, eventually, quick, wait_for};
#[cfg(feature = "native-tls")]
use common::{tls_acceptor, tls_connector};
use tautline::{Client, DisconnectReason, Error, Event, Message, Stream};

fn to_tcp(
    server: &Server,
) -> impl Fn(&tautline::Destination<'_>) -> io::Result<Stream> + Send + Sync + 'static {
    let address = server.address();
    move |_| TcpStream::connect(address).map(Stream::from)
}

#[test]
fn a_connector_supplies_the_stream_of_each_attempt() {
    let server = Server::echo();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, address) = (Arc::clone(&asked), server.address());
    // Nobody knows this name: the connector alone says where it is.
    let client = Client::builder(quick("ws://device.internal:81/x"))
        .connector(move |to| {
            seen.lock().unwrap().push((to.host.to_owned(), to.port));
            TcpStream::connect(address).map(Stream::from)
        })
        .connect()
        .unwrap();
    assert_eq!(client.handshake().unwrap().address, None);
    for n in 1..=3 {
        client.send("hello").unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
        assert_eq!(*asked.lock().unwrap(), vec![("device.internal".to_owned(), 81); n]);
        server.cut();
        eventually("the next connection", || client.stats().connects == n as u64 + 1);
    }
    assert!(client.close().is_empty());
}

#[cfg(feature = "native-tls")]
#[test]
fn tls_goes_over_the_stream_of_a_connector() {
    let server = Server::start(|_, stream| {
        let mut socket = tungstenite::accept(tls_acceptor().accept(stream).unwrap()).unwrap();
        while let Ok(message) = socket.read() {
            drop(socket.send(message));
        }
    });
    let config = quick("wss://localhost:1").tls(tls_connector());
    let client = Client::builder(config).connector(to_tcp(&server)).connect().unwrap();
    let large = vec![7; 3 << 20];
    client.send(large.clone()).unwrap();
    assert!(client.recv_timeout(LONG).unwrap() == Message::from(large));
}

#[test]
fn the_error_of_a_connector_is_that_of_the_attempt_and_the_next_one_follows() {
    let server = Server::echo();
    let (calls, address) = (AtomicUsize::new(0), server.address());
    let client = Client::builder(quick("ws://device.internal:81"))
        .connector(move |_| match calls.fetch_add(1, SeqCst) {
            0 => Err(io::Error::other("the modem is off")),
            1 => panic!("a connector that panics"),
            _ => TcpStream::connect(address).map(Stream::from),
        })
        .start()
        .unwrap();
    let mut failures = Vec::new();
    wait_for(&client, |event| {
        if let Event::Disconnected { reason: DisconnectReason::ConnectFailed(error), .. } = &event {
            failures.push(error.to_string());
        }
        matches!(event, Event::Connected { .. }).then_some(())
    });
    assert_eq!(
        failures,
        [
            "connecting to device.internal:81: the application's connector failed: the modem is off",
            "the application's connector callback panicked"
        ]
    );
}

#[test]
fn a_connector_that_does_not_return_is_left_behind_and_named() {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let config = quick("ws://device.internal:81").connect_timeout(50 * MS);
    let builder = Client::builder(config).connector(move |_| {
        let _ = held.recv();
        Err(io::ErrorKind::Interrupted.into())
    });
    let error = builder.connect().unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "connecting to device.internal:81 timed out after 50ms while waiting for the connection: the application's \
         connector has not returned"
    );
    drop(release);
}

#[test]
fn a_blocking_stream_is_made_non_blocking_so_that_an_end_has_its_bound() {
    // It reads the request, and never answers.
    let (asked_in, asked) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, mut stream| {
        drop(asked_in.send(common::read_head(&mut stream)));
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    let client =
        Client::builder(quick("ws://device.internal:81")).connector(to_tcp(&server)).start().unwrap();
    asked.recv_timeout(LONG).unwrap();
    let left = client.terminate();
    assert_eq!(left.still_inside, None);
}

#[cfg(unix)]
mod unix {
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Instant;

    use tautline::{ConnectionConfig, NetworkConfig, Proxy};
    use tungstenite::WebSocket;
    use tungstenite::protocol::Role;

    use super::*;
    use crate::common::disconnected;

    /// A server on a Unix socket in a folder of its own, which lives as long as the test.
    struct Socket {
        folder: PathBuf,
    }

    impl Socket {
        fn new(name: &str) -> Self {
            common::watchdog::watch();
            let folder = std::env::temp_dir().join(format!("tautline-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self { folder }
        }

        fn path(&self) -> PathBuf {
            self.folder.join("app.sock")
        }

        fn url(&self, resource: &str) -> String {
            format!("ws+unix:{}:{resource}", self.path().display())
        }

        /// Answers every message with itself, on one connection after the other. The first message names the resource.
        fn echo(&self) {
            let listener = UnixListener::bind(self.path()).unwrap();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    serve(stream.unwrap());
                }
            });
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn serve(mut stream: UnixStream) {
        let head = common::read_head(&mut stream);
        // Somebody may have connected and said nothing.
        if head.is_empty() || stream.write_all(common::good_answer(&head, "").as_bytes()).is_err() {
            return;
        }
        let resource = head.split(' ').nth(1).unwrap_or_default();
        let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default();
        let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
        drop(socket.send(format!("{host} {resource}").into()));
        while let Ok(message) = socket.read() {
            if message.to_text().is_ok_and(|text| text == "end") {
                return;
            }
            if message.is_text() || message.is_binary() {
                drop(socket.send(message));
            }
        }
    }

    #[test]
    fn a_unix_socket_is_reached_by_its_url_and_again_after_a_loss() {
        let socket = Socket::new("again");
        socket.echo();
        let client = Client::connect(quick(&socket.url("/feed?x=1"))).unwrap();
        assert_eq!(client.handshake().unwrap().address, None);
        for n in 1..=3_u64 {
            assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("localhost /feed?x=1"));
            // More than the socket's buffer holds.
            let large = vec![7; 3 << 20];
            client.send(large.clone()).unwrap();
            assert!(client.recv_timeout(LONG).unwrap() == Message::from(large));
            client.send("end").unwrap();
            eventually("the next connection", || client.stats().connects == n + 1);
        }
        assert!(client.close().is_empty());
    }

    #[test]
    fn neither_a_proxy_nor_the_network_nor_a_connector_concerns_a_unix_socket() {
        let (socket, nobody) = (Socket::new("straight"), common::Nobody::new());
        socket.echo();
        let network = NetworkConfig::default().local_address([192, 0, 2, 1].into());
        let proxy = Proxy::new(nobody.address().to_string());
        let config = quick(&socket.url("/")).proxy(proxy).network(network);
        let builder = Client::builder(config).connector(|to| panic!("it was to connect to {}", to.host));
        let client = builder.connect().unwrap();
        assert!(client.recv_timeout(LONG).is_ok());
        assert!(client.close().is_empty());
    }

    #[test]
    fn a_unix_socket_that_is_not_there_yet_is_found_when_it_is() {
        let socket = Socket::new("not-yet");
        let error = Client::connect(socket.url("/")).unwrap_err();
        let shown = format!("connecting to unix:{}: No such file or directory", socket.path().display());
        assert!(error.to_string().starts_with(&shown), "{error}");
        assert!(error.to_string().ends_with("; check the path, and that the server runs"), "{error}");
        let client = Client::start(quick(&socket.url("/"))).unwrap();
        let (reason, _) = wait_for(&client, disconnected);
        assert!(reason.to_string().starts_with(&shown), "{reason}");
        socket.echo();
        client.wait_ready(LONG).unwrap();
    }

    #[test]
    fn a_unix_socket_where_nobody_listens_says_so() {
        let socket = Socket::new("nobody");
        drop(std::os::unix::net::UnixListener::bind(socket.path()).unwrap());
        let error = Client::connect(socket.url("/")).unwrap_err().to_string();
        let begin = format!("connecting to unix:{}: ", socket.path().display());
        assert!(
            error.starts_with(&begin) && error.ends_with("; check that the server runs and listens there"),
            "{error}"
        );
    }

    #[test]
    fn the_path_of_a_unix_socket_has_its_longest_length_and_a_longer_one_is_refused_at_once() {
        let socket = Socket::new("long");
        // The longest path that the system takes, beginning with a short one.
        let base = socket.path().display().to_string();
        let path = |length: usize| format!("{base}{}", "x".repeat(length - base.len()));
        let longest = (base.len()..200)
            .take_while(|length| std::os::unix::net::SocketAddr::from_pathname(path(*length)).is_ok())
            .last()
            .unwrap();
        let fits = Client::connect(format!("ws+unix:{}", path(longest))).unwrap_err();
        assert!(matches!(fits, Error::Connect { .. }), "{fits:?}");
        let error = Client::start(format!("ws+unix:{}", path(longest + 1))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the URL can't be used: the path of its socket has {} bytes; this system takes {longest} at most",
                longest + 1
            )
        );
    }

    #[test]
    fn a_unix_socket_without_room_is_tried_until_there_is_some() {
        let socket = Socket::new("room");
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(socket.path()).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let listener = UnixListener::from(std::os::fd::OwnedFd::from(listener));
        let first = UnixStream::connect(socket.path()).unwrap();
        let client = Client::start(ConnectionConfig::new(socket.url("/")).connect_timeout(LONG)).unwrap();
        eventually("the attempt", || client.stats().attempts == 1);
        drop(first);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap());
            }
        });
        client.wait_ready(LONG).unwrap();
        assert_eq!(client.stats().attempts, 1, "one attempt waits for the room");
        assert!(client.close().is_empty());
    }

    /// Has a descriptor, and is no socket of the standard library's.
    struct Own {
        stream: UnixStream,
        _alive: Arc<()>,
    }

    impl AsFd for Own {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.stream.as_fd()
        }
    }

    impl Read for Own {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // In small pieces, as a terminal would.
            let most = buffer.len().min(100);
            self.stream.read(&mut buffer[..most])
        }
    }

    impl Write for Own {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.stream.write(&bytes[..bytes.len().min(100)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn anything_with_a_descriptor_is_a_stream_and_is_dropped_with_its_connection() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let client = Client::builder(quick("ws://device.internal/x"))
            .connector(move |_| {
                let (ours, theirs) = UnixStream::pair()?;
                thread::spawn(move || serve(theirs));
                Ok(Stream::new(Own { stream: ours, _alive: Arc::clone(&held) }))
            })
            .connect()
            .unwrap();
        for n in 1..=3_u64 {
            assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("device.internal /x"));
            let large = vec![7; 300_000];
            client.send(large.clone()).unwrap();
            assert!(client.recv_timeout(LONG).unwrap() == Message::from(large));
            client.send("end").unwrap();
            eventually("the next connection", || client.stats().connects == n + 1);
            assert_eq!(Arc::strong_count(&alive), 3, "one is open, and one is the connector's");
        }
        assert!(client.close().is_empty());
        eventually("the end of the stream", || Arc::strong_count(&alive) == 1);
    }

    /// Behaves until it is told not to.
    struct Odd {
        stream: UnixStream,
        does: &'static str,
        told: Arc<AtomicBool>,
    }

    impl AsFd for Odd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.stream.as_fd()
        }
    }

    impl Read for Odd {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.stream.read(buffer)?;
            match self.does {
                "panics" if self.told.load(SeqCst) => panic!("a stream that panics"),
                "counts more" if self.told.load(SeqCst) => Ok(buffer.len() + 1),
                _ => Ok(read),
            }
        }
    }

    impl Write for Odd {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let written = self.stream.write(bytes)?;
            let wrong = self.does == "counts more written" && self.told.load(SeqCst);
            Ok(written + usize::from(wrong))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Odd {
        fn drop(&mut self) {
            assert!(self.does != "panics when dropped", "a stream that panics when it is dropped");
        }
    }

    #[test]
    fn what_a_stream_does_wrong_breaks_its_connection_and_nothing_else() {
        for (does, says) in [
            ("panics", "the connection broke: the stream of the connector panicked"),
            ("counts more", "the connection broke: the stream of the connector returned"),
            ("counts more written", "the connection broke: the stream of the connector returned"),
            ("panics when dropped", "the server ended the connection"),
        ] {
            let told = Arc::new(AtomicBool::new(false));
            let (tell, attempts) = (Arc::clone(&told), AtomicUsize::new(0));
            let client = Client::builder(quick("ws://device.internal/x"))
                .connector(move |_| {
                    let (ours, theirs) = UnixStream::pair()?;
                    thread::spawn(move || serve(theirs));
                    // Only the first is odd.
                    let does = if attempts.fetch_add(1, SeqCst) == 0 { does } else { "behaves" };
                    Ok(Stream::new(Odd { stream: ours, does, told: Arc::clone(&told) }))
                })
                .connect()
                .unwrap();
            assert!(client.recv_timeout(LONG).is_ok());
            tell.store(true, SeqCst);
            client.send("end").unwrap();
            let (reason, _) = wait_for(&client, disconnected);
            assert!(reason.to_string().starts_with(says), "{does}: {reason}");
            client.wait_ready(LONG).unwrap();
            let left = client.terminate();
            assert!(!left.unfinished && left.still_inside.is_none(), "{does}: {left:?}");
        }
    }

    /// Blocks in one of its calls until the other end of the channel is dropped.
    struct Blocking {
        stream: UnixStream,
        blocks: &'static str,
        until: crossbeam_channel::Receiver<()>,
    }

    impl Blocking {
        fn pass(&self, call: &str) {
            if self.blocks == call {
                let _ = self.until.recv();
            }
        }
    }

    impl AsFd for Blocking {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.stream.as_fd()
        }
    }

    impl Read for Blocking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.pass("read");
            if self.blocks == "drop" {
                // It is dropped where it has failed.
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.stream.read(buffer)
        }
    }

    impl Write for Blocking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.pass("write");
            self.stream.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Blocking {
        fn drop(&mut self) {
            self.pass("drop");
        }
    }

    #[test]
    fn a_stream_that_blocks_delays_neither_the_end_of_its_attempt_nor_a_failed_connect() {
        let timeout = 50 * MS;
        for blocks in ["read", "write", "drop"] {
            let attempt = |connects: bool| {
                let (release, until) = crossbeam_channel::bounded::<()>(0);
                let builder = Client::builder(quick("ws://device.internal/x").connect_timeout(timeout))
                    .connector(move |_| {
                        let (ours, theirs) = UnixStream::pair()?;
                        thread::spawn(move || serve(theirs));
                        Ok(Stream::new(Blocking { stream: ours, blocks, until: until.clone() }))
                    });
                let start = Instant::now();
                if connects {
                    let error = builder.connect().unwrap_err();
                    assert!(matches!(error, Error::ConnectTimeout { .. }), "{blocks}: {error}");
                    return start.elapsed();
                }
                let client = builder.start().unwrap();
                let (reason, _) = wait_for(&client, disconnected);
                let took = start.elapsed();
                assert!(
                    matches!(reason, DisconnectReason::ConnectFailed(Error::ConnectTimeout { .. })),
                    "{blocks}: {reason}"
                );
                drop(release);
                took
            };
            // The machine may be busy, but not each time.
            let shortest = |connects| (0..3).map(|_| attempt(connects)).min().unwrap_or_default();
            assert!(shortest(false) < timeout + 300 * MS, "{blocks}: {:?}", shortest(false));
            assert!(shortest(true) <= timeout + 1050 * MS, "{blocks}: {:?}", shortest(true));
        }
    }

    #[test]
    fn a_stream_that_the_system_can_not_wait_for_is_refused() {
        struct File(std::fs::File);
        impl AsFd for File {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        impl Read for File {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Write for File {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let socket = Socket::new("file");
        let path = socket.folder.join("file");
        let error = Client::builder("ws://device.internal/x")
            .connector(move |_| std::fs::File::create(&path).map(|file| Stream::new(File(file))))
            .connect()
            .unwrap_err();
        let says = "connecting to device.internal:80: the system can't wait for the stream of the application's connector: ";
        assert!(error.to_string().starts_with(says), "{error}");
    }
}
