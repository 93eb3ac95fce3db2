//! What each connection begins with: the login, and what `--send` sends.

use tautline::{Context, Error, Handshake, JsonSession, Message, Protocol};

pub(crate) struct Opening {
    login: JsonSession,
    texts: Vec<Message>,
    is_sent: bool,
}

impl Opening {
    pub(crate) fn new(login: Option<JsonSession>, texts: Vec<Message>) -> Self {
        Self { login: login.unwrap_or_default(), texts, is_sent: false }
    }

    /// Before anything that was typed, and behind the login.
    fn begin(&mut self, cx: &mut Context<'_>) {
        if cx.is_ready() && !std::mem::replace(&mut self.is_sent, true) {
            self.texts.iter().for_each(|text| cx.send(text.clone()));
        }
    }
}

impl Protocol for Opening {
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.login)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Handshake) -> Result<(), Error> {
        self.is_sent = false;
        self.login.on_open(cx, accepted)?;
        self.begin(cx);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        self.login.on_message(cx, message)?;
        self.begin(cx);
        Ok(())
    }
}
