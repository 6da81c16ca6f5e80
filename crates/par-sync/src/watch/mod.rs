//! The seam through which everything that blocks tells the detector of deadlocks and the statistics of contention what it does.
//!
//! Each object that threads wait for has a [`Watch`]. Without the features it is empty, and its calls are no instruction.

mod deadlock;
mod off;

pub use deadlock::Deadlock;
#[cfg(not(loom))]
pub(crate) use off::Link;
pub(crate) use off::{Waiting, Watch};

/// What a watched object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A [`Mutex`](crate::Mutex) or its raw form.
    Mutex,
    /// A [`ReentrantMutex`](crate::ReentrantMutex) or its raw form.
    ReentrantMutex,
    /// A [`RwLock`](crate::RwLock).
    RwLock,
    /// A semaphore, bounded or not.
    Semaphore,
    /// A [`Condvar`](crate::Condvar).
    Condvar,
    /// An [`Event`](crate::Event).
    Event,
    /// A [`Barrier`](crate::Barrier).
    Barrier,
    /// A queue.
    Queue,
    /// A CSP channel or barrier.
    Channel,
    /// A thread that others join.
    Thread,
    /// A task of a pool that others wait for.
    Task,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// By one thread.
    Exclusive,
    /// By readers.
    Shared,
}
