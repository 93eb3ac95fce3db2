//! A server that wants to hear something within a time, and asks nothing itself; binary, with a goodbye.

use super::*;

struct IdleOnSend;

const CONNECT: [u8; 2] = [0x10, 0];
const CONNECTED: [u8; 4] = [0x20, 2, 0, 0];
const PING: [u8; 2] = [0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];
const GOODBYE: [u8; 2] = [0xE0, 0];
const KEEP_ALIVE: u32 = 1;
const ANSWER: u32 = 2;

impl Protocol for IdleOnSend {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.send(CONNECT);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_bytes() {
            [0x20, 2, _, 0] => {
                cx.set_timer(KEEP_ALIVE, 20 * S);
                cx.ready();
            }
            [0x20, 2, _, code] => return Err(Error::login_refused(format!("code {code}"))),
            [0xD0, 0] => cx.cancel_timer(ANSWER),
            _ => cx.deliver(message),
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        cx.set_timer(KEEP_ALIVE, 20 * S);
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        if id == ANSWER {
            return Err(Error::session("no answer to a ping"));
        }
        cx.set_timer(KEEP_ALIVE, 20 * S);
        cx.set_timer(ANSWER, 10 * S);
        cx.send(PING);
        Ok(())
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(GOODBYE);
        Ok(())
    }
}

fn bytes(line: &mut Line) -> Vec<Vec<u8>> {
    line.heard_messages().iter().map(|message| message.as_bytes().to_vec()).collect()
}

#[test]
fn who_sends_need_not_ping() {
    let mut line = opened(IdleOnSend);
    line.say(CONNECTED);
    assert_eq!(bytes(&mut line), [CONNECT]);
    for _ in 0..10 {
        line.step(19 * S);
        line.send([1]);
        line.say([2]);
    }
    assert_eq!(bytes(&mut line), [[1]; 10]);
    line.step(20 * S);
    assert_eq!(bytes(&mut line), [PING], "what was heard does not count");
    line.say(PONG);
    line.step(20 * S);
    assert_eq!((bytes(&mut line), line.state()), (vec![PING.to_vec()], Authenticated));
    line.step(10 * S);
    assert_eq!(trouble(&line), "the session can't go on: no answer to a ping");
}

#[test]
fn the_goodbye_follows_what_was_sent() {
    let mut line = opened(IdleOnSend);
    line.say(CONNECTED);
    line.stall();
    line.send([1]);
    line.close_client();
    line.step(S);
    line.resume();
    assert_eq!(bytes(&mut line), [&CONNECT[..], &[1], &GOODBYE]);
    let mut line = opened(IdleOnSend);
    line.say([0x20, 2, 0, 5]);
    assert_eq!((line.state(), trouble(&line).as_str()), (Closed, "the server refused the login: code 5"));
}
