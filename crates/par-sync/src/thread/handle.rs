//! [`JoinHandle`]: the end of a thread, and what came of it.
//!
//! The state of a thread's outcome, under one lock: running; ended, with a value or a panic; taken. Who drops the handle of a thread
//! that runs leaves word, so that a panic is reported by the thread itself.

use super::registry::Thread;
use crate::Deadlock;
use crate::sync_seam::{Lock, Signal, Until};
use crate::watch::{Hold, Kind, Watch, tasks};
use par_core::{Panic, TaskError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a thread has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It panicked.
    #[error("thread {name} panicked: {panic}")]
    Panicked {
        /// The name of the thread.
        name: String,
        /// What it said, and where.
        panic: Panic,
    },
    /// A thread cannot wait for its own end.
    #[error("thread {0} cannot wait for its own end")]
    Itself(String),
    /// The thread waits for this one. Found only by the detector of deadlocks.
    #[error(transparent)]
    Deadlock(#[from] Deadlock),
}

pub(super) struct Outcome<T, E = Panic> {
    state: Lock<State<T, E>>,
    ended: Signal,
    watch: Watch,
}

enum State<T, E> {
    Running { detached: bool },
    Ended(Result<T, E>),
    Taken,
}

impl<T, E> Outcome<T, E> {
    pub(super) fn new(thread: &str) -> Self {
        let watch = Watch::new(Kind::Thread);
        watch.name(thread);
        Outcome {
            state: Lock::new(State::Running { detached: false }),
            ended: Signal::new(),
            watch,
        }
    }

    /// In the thread itself: it is what those who join it wait for.
    pub(super) fn runs(&self) {
        self.watch.acquired(Hold::Exclusive, true);
    }

    /// The thread has ended; a panic that is nobody's any more comes back.
    pub(super) fn end(&self, result: Result<T, E>) -> Option<E> {
        self.watch.link().released(Hold::Exclusive);
        tasks::thread_ends();
        let mut state = self.state.lock();
        if matches!(*state, State::Running { detached: true }) {
            *state = State::Taken;
            drop(state);
            return result.err();
        }
        *state = State::Ended(result);
        drop(state);
        self.ended.notify_all();
        None
    }

    /// Nobody joins the thread any more; a panic that nobody took comes back.
    pub(super) fn detach(&self) -> Option<E> {
        let mut state = self.state.lock();
        let before = match &mut *state {
            State::Running { detached } => {
                *detached = true;
                return None;
            }
            ended => std::mem::replace(ended, State::Taken),
        };
        drop(state);
        match before {
            State::Ended(Err(panic)) => Some(panic),
            _ => None,
        }
    }

    /// The result, if it ends in time.
    pub(super) fn take(&self, until: Until) -> Result<Option<Result<T, E>>, Deadlock> {
        if matches!(*self.state.lock(), State::Running { .. }) {
            if until == Until::Now {
                return Ok(None);
            }
            let waiting = self.watch.wait(Hold::Shared, until, || false)?;
            let mut state = self.state.lock();
            let mut in_time = true;
            while in_time && matches!(*state, State::Running { .. }) {
                in_time = self.ended.wait(&mut state, until);
            }
            drop(state);
            waiting.over();
        }
        let mut state = self.state.lock();
        if matches!(*state, State::Running { .. }) {
            return Ok(None);
        }
        let State::Ended(result) = std::mem::replace(&mut *state, State::Taken) else {
            // It was taken by who had the only handle: nobody asks again.
            return Ok(None);
        };
        Ok(Some(result))
    }
}

/// What a thread runs.
pub(super) fn run<T>(thread: &Thread, outcome: &Outcome<T>, work: impl FnOnce() -> T) {
    thread.enter();
    outcome.runs();
    let result = par_core::catch(work).map_err(|error| match error {
        TaskError::Panicked(panic) => panic,
        other => Panic {
            message: other.to_string(),
            location: None,
        },
    });
    // Not alive any more before those who join it go on.
    thread.end();
    if let Some(panic) = outcome.end(result) {
        thread.report(&panic);
    }
}

/// A thread that was started. Dropped without a join it goes on by itself.
pub struct JoinHandle<T> {
    thread: Thread,
    outcome: Arc<Outcome<T>>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(thread: Thread, outcome: Arc<Outcome<T>>) -> Self {
        JoinHandle { thread, outcome }
    }

    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        self.thread.is_alive()
    }

    fn take(&self, until: Until) -> Result<Option<T>, JoinError> {
        if until != Until::Now && Thread::current() == self.thread {
            return Err(JoinError::Itself(self.thread.name().to_owned()));
        }
        let taken = self.outcome.take(until)?;
        taken.transpose().map_err(|panic| JoinError::Panicked {
            name: self.thread.name().to_owned(),
            panic,
        })
    }

    /// Waits for the end of the thread; its result.
    ///
    /// # Errors
    /// [`JoinError`]: it panicked, it is this thread, or the detector found that it waits for this one.
    pub fn join(self) -> Result<T, JoinError> {
        // Without an end to wait for, there is one.
        self.take(Until::Forever)?
            .ok_or_else(|| JoinError::Itself(self.thread.name().to_owned()))
    }

    /// As [`join`](Self::join), at most for `timeout`.
    ///
    /// # Errors
    /// The handle itself when the time is over.
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        match self.take(Until::after(timeout)) {
            Ok(Some(value)) => Ok(Ok(value)),
            Ok(None) => Err(self),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(panic) = self.outcome.detach() {
            self.thread.report(&panic);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinHandle").field(&self.thread).finish()
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    #[test]
    fn a_result_is_taken_by_who_waits() {
        loom::model(|| {
            let outcome = loom::sync::Arc::new(Outcome::<i32>::new("worker"));
            let ends = loom::sync::Arc::clone(&outcome);
            let thread = thread::spawn(move || assert!(ends.end(Ok(7)).is_none()));
            assert_eq!(outcome.take(Until::Forever), Ok(Some(Ok(7))));
            thread.join().expect("no panic");
        });
    }

    #[test]
    fn a_panic_is_told_once_whoever_is_first() {
        loom::model(|| {
            let outcome = loom::sync::Arc::new(Outcome::<()>::new("worker"));
            let ends = loom::sync::Arc::clone(&outcome);
            let panic = Panic {
                message: "oh".to_owned(),
                location: None,
            };
            let thread = thread::spawn(move || ends.end(Err(panic)).is_some());
            let here = outcome.detach().is_some();
            let there = thread.join().expect("no panic");
            assert!(here != there, "{here} {there}");
        });
    }
}
