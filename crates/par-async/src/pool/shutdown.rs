//! How a pool ends.
//!
//! Async tasks are cancelled by dropping their futures, at the latest when they next wait for something. A thread of the crew cannot be
//! ended: whatever still runs at the deadline is told by its token and counted as detached, and whoever waits for it is told at once
//! that it was cancelled. Async code, and a task of the pool, cannot wait for that end without standing in its way: there the
//! pool is closed, and a thread of its own does the waiting.

use super::runtime::{is_inside, may_block};
use super::{Inner, Phase, State};
use par_core::engine::{Shutdown, ShutdownReport};
use par_core::{Claimant, TaskError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long futures that were woken to be dropped have for it once the deadline has passed.
const GRACE: Duration = Duration::from_millis(100);

impl Inner {
    pub(super) fn shutdown(this: &Arc<Self>, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        let until = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let cancelled = match how {
            Shutdown::Drain => {
                this.close(Phase::Draining);
                0
            }
            Shutdown::CancelPending | Shutdown::Kill => this.cancel_all(),
        };
        if !is_inside(this.number) && may_block().is_ok() {
            return this.wait_for_end(until, cancelled);
        }
        // The engine stays until then: what is drained finds its pool.
        let (waiter, engine) = (Arc::clone(this), this.engine.upgrade());
        let spawned = Builder::new().name("par-async-end".to_owned()).spawn(move || {
            waiter.wait_for_end(until, cancelled);
            drop(engine);
        });
        if spawned.is_err() {
            // Its threads and futures end by themselves; only the runtime must not be left behind.
            this.runtime.end(Some(Duration::ZERO));
        }
        this.report(cancelled)
    }

    /// The pool as it is, with whoever is still busy as detached.
    fn report(&self, cancelled: u64) -> ShutdownReport {
        let state = self.state.lock();
        ShutdownReport {
            ran: state.ran,
            cancelled: cancelled + state.cancelled,
            lost: 0,
            detached: state.threads + state.live.min(self.common.workers),
        }
    }

    /// Takes nothing more from outside, or nothing at all.
    fn close(&self, phase: Phase) {
        let wakers = {
            let mut state = self.state.lock();
            if state.phase != Phase::Closed {
                state.phase = phase;
            }
            // Set under the lock of the list of those that sleep (rule 6).
            self.closed.store(state.phase == Phase::Closed, Ordering::Release);
            self.work.notify_all();
            self.room.notify_all();
            self.look_at_end(&mut state)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Closes the pool, ends what waits as cancelled, and raises the tokens of what runs; the number of parts that were cancelled
    /// before they began.
    fn cancel_all(&self) -> u64 {
        self.close(Phase::Closed);
        let (waiting, desks, sleeping) = {
            let mut state = self.state.lock();
            let mut waiting = std::mem::take(&mut state.jobs);
            waiting.append(&mut state.pending);
            waiting.extend(state.take_line());
            (waiting, state.desks.clone(), state.sleeping.jobs())
        };
        let mut cancelled = 0;
        for job in waiting {
            // Counted claim by claim: workers and waiters may be claiming at the same time.
            while let Some(claim) = job.claim(Claimant::Any) {
                cancelled += claim.range().len() as u64;
                claim.fail(TaskError::Cancelled);
            }
            job.cancel();
        }
        let running = desks.iter().flat_map(|desk| desk.jobs());
        for job in running.chain(sleeping) {
            while let Some(claim) = job.claim(Claimant::Any) {
                cancelled += claim.range().len() as u64;
                claim.fail(TaskError::Cancelled);
            }
            job.cancel();
        }
        // The queues are empty now, which may be the end.
        self.close(Phase::Closed);
        cancelled
    }

    /// Where there is nothing left to do, lets the crew go, and gives the pumps to wake for the same.
    #[must_use = "the pumps are to be woken, outside the lock"]
    pub(super) fn look_at_end(&self, state: &mut State) -> Vec<Waker> {
        if state.phase == Phase::Open || !state.is_idle() {
            return Vec::new();
        }
        self.work.notify_all();
        self.ended.notify_all();
        state.line.wake_all()
    }

    /// Waits until no thread and no future is left, but not beyond `until`; whether that came to be.
    fn has_ended(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while state.threads > 0 || state.live > 0 {
            match until {
                None => self.ended.wait(&mut state),
                Some(at) => {
                    if self.ended.wait_until(&mut state, at).timed_out() {
                        return state.threads == 0 && state.live == 0;
                    }
                }
            }
        }
        true
    }

    fn wait_for_end(&self, until: Option<Instant>, mut cancelled: u64) -> ShutdownReport {
        let mut ended = self.has_ended(until);
        if !ended {
            // Past the deadline nothing more begins, whatever was asked for.
            cancelled += self.cancel_all();
            let running = {
                let state = self.state.lock();
                let desks = state.desks.iter().flat_map(|desk| desk.jobs());
                desks.chain(state.sleeping.jobs()).collect::<Vec<_>>()
            };
            // Those who wait need not wait for what nobody can end.
            for job in running {
                job.end_early(TaskError::Cancelled);
            }
            let grace = Instant::now() + GRACE;
            let mut state = self.state.lock();
            while state.live > 0 && !self.ended.wait_until(&mut state, grace).timed_out() {}
            ended = state.threads == 0 && state.live == 0;
        }
        let report = self.report(cancelled);
        let handles = std::mem::take(&mut self.state.lock().handles);
        for handle in handles {
            if ended || handle.is_finished() {
                // A thread of ours catches what it runs; should its end panic, it has ended all the same.
                let _ = handle.join();
            }
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()).max(GRACE));
        self.runtime.end(if ended { left } else { Some(GRACE) });
        report
    }
}
