//! Errors of the locks and their like.

use std::error::Error;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

/// Why something did not do what was asked; for a lock, a [`LockError`] without the guard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// It did not come in time.
    #[error("it did not come in time")]
    TimedOut,
    /// The barrier is broken: a party gave up or died while it waited, the action panicked, or somebody aborted or reset it.
    #[error("the barrier is broken")]
    #[doc(alias = "BrokenBarrierError")]
    Broken,
    /// Whoever had the lock ended, or panicked, while it had it.
    #[error("whoever had the lock ended or panicked while it had it; what it guards may be half changed")]
    Abandoned,
    /// This thread has the lock already.
    #[error("this thread has the lock already")]
    Deadlock,
    /// More permits were given back than the bound of the semaphore allows.
    #[error("{given} permits given back would make more than the {bound} there are")]
    OverRelease {
        /// How many were given back.
        given: u64,
        /// How many there are at most.
        bound: u64,
    },
    /// The table in shared memory has no place for another process that holds, or another thread that waits.
    #[error("all {0} places in the table are taken; make it with more (with_places)")]
    Full(usize),
    /// The system refuses.
    #[error("the system refuses")]
    System(#[from] io::Error),
}

/// Why a lock was not got, or not as it should be.
///
/// As it may hold the guard it is no [`Error`] itself; `?` makes it a [`SyncError`] or a `Box<dyn Error>`, without the guard.
#[non_exhaustive]
pub enum LockError<G: Repair> {
    /// Whoever had the lock ended, or panicked, while it had it. The lock is held now, and what it guards may be half changed.
    Abandoned(Abandoned<G>),
    /// Another has it, and did not give it back in time.
    Busy,
    /// This thread has it already.
    Deadlock,
    /// The table of those who wait has no place for another.
    Full(usize),
    /// The system refuses.
    System(io::Error),
}

impl<G: Repair> LockError<G> {
    /// The guard, if the lock was [abandoned](LockError::Abandoned); the error itself otherwise.
    ///
    /// # Errors
    /// When the lock is not held.
    #[doc(alias = "PoisonError")]
    pub fn abandoned(self) -> Result<Abandoned<G>, Self> {
        match self {
            LockError::Abandoned(abandoned) => Ok(abandoned),
            other => Err(other),
        }
    }

    /// Whether another has the lock.
    pub fn is_busy(&self) -> bool {
        matches!(self, LockError::Busy)
    }
}

impl<G: Repair> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Abandoned(_) => f.write_str(
                "whoever had the lock ended or panicked while it had it; what it guards may be half changed",
            ),
            LockError::Busy => f.write_str("another has the lock, and did not give it back in time"),
            LockError::Deadlock => f.write_str("this thread has the lock already"),
            LockError::Full(places) => {
                write!(f, "all {places} places in the table of those who wait are taken")
            }
            LockError::System(_) => f.write_str("the system refuses the lock"),
        }
    }
}

impl<G: Repair> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::System(error) => f.debug_tuple("System").field(error).finish(),
            other => write!(f, "LockError({other})"),
        }
    }
}

/// Without the guard, so that `?` can take it out of the function that has the lock.
impl<G: Repair> From<LockError<G>> for SyncError {
    fn from(error: LockError<G>) -> Self {
        match error {
            LockError::Abandoned(_) => SyncError::Abandoned,
            LockError::Busy => SyncError::TimedOut,
            LockError::Deadlock => SyncError::Deadlock,
            LockError::Full(places) => SyncError::Full(places),
            LockError::System(error) => SyncError::System(error),
        }
    }
}

/// As [`SyncError`].
impl<G: Repair> From<LockError<G>> for Box<dyn Error> {
    fn from(error: LockError<G>) -> Self {
        SyncError::from(error).into()
    }
}

/// As [`SyncError`].
impl<G: Repair> From<LockError<G>> for Box<dyn Error + Send + Sync> {
    fn from(error: LockError<G>) -> Self {
        SyncError::from(error).into()
    }
}

impl<G: Repair> From<SyncError> for LockError<G> {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::TimedOut => LockError::Busy,
            SyncError::Full(places) => LockError::Full(places),
            SyncError::System(error) => LockError::System(error),
            other => LockError::System(io::Error::other(other)),
        }
    }
}

/// A lock that its owner left without giving it back, held by this thread now.
///
/// Look at what it guards, mend it, and call [`repaired`](Self::repaired). Until somebody does, everyone who locks is told.
pub struct Abandoned<G: Repair> {
    guard: G,
}

impl<G: Repair> Abandoned<G> {
    pub(crate) fn new(guard: G) -> Self {
        Abandoned { guard }
    }

    /// What the lock guards is whole again: who locks next hears nothing of it.
    #[doc(alias = "clear_poison")]
    pub fn repaired(self) -> G {
        self.guard.repair();
        self.guard
    }

    /// The guard, without a word on what it guards: who locks next hears that it was abandoned, too.
    #[doc(alias = "into_inner")]
    pub fn into_guard(self) -> G {
        self.guard
    }
}

impl<G: Repair> Deref for Abandoned<G> {
    type Target = G;

    fn deref(&self) -> &G {
        &self.guard
    }
}

impl<G: Repair> DerefMut for Abandoned<G> {
    fn deref_mut(&mut self) -> &mut G {
        &mut self.guard
    }
}

/// Guards of locks that can be abandoned.
pub trait Repair {
    /// Forgets that the lock was abandoned.
    #[doc(hidden)]
    fn repair(&self);
}
