//! What can go wrong with shared memory.

use std::io;

/// Why shared memory cannot be made, found or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// The system refuses.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The process that a handle came from has ended, or has let go of what the handle stands for.
    #[error(
        "the shared memory of a handle is gone: {reason}; keep a handle in its process until the receiver has decoded it"
    )]
    Gone {
        /// What is gone.
        reason: String,
    },
    /// Something else lies there than was asked for.
    #[error("the shared memory holds {found}, and {expected} was expected")]
    Type {
        /// What lies there.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// What was received is no shared memory of this crate.
    #[error("what was received is no shared memory of this crate: {reason}")]
    Foreign {
        /// What is wrong with it.
        reason: String,
    },
    /// More than memory can hold, or an alignment beyond a page.
    #[error("shared memory for {what} cannot be laid out")]
    Layout {
        /// What was to be shared.
        what: String,
    },
    /// A text that cannot be a name.
    #[error("{name:?} cannot be the name of shared memory: {reason}")]
    Name {
        /// The text.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A process that lives has published something under this name.
    #[error("shared memory named {0:?} is there already")]
    Taken(String),
    /// No process has published anything under this name.
    #[error("there is no shared memory named {0:?}: its publisher has ended, has withdrawn it, or never was")]
    NoSuchName(String),
    /// A place beyond the end of an array.
    #[error("elements {start}..{end} were asked for in an array of {length}")]
    Range {
        /// The first element.
        start: usize,
        /// The element after the last.
        end: usize,
        /// How many there are.
        length: usize,
    },
}

impl SharedError {
    pub(crate) fn system(what: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |error| SharedError::System {
            what,
            source: error.into(),
        }
    }
}
