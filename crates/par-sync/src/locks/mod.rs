//! Locks and their like between threads: [`Mutex`], [`ReentrantMutex`], [`RwLock`], [`Semaphore`], [`BoundedSemaphore`], [`Condvar`],
//! [`Event`], [`Barrier`], and the dataless [`RawMutex`] and [`RawReentrantMutex`].
//!
//! 1. Who can have what it wants at once asks nobody. Who cannot tells the [`Watch`] before it sleeps; where that knows that it
//!    would sleep for ever, the call is an error, or a panic where its form has no error.
//! 2. No lock is poisoned: a guard that is dropped while its thread unwinds gives its lock back like any other.
//! 3. A wait ends because somebody woke it or because its time is over, never by itself.
//! 4. Code of users (the action of a barrier, a predicate) runs without any lock of this module.
//! 5. The mutexes and the lock of readers and writers are parking_lot's: who comes may be quicker than who waits, but not for long
//!    (half a millisecond). Semaphores serve in the order of arrival.

mod barrier;
#[cfg(not(loom))]
mod condvar;
mod error;
mod event;
#[cfg(not(loom))]
mod mutex;
mod raw;
#[cfg(not(loom))]
mod reentrant;
#[cfg(not(loom))]
mod rwlock;
mod semaphore;
mod sleeper;

pub use barrier::Barrier;
#[cfg(not(loom))]
pub use condvar::Condvar;
pub use error::{BarrierError, LockError, NotOwner, OverRelease};
pub use event::Event;
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard};
pub use raw::{RawMutex, RawReentrantMutex};
#[cfg(not(loom))]
pub use reentrant::{ReentrantMutex, ReentrantMutexGuard};
#[cfg(not(loom))]
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

#[cfg(not(loom))]
use crate::sync_seam::Until;
#[cfg(not(loom))]
use crate::watch::{Hold, Watch};

/// Takes a lock of parking_lot (rule 1): `get` waits as long as it is told.
#[cfg(not(loom))]
#[inline]
#[track_caller]
fn take<G>(watch: &Watch, how: Hold, until: Until, get: impl Fn(Until) -> Option<G>) -> Result<G, LockError> {
    if !Watch::ON {
        return get(until).ok_or(LockError::Busy);
    }
    let got = match get(Until::Now) {
        None if until != Until::Now => {
            // Whether it was given back meanwhile, the graph knows.
            let waiting = watch.wait(how, until, || false)?;
            let got = get(until);
            waiting.over();
            got
        }
        at_once => at_once,
    };
    let got = got.ok_or(LockError::Busy)?;
    watch.acquired(how, until == Until::Now);
    Ok(got)
}

/// The lock, or a panic with the report of a deadlock: without an end to wait for, there is no other error.
#[cfg(not(loom))]
#[inline]
#[track_caller]
fn surely<G>(taken: Result<G, LockError>) -> G {
    match taken {
        Ok(guard) => guard,
        Err(error) => never(&error),
    }
}

#[cold]
#[track_caller]
fn never(error: &dyn std::error::Error) -> ! {
    panic!("{error}")
}

/// The lock, or the deadlock that it would have been.
#[cfg(not(loom))]
#[track_caller]
fn checked<G>(taken: Result<G, LockError>) -> Result<G, crate::Deadlock> {
    match taken {
        Err(LockError::Deadlock(deadlock)) => Err(deadlock),
        other => Ok(surely(other)),
    }
}
