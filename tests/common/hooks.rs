//! A protocol made of closures, and a server that sends what a test gives it.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;

use super::{LONG, Server, accept, config};
use crossbeam_channel::{Receiver, Sender, unbounded};
use tautline::{
    Attempt, Client, Context, Error, Handshake, Loss, Message, Outgoing, Protocol, RequestId, Retry,
    UpgradeRequest,
};
use tungstenite::{Message as Raw, WebSocket};

pub type OnDown = Box<dyn FnMut(&Loss<'_>) -> Retry + Send>;
pub type Prepare = Box<dyn FnMut(&Attempt<'_>, &mut UpgradeRequest) + Send>;
pub type Hook<T> = Box<dyn FnMut(&mut Context<'_>, T) -> Result<(), Error> + Send>;

/// A protocol made of closures. Hooks that are not set have their defaults, and the line is ready when it is open.
#[derive(Default)]
pub struct Hooks {
    pub open: Option<Hook<()>>,
    pub text: Option<Hook<String>>,
    pub send: Option<Hook<Outgoing>>,
    pub control: Option<Hook<String>>,
    pub work: Option<Hook<Result<Message, Error>>>,
    pub timer: Option<Hook<u32>>,
    pub withdrawn: Option<Hook<RequestId>>,
    pub move_failed: Option<Hook<String>>,
    pub down: Option<OnDown>,
    pub prepare: Option<Prepare>,
}

#[expect(clippy::unnecessary_wraps, reason = "what a field of `Hooks` holds")]
pub fn hook<T>(mut f: impl FnMut(&mut Context<'_>, T) + Send + 'static) -> Option<Hook<T>> {
    Some(Box::new(move |cx, argument| {
        f(cx, argument);
        Ok(())
    }))
}

impl Protocol for Hooks {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        if let Some(prepare) = &mut self.prepare {
            prepare(attempt, request);
        }
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        if self.open.is_none() {
            cx.ready();
        }
        self.open.as_mut().map_or(Ok(()), |hook| hook(cx, ()))
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        if let Some(hook) = &mut self.text {
            return hook(cx, message.to_string());
        }
        cx.deliver(message);
        Ok(())
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        let text = format!("ping {}", String::from_utf8_lossy(payload));
        self.control.as_mut().map_or(Ok(()), |hook| hook(cx, text))
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        let text = format!("pong {}", String::from_utf8_lossy(payload));
        self.control.as_mut().map_or(Ok(()), |hook| hook(cx, text))
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        if let Some(hook) = &mut self.send {
            return hook(cx, outgoing);
        }
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        self.withdrawn.as_mut().map_or(Ok(()), |hook| hook(cx, request))
    }

    fn on_work(&mut self, cx: &mut Context<'_>, _: u32, result: Result<Message, Error>) -> Result<(), Error> {
        self.work.as_mut().map_or(Ok(()), |hook| hook(cx, result))
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        self.timer.as_mut().map_or(Ok(()), |hook| hook(cx, id))
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        self.move_failed.as_mut().map_or(Ok(()), |hook| hook(cx, error.to_string()))
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.down.as_mut().map_or_else(|| down.default_retry(), |on_down| on_down(down))
    }
}

pub fn connect(server: &Server, hooks: Hooks) -> Client {
    Client::builder(config(&server.url())).protocol(hooks).connect().unwrap()
}

/// A server that forwards what it receives, and sends what the test gives it. A connection ends when the next begins.
pub fn puppet() -> (Server, Sender<Raw>, Receiver<String>) {
    let (say, to_say) = unbounded::<Raw>();
    let (heard, hearing) = unbounded();
    let server = Server::start(move |_, stream: TcpStream| {
        let mut reader = accept(stream.try_clone().unwrap());
        let (to_say, heard) = (to_say.clone(), heard.clone());
        let (ended, end) = unbounded::<()>();
        let writer = thread::spawn(move || {
            let mut writer = WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Server, None);
            loop {
                crossbeam_channel::select! {
                    recv(to_say) -> said => match said {
                        Ok(said) => drop(writer.send(said)),
                        Err(_) => return,
                    },
                    recv(end) -> _ => return,
                }
            }
        });
        while let Ok(message) = reader.read() {
            match message {
                Raw::Text(text) => drop(heard.send(text.to_string())),
                Raw::Close(frame) => {
                    drop(heard.send(format!("close {:?}", frame.map(|f| u16::from(f.code)))));
                }
                _ => {}
            }
        }
        drop(ended);
        writer.join().unwrap();
    });
    (server, say, hearing)
}

pub fn next(heard: &Receiver<String>) -> String {
    heard.recv_timeout(LONG).expect("the server hears something")
}

/// Requests are answered in the order in which they were sent. `text` is an answer, `text…` a partial one, `!` ends the
/// answers, `?` fails.
pub fn in_order() -> Hooks {
    let open = Arc::new(Mutex::new(VecDeque::new()));
    let asked = Arc::clone(&open);
    let send = hook(move |cx: &mut Context<'_>, outgoing: Outgoing| {
        open.lock().unwrap().extend(outgoing.request);
        cx.send(outgoing.message);
    });
    let text = hook(move |cx: &mut Context<'_>, text: String| {
        let mut asked = asked.lock().unwrap();
        let Some(request) = asked.front().copied() else { return cx.deliver(text) };
        if text.ends_with('…') {
            return cx.answer_part(request, text);
        }
        asked.pop_front();
        match &*text {
            "!" => cx.end_request(request),
            "?" => cx.fail_request(request, Error::session("no more")),
            _ => cx.answer(request, text),
        }
    });
    let withdrawn = hook(|cx: &mut Context<'_>, _| cx.send("withdrawn"));
    Hooks { text, send, withdrawn, ..Hooks::default() }
}

/// Moves to `to` when the server says "move", and is ready there when the new server says "welcome".
pub fn mover(to: String) -> Hooks {
    let prepare: Option<Prepare> = Some(Box::new(move |attempt, request| {
        if attempt.moving {
            request.url.clone_from(&to);
        }
    }));
    let open = hook(|cx: &mut Context<'_>, ()| {
        if !cx.is_moving() {
            cx.ready();
        }
    });
    let text = hook(|cx: &mut Context<'_>, text: String| match &*text {
        "move" => cx.move_line(),
        "welcome" if cx.is_moving() => {
            cx.send("hello");
            cx.ready();
        }
        _ => cx.deliver(text),
    });
    let move_failed = hook(|cx: &mut Context<'_>, error: String| cx.deliver(error));
    Hooks { open, text, move_failed, prepare, ..Hooks::default() }
}
