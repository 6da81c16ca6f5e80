//! The pool's side: jobs wait in a queue, seats carry them to workers, whoever waits for an answer reads the sockets.
//!
//! 1. A claim is in one place: with a thread that encodes it, in the flight of a seat, or put back into the queue. It is counted as
//!    held from before it is claimed until it has ended, so that "nothing is held and nothing waits" means that all is done.
//! 2. Locks are taken in the order seat, queue, and held for moments. Code of users (encoding, completions, callbacks, observers,
//!    destructors) never runs under either.
//! 3. One thread at a time reads, the one that has the role: a thread that waits for an outcome, or the pool's own thread if there is
//!    none. Code that runs while it reads must not block, and is told so.
//! 4. The pool's own thread starts all workers, so that the signal of a parent's death, which follows the starting thread, means the
//!    pool's end. It ends them too, as they die with it.

mod engine;
mod feed;
mod hear;
mod leave;
mod output;
#[cfg(test)]
mod points;
mod pump;
mod queue;
mod seat;
mod seats;
mod shutdown;
mod supervisor;
#[cfg(test)]
mod tests;

pub use engine::ProcessEngine;

use crate::protocol::Setup;
use output::Output;
use par_core::job::Claim;
use par_core::observe::Observers;
use par_core::{StartError, TaskError};
use parking_lot::{Condvar, Mutex};
use pump::Pump;
use queue::{Queue, Taken};
use seats::Seats;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Everything that the threads of a pool share.
pub(crate) struct Hub {
    me: Weak<Hub>,
    setup: Setup,
    restarts: u32,
    /// Bytes for large values in each direction.
    shared: u64,
    /// Parts that a worker is given before it is replaced.
    tasks_per_worker: u64,
    observers: Observers,
    queue: Queue,
    seats: Seats,
    /// One thread at a time changes how many workers are wanted.
    resizing: Mutex<()>,
    /// The threads that see workers off.
    leaving: Mutex<Vec<JoinHandle<Option<()>>>>,
    pump: Pump,
    /// What workers print, where it goes through the pool.
    output: Option<Output>,
    health: Mutex<Health>,
    health_changed: Condvar,
    /// Parts that were answered, went with their worker, and were cancelled by the engine.
    ran: AtomicU64,
    lost: AtomicU64,
    cancelled: AtomicU64,
}

/// How the workers are.
#[derive(Default)]
struct Health {
    /// How often a worker has said that it is ready.
    ready: u64,
    started: bool,
    /// Restarts that were used up.
    restarted: u32,
    /// Seats whose worker is to be started.
    vacant: Vec<usize>,
    /// No worker is started before that: the system has just refused one.
    not_before: Option<Instant>,
    /// How long the last wait for that was.
    pause: Duration,
    failed: Option<StartError>,
    /// No worker is started any more.
    ending: bool,
    /// The pool's own thread is to end the workers, which may take until then, and itself.
    over: Option<Option<Instant>>,
}

impl Hub {
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

    /// As `put_back`, for claims that had been sent.
    fn give_back(&self, mut claims: Vec<Taken>) {
        for taken in &mut claims {
            taken.claim.taken_back();
        }
        self.put_back(claims);
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
}
