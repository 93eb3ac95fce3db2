//! When the line has a connection: now, anew, or not for a while.

use crate::client::Client;
use crate::shared::Command;

impl Client {
    /// Skips the wait for the next attempt: the client tries at once. Never blocks.
    ///
    /// On an open line it sends a heartbeat at once, so that a dead peer is noticed within the heartbeat's timeout.
    /// While an attempt is under way it does nothing.
    ///
    /// Meant for programs that learn that the network is back or has changed.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.reconnect_now();
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn reconnect_now(&self) {
        self.line.command(Command::ReconnectNow);
    }

    /// Replaces the connection: closes it and dials at once. Never blocks. Meant for programs that learn that their network
    /// has changed, or that want the server to see a new login.
    ///
    /// The connection is closed with code 1001, and the server has up to 1 s to confirm what was sent and to answer the
    /// close. Then [`Event::Disconnected`](crate::Event::Disconnected) follows, with
    /// [`DisconnectReason::ByCaller`](crate::DisconnectReason::ByCaller), and an attempt without a delay. What waits in the
    /// outbox is sent on the new connection.
    ///
    /// With several [servers](field@crate::ConnectionConfig::servers), the next one is tried. On a line that is not open it
    /// does what [`reconnect_now`](Self::reconnect_now) does. On a suspended or closing line it does nothing: several calls
    /// at once have the effect of one. A move under way is cancelled without a call of
    /// [`on_move_failed`](crate::Protocol::on_move_failed). The call only asks, as that of [`suspend`](Self::suspend) does.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use std::time::Duration;
    /// # let client = tautline::Client::connect(&url)?;
    /// client.reconnect();
    /// client.send("after the change")?; // waits until the new connection is ready
    /// # client.flush(Duration::from_secs(3))?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn reconnect(&self) {
        self.line.command(Command::Reconnect);
    }

    /// Takes the line down until [`resume`](Self::resume): no attempt is made. Never blocks. Meant for programs that are
    /// offline, on battery, or in the background.
    ///
    /// An open connection is closed with code 1001, within `close_timeout`; a ping asks before whether what was sent has
    /// arrived. [`Event::Disconnected`](crate::Event::Disconnected) follows, with
    /// [`DisconnectReason::ByCaller`](crate::DisconnectReason::ByCaller) and without a next attempt. An attempt under way is
    /// abandoned, and a planned one is cancelled. The state is then DISCONNECTED.
    ///
    /// Messages in the outbox stay there, and new ones join them, as on any line that is down: see
    /// [`while_down`](crate::ConnectionConfig::while_down) and [`max_age`](crate::ConnectionConfig::max_age). Requests that
    /// the server has not answered fail. The client can be closed as ever. A line that is suspended stays so if it is
    /// suspended again, and after [`reconnect`](Self::reconnect) and [`reconnect_now`](Self::reconnect_now).
    ///
    /// The call only asks: for a moment the line is still ready and accepts more. What is sent just before or after it may
    /// stay in the outbox, and a message [for this connection](crate::SendOptions::this_connection) is then never sent, and
    /// named by [`Event::Expired`](crate::Event::Expired). Call [`flush`](Self::flush) first to have everything written. A
    /// `resume` that follows at once may cancel the suspension before it has begun.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use std::time::Duration;
    /// # let client = tautline::Client::connect(&url)?;
    /// client.suspend();
    /// client.send("kept")?; // stays in the outbox
    /// client.resume();
    /// client.flush(Duration::from_secs(3))?; // the message has been written
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn suspend(&self) {
        self.line.command(Command::Suspend);
    }

    /// Ends a [`suspend`](Self::suspend): an attempt follows at once, or as soon as the old connection is closed. Never
    /// blocks. On a line that is not suspended it does nothing.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use std::time::Duration;
    /// # let client = tautline::Client::connect(&url)?;
    /// client.suspend();
    /// client.resume();
    /// client.wait_ready(Duration::from_secs(5))?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn resume(&self) {
        self.line.command(Command::Resume);
    }
}
