//! A server that takes three messages in ten seconds, and throws out who sends more; beats are not counted.

use super::*;

#[derive(Default)]
struct Limited {
    sent: Vec<Duration>,
    asked: Vec<RequestId>,
}

impl Protocol for Limited {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        self.sent.clear();
        cx.set_timer(1, 4 * S);
        cx.ready();
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let now = cx.unix_time();
        self.sent.retain(|at| *at + 10 * S > now);
        self.sent.push(now);
        if self.sent.len() == 3 {
            cx.hold((self.sent[0] + 10 * S).saturating_sub(now));
        }
        self.asked.extend(outgoing.request);
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
        cx.set_timer(1, 4 * S);
        cx.send("beat");
        Ok(())
    }
}

/// What is heard of the application's each second, for so many.
fn each_second(line: &mut Line, seconds: u32) -> Vec<usize> {
    let heard = (0..seconds).map(|_| {
        line.step(S);
        line.heard().iter().filter(|text| *text != "beat").count()
    });
    heard.collect()
}

#[test]
fn a_limit_of_the_rate_holds_messages_and_requests_and_no_beats() {
    let mut line = opened(Limited::default());
    line.send("1");
    line.step(2 * S);
    for _ in 0..6 {
        line.send("x");
    }
    let asked = line.request("?");
    assert_eq!(line.heard().len(), 3);
    assert_eq!(each_second(&mut line, 20), [0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    assert!(line.answers(asked).is_empty() && !line.has_ended(asked));
    line.step(4 * S);
    assert_eq!(line.heard(), ["beat"]);
}

#[test]
fn a_hold_dies_with_the_connection_and_what_it_held_goes_out_on_the_next() {
    let mut line = opened(Limited::default());
    for n in 1..=5 {
        line.send(n.to_string());
    }
    let waits = line.request("?");
    assert_eq!(line.heard(), ["1", "2", "3"]);
    line.break_off();
    assert!(line.answers(waits).is_empty(), "it was not handed over yet");
    line.step(2 * S);
    line.open();
    assert_eq!(line.heard(), ["4", "5", "?"]);
    line.say("release");
    line.close_client();
    assert_eq!(line.state(), Closed);
}
