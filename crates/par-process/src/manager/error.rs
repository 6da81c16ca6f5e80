//! What can go wrong between a proxy and its manager.

use super::Address;
use par_core::wire::WireError;
use serde::{Deserialize, Serialize};
use std::io;

/// Why a manager did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The manager has ended, or does not listen there.
    #[error("the manager at {address} is gone: {reason}")]
    Gone {
        /// Where it was looked for.
        address: Address,
        /// What was seen of that.
        reason: String,
    },
    /// The manager and this process do not have the same key.
    #[error("the manager at {0} has another key")]
    WrongKey(Address),
    /// It could not be started.
    #[error("cannot start a manager: {0}")]
    Start(String),
    /// There is no such object, or none any more.
    #[error("{0}")]
    NoObject(String),
    /// The object cannot do what it was asked for.
    #[error("{0}")]
    Failed(String),
    /// The method panicked; the object is as the panic left it.
    #[error("the method panicked: {0}")]
    Panicked(String),
    /// A value does not encode, or the answer does not decode.
    #[error("{0}")]
    Codec(#[from] WireError),
    /// There was no answer until the deadline.
    #[error("the manager did not answer until the deadline")]
    TimedOut,
    /// The system refused.
    #[error("cannot reach the manager: {0}")]
    Io(#[from] io::Error),
}

/// A failure as the manager tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// There is no such object.
    NoObject(String),
    /// The object does not know the method, or cannot do it.
    Failed(String),
    /// The method panicked.
    Panicked(String),
    /// The client is gone, so that nobody hears of this.
    Abandoned,
}

impl From<Fault> for ManagerError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoObject(text) => ManagerError::NoObject(text),
            Fault::Failed(text) => ManagerError::Failed(text),
            Fault::Panicked(text) => ManagerError::Panicked(text),
            Fault::Abandoned => ManagerError::TimedOut,
        }
    }
}
