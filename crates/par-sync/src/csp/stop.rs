//! [`Stop`]: the word that a channel is no more.
//!
//! A process that hands a poison on with `?` drops its ends while the word is alive; so the ends can tell that they go under a poison, by the number of
//! words that are alive in the process. Who drops the word goes on as if nothing had happened.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many words of poison are alive in a process.
pub(super) type Context = Arc<AtomicUsize>;

thread_local! {
    static CONTEXT: RefCell<Context> = RefCell::default();
}

/// Makes `context` that of this thread, and returns the one before: light tasks take turns.
pub(super) fn switch(context: Context) -> Context {
    CONTEXT.with(|current| current.replace(context))
}

/// Whether what is dropped now goes under a poison.
pub(super) fn goes_down() -> bool {
    std::thread::panicking()
        || CONTEXT
            .try_with(|context| context.borrow().load(Ordering::Relaxed) > 0)
            .unwrap_or(false)
}

/// A channel is poisoned, or the other side has retired. Hand it on with `?`.
#[doc(alias = "ChannelPoisonException")]
#[doc(alias = "ChannelRetireException")]
pub struct Stop {
    poison: Option<Context>,
}

impl Stop {
    pub(super) fn poison() -> Self {
        let context = CONTEXT.with(|context| Arc::clone(&context.borrow()));
        context.fetch_add(1, Ordering::Relaxed);
        Stop {
            poison: Some(context),
        }
    }

    pub(super) fn retired() -> Self {
        Stop { poison: None }
    }

    /// Whether somebody poisoned the channel; else all of the other side have retired.
    pub fn is_poison(&self) -> bool {
        self.poison.is_some()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(context) = &self.poison {
            context.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_poison() {
            "the channel is poisoned"
        } else {
            "the other side of the channel has retired"
        })
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_poison() { "Poisoned" } else { "Retired" })
    }
}

impl std::error::Error for Stop {}

/// A value that was not written, and why. `?` makes it a [`Stop`].
pub struct WriteError<T> {
    /// Why.
    pub stop: Stop,
    /// The value.
    pub value: T,
}

impl<T> WriteError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> From<WriteError<T>> for Stop {
    fn from(error: WriteError<T>) -> Self {
        error.stop
    }
}

impl<T> fmt::Display for WriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stop.fmt(f)
    }
}

impl<T> fmt::Debug for WriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteError({:?}, ..)", self.stop)
    }
}

impl<T> std::error::Error for WriteError<T> {}
