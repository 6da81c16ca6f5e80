//! Errors of queues.

use std::fmt;

/// Why an item was not put; it is in there.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError<T> {
    /// There was no room, or none in time.
    #[error("the queue is full")]
    Full(T),
    /// The queue is shut down.
    #[error("the queue is shut down")]
    ShutDown(T),
}

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(item) | PutError::ShutDown(item) => item,
        }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, PutError::Full(_))
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() {
            "Full(..)"
        } else {
            "ShutDown(..)"
        })
    }
}

/// Why no item was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There was none, or none in time.
    #[error("the queue is empty")]
    Empty,
    /// The queue is shut down, and nothing is left in it.
    #[error("the queue is shut down and empty")]
    ShutDown,
}

/// More items were said to be done than were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("task_done was called more often than there were items")]
#[doc(alias = "ValueError")]
pub struct TaskDoneError;
