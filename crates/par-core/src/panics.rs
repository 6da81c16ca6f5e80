//! Panics of tasks as values: message and location, without the default report on standard error.

use crate::error::{Panic, TaskError};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !catches() {
                return before(info);
            }
            // The panic becomes the outcome of its task and is reported there.
            LOCATION.set(info.location().map(ToString::to_string));
        }));
    });
}

/// Whether a panic on this thread would be caught and become a value. For panic hooks that end the program: a panic in a task
/// is no reason to.
///
/// ```
/// assert!(!par_core::catches());
/// assert_eq!(par_core::catch(par_core::catches), Ok(true));
/// ```
pub fn catches() -> bool {
    CATCHING.get() > 0
}

/// Runs `f`; a panic in it becomes a value.
///
/// # Errors
/// [`TaskError::Panicked`] with the message and location of the panic.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, TaskError> {
    carry(f).map_err(|Carried { payload, location }| {
        let message = text_of(payload.as_ref());
        discard(payload);
        TaskError::Panicked(Panic { message, location })
    })
}

/// Drops the payload of a panic, which is a value of the user's: should that panic in its turn, the new payload is left alone.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = carry(|| drop(payload)) {
        std::mem::forget(again.payload);
    }
}

/// Runs code of the user's that nobody waits for, such as a waker or a destructor: its panic is printed and goes no further.
pub(crate) fn report(what: &str, f: impl FnOnce()) {
    if let Err(error) = catch(f) {
        eprintln!("par: {what}: {error}");
    }
}

/// A panic on its way to another thread: its payload, and where it happened if that is known.
pub struct Carried {
    payload: Box<dyn Any + Send>,
    location: Option<String>,
}

impl Carried {
    /// A panic that this thread has just caught.
    pub fn of(payload: Box<dyn Any + Send>) -> Self {
        Carried {
            payload,
            location: LOCATION.take(),
        }
    }

    /// Goes on with the panic on this thread.
    ///
    /// # Panics
    /// Always: that is its purpose.
    pub fn resume(self) -> ! {
        LOCATION.set(self.location);
        panic::resume_unwind(self.payload)
    }
}

/// As [`catch`], for a piece of a task that another thread runs: that thread resumes the panic where its task can catch it.
///
/// # Errors
/// The panic.
pub fn carry<R>(f: impl FnOnce() -> R) -> Result<R, Carried> {
    install_hook();
    CATCHING.set(CATCHING.get() + 1);
    // Whoever resumes the panic lets it pass through everything that `f` could have left half done.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(CATCHING.get() - 1);
    result.map_err(Carried::of)
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "its payload was not a text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_keeps_its_message_and_location() {
        let number = 5;
        let Err(TaskError::Panicked(panic)) = catch(|| panic!("number {number}")) else {
            panic!("no panic")
        };
        assert_eq!(panic.message, "number 5");
        let location = panic.location.expect("location");
        assert!(location.contains("panics.rs:"), "{location}");
        assert_eq!(catch(|| 3), Ok(3));
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_caught_as_well() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic::panic_any(Bomb);
            }
        }
        let Err(TaskError::Panicked(panic)) = catch(|| panic::panic_any(Bomb)) else {
            panic!("no panic")
        };
        assert_eq!(panic.message, "its payload was not a text");
        assert!(!catches(), "it counts as within a catch for ever");
    }
}
