//! Substitutes: threads that serve while every worker sleeps in a wait.
//!
//! A wait without a deadline runs what it needs itself, so somebody is always awake who brings it forward. A wait with a
//! deadline runs nothing (law 9), so with all workers in such waits nobody would run what they wait for. Then, and only
//! then, a substitute is lent: it serves the queue until a worker is awake again or nothing is queued, and ends.

use super::Inner;
use super::queue::Seeker;
use super::worker::{Desk, Worker};
use std::sync::Arc;

impl Inner {
    /// A thread of the pool begins (`true`) or ends a sleep.
    pub(crate) fn blocking(&self, index: usize, begins: bool) {
        let lend = {
            let mut state = self.queue.state.lock();
            if begins {
                state.block(index);
                state.lend()
            } else {
                state.unblock(index);
                None
            }
        };
        self.substitute(lend);
    }

    /// Starts a substitute for that worker, which counts as a thread already.
    pub(crate) fn substitute(&self, index: Option<usize>) {
        let Some(index) = index else { return };
        let Some(engine) = self.engine.upgrade() else {
            return self.thread_ended(None, false);
        };
        let inner = Arc::clone(&engine.inner);
        let weak = self.engine.clone();
        let spawned = self
            .builder(format!("{}-{index}s", self.options.name))
            .spawn(move || {
                inner.keep_to_core(index);
                let desk = Arc::new(Desk::new(index));
                inner.queue.state.lock().desks.push(Arc::clone(&desk));
                let entered = par_core::enter_worker(index, weak);
                let worker = Worker::new(Arc::clone(&inner), index, Arc::clone(&desk), None);
                let ready = worker.enter(|worker| {
                    // Where the initialiser fails there is no substitute: those who wait keep their deadline all the same.
                    let ready = inner
                        .common
                        .initializer
                        .as_ref()
                        .is_none_or(|task| task.run().is_ok());
                    while ready && let Some(work) = inner.queue.next(Seeker::Substitute, &inner) {
                        super::threads::run(worker, work);
                        if inner.queue.state.lock().others_awake() {
                            break;
                        }
                    }
                    ready
                });
                drop(entered);
                inner.thread_ended(Some(&desk), ready);
            });
        match spawned {
            Ok(handle) => self.keep(handle),
            // Nothing can be lent; those who wait keep their deadline all the same.
            Err(_) => self.thread_ended(None, false),
        }
    }
}

/// A thread of the pool that sleeps while this lives.
pub(crate) struct Asleep<'a> {
    inner: &'a Inner,
    index: usize,
}

impl<'a> Asleep<'a> {
    pub(crate) fn begin(inner: &'a Inner, index: usize) -> Self {
        inner.blocking(index, true);
        Asleep { inner, index }
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.inner.blocking(self.index, false);
    }
}
