//! How a pool ends.
//!
//! A thread cannot be killed. Whatever still runs at the deadline is told by its token, counted as detached, and ends its
//! thread when it comes back; whoever waits for it is told at once that it was cancelled. A pool that is shut down on one of its own threads cannot wait for that thread, nor for others
//! that may wait for it: it closes, and its threads end by themselves.

use super::Inner;
use super::queue::Phase;
use par_core::engine::{Shutdown, ShutdownReport};
use par_core::job::Job;
use par_core::{Claimant, TaskError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl Inner {
    pub(crate) fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        let until = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let inside = self.is_inside();
        let mut cancelled = match how {
            Shutdown::Drain => {
                self.queue.close(Phase::Draining, false);
                0
            }
            Shutdown::CancelPending | Shutdown::Kill => self.cancel_all(),
        };
        self.wake_all();
        let mut detached = self.wait_for_threads(until, inside);
        if detached > 0 && !inside {
            // Past the deadline nothing more begins, whatever was asked for.
            cancelled += self.cancel_all();
            self.wake_all();
            // Those who wait need not wait for threads that nobody can end.
            self.running()
                .iter()
                .for_each(|job| job.end_early(TaskError::Cancelled));
            detached = self.queue.state.lock().threads;
        }
        ShutdownReport {
            ran: self.ran(),
            cancelled,
            lost: 0,
            detached,
        }
    }

    fn ran(&self) -> u64 {
        let state = self.queue.state.lock();
        let serving: u64 = state
            .desks
            .iter()
            .map(|desk| desk.ran.load(Ordering::Relaxed))
            .sum();
        serving + self.ran.load(Ordering::Relaxed)
    }

    fn wake_all(&self) {
        self.lounge.call(usize::MAX);
    }

    /// What the threads are running parts of.
    fn running(&self) -> Vec<Arc<Job>> {
        let desks = self.queue.state.lock().desks.clone();
        desks.iter().flat_map(|desk| desk.jobs.lock().clone()).collect()
    }

    /// Closes the queue, ends what is in it as cancelled, and raises the tokens of what runs; the number of parts that were
    /// cancelled.
    fn cancel_all(&self) -> u64 {
        let mut cancelled = 0;
        for job in self.queue.close(Phase::Closed, true) {
            // Counted claim by claim: workers and waiters may be claiming at the same time.
            while let Some(claim) = job.claim(Claimant::Any) {
                cancelled += claim.range().len() as u64;
                claim.fail(TaskError::Cancelled);
            }
            job.cancel();
        }
        for job in self.running() {
            job.cancel();
        }
        cancelled
    }

    /// Waits until all threads have ended; how many have not.
    fn wait_for_threads(&self, until: Option<Instant>, inside: bool) -> usize {
        let handles = {
            let mut state = self.queue.state.lock();
            while state.threads > 0 && !inside {
                match until {
                    None => self.queue.ended.wait(&mut state),
                    Some(at) => {
                        if self.queue.ended.wait_until(&mut state, at).timed_out() {
                            break;
                        }
                    }
                }
            }
            if state.threads > 0 {
                return state.threads;
            }
            std::mem::take(&mut state.handles)
        };
        if !inside {
            for handle in handles {
                // A thread of ours catches what it runs; should its end panic, it has ended all the same.
                let _ = handle.join();
            }
        }
        0
    }
}
