//! What can go wrong with a task, a map or a pool, as values that cross process boundaries.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a task ended when it did not end with a value.
///
/// Every submitted task ends exactly once: with its value or with one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TaskError {
    /// The task returned an error of its own.
    #[error("task failed: {0}")]
    Failed(Failure),
    /// The task panicked.
    #[error("task panicked: {0}")]
    Panicked(Panic),
    /// The task was cancelled before it started, or noticed its token and gave up.
    #[error("task was cancelled")]
    Cancelled,
    /// The deadline of the task passed.
    #[error("task passed its deadline of {limit_ms} ms")]
    TimedOut {
        /// The deadline that was set, in milliseconds from submission.
        limit_ms: u64,
    },
    /// The worker that had the task went away.
    #[error("task was lost after {attempts} attempt(s) ({}): {reason}", if *maybe_ran { "it may have run" } else { "it never started" })]
    Lost {
        /// How often the task was delivered to a worker.
        attempts: u32,
        /// Whether a worker may have begun it. Only idempotent tasks are begun again.
        maybe_ran: bool,
        /// What happened to the worker.
        reason: String,
    },
    /// The task was refused: unknown name, other signature, closed or full pool, bad options.
    #[error("task was rejected: {0}")]
    Rejected(String),
    /// An argument or a result could not be encoded or decoded.
    #[error("task could not cross the wire: {0}")]
    Codec(String),
    /// The pool is past its restart budget and runs nothing any more.
    #[error("pool is broken: {0}")]
    Broken(String),
}

/// The error value that a task returned, flattened so that it can cross process boundaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The Rust type of the error, as `std::any::type_name` gives it.
    pub type_name: String,
    /// Its `Display` text.
    pub message: String,
    /// The texts of its `source()` chain, outermost first, without the message itself.
    pub chain: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for cause in &self.chain {
            write!(f, ": {cause}")?;
        }
        write!(f, " [{}]", self.type_name)
    }
}

/// Message and place of a panic in a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panic {
    /// The panic message, or a note that its payload was no text.
    pub message: String,
    /// `file:line:column`, where it is known.
    pub location: Option<String>,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(at) => write!(f, "{} (at {at})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl TaskError {
    /// Flattens an error value of type `E` with its chain.
    pub fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> Self {
        let type_name = std::any::type_name::<E>().to_owned();
        let boxed = error.into();
        // A task may hand on what another task, or `check_cancelled`, gave it.
        if let Some(inner) = boxed.downcast_ref::<TaskError>() {
            return inner.clone();
        }
        let mut chain = Vec::new();
        let mut next = boxed.source();
        while let Some(cause) = next {
            chain.push(cause.to_string());
            // A chain that never ends is somebody's bug, and must not become ours.
            if chain.len() == 32 {
                break;
            }
            next = cause.source();
        }
        TaskError::Failed(Failure {
            type_name,
            message: boxed.to_string(),
            chain,
        })
    }
}

/// A `map` or `map_reduce` ended with the failure of one item: the one with the lowest index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {index}: {error}")]
pub struct MapError {
    /// Index of the item in the input.
    pub index: u64,
    /// How that item ended.
    #[source]
    pub error: TaskError,
}

/// A pool could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The number of workers is out of range.
    #[error("a pool needs at least 1 worker, got {0}")]
    Workers(usize),
    /// An option has a value that the engine cannot work with.
    #[error("bad option {option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was wrong with its value, and what is expected.
        reason: String,
    },
    /// Two tasks of this program share a name.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The initialiser failed on a worker.
    #[error("the initialiser failed on worker {worker}: {error}")]
    Initializer {
        /// Index of the worker.
        worker: usize,
        /// How the initialiser ended.
        #[source]
        error: TaskError,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// Something that the engine needs is missing or does not answer.
    #[error("{0}")]
    Unavailable(String),
}

/// The link-time registry of tasks is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two tasks have the same name.
    #[error(
        "two tasks are named {name:?}: one in {first}, one in {second}; give one of them another with #[task(name = \"...\")]"
    )]
    Duplicate {
        /// The name that both claim.
        name: String,
        /// Module of the one.
        first: &'static str,
        /// Module of the other.
        second: &'static str,
    },
    /// No task of that name is linked into this program.
    #[error(
        "no task is named {name:?} in this program; it knows {}; if the task lives in another crate, link that crate with par_core::link!(crate_name)",
        known_list(known)
    )]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that are known, sorted.
        known: Vec<&'static str>,
    },
}

fn known_list(known: &[&str]) -> String {
    const SHOWN: usize = 20;
    match known.len() {
        0 => "no task at all".to_owned(),
        n if n <= SHOWN => known.join(", "),
        n => format!("{} and {} more", known[..SHOWN].join(", "), n - SHOWN),
    }
}
