//! [`scope`]: threads that borrow, and have ended when it returns.

use super::handle::{JoinError, Outcome};
use super::registry::Thread;
use crate::sync_seam::Until;
use par_core::{Carried, TaskError};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The first panic that nobody joined.
type First = Arc<Mutex<Option<Carried>>>;

/// Where threads are started that may borrow what lives longer. See [`scope`].
pub struct ThreadScope<'scope, 'env> {
    scope: &'scope std::thread::Scope<'scope, 'env>,
    first: First,
}

/// Runs `body`, which may start threads that borrow; returns when all of them have ended, also when `body` panics.
///
/// # Panics
/// With the panic of `body`, or else with the first of a thread that was not joined.
///
/// ```
/// let mut words = vec!["to", "be"];
/// let longest = par_sync::scope(|scope| {
///     let longest = scope.spawn(|| words.iter().map(|word| word.len()).max());
///     longest.join().expect("no panic")
/// });
/// words.push("or"); // nobody borrows it any more
/// assert_eq!(longest, Some(2));
/// ```
pub fn scope<'env, R>(body: impl for<'scope> FnOnce(&ThreadScope<'scope, 'env>) -> R) -> R {
    let first = First::default();
    let result = std::thread::scope(|scope| {
        let first = Arc::clone(&first);
        body(&ThreadScope { scope, first })
    });
    let panic = first.lock().take();
    if let Some(panic) = panic {
        panic.resume();
    }
    result
}

impl<'scope> ThreadScope<'scope, '_> {
    /// Starts a thread, called `Thread-N`.
    ///
    /// # Panics
    /// When the system has no thread left; see [`try_spawn`](Self::try_spawn).
    pub fn spawn<T: Send + 'scope>(
        &self,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, T> {
        self.try_spawn(None, work)
            .unwrap_or_else(|error| panic!("no thread could be started: {error}"))
    }

    /// Starts a thread with a name, or called `Thread-N`.
    ///
    /// # Errors
    /// The system's, when it has no thread or no memory left; or a name with a NUL byte.
    pub fn try_spawn<T: Send + 'scope>(
        &self,
        name: Option<&str>,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        super::builder::check_name(name)?;
        let daemon = Thread::current().is_daemon();
        let thread = Thread::make(name.map(str::to_owned), "Thread", daemon);
        let outcome = Arc::new(Outcome::new(thread.name()));
        let (mine, theirs, first) = (thread.clone(), Arc::clone(&outcome), Arc::clone(&self.first));
        thread.begin();
        let started = std::thread::Builder::new()
            .name(thread.name().to_owned())
            .spawn_scoped(self.scope, move || {
                mine.enter();
                theirs.runs();
                let result = par_core::carry(work);
                mine.end();
                if let Some(panic) = theirs.end(result) {
                    first.lock().get_or_insert(panic);
                }
            });
        if let Err(error) = started {
            thread.end();
            return Err(error);
        }
        Ok(ScopedJoinHandle {
            thread,
            outcome,
            first: Arc::clone(&self.first),
            _scope: std::marker::PhantomData,
        })
    }
}

impl fmt::Debug for ThreadScope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadScope").finish_non_exhaustive()
    }
}

/// A thread of a [`scope`].
pub struct ScopedJoinHandle<'scope, T> {
    thread: Thread,
    outcome: Arc<Outcome<T, Carried>>,
    first: First,
    _scope: std::marker::PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        self.thread.is_alive()
    }

    /// Waits for the end of the thread; its result.
    ///
    /// # Errors
    /// [`JoinError`]: it panicked, it is this thread, or the detector found that it waits for this one.
    pub fn join(self) -> Result<T, JoinError> {
        let name = || self.thread.name().to_owned();
        if Thread::current() == self.thread {
            return Err(JoinError::Itself(name()));
        }
        match self.outcome.take(Until::Forever)? {
            Some(Ok(value)) => Ok(value),
            Some(Err(carried)) => match par_core::catch(|| carried.resume()) {
                Err(TaskError::Panicked(panic)) => Err(JoinError::Panicked { name: name(), panic }),
                // A panic that is resumed is caught as one.
                _ => Err(JoinError::Itself(name())),
            },
            None => Err(JoinError::Itself(name())),
        }
    }
}

impl<T> Drop for ScopedJoinHandle<'_, T> {
    fn drop(&mut self) {
        if let Some(panic) = self.outcome.detach() {
            self.first.lock().get_or_insert(panic);
        }
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedJoinHandle").field(&self.thread).finish()
    }
}
