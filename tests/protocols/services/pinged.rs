//! A server whose pings are messages, and the only thing that counts as a sign of life; it refuses with a message, and
//! leaves the connection open.

use super::*;

#[derive(Default)]
struct Pinged(Duration);

impl Protocol for Pinged {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let Some(text) = message.as_text() else { return Ok(()) };
        if text == "2" {
            cx.send("3");
            cx.set_timer(1, self.0);
        } else if let Some(open) = text.strip_prefix('0') {
            let open: Value = serde_json::from_str(open)?;
            let ms = |field: &str| open[field].as_u64().unwrap_or_default();
            self.0 = Duration::from_millis(ms("pingInterval") + ms("pingTimeout"));
            cx.set_timer(1, self.0);
            cx.send("40");
        } else if text.starts_with("40") {
            cx.ready();
        } else if text.starts_with("44") {
            cx.stop(Error::login_refused(text));
        } else {
            cx.deliver(message);
        }
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: u32) -> Result<(), Error> {
        Err(Error::session("the server pings no more"))
    }

    fn on_down(&mut self, _: &Loss<'_>) -> Retry {
        Retry::Backoff // close codes say nothing
    }
}

fn pinged() -> Line {
    let mut line = opened(Pinged::default());
    line.say(r#"0{"pingInterval":25000,"pingTimeout":20000}"#);
    assert_eq!(line.heard(), ["40"]);
    line
}

#[test]
fn only_the_servers_ping_counts() {
    let mut line = pinged();
    line.say("40{}");
    for _ in 0..5 {
        line.step(44 * S);
        line.say("2");
        assert_eq!(line.heard(), ["3"]);
    }
    for _ in 0..44 {
        line.step(S);
        line.say("42[\"busy\"]");
        line.ping("websocket");
    }
    assert_eq!(line.state(), Authenticated);
    line.step(S);
    assert_eq!(trouble(&line), "the session can't go on: the server pings no more");
    assert_eq!(line.messages().len(), 44);
    // The next connection has a time of its own.
    line.step(2 * S);
    line.open();
    line.step(9 * S);
    assert_eq!(line.state(), Connected);
}

#[test]
fn a_refusal_that_leaves_the_connection_open_ends_the_client() {
    let mut line = pinged();
    line.say("44{\"message\":\"no\"}");
    assert_eq!((line.state(), line.goodbye().map(|frame| frame.code)), (Closed, Some(1000)));
    assert!(trouble(&line).contains("44{"), "{}", trouble(&line));
    let mut line = pinged();
    line.say("40{}");
    line.close(1000, "");
    assert!(line.next_attempt().is_some(), "a code that says nothing");
}
