//! The example `wscat` on a terminal: what a server can do to it, and what a typed line means.

use tautline::Message;

use crate::wscat::commands::{Command, Meaning, parse};
use crate::wscat::json::in_one_line;
use crate::wscat::options::Options;
use crate::wscat::output::print;
use crate::wscat::terminal::is_wild;

/// What is printed of a message on a terminal, or where there is none.
fn printed(flag: Option<&str>, message: impl Into<Message>, tame: bool) -> String {
    let args = flag.into_iter().chain(["ws://h"]).map(Into::into);
    let mut out = Vec::new();
    print(&mut out, &message.into(), &Options::parse(args).unwrap().unwrap().shape, tame).unwrap();
    String::from_utf8(out).unwrap()
}

/// All that a server may hide behind, one of each kind at least; and what it may say.
const WILD: [char; 52] = [
    '\0',
    '\x07',
    '\x08',
    '\x0B',
    '\r',
    '\x1B',
    '\x1F',
    '\x7F',
    '\u{80}',
    '\u{84}',
    '\u{85}',
    '\u{90}',
    '\u{9B}',
    '\u{9D}',
    '\u{9F}',
    '\u{AD}',
    '\u{34F}',
    '\u{61C}',
    '\u{115F}',
    '\u{1160}',
    '\u{17B4}',
    '\u{180B}',
    '\u{180E}',
    '\u{200B}',
    '\u{200C}',
    '\u{200D}',
    '\u{200E}',
    '\u{200F}',
    '\u{2028}',
    '\u{2029}',
    '\u{202A}',
    '\u{202B}',
    '\u{202C}',
    '\u{202D}',
    '\u{202E}',
    '\u{2060}',
    '\u{2064}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{206F}',
    '\u{3164}',
    '\u{FEFF}',
    '\u{FFA0}',
    '\u{FFF9}',
    '\u{FFFB}',
    '\u{1D173}',
    '\u{E0001}',
    '\u{E0041}',
    '\u{E007F}',
    '\u{E0100}',
];
const HARMLESS: &str =
    "az ~|é e\u{301} ß → 漢字 한글 नमस्ते ไทย עברית مرحبا 👍 ❤\u{FE0F} 🇩🇪 \u{A0}\u{2003}\u{2013}\u{FFFD}";

#[test]
fn what_a_terminal_obeys_or_hides_is_wild_and_what_it_shows_is_not() {
    for c in WILD {
        assert!(is_wild(c), "{c:?}");
    }
    assert!(!HARMLESS.contains(is_wild));
    assert!((0..0x20).chain(0x7F..0xA0).filter_map(char::from_u32).all(is_wild), "all of C0, DEL and C1");
    assert_eq!(('\0'..='\u{10FFFF}').filter(|c| is_wild(*c)).count(), 4_228, "and nothing by mistake");
}

#[test]
fn on_a_terminal_a_message_is_text_and_nothing_else() {
    for c in WILD {
        let text = format!("{HARMLESS}{c}z\n\t{c}");
        assert_eq!(printed(None, text.as_str(), true), format!("{HARMLESS}\u{FFFD}z\n\t\u{FFFD}\n"), "{c:?}");
        assert_eq!(printed(None, text.as_str(), false), format!("{text}\n"), "{c:?}");
        assert_eq!(printed(Some("--json"), format!("no json {c}"), true), "no json \u{FFFD}\n", "{c:?}");
    }
}

#[test]
fn on_a_terminal_json_is_shown_without_what_it_obeys_and_means_the_same() {
    let text: String = WILD.iter().flat_map(|c| [*c, 'z']).chain(HARMLESS.chars()).collect();
    let value = serde_json::json!({"key": [text.as_str(), {text.as_str(): 1}], "other": "\"\\u{}"});
    for message in [Message::from(&value), value.to_string().into_bytes().into()] {
        let shown = printed(Some("--json"), message.clone(), true);
        assert!(!shown.contains(|c| is_wild(c) && c != '\n'), "{shown:?}");
        assert!(
            shown.contains("\\u009b") && shown.contains("\\u202e") && shown.contains("\\udb40\\udc41"),
            "{shown}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!(printed(Some("--json"), message, false), format!("{value:#}\n"));
    }
}

#[test]
fn json_is_laid_out_without_a_change_to_what_it_says() {
    for (json, laid_out) in [
        ("{}", "{}"),
        (" [ ] ", "[]"),
        ("1.10", "1.10"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        (r#"{"b":1,"b":2,"a":1e400}"#, "{\n  \"b\": 1,\n  \"b\": 2,\n  \"a\": 1e400\n}"),
        (r#"[{},"{\"[\\",[null]]"#, "[\n  {},\n  \"{\\\"[\\\\\",\n  [\n    null\n  ]\n]"),
        ("{\"k\"\t:\r\n\"\\ud800 : ,\"}", "{\n  \"k\": \"\\ud800 : ,\"\n}"),
    ] {
        assert_eq!(printed(Some("--json"), json, false), format!("{laid_out}\n"));
        let again: Vec<_> = laid_out.chars().filter(|c| !c.is_whitespace()).collect();
        let whole: Vec<_> = in_one_line(json).chars().filter(|c| !c.is_whitespace()).collect();
        assert_eq!(again, whole);
    }
    for other in ["", "{", "[1,]", "nul", "01", "\"\n\"", "{\"a\"}", "[] []"] {
        assert_eq!(printed(Some("--json"), other, false), format!("{other}\n"));
    }
    // What would become thousands of times as long is left as it is.
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(printed(Some("--json"), deep.as_str(), false), format!("{deep}\n"));
    let allowed = "[".repeat(101) + &"]".repeat(101);
    assert_eq!(printed(Some("--json"), allowed.as_str(), false).lines().count(), 201);
}

#[test]
fn a_line_at_the_prompt_is_a_command_or_a_message() {
    let close = |code, reason: &str| Ok(Meaning::Command(Command::Close { code, reason: reason.into() }));
    for (line, meaning) in [
        ("", Ok(Meaning::Text(""))),
        ("text /close", Ok(Meaning::Text("text /close"))),
        ("//close", Ok(Meaning::Text("/close"))),
        ("///", Ok(Meaning::Text("//"))),
        ("/close", close(1000, "")),
        ("/close 4001", close(4001, "")),
        ("/close 4001  good bye ", close(4001, "good bye")),
        ("/ping", Ok(Meaning::Command(Command::Ping))),
        ("/reconnect ", Ok(Meaning::Command(Command::Reconnect))),
        ("/suspend", Ok(Meaning::Command(Command::Suspend))),
        ("/resume", Ok(Meaning::Command(Command::Resume))),
        ("/stats", Ok(Meaning::Command(Command::Stats))),
        ("/help", Ok(Meaning::Command(Command::Help))),
    ] {
        assert_eq!(parse(line), meaning, "{line:?}");
    }
    for (line, says) in [
        ("/", "\"/\""),
        ("/nope", "\"/nope\""),
        ("/close now", "\"now\""),
        ("/stats all", "/stats stands alone"),
    ] {
        assert!(parse(line).unwrap_err().contains(says), "{line:?}");
    }
}
