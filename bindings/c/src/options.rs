//! What a client is opened with.

use std::ffi::{CString, c_char, c_void};
use std::ptr::null_mut;
use std::sync::{RwLock, TryLockError};
use std::time::Duration;

use serde_json::Value;
use tautline::{
    Builder, Certificate, Compression, ConnectionConfig, HeartbeatConfig, JsonSession, Proxy, QueueLimit,
    ReconnectConfig, WhileDown,
};

use crate::boundary::{Refused, Result, aligned, bytes, call, place, refuse, text};
use crate::codes::{TAUTLINE_E_ARGUMENT, TAUTLINE_E_BUSY};

/// No limit, for the number of attempts of `tautline_options_reconnect`.
pub const TAUTLINE_UNLIMITED: u32 = u32::MAX;

/// The options of a client. Make them with `tautline_options_new`, open any number of clients with them, and free them with
/// `tautline_options_free`. Each function that changes them copies what it is given, allocates, never blocks, and may be called on any
/// thread. It returns `TAUTLINE_OK`, `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_UTF8`, or `TAUTLINE_E_BUSY` if another thread is in a call with
/// these options. Whether a value can be used is checked by `tautline_open`.
///
/// A child made by fork can use the options of its parent. If a thread of the parent's was in a call with them at that moment, they
/// stay `TAUTLINE_E_BUSY` there: make new ones.
pub struct Options(RwLock<Settings>);

struct Settings {
    config: ConnectionConfig,
    login: Option<Login>,
    threads: Threads,
}

/// Is called on a thread of a client, with the `user` that was given with it and the thread's name, which ends with a NUL and is
/// gone when the call returns. A call that would block fails there. Nothing may be thrown out of it.
pub type ThreadFn = Option<unsafe extern "C" fn(user: *mut c_void, name: *const c_char)>;

/// What is called on the threads of a client.
#[derive(Clone, Copy)]
struct Threads {
    start: ThreadFn,
    end: ThreadFn,
    user: *mut c_void,
}

// SAFETY: `user` is not looked at here, and the header says that the functions are called on any thread.
unsafe impl Send for Threads {}
// SAFETY: as above; and that they are called on several threads at once.
unsafe impl Sync for Threads {}

impl Threads {
    fn call(&self, hook: ThreadFn, name: &str) {
        // A name has no NUL: the options say which characters are allowed.
        let Some(hook) = hook else { return };
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the header says what the function has to be, and the name outlives the call.
        unsafe { hook(self.user, name.as_ptr()) };
    }
}

struct Login {
    message: Value,
    accepted: Option<(String, String)>,
}

impl Options {
    /// The builder of a client, and whether messages have a queue of their own.
    pub(crate) fn builder(&self) -> Result<(Builder, bool)> {
        let settings = match self.0.try_read() {
            Ok(settings) => settings,
            Err(TryLockError::Poisoned(settings)) => settings.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(busy()),
        };
        let realtime = settings.config.realtime.is_some();
        let mut builder = tautline::Client::builder(settings.config.clone());
        let threads = settings.threads;
        if threads.start.is_some() {
            builder = builder.on_thread_start(move |name| threads.call(threads.start, name));
        }
        if threads.end.is_some() {
            builder = builder.on_thread_end(move |name| threads.call(threads.end, name));
        }
        let Some(Login { message, accepted }) = &settings.login else { return Ok((builder, realtime)) };
        let mut session = JsonSession::new().login(message.clone());
        if let Some((field, value)) = accepted.clone() {
            session =
                session.accepted(move |answer| answer.get(&field).and_then(Value::as_str) == Some(&value));
        }
        Ok((builder.protocol(session), realtime))
    }
}

/// The refusal of a call that would have to wait. None waits: in a child made by fork, a lock of the parent's is held for ever.
fn busy() -> Refused {
    refuse(TAUTLINE_E_BUSY, format_args!("another thread is in a call with these options"))
}

/// Changes the options at `options`.
///
/// # Safety
/// As that of [`place`].
unsafe fn change(options: *const Options, change: impl FnOnce(&mut Settings) -> Result<()>) -> i32 {
    call(|| {
        // SAFETY: as this function's caller says.
        let options = unsafe { place(options, "options") }?;
        match options.0.try_write() {
            Ok(mut settings) => change(&mut settings),
            Err(TryLockError::Poisoned(settings)) => change(&mut settings.into_inner()),
            Err(TryLockError::WouldBlock) => Err(busy()),
        }
    })
}

fn ms(time: u32) -> Duration {
    Duration::from_millis(time.into())
}

/// Makes options for this URL (`ws://…` or `wss://…`) and writes a pointer to them to `options`.
///
/// Threads: any. Never blocks. Allocates.
///
/// Errors: `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_UTF8`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_new(url: *const c_char, options: *mut *mut Options) -> i32 {
    call(|| {
        aligned(options, "options")?;
        // SAFETY: the header says what `url` has to be.
        let url = unsafe { text(url, "the URL") }?;
        let threads = Threads { start: None, end: None, user: null_mut() };
        let settings = Settings { config: ConnectionConfig::new(url), login: None, threads };
        let made = Box::into_raw(Box::new(Options(RwLock::new(settings))));
        // SAFETY: it is neither null nor misaligned, and the header says that it points to a pointer.
        unsafe { options.write(made) };
        Ok(())
    })
}

/// Frees the options. Null is right, and does nothing. Clients that were opened with them go on.
///
/// Threads: any; no other call may use these options, now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_free(options: *mut Options) {
    call(|| {
        if !options.is_null() {
            // SAFETY: the header says that it is of `tautline_options_new`, and is not used any more.
            drop(unsafe { Box::from_raw(options) });
        }
        Ok(())
    });
}

/// Adds a header to the upgrade request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_header(
    options: *mut Options,
    name: *const c_char,
    value: *const c_char,
) -> i32 {
    let add = |settings: &mut Settings| {
        // SAFETY: the header says what `name` has to be.
        let name = unsafe { text(name, "the header's name") }?;
        // SAFETY: the same of `value`.
        let value = unsafe { text(value, "the header's value") }?;
        settings.config.headers.push((name.into(), value.into()));
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, add) }
}

/// Offers a subprotocol, after those offered before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_subprotocol(options: *mut Options, name: *const c_char) -> i32 {
    let add = |settings: &mut Settings| {
        // SAFETY: the header says what `name` has to be.
        settings.config.subprotocols.push(unsafe { text(name, "the subprotocol") }?.into());
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, add) }
}

/// Sets the time limit for one attempt to connect. Default 10,000 ms.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_connect_timeout(options: *mut Options, timeout_ms: u32) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.connect_timeout = ms(timeout_ms);
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Sets the time limit for `TAUTLINE_CLOSE`: writing what was accepted, and the close handshake. Default 3,000 ms. The deadline of
/// `tautline_shutdown` holds in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_close_timeout(options: *mut Options, timeout_ms: u32) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.close_timeout = ms(timeout_ms);
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Sets how often a ready line is asked for a sign of life, and how long the answer may take. An interval of 0 turns heartbeats off;
/// a dead server is then noticed only by what is sent to it. Default 30,000 and 10,000 ms.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_heartbeat(
    options: *mut Options,
    interval_ms: u32,
    timeout_ms: u32,
) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.heartbeat = match interval_ms {
            0 => HeartbeatConfig::off(),
            _ => HeartbeatConfig::default().interval(ms(interval_ms)).timeout(ms(timeout_ms)),
        };
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Sets the delay before the first reconnect, the longest delay, and how many reconnects in a row may fail before the client is
/// closed: `TAUTLINE_UNLIMITED`, which is the default, or a number. With 0 the client is closed by the first failure. The delays are
/// 1,000 and 30,000 ms by default.
///
/// Whatever is set here, a server that closes with code 1000 or 1008 ends the client. So does a refusal such as 401 or 404 before
/// the line was ever ready.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_reconnect(
    options: *mut Options,
    initial_delay_ms: u32,
    max_delay_ms: u32,
    max_attempts: u32,
) -> i32 {
    let set = |settings: &mut Settings| {
        let mut reconnect =
            ReconnectConfig::default().initial_delay(ms(initial_delay_ms)).max_delay(ms(max_delay_ms));
        reconnect.max_attempts = (max_attempts != TAUTLINE_UNLIMITED).then_some(max_attempts);
        settings.config.reconnect = reconnect;
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Offers compression (permessage-deflate), at this level: 1 to 9. With 0, which is the default, none is offered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_compression(options: *mut Options, level: u32) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.compression = (level > 0).then(|| Compression::default().level(level));
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Goes through this proxy, such as `http://proxy.example:3128` or `socks5://127.0.0.1:1080`. Default: straight to the server.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_proxy(options: *mut Options, url: *const c_char) -> i32 {
    let set = |settings: &mut Settings| {
        // SAFETY: the header says what `url` has to be.
        settings.config.proxy = Some(Proxy::new(unsafe { text(url, "the proxy's URL") }?));
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Trusts the certificate authorities in the `length` bytes of PEM at `pem`, beside those of the system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_ca_pem(
    options: *mut Options,
    pem: *const u8,
    length: usize,
) -> i32 {
    let add = |settings: &mut Settings| {
        // SAFETY: the header says what `pem` has to be.
        let pem = unsafe { bytes(pem, length, "the PEM") }?;
        settings.config.tls.roots.push(Certificate::from_pem(pem));
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, add) }
}

/// Accepts any certificate, if `insecure` is not 0: whoever is on the way to the server can then read and change everything. For
/// tests.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_insecure(options: *mut Options, insecure: i32) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.tls.danger_accept_invalid_certs = insecure != 0;
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Sets how many messages, and how many bytes of them, may be accepted and not yet written. Default 1,024 messages, 16 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_outbox(
    options: *mut Options,
    messages: usize,
    bytes: usize,
) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.outbox = QueueLimit::new(messages, bytes);
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Sets how many messages, and how many bytes of them, may be received and not yet taken. Above that the client stops reading.
/// Default 1,024 messages, 16 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_inbox(options: *mut Options, messages: usize, bytes: usize) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.events = QueueLimit::new(messages, bytes);
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Refuses messages while the line is not ready (`TAUTLINE_E_NOT_READY`), if `refuse` is not 0: for what means nothing later, such as
/// a level. Default: they wait in the outbox.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_refuse_while_down(options: *mut Options, refuse: i32) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.while_down = if refuse == 0 { WhileDown::Queue } else { WhileDown::Refuse };
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Sets how long a message may wait before it is first written. A message that waits longer is never sent. With 0, which is the
/// default, there is no limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_max_age(options: *mut Options, max_age_ms: u32) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.max_age = (max_age_ms > 0).then(|| ms(max_age_ms));
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Sends `login`, which is JSON, first on each connection, and has the line ready only when a message has come whose `field` is the
/// text `value`. If `field` is null, the line is ready when the login is sent. `TAUTLINE_E_ARGUMENT` if it is not JSON.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_login_json(
    options: *mut Options,
    login: *const c_char,
    field: *const c_char,
    value: *const c_char,
) -> i32 {
    let set = |settings: &mut Settings| {
        // SAFETY: the header says what `login` has to be.
        let message = serde_json::from_str(unsafe { text(login, "the login") }?);
        // The text of the error says where, and no more: the login is secret.
        let message = message.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            refuse(TAUTLINE_E_ARGUMENT, format_args!("the login is not JSON, at line {line} column {column}"))
        })?;
        let accepted = if field.is_null() {
            None
        } else {
            // SAFETY: the header says what `field` has to be.
            let field = unsafe { text(field, "the field") }?;
            // SAFETY: the same of `value`.
            let value = unsafe { text(value, "the value") }?;
            Some((field.into(), value.into()))
        };
        settings.login = Some(Login { message, accepted });
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// For threads that must never wait, such as the audio callback of a host: with a `capacity` above 0, `tautline_send_text`,
/// `tautline_send_binary` and `tautline_next_event` wait for no other thread, wherever that was stopped, and allocate nothing for a
/// message of up to 80 bytes. There is room for `capacity` messages in each direction, at most 65,536; it takes some 300 bytes each,
/// and takes the place of the numbers of messages of `tautline_options_outbox` and `tautline_options_inbox`. Messages then come before
/// other events that happened earlier, but for the last one. With 0, which is the default, calls are faster where nobody is stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_realtime(options: *mut Options, capacity: usize) -> i32 {
    let set = |settings: &mut Settings| {
        settings.config.realtime = (capacity > 0).then_some(capacity);
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Names the client's threads: with `meter` they are `meter-io` and `meter-dial`, in a debugger and in a profiler. One to ten
/// printable ASCII characters without a space. Default `tautline`. The thread that all clients share is always `tautline-timer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_thread_name(options: *mut Options, name: *const c_char) -> i32 {
    let set = |settings: &mut Settings| {
        // SAFETY: the header says what `name` has to be.
        settings.config.thread_name = unsafe { text(name, "the name of the threads") }?.into();
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

/// Has `start` called first and `end` called last on each thread of the client but the one that all clients share, with `user`: to
/// register the thread with a profiler, COM or a Java machine, or to set its priority. Either may be null. They are called on several
/// threads at once, and must return soon. When `tautline_shutdown` has returned `TAUTLINE_OK`, neither is called any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_options_on_thread(
    options: *mut Options,
    start: ThreadFn,
    end: ThreadFn,
    user: *mut c_void,
) -> i32 {
    let threads = Threads { start, end, user };
    let set = |settings: &mut Settings| {
        settings.threads = threads;
        Ok(())
    };
    // SAFETY: the header says what `options` has to be.
    unsafe { change(options, set) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::TAUTLINE_OK;

    #[test]
    fn a_call_with_options_that_another_thread_uses_is_refused_and_waits_for_nothing() {
        let mut made = null_mut();
        // SAFETY: the URL ends with a NUL, and there is room for the pointer.
        assert_eq!(unsafe { tautline_options_new(c"ws://h".as_ptr(), &raw mut made) }, TAUTLINE_OK);
        // SAFETY: they are options, and freed at the end.
        let options = unsafe { &*made };
        let set = || {
            // SAFETY: they are options.
            unsafe { tautline_options_max_age(made, 1) }
        };
        let opening = options.0.read();
        assert!(options.builder().is_ok(), "several opens at once go on");
        assert_eq!(set(), TAUTLINE_E_BUSY);
        drop(opening);
        let changing = options.0.write();
        assert_eq!(set(), TAUTLINE_E_BUSY);
        assert!(options.builder().is_err());
        drop(changing);
        assert_eq!(set(), TAUTLINE_OK);
        // SAFETY: nobody uses them now.
        unsafe { tautline_options_free(made) };
    }
}
