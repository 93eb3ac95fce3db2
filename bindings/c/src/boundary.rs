//! Where C calls in: no panic leaves, each refusal leaves its text, and what C points to is checked as far as it can be.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::fmt::{self, Write};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use tautline::Error;

use crate::codes::{
    TAUTLINE_E_ARGUMENT, TAUTLINE_E_CLOSED, TAUTLINE_E_CONFIG, TAUTLINE_E_DEADLOCK, TAUTLINE_E_FORKED,
    TAUTLINE_E_PANIC, TAUTLINE_E_SIZE, TAUTLINE_E_SYSTEM, TAUTLINE_E_TIMEOUT, TAUTLINE_E_UTF8, TAUTLINE_OK,
};
use crate::words::{InC, setter};

/// A refusal: its code. Its text, if it has one, is left in the thread.
#[derive(Debug)]
pub(crate) struct Refused(i32);

pub(crate) type Result<T> = std::result::Result<T, Refused>;

/// How much of a text is kept, in bytes.
const KEPT: usize = 1023;

/// The text of this thread's last refusal. It has no memory of its own and no destructor, because a thread that must not wait
/// may be refused something: the first destructor of a thread takes the lock of the system's loader.
struct Last {
    length: usize,
    bytes: [u8; KEPT],
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { length: 0, bytes: [0; KEPT] }) };
}

impl Last {
    fn text(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl Write for Last {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fits = beginning(more, KEPT - self.length);
        self.bytes[self.length..self.length + fits].copy_from_slice(&more.as_bytes()[..fits]);
        self.length += fits;
        // What is cut off ends the text.
        if fits == more.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// How many bytes of the text, at most so many, are whole characters.
pub(crate) fn beginning(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

pub(crate) fn with_last<R>(look: impl FnOnce(&str) -> R) -> R {
    LAST.with_borrow(|last| look(last.text()))
}

/// Leaves this text in the thread, in the words of this interface, and returns the refusal.
pub(crate) fn refuse(code: i32, text: fmt::Arguments<'_>) -> Refused {
    LAST.with_borrow_mut(|last| {
        last.length = 0;
        // A text that is too long is cut off.
        let _ = InC(last).write_fmt(text);
    });
    Refused(code)
}

/// The code of a call that found nothing, which is no failure: the text of the last one stays.
pub(crate) fn nothing(code: i32) -> Refused {
    Refused(code)
}

/// The refusal that an error of the library becomes.
pub(crate) fn failed(error: &Error) -> Refused {
    let code = match error {
        Error::InvalidUrl { .. } | Error::InvalidConfig { .. } => TAUTLINE_E_CONFIG,
        Error::InvalidArgument { .. } => TAUTLINE_E_ARGUMENT,
        Error::Timeout { .. } => TAUTLINE_E_TIMEOUT,
        Error::WouldDeadlock => TAUTLINE_E_DEADLOCK,
        Error::System { .. } => TAUTLINE_E_SYSTEM,
        Error::Forked => TAUTLINE_E_FORKED,
        // Every other one is the reason why the client is closed.
        _ => TAUTLINE_E_CLOSED,
    };
    if let Error::InvalidConfig { setting, reason, .. } = error
        && let Some((argument, function)) = setter(setting)
    {
        return refuse(code, format_args!("{argument} of {function} can't be used: {reason}"));
    }
    refuse(code, format_args!("{error}"))
}

/// Runs the body of a function that returns a code.
pub(crate) fn call(body: impl FnOnce() -> Result<()>) -> i32 {
    call_for(|| body().map(|()| TAUTLINE_OK))
}

/// Runs the body of a function that returns a number, or a code.
#[expect(clippy::disallowed_methods, reason = "what it returns is not dropped")]
pub(crate) fn call_for(body: impl FnOnce() -> Result<i32>) -> i32 {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let refused = refuse(TAUTLINE_E_PANIC, format_args!("{}", said(&*panic)));
        // Its drop may panic, too.
        forget(panic);
        Err(refused)
    });
    match outcome {
        Ok(number) => number,
        Err(Refused(code)) => code,
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

fn null(what: &str) -> Refused {
    refuse(TAUTLINE_E_ARGUMENT, format_args!("{what} is null"))
}

/// The text that ends with a NUL at `text`.
///
/// # Safety
/// `text` is null, or such a text, which lives and stays the same until the call of C returns.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: it is not null, and otherwise as this function's caller says.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| refuse(TAUTLINE_E_UTF8, format_args!("{what}: {error}")))
}

/// The `length` bytes at `data`.
///
/// # Safety
/// `data` is null, or as many bytes can be read there, which stay the same until the call of C returns.
pub(crate) unsafe fn bytes<'a>(data: *const u8, length: usize, what: &str) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null(what));
    }
    if isize::try_from(length).is_err() {
        return Err(refuse(TAUTLINE_E_ARGUMENT, format_args!("{what} can't have {length} bytes")));
    }
    // SAFETY: it is not null, not too long, and otherwise as this function's caller says.
    Ok(unsafe { slice::from_raw_parts(data, length) })
}

/// That there can be a `T` at `place`.
pub(crate) fn aligned<T>(place: *const T, what: &str) -> Result<()> {
    if place.is_null() || !place.is_aligned() {
        return Err(refuse(TAUTLINE_E_ARGUMENT, format_args!("{what} is null or misaligned")));
    }
    Ok(())
}

/// What C has made room for, if it is not null.
///
/// # Safety
/// `place` is null, or points to a `T`.
pub(crate) unsafe fn place<'a, T>(place: *const T, what: &str) -> Result<&'a T> {
    aligned(place, what)?;
    // SAFETY: it is neither null nor misaligned, and otherwise as this function's caller says.
    Ok(unsafe { &*place })
}

/// A struct that begins with its size, and that C has room for.
///
/// # Safety
/// It is `repr(C)`, its first field is `size: usize`, and the others are numbers. Those of the first version stay where they are;
/// later ones follow them.
pub(crate) unsafe trait Sizes: Copy {
    const NAME: &str;
    /// The size up to the end of the last field of its first version. A program that was built with that one goes on working.
    const FIRST: usize;
}

/// Room of C's for a struct.
pub(crate) struct Out<T> {
    place: *mut T,
    /// What C says: that of an earlier version may be smaller, and that of a later one larger.
    pub(crate) size: usize,
}

impl<T: Sizes> Out<T> {
    /// # Safety
    /// `place` is null, or points to a struct whose field `size` is set, of as many bytes, which nobody else uses until the call
    /// of C returns.
    pub(crate) unsafe fn new(place: *mut T) -> Result<Self> {
        let name = T::NAME;
        aligned(place, name)?;
        // SAFETY: it is neither null nor misaligned, and begins with its size.
        let size = unsafe { place.cast::<usize>().read() };
        if size < T::FIRST {
            let needed = T::FIRST;
            let text = format_args!(
                "the size of the {name} is {size}; it must be {needed} or more: set it to sizeof({name})"
            );
            return Err(refuse(TAUTLINE_E_SIZE, text));
        }
        Ok(Self { place, size })
    }

    /// Writes as much of the value as there is room for.
    pub(crate) fn set(&self, value: T) {
        let length = self.size.min(size_of::<T>());
        // SAFETY: there are `size` bytes, which nobody else uses: see `new`. The value is this library's, has as many bytes as are
        // copied, and a beginning of it is a value of each earlier version: see `Sizes`.
        unsafe { self.place.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a panic may be with.
    struct Again;

    impl Drop for Again {
        fn drop(&mut self) {
            panic!("once more");
        }
    }

    #[test]
    fn a_panic_becomes_a_code_and_its_text_is_kept() {
        for (body, text) in [
            ((|| panic!("on purpose")) as fn() -> Result<()>, "on purpose"),
            (|| panic!("with {}", "values"), "with values"),
            (|| std::panic::panic_any(Again), "a panic without a text"),
        ] {
            assert_eq!(call(body), TAUTLINE_E_PANIC);
            assert!(with_last(|last| last == text));
        }
        assert_eq!(call(|| Ok(())), TAUTLINE_OK);
        assert!(with_last(|last| last == "a panic without a text"), "a call that succeeds leaves it");
    }

    /// A struct that has got a field since its first version.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        size: usize,
        first: u64,
        later: u64,
    }

    // SAFETY: it begins with its size, and consists of numbers.
    unsafe impl Sizes for Grown {
        const NAME: &str = "grown";
        const FIRST: usize = std::mem::offset_of!(Self, later);
    }

    #[test]
    fn a_struct_of_an_older_program_gets_its_fields_and_nothing_behind_them() {
        let size = Grown::FIRST;
        let mut room = Grown { size, first: 0, later: 7 };
        // SAFETY: its size is set, and nobody else uses it.
        let out = unsafe { Out::new(&raw mut room) }.unwrap();
        out.set(Grown { size: out.size, first: 1, later: 2 });
        assert_eq!((room.size, room.first, room.later), (size, 1, 7));
        room.size = size_of::<Grown>();
        // SAFETY: as above.
        let out = unsafe { Out::new(&raw mut room) }.unwrap();
        out.set(Grown { size: out.size, first: 3, later: 4 });
        assert_eq!((room.size, room.first, room.later), (size_of::<Grown>(), 3, 4));
        room.size = size - 1;
        // SAFETY: as above.
        let refused = unsafe { Out::new(&raw mut room) }.map(|_| ()).unwrap_err();
        assert_eq!(refused.0, TAUTLINE_E_SIZE);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let long = format!("{}éé", "x".repeat(KEPT - 1));
        assert_eq!(refuse(TAUTLINE_E_SYSTEM, format_args!("{long} more")).0, TAUTLINE_E_SYSTEM);
        assert!(with_last(|last| last == &long[..KEPT - 1]));
    }
}
