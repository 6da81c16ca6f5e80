//! [`parallel`]: processes as threads, which have ended when it returns.

use super::stop::{Context, Stop, switch};
use super::trace::{self, What};
use crate::thread::{JoinError, ScopedJoinHandle, ThreadScope, scope};
use par_core::TaskError;
use std::fmt;

/// A process panicked; its channels were poisoned, so that the rest of its network ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("process {name} ended badly: {error}")]
pub struct ProcessError {
    /// The name of the process.
    pub name: String,
    /// Its panic.
    pub error: TaskError,
}

impl ProcessError {
    pub(super) fn new(name: &str, error: TaskError) -> Self {
        ProcessError {
            name: name.to_owned(),
            error,
        }
    }
}

/// Where the processes of a network are started. See [`parallel`].
pub struct Network<'a, 'scope, 'env> {
    scope: &'a ThreadScope<'scope, 'env>,
}

/// Runs `body`, which starts processes, each a thread; returns when all have ended.
///
/// # Panics
/// With the panic of `body`, or else with the first of a process that was not joined.
#[doc(alias = "Parallel")]
pub fn parallel<'env, R>(body: impl for<'a, 'scope> FnOnce(&Network<'a, 'scope, 'env>) -> R) -> R {
    scope(|scope| body(&Network { scope }))
}

impl<'scope> Network<'_, 'scope, '_> {
    /// Starts a process. A [`Stop`] that it hands on poisons or retires its ends.
    ///
    /// # Panics
    /// When the system has no thread left.
    #[doc(alias = "Spawn")]
    pub fn spawn<T: Send + 'scope>(
        &self,
        name: &str,
        process: impl FnOnce() -> Result<T, Stop> + Send + 'scope,
    ) -> Process<'scope, T> {
        let own = name.to_owned();
        let run = move || {
            switch(Context::default());
            trace::process(What::Start, &own);
            let _quit = Quit(&own);
            process()
        };
        let thread = self.scope.try_spawn(Some(name), run);
        Process {
            thread: thread.unwrap_or_else(|error| panic!("no thread for process {name:?}: {error}")),
        }
    }
}

/// Tells the trace of the end of a process, however it comes.
struct Quit<'a>(&'a str);

impl Drop for Quit<'_> {
    fn drop(&mut self) {
        trace::process(What::Quit, self.0);
    }
}

impl fmt::Debug for Network<'_, '_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// A process of a network of threads.
#[derive(Debug)]
pub struct Process<'scope, T> {
    thread: ScopedJoinHandle<'scope, Result<T, Stop>>,
}

impl<T> Process<'_, T> {
    /// Waits for its end: its value, or the [`Stop`] that ended it.
    ///
    /// # Errors
    /// [`JoinError`]: it panicked.
    pub fn join(self) -> Result<Result<T, Stop>, JoinError> {
        self.thread.join()
    }
}
