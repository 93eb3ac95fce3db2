//! The example `wscat`, run as a program against servers of this process, and on a terminal.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/deflate.rs"]
mod deflate;
mod ends;
mod lines;
mod options;
mod program;
#[cfg(unix)]
mod prompt;
#[cfg(unix)]
mod recipes;
mod scripts;
mod terminal;
#[path = "../common/tunnel.rs"]
mod tunnel;
mod undelivered;
mod ways;
#[path = "../../examples/wscat/main.rs"]
#[allow(dead_code, reason = "the program is run as one")]
mod wscat;
