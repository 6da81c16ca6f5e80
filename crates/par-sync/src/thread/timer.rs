//! [`Timer`]: something done later, by a thread of its own.

use super::handle::{JoinError, JoinHandle};
use super::registry::Thread;
use crate::Event;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Does something after a time, unless it is cancelled before. Dropped, it goes on.
///
/// ```
/// use par_sync::{Event, Timer};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let rung = Arc::new(Event::new());
/// let ring = Arc::clone(&rung);
/// let timer = Timer::start(Duration::from_millis(1), move || ring.set())?;
/// rung.wait();
/// assert!(!timer.cancel(), "too late");
///
/// let never = Timer::start(Duration::from_secs(3600), || unreachable!())?;
/// assert!(never.cancel());
/// never.join()?; // its thread has ended
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Timer {
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
}

struct Shared {
    cancelled: Event,
    /// Whoever sets it first decides.
    decided: AtomicBool,
}

impl Timer {
    /// Starts a thread that does `work` after `time`. It is a daemon if the calling thread is one.
    ///
    /// # Errors
    /// The system's, when it has no thread or no memory left.
    pub fn start(time: Duration, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            cancelled: Event::named("timer"),
            decided: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let sleep_and_work = move || {
            // No deadlock: the time ends it.
            let cancelled = theirs.cancelled.wait_timeout(time);
            if !cancelled.unwrap_or(false) && !theirs.decided.swap(true, Ordering::AcqRel) {
                work();
            }
        };
        Ok(Timer {
            thread: Thread::new(sleep_and_work).prefix("Timer").start()?,
            shared,
        })
    }

    /// Keeps the work from being done; false if it has begun, or was cancelled before. The thread ends at once.
    pub fn cancel(&self) -> bool {
        let first = !self.shared.decided.swap(true, Ordering::AcqRel);
        self.shared.cancelled.set();
        first
    }

    /// Whether the work is still to come, or is being done.
    pub fn is_alive(&self) -> bool {
        self.thread.is_alive()
    }

    /// Waits until the work was done, or the timer was cancelled.
    ///
    /// # Errors
    /// [`JoinError`]: the work panicked, or this is the timer's own thread.
    pub fn join(self) -> Result<(), JoinError> {
        self.thread.join()
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timer").field(self.thread.thread()).finish()
    }
}
