//! The end of a pool.

use super::Hub;
use super::leave::{GRACE, see_off};
use crate::protocol::down;
use par_core::engine::{Refused, Shutdown, ShutdownReport};
use par_core::{Claimant, TaskError, wire};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the deaths of killed workers may take to be noticed.
const BURIED: Duration = Duration::from_secs(5);

impl Hub {
    /// Ends the work; the workers are left with nothing to do, or dead.
    pub(super) fn end_work(&self, how: Shutdown, until: Option<Instant>) -> ShutdownReport {
        self.queue.refuse(Refused::Closed);
        let (cancelled, lost) = (
            self.cancelled.load(Ordering::Relaxed),
            self.lost.load(Ordering::Relaxed),
        );
        if how != Shutdown::Drain {
            self.cancel_all();
        }
        let idle = how != Shutdown::Kill && self.queue.wait_idle(until);
        if !idle {
            self.hasten(Shutdown::Kill);
            self.queue.wait_idle(Some(Instant::now() + BURIED));
        }
        self.health.lock().ending = true;
        ShutdownReport {
            ran: self.ran.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed) - cancelled,
            lost: self.lost.load(Ordering::Relaxed) - lost,
            detached: 0,
        }
    }

    /// Makes an end that has begun come sooner.
    pub(super) fn hasten(&self, how: Shutdown) {
        if how != Shutdown::Drain {
            self.cancel_all();
        }
        if how == Shutdown::Kill {
            self.health.lock().ending = true;
            self.kill_all("its pool was shut down");
            self.pump.kick();
        }
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
        let mut running = Vec::new();
        let mut back = Vec::new();
        for seat in self.seats.iter() {
            let mut state = seat.state.lock();
            back.extend(state.recall());
            running.extend(
                state
                    .flight
                    .iter()
                    .map(|flight| std::sync::Arc::clone(flight.taken.claim.job())),
            );
        }
        back.into_iter().for_each(|taken| self.cancel_claim(taken.claim));
        for job in running {
            job.cancel();
            self.cancel(&job, false);
        }
    }

    /// In the pool's own thread: ends the workers, which have nothing to do or are dead.
    pub(super) fn end_workers(&self, until: Option<Instant>) {
        let grace = Instant::now() + GRACE;
        let until = until.map_or(grace, |until| until.min(grace));
        let mut links = Vec::new();
        for seat in self.seats.iter() {
            let mut state = seat.state.lock();
            state.send(|out| {
                // Infallible: there is no payload.
                let _ = wire::append_frame(out, down::STOP, |_| Ok::<(), wire::WireError>(()));
            });
            links.extend(state.link.take());
            state.vacate();
        }
        for link in links {
            see_off(link, until);
        }
        self.wait_for_leaving();
        if let Some(output) = &self.output {
            output.end(Instant::now() + GRACE);
        }
    }
}
