//! The status: what stands behind the state.

use tautline::ConnectionState::{Closed, Closing, Connected};

use super::super::verbose::bytes;
use super::Session;

impl Session {
    pub(super) fn status(&self) -> String {
        let (line, read, received) = (self.client.status(), self.undelivered.accepted, self.tally.received);
        let (done, sent) = (&line.stats, line.stats.messages_written);
        let is_ending = self.tally.ended.is_some() && self.screen.has_prompt();
        let ending = if is_ending { "  ending (Ctrl-C: now)" } else { "" };
        let way = match line.next_attempt {
            Some(left) if self.screen.live => format!("  next try in {}s", left.as_secs() + 1),
            _ if line.suspended => "  suspended".into(),
            _ if line.state == Connected && !line.ready => "  logging in".into(),
            _ => format!("  rtt {:>7}", done.round_trip.map_or("-".into(), |time| format!("{time:.1?}"))),
        };
        // What is sent first on each connection has no ticket.
        let all = sent + done.connects * self.options.first.len() as u64;
        let mut status = ending.to_owned() + &way;
        if read > sent {
            status.extend(["  waiting ".into(), (read - sent).to_string()]);
            let is_closing = matches!(line.state, Closing | Closed);
            status.extend((!line.ready && !is_closing).then_some(", sent later"));
        }
        status.extend(["  sent ".into(), all.to_string(), "  received ".into(), received.to_string()]);
        let (out, back) = (done.compressed_written, done.compressed_read);
        let (before, after) = (out.before + back.before, out.after + back.after);
        if before > 0 {
            status.extend(["  ".into(), bytes(before), " as ".into(), bytes(after)]);
        }
        status
    }
}
