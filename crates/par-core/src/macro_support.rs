//! What the expansions of `#[task]` and `#[reduction]` name. Not for use by hand.

pub use crate::executor::block_on;
pub use crate::registry::{TASKS, TaskEntry};
pub use linkme;
pub use serde;

use crate::error::TaskError;

/// The two sides of a task's `Result`, whatever alias it was written with.
pub trait Fallible {
    /// The success type.
    type Output;
    /// Flattens the error.
    fn flatten(self) -> Result<Self::Output, TaskError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Fallible for Result<T, E> {
    type Output = T;
    fn flatten(self) -> Result<T, TaskError> {
        self.map_err(TaskError::failed)
    }
}
