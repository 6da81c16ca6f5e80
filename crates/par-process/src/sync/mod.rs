//! Locks and their like between processes, in shared memory: [`Mutex`], [`ReentrantMutex`], [`Semaphore`], [`BoundedSemaphore`],
//! [`Condvar`], [`Event`] and [`Barrier`].
//!
//! 1. The death of a process blocks nobody. A lock of a dead owner goes to the next with word of that (`robust`); who waits or holds
//!    is written in tables by process (`waiters`, `semaphore`), and those who wait look every 100 ms whether one of them died.
//! 2. No call waits for a stopped process beyond its deadline. What is locked for a moment only, a table, is waited for at least
//!    100 ms, as the system may take the processor away from its holder for so long. Calls without a deadline, and those that give back
//!    or wake, wait as long as it takes.
//! 3. What is in shared memory is valid whatever its bits: atomics, robust locks, and plain values.
//! 4. Processes must see each other in `/proc`, as those of one container do.
//! 5. Whoever has the memory is a process of the same user, and is trusted to take the lock before it touches what the lock guards: types cannot
//!    keep another program from that, only from breaking this one by the bits it writes.

mod barrier;
mod condvar;
#[cfg(all(test, not(loom)))]
mod deaths;
mod error;
mod event;
mod identity;
#[cfg(not(loom))]
mod locked;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod reentrant;
#[cfg(not(loom))]
mod robust;
mod seam;
mod semaphore;
mod waiters;

#[cfg(not(loom))]
pub use barrier::Barrier;
#[cfg(not(loom))]
pub use condvar::Condvar;
pub use error::{Abandoned, LockError, Repair, SyncError};
#[cfg(not(loom))]
pub use event::Event;
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard, SharedArray, SharedValue};
#[cfg(not(loom))]
pub use reentrant::{ReentrantMutex, ReentrantMutexGuard};
#[cfg(not(loom))]
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

use std::time::Duration;

/// How often those who wait look for the dead.
const PATROL: Duration = Duration::from_millis(100);

/// Rule 2.
const GRACE: Duration = Duration::from_millis(100);

/// Places in a table, where nothing else is asked for.
const PLACES: usize = 256;

/// The most places that a table may have.
const MOST_PLACES: usize = 1 << 16;
