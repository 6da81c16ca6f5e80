//! The seam through which everything that blocks tells the detector of deadlocks and the statistics of contention what it does.
//!
//! Each object that threads wait for has a [`Watch`]. Without the features it is empty, and its calls are no instruction.

mod deadlock;
#[cfg(not(any(feature = "deadlock", feature = "statistics")))]
mod off;
#[cfg(any(feature = "deadlock", feature = "statistics"))]
mod on;

#[cfg(feature = "deadlock")]
pub mod detector;
#[cfg(feature = "deadlock")]
mod everyone;
#[cfg(feature = "deadlock")]
mod graph;
#[cfg(feature = "deadlock")]
mod orders;
#[cfg(feature = "deadlock")]
mod report;
#[cfg(feature = "statistics")]
pub mod statistics;
#[cfg(all(test, feature = "deadlock"))]
mod tests;

pub use deadlock::Deadlock;

#[cfg(not(any(feature = "deadlock", feature = "statistics")))]
use off as here;
#[cfg(any(feature = "deadlock", feature = "statistics"))]
use on as here;

#[cfg(feature = "deadlock")]
pub(crate) use detector as tasks;
#[cfg(not(feature = "deadlock"))]
pub(crate) mod tasks {
    //! What the engine and threads tell where the detector is not compiled in: nothing.

    use super::Deadlock;
    use par_core::job::Job;
    use std::time::Instant;

    #[inline(always)]
    pub(crate) fn task_begins(_: &Job) {}

    #[inline(always)]
    pub(crate) fn task_ends(_: &Job) {}

    #[inline(always)]
    pub(crate) fn task_sleeps(_: &Job, _: Option<Instant>) -> Result<(), Deadlock> {
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn task_slept(_: &Job) {}

    #[inline(always)]
    pub(crate) fn thread_ends() {}
}

#[cfg(not(loom))]
pub(crate) use here::Link;
pub(crate) use here::{Waiting, Watch};

use std::fmt;

/// The sleep, or a panic with the report, for whom a deadlock is no value.
#[inline(always)]
#[track_caller]
pub(crate) fn surely(entered: Result<Waiting<'_>, Deadlock>) -> Waiting<'_> {
    match entered {
        Ok(waiting) => waiting,
        Err(deadlock) => panic!("{deadlock}"),
    }
}

/// What a watched object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// A channel of [`csp`](crate::csp).
    Channel,
    /// A thread that others join.
    Thread,
    /// A task of a [`ThreadPool`](crate::ThreadPool) that others wait for.
    Task,
    /// A [`Select`](crate::Select) that waits for several objects.
    Select,
    /// An [`Alternation`](crate::csp::Alternation) that waits at several channels.
    Alternation,
    /// A network of light processes ([`Lights`](crate::csp::Lights)), all of which wait.
    Lights,
}

#[cfg(feature = "deadlock")]
impl Kind {
    /// Whether one thread, or some, can end a wait for it, and nobody else.
    fn has_owner(self) -> bool {
        use Kind::{Mutex, ReentrantMutex, RwLock, Task, Thread};
        matches!(self, Mutex | ReentrantMutex | RwLock | Thread | Task)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Mutex => "mutex",
            Kind::ReentrantMutex => "re-entrant mutex",
            Kind::RwLock => "read-write lock",
            Kind::Semaphore => "semaphore",
            Kind::Condvar => "condition",
            Kind::Event => "event",
            Kind::Barrier => "barrier",
            Kind::Queue => "queue",
            Kind::Channel => "channel",
            Kind::Thread => "thread",
            Kind::Task => "task",
            Kind::Select => "select",
            Kind::Alternation => "alternation",
            Kind::Lights => "network of light processes",
        })
    }
}

/// How a lock is held, or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// By one thread.
    Exclusive,
    /// By readers; or an object without an owner is waited for.
    Shared,
}
