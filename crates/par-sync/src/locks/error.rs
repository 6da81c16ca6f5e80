//! Errors of the locks and their like.

use crate::Deadlock;

/// Why a lock, a permit or a wait was not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another has it, and did not give it back in time.
    #[error("another has it, and did not give it back in time")]
    Busy,
    /// Whoever could give it back waits for this thread. Found only by the detector of deadlocks.
    #[error(transparent)]
    Deadlock(#[from] Deadlock),
}

impl LockError {
    /// Whether another has the lock.
    pub fn is_busy(&self) -> bool {
        matches!(self, LockError::Busy)
    }
}

/// A lock was given back by a thread that does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[doc(alias = "RuntimeError")]
pub enum NotOwner {
    /// Nobody has it.
    #[error("the lock was given back, and nobody had it")]
    Free,
    /// Another thread has it.
    #[error("the lock was given back by a thread that does not have it; another has")]
    Another,
}

/// More permits were given back than there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{given} permits given back would make {free} free ones more than the {bound} there may be")]
#[doc(alias = "ValueError")]
pub struct OverRelease {
    /// How many were given back.
    pub given: usize,
    /// How many were free before.
    pub free: usize,
    /// How many there may be.
    pub bound: usize,
}

/// Why a barrier let a party go without the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[doc(alias = "BrokenBarrierError")]
pub enum BarrierError {
    /// The barrier is broken: a party gave up, the action panicked, or somebody aborted or reset it.
    #[error("the barrier is broken: a party gave up, its action panicked, or it was aborted or reset")]
    Broken,
    /// The others did not come in time. The barrier is broken now.
    #[error("the other parties did not come in time; the barrier is broken now")]
    TimedOut,
    /// A barrier needs a party.
    #[error("a barrier needs at least one party, got 0")]
    NoParties,
    /// Those that are missing wait for this thread. Found only by the detector of deadlocks.
    #[error(transparent)]
    Deadlock(#[from] Deadlock),
}
