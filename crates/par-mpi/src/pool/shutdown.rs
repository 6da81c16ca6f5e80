//! How a pool ends.
//!
//! A rank cannot be killed alone. Whoever still runs a task at the deadline is told by its token and counted as detached, and whoever
//! waits for that task is told at once that it was cancelled; the rank serves other pools meanwhile.

use super::Hub;
use super::seat::Flight;
use crate::protocol::down;
use par_core::engine::{Refused, Shutdown, ShutdownReport};
use par_core::{Claimant, TaskError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long workers that have nothing to do may take to end: destructors of worker-local state may run.
const GRACE: Duration = Duration::from_secs(5);
/// How long a rank may take to give back what it has not begun.
const BACK: Duration = Duration::from_secs(1);

impl Hub {
    /// Ends the work, then the workers.
    pub(super) fn end(&self, how: Shutdown, until: Option<Instant>) -> ShutdownReport {
        self.queue.refuse(Refused::Closed);
        let cancelled = self.cancelled.load(Ordering::Relaxed);
        if how != Shutdown::Drain {
            self.cancel_all();
        }
        let mut detached = 0;
        if !self.queue.wait_idle(until) {
            self.cancel_all();
            self.queue.wait_until(Instant::now() + BACK, || self.is_settled());
            detached = self.detach();
        }
        for (index, seat) in self.seats.iter().enumerate() {
            if !seat.state.lock().ended {
                self.say(index, down::STOP, |_| {});
            }
        }
        let grace = Instant::now() + GRACE;
        let mut health = self.health.lock();
        while health.ended + detached < self.seats.len() {
            if self.health_changed.wait_until(&mut health, grace).timed_out() {
                break;
            }
        }
        ShutdownReport {
            ran: self.ran.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed) - cancelled,
            lost: 0,
            detached,
        }
    }

    /// Whether no rank was asked for something that it has not given back.
    fn is_settled(&self) -> bool {
        self.seats.iter().all(|seat| seat.state.lock().recalls == 0)
    }

    /// Gives up what still runs; how many workers run something.
    fn detach(&self) -> usize {
        let mut detached = 0;
        for seat in &self.seats {
            let flight = seat.state.lock().take_flight();
            detached += usize::from(!flight.is_empty());
            for Flight { taken, .. } in flight {
                taken.claim.job().end_early(TaskError::Cancelled);
                taken.claim.fail(TaskError::Cancelled);
                self.queue.ended(1);
            }
        }
        detached
    }

    /// Cancels everything that has not begun, and raises the tokens of what has.
    fn cancel_all(&self) {
        let (claims, jobs) = self.queue.end(&TaskError::Cancelled);
        claims.into_iter().for_each(|claim| self.cancel_claim(claim));
        for job in jobs {
            // Claimed one by one, because whoever claims a part knows that nobody else has it.
            self.queue.held(1);
            while let Some(claim) = job.claim(Claimant::Any) {
                self.queue.held(1);
                self.cancel_claim(claim);
            }
            self.queue.ended(1);
            job.cancel();
        }
        let mut running: Vec<_> = Vec::new();
        for seat in &self.seats {
            let state = seat.state.lock();
            running.extend(
                state
                    .flight
                    .iter()
                    .map(|flight| Arc::clone(flight.taken.claim.job())),
            );
        }
        running.sort_unstable_by_key(|job| job.id());
        running.dedup_by_key(|job| job.id());
        for job in running {
            job.cancel();
            self.cancel(&job);
        }
    }
}
