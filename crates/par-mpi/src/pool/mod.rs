//! The pool's side, on rank 0: jobs wait in a queue, seats carry them to ranks, whoever waits for an answer reads what they say.
//!
//! 1. A claim is in one place: with a thread that encodes it, in the flight of a seat, or put back into the queue. It is counted as
//!    held from before it is claimed until it has ended, so that "nothing is held and nothing waits" means that all is done.
//! 2. Locks are taken in the order seat, queue, and held for moments. Code of users (encoding, completions, callbacks, observers,
//!    destructors) never runs under either. Messages are sent under the lock of their seat, so that they go in the order of its numbers.
//! 3. One thread at a time reads, for all pools of the rank (`office.rs`). Code that runs while it reads must not block, and is told so.
//! 4. What a rank was sent and has not begun comes back when the pool asks, and only so: the answer of the rank says what it is.

mod engine;
mod feed;
mod hear;
mod office;
mod queue;
mod seat;
mod shutdown;

pub use engine::{MpiEngine, MpiOptions};
pub(crate) use office::{Office, release};

use crate::protocol::{down, message};
use crate::transport::Channel;
use par_core::engine::Refused;
use par_core::job::{Claim, Job};
use par_core::observe::Observers;
use par_core::{ShareId, StartError, TaskError};
use parking_lot::{Condvar, Mutex};
use queue::{Queue, Taken};
use seat::{Flight, Seat};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Everything that the threads of a pool share.
pub(crate) struct Hub {
    me: Weak<Hub>,
    /// The number of the pool on its ranks.
    pool: u64,
    office: Arc<Office>,
    longest: u64,
    observers: Observers,
    queue: Queue,
    /// Seat `i` is a worker on rank `i + 1`.
    seats: Box<[Seat]>,
    health: Mutex<Health>,
    health_changed: Condvar,
    /// Parts that were answered, and that were cancelled by the engine.
    ran: AtomicU64,
    cancelled: AtomicU64,
}

/// How the workers are.
#[derive(Default)]
struct Health {
    /// Workers that have said that they are ready.
    ready: usize,
    failed: Option<StartError>,
    /// Workers that have ended.
    ended: usize,
}

impl Hub {
    /// Sends a message to the worker of a seat.
    fn say(&self, seat: usize, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        self.send(seat, kind, message(self.pool, fill));
    }

    fn send(&self, seat: usize, kind: u32, bytes: Vec<u8>) {
        let sent = self
            .office
            .transport()
            .send(Channel::Engine, seat + 1, kind, bytes);
        if let Err(error) = sent {
            self.office.fail_later(error.to_string());
        }
    }

    /// Gives claims that were not sent, or not begun, to other workers.
    fn put_back(&self, claims: Vec<Taken>) {
        if claims.is_empty() {
            return;
        }
        if let Err((error, claims)) = self.queue.put_back(claims) {
            for taken in claims {
                self.end_claim(taken.claim, &error);
            }
        }
    }

    /// As `put_back`, for claims that had been sent; those whose job is not wanted any more end.
    fn give_back(&self, claims: Vec<Taken>) {
        let mut wanted = Vec::with_capacity(claims.len());
        for mut taken in claims {
            taken.claim.taken_back();
            let job = taken.claim.job();
            if job.is_cancelled() || job.is_done() {
                self.cancel_claim(taken.claim);
            } else {
                wanted.push(taken);
            }
        }
        self.put_back(wanted);
    }

    fn end_claim(&self, claim: Claim, error: &TaskError) {
        if *error == TaskError::Cancelled {
            self.cancel_claim(claim);
        } else {
            self.fail_claim(claim, error.clone());
        }
    }

    /// Ends a claim that will not be run.
    fn cancel_claim(&self, claim: Claim) {
        self.cancelled
            .fetch_add(claim.range().len() as u64, Ordering::Relaxed);
        claim.fail(TaskError::Cancelled);
        self.queue.ended(1);
    }

    fn fail_claim(&self, claim: Claim, error: TaskError) {
        claim.fail(error);
        self.queue.ended(1);
    }

    /// A job was cancelled or ended early: takes back what has not begun, and tells the workers that run it.
    fn cancel(&self, job: &Arc<Job>) {
        let id = job.id();
        self.queue.purge();
        for claim in self.queue.take_again(id) {
            self.cancel_claim(claim);
        }
        for (index, seat) in self.seats.iter().enumerate() {
            let mut state = seat.state.lock();
            if state.flies(id) {
                state.recalls += 1;
                self.say(index, down::CANCEL, |out| {
                    out.extend_from_slice(&id.0.to_le_bytes())
                });
            }
        }
        self.feed_idle();
        self.office.wake();
    }

    /// The shared value is gone.
    fn evict(&self, share: ShareId) {
        let mut foreign = Vec::new();
        for (index, seat) in self.seats.iter().enumerate() {
            let mut state = seat.state.lock();
            foreign.extend(state.foreign.remove(&share));
            if !state.ended {
                state.evicted.push(share);
                self.settle_evictions(index, &mut state);
            }
        }
    }

    /// The ranks can do nothing more for this pool: ends everything with that reason.
    fn give_up(&self, why: &str) {
        let error = TaskError::Broken(why.to_owned());
        self.queue.refuse(Refused::Broken(why.to_owned()));
        let (claims, jobs) = self.queue.end(&error);
        for claim in claims {
            self.fail_claim(claim, error.clone());
        }
        for job in jobs {
            job.fail_unclaimed(&error);
        }
        for seat in &self.seats {
            let flight = {
                let mut state = seat.state.lock();
                state.ended = true;
                state.take_flight()
            };
            for Flight { taken, .. } in flight {
                self.fail_claim(taken.claim, error.clone());
            }
        }
        let mut health = self.health.lock();
        health
            .failed
            .get_or_insert(StartError::Unavailable(why.to_owned()));
        health.ended = self.seats.len();
        self.health_changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
