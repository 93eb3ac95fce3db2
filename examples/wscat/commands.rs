//! What can be typed at the prompt besides messages.

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Close { code: u16, reason: String },
    Ping,
    Reconnect,
    Suspend,
    Resume,
    Stats,
    Help,
}

const NAMES: [&str; 7] = ["/close", "/help", "/ping", "/reconnect", "/resume", "/stats", "/suspend"];

pub(crate) const HELP: &str = "\
/close [CODE [REASON]]  closes the line (code 1000), and ends
/ping                   sends a ping now, or tries now if the line is down
/reconnect              closes the connection, and opens another
/suspend, /resume       the same in two steps; what is typed between them waits
/stats                  shows what was counted
//TEXT                  sends /TEXT
Ctrl-D ends when all is sent and nothing came for 1 s.
Ctrl-C closes the line now; twice, it ends now.
";

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'l> {
    Command(Command),
    /// The text of a message.
    Text(&'l str),
}

/// Fails for a command that there is not.
pub(crate) fn parse(line: &str) -> Result<Meaning<'_>, String> {
    if line.starts_with("//") {
        return Ok(Meaning::Text(&line[1..]));
    }
    if !line.starts_with('/') {
        return Ok(Meaning::Text(line));
    }
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(Meaning::Command(match (name, rest.trim()) {
        ("/close", rest) => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let number = if code.is_empty() { Ok(1000) } else { code.parse() };
            let number = number.map_err(|_| format!("the code {code:?} is no number up to 65535: see /help"));
            Command::Close { code: number?, reason: reason.trim().to_owned() }
        }
        ("/ping", "") => Command::Ping,
        ("/reconnect", "") => Command::Reconnect,
        ("/suspend", "") => Command::Suspend,
        ("/resume", "") => Command::Resume,
        ("/stats", "") => Command::Stats,
        ("/help", "") => Command::Help,
        (name, _) if NAMES.contains(&name) => return Err(format!("{name} stands alone: see /help")),
        _ => return Err(format!("there is no command {line:?}: see /help; //… sends what begins with a /")),
    }))
}

/// The commands that a line may become.
pub(crate) fn beginning_with(line: &str) -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| line.starts_with('/') && name.starts_with(line)).collect()
}

/// What all of these begin with.
pub(crate) fn in_common(names: &[&'static str]) -> &'static str {
    let Some((first, others)) = names.split_first() else { return "" };
    let is_common = |end: &usize| others.iter().all(|name| name.starts_with(&first[..*end]));
    &first[..(0..=first.len()).rev().find(is_common).unwrap_or_default()]
}
