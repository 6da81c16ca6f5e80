//! A thread that sleeps in a line, until it is called or gives up.
//!
//! 1. A thread puts its sleeper into a line, which has a lock, and gives the lock back before it sleeps.
//! 2. Who takes a sleeper out of the line calls it, with the lock; each is called once a stay at most.
//! 3. Who gives up looks, with the lock, whether it is still in the line. If it is not, it was called.

use crate::sync_seam::{Lock, Signal, Until};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Sleeper {
    called: Lock<bool>,
    signal: Signal,
}

#[cfg(not(loom))]
thread_local! {
    static MINE: Arc<Sleeper> = Arc::new(Sleeper::new());
}

impl Sleeper {
    fn new() -> Self {
        Sleeper {
            called: Lock::new(false),
            signal: Signal::new(),
        }
    }

    /// That of the calling thread, which is in no line.
    #[cfg(not(loom))]
    pub(super) fn mine() -> Arc<Self> {
        let mine = MINE.try_with(Arc::clone);
        // A thread that ends has none any more.
        let mine = mine.unwrap_or_else(|_| Arc::new(Sleeper::new()));
        *mine.called.lock() = false;
        mine
    }

    #[cfg(loom)]
    pub(super) fn mine() -> Arc<Self> {
        Arc::new(Sleeper::new())
    }

    /// Whether it was called before the time was over; if not, rule 3.
    pub(super) fn sleep(&self, until: Until) -> bool {
        let mut called = self.called.lock();
        while !*called {
            if !self.signal.wait(&mut called, until) {
                return *called;
            }
        }
        true
    }

    fn call(&self) {
        *self.called.lock() = true;
        self.signal.notify_one();
    }
}

/// Those who sleep, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<Arc<Sleeper>>);

impl Line {
    pub(super) const fn new() -> Self {
        Line(VecDeque::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn join(&mut self, sleeper: &Arc<Sleeper>) {
        self.0.push_back(Arc::clone(sleeper));
    }

    /// Calls the first; false if there is none.
    pub(super) fn call_first(&mut self) -> bool {
        self.0.pop_front().map(|sleeper| sleeper.call()).is_some()
    }

    /// Takes out who gives up; false if it was called (rule 3).
    pub(super) fn leave(&mut self, sleeper: &Arc<Sleeper>) -> bool {
        let at = self.0.iter().position(|other| Arc::ptr_eq(other, sleeper));
        at.is_some_and(|at| self.0.remove(at).is_some())
    }
}
