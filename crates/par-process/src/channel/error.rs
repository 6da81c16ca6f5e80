//! Why a message could not be sent or received.

use par_core::wire::WireError;
use std::{fmt, io};

/// Why a value was not sent. The value comes back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// Nobody is left who could receive it.
    #[error("the message was not sent: nobody holds the other end any more")]
    Closed(T),
    /// The pipe was full until the deadline.
    #[error("the message was not sent: the pipe was full until the deadline")]
    Full(T),
    /// It does not encode, or is longer than a message may be.
    #[error("the message was not sent: {1}")]
    Encode(T, #[source] WireError),
    /// The system refused it.
    #[error("the message was not sent: {1}")]
    Io(T, #[source] io::Error),
}

impl<T> SendError<T> {
    /// What was to be sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Closed(value) | SendError::Full(value) => value,
            SendError::Encode(value, _) | SendError::Io(value, _) => value,
        }
    }

    /// The same with another value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> SendError<U> {
        match self {
            SendError::Closed(value) => SendError::Closed(change(value)),
            SendError::Full(value) => SendError::Full(change(value)),
            SendError::Encode(value, error) => SendError::Encode(change(value), error),
            SendError::Io(value, error) => SendError::Io(change(value), error),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed(_) => f.write_str("Closed(..)"),
            SendError::Full(_) => f.write_str("Full(..)"),
            SendError::Encode(_, error) => write!(f, "Encode(.., {error:?})"),
            SendError::Io(_, error) => write!(f, "Io(.., {error:?})"),
        }
    }
}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing is left, and nobody is left who could send.
    #[error("end of file: nobody holds the other end any more")]
    Closed,
    /// Nothing came until the deadline.
    #[error("nothing came until the deadline")]
    Empty,
    /// What came is not what was expected; it is gone.
    #[error("a message came that cannot be read: {0}")]
    Message(#[from] WireError),
    /// Raw bytes came where a value was expected, or the other way round; the message is gone.
    #[error("a message came that holds {came}, where {expected} was expected")]
    Kind {
        /// What it holds.
        came: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// Files that came with a message could not be taken over, as this process has too many open; the message is gone.
    #[error("a message came with files, and this process may not open more")]
    Files,
    /// The system refused to receive.
    #[error("cannot receive: {0}")]
    Io(#[from] io::Error),
}
