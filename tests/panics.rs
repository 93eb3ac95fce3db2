//! Code of the application that panics, with a value whose drop panics, too.

mod common;

use std::panic::panic_any;
use std::sync::Arc;

use common::hooks::{Hooks, hook};
use common::{LONG, Server, loopback, quick};
use crossbeam_channel::Receiver;
use tautline::{Builder, Client, CloseReason, Error};

/// What it panics with.
struct Again;

impl Drop for Again {
    fn drop(&mut self) {
        panic_any(Again);
    }
}

/// Code that panics at one place, once the test says so.
#[derive(Clone)]
struct Code(Arc<(&'static str, Receiver<()>)>);

impl Code {
    fn pass(&self, place: &str) {
        if self.0.0 == place {
            let _ = self.0.1.recv_timeout(LONG);
            panic_any(Again);
        }
    }
}

struct Dropped(Code, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.pass(self.1);
    }
}

/// A line that is never ready, so that what was sent stays.
fn protocol(code: &Code) -> Hooks {
    let [prepare, open, work] = [(); 3].map(|()| code.clone());
    let dropped = Dropped(code.clone(), "drop of the protocol");
    Hooks {
        prepare: Some(Box::new(move |_, _| prepare.pass("prepare"))),
        open: hook(move |cx, ()| {
            let _ = &dropped;
            open.pass("on_open");
            let work = work.clone();
            cx.work(1, move || {
                work.pass("work");
                Ok("done".into())
            });
        }),
        work: Some(Box::new(|_, done| done.map(drop))),
        ..Hooks::default()
    }
}

fn builder(server: &Server, code: &Code) -> Builder {
    let [begins, ends, resolver, fetch, ready] = [(); 5].map(|()| code.clone());
    let dropped = Dropped(code.clone(), "drop of a callback");
    Client::builder(quick(&server.url().replace("127.0.0.1", "h")))
        .on_thread_start(move |thread| begins.pass(&format!("on_thread_start on {thread}")))
        .on_thread_end(move |thread| ends.pass(&format!("on_thread_end on {thread}")))
        .resolver(move |host, port| {
            resolver.pass("resolver");
            loopback(host, port)
        })
        .fetch(move |request| {
            fetch.pass("fetch");
            Ok(request)
        })
        .on_event_ready(move || {
            let _ = &dropped;
            ready.pass("on_event_ready");
        })
        .protocol(protocol(code))
}

/// Where it panics, and what the client is closed over. An attempt that fails is followed by another, and a job is the protocol's, which hears of it.
const PLACES: [(&str, Option<&str>); 14] = [
    ("prepare", Some("protocol")),
    ("on_open", Some("protocol")),
    ("work", None),
    ("on_event_ready", Some("on_event_ready")),
    ("resolver", None),
    ("fetch", None),
    ("on_thread_start on tautline-io", Some("on_thread_start")),
    ("on_thread_start on tautline-dial", None),
    ("on_thread_start on tautline-work", None),
    ("on_thread_end on tautline-io", None),
    ("on_thread_end on tautline-dial", None),
    ("on_thread_end on tautline-work", None),
    ("drop of the protocol", None),
    ("drop of a callback", None),
];

#[test]
fn a_panic_whose_value_panics_loses_nothing_wherever_it_is() {
    let server = Server::echo();
    for (place, over) in PLACES {
        let (go, waits) = crossbeam_channel::bounded(2);
        let client = builder(&server, &Code(Arc::new((place, waits)))).start().unwrap();
        client.send("kept").unwrap();
        go.send(()).unwrap();
        drop(go);
        if let Some(over) = over {
            let reason = client.wait_closed_timeout(LONG).unwrap();
            let CloseReason::Failed(Error::Panicked { callback, .. }) = reason else { panic!("{reason:?}") };
            assert_eq!(callback, over, "{place}");
        }
        let left = client.terminate();
        let texts: Vec<_> = left.never_written.iter().map(|(_, message)| message.as_text()).collect();
        assert_eq!(texts, [Some("kept")], "{place}");
        assert_eq!(left.still_inside, None, "{place}");
    }
}
