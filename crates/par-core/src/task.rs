//! The `Task` trait: a function with a stable name, a signature and serde arguments.

use crate::error::TaskError;
use crate::signature::{self, Signature};
use serde::{Serialize, de::DeserializeOwned};
use std::any::TypeId;
use std::collections::HashMap;
use std::future::Future;
use std::sync::OnceLock;

/// A value that can cross to any worker: serde both ways, and owned.
///
/// Implemented for everything that qualifies.
pub trait Data: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// A function that any engine can run. Write it with [`#[task]`](crate::task) rather than by hand.
///
/// ```
/// #[par_core::task]
/// fn square(x: u64) -> u64 { x * x }
///
/// assert_eq!(square(7), 49); // still a function
/// assert_eq!(<square as par_core::Task>::call(7).unwrap(), 49); // and a type
/// ```
pub trait Task: 'static {
    /// The stable name by which a remote worker finds the task.
    const NAME: &'static str;
    /// The names of the parameters, in order; part of the signature.
    const PARAMS: &'static [&'static str];
    /// Whether running it again after a loss is harmless.
    const IDEMPOTENT: bool;
    /// Whether it was written as `async fn`.
    const ASYNC: bool;
    /// The argument; several become a tuple, none the unit.
    type Input: Data;
    /// The value; for a task that returns `Result<T, E>` it is `T`.
    type Output: Data;

    /// Runs the task here and now. An `async` task is driven to its end on this thread.
    ///
    /// # Errors
    /// [`TaskError::Failed`] when the task returns an error.
    fn call(input: Self::Input) -> Result<Self::Output, TaskError>;

    /// Runs the task as a future; a synchronous task runs whole at the first poll.
    fn call_async(
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, TaskError>> + Send + 'static {
        async move { Self::call(input) }
    }
}

/// The signature of a task: its parameters by name with their types, and its output.
///
/// Types are described by what serde sees (names of structs and fields, order, primitive types), so
/// two programs agree exactly when they would read each other's bytes.
pub fn signature_of<T: Task>() -> &'static Signature {
    static CACHE: OnceLock<parking_lot::RwLock<HashMap<TypeId, &'static Signature>>> = OnceLock::new();
    let cache = CACHE.get_or_init(Default::default);
    if let Some(found) = cache.read().get(&TypeId::of::<T>()) {
        return found;
    }
    let made = signature::describe_task::<T::Input, T::Output>(T::PARAMS);
    // One leak per task type and program: the set of types is finite.
    cache
        .write()
        .entry(TypeId::of::<T>())
        .or_insert_with(|| Box::leak(Box::new(made)))
}
