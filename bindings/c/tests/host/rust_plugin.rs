//! A plugin in Rust, without the C interface, that does at load and at unload what it had better do elsewhere.
#![allow(clippy::disallowed_methods, reason = "says how long things took")]

use std::env;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tautline::{Client, ConnectionConfig};

static LINE: Mutex<Option<Client>> = Mutex::new(None);

extern "C" fn load() {
    let Ok(url) = env::var("PLUGIN_OPENS_AT_LOAD") else { return };
    let config = || {
        let config = ConnectionConfig::new(&url).connect_timeout(Duration::from_millis(300));
        config.close_timeout(Duration::from_millis(100))
    };
    let began = Instant::now();
    let outcome = Client::connect(config()).map(drop);
    println!(
        "connect: {:.2} s, {:?}",
        began.elapsed().as_secs_f64(),
        outcome.map_err(|error| error.to_string())
    );
    let began = Instant::now();
    drop(Client::start(config()));
    println!("drop: {:.2} s", began.elapsed().as_secs_f64());
    *LINE.lock().unwrap_or_else(PoisonError::into_inner) = Client::start(config()).ok();
}

extern "C" fn unload() {
    let Some(line) = LINE.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let began = Instant::now();
    let left = line.close();
    println!("close: {:.2} s, {:?}", began.elapsed().as_secs_f64(), left.still_inside);
}

/// Waits until the line is ready. Returns 0 if it is.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_wait(timeout_ms: u32) -> i32 {
    let line = LINE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ready = line.is_some_and(|line| line.wait_ready(Duration::from_millis(timeout_ms.into())).is_ok());
    i32::from(!ready)
}

// SAFETY: the loader calls each function of these sections once, without an argument that one of these would miss.
#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;

// SAFETY: as above.
#[used]
#[unsafe(link_section = ".fini_array")]
static UNLOAD: extern "C" fn() = unload;
