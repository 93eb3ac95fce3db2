//! A line that moves from one connection to another, over real sockets.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod basics;
#[path = "../common/mod.rs"]
mod common;
mod counters;
mod ends;
mod outbox;
mod paused;
#[path = "../common/proc.rs"]
mod proc;
mod scene;
mod servers;
mod spin;
