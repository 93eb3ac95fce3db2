//! What becomes of a panic in the application's code.

#![expect(clippy::disallowed_methods, reason = "the one place where the library catches a panic")]

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code of the application. `None` if it panics.
///
/// What it panicked with is the application's value as well, and its drop may panic, too: that is caught here. What the drop
/// panicked with is never dropped, so that this ends.
pub(crate) fn caught<R>(call: impl FnOnce() -> R) -> Option<R> {
    let panic = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(returned) => return Some(returned),
        Err(panic) => panic,
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        forget(panic);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Again;

    impl Drop for Again {
        fn drop(&mut self) {
            std::panic::panic_any(Again);
        }
    }

    #[test]
    fn a_panic_whose_value_panics_again_and_again_is_caught() {
        assert_eq!(caught(|| 7), Some(7));
        assert_eq!(caught(|| panic!("on purpose")), None::<()>);
        assert_eq!(caught(|| std::panic::panic_any(Again)), None::<()>);
    }
}
