//! The engine that tasks see on a worker: what they submit is run here by those who wait for it, or by the pool.
//!
//! 1. A job stays here while somebody may still claim it in place. Its parts are offered to the pool when the thread that submitted it
//!    waits for something else or ends its task, and one by one while other workers are idle.
//! 2. What is offered ends with the pool's answer, and only so. A task that waits for it says that it is wanted first.

use super::Worker;
use crate::protocol::{Submit, check_length, put, up};
use par_core::engine::{Capabilities, Engine, Info, Refused, Room, Shutdown, ShutdownReport};
use par_core::job::{Claim, Job, JobId};
use par_core::observe::Observers;
use par_core::share::{AnyShare, Recorder};
use par_core::{Claimant, ShareId, TaskError};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// A worker's own pool.
pub(super) struct Nested {
    me: Weak<Nested>,
    worker: Weak<Worker>,
    /// Jobs with parts that nobody has claimed, and the threads that submitted them.
    local: Mutex<VecDeque<(ThreadId, Arc<Job>)>>,
    offers: Mutex<Offers>,
    observers: Observers,
    ran: AtomicU64,
}

#[derive(Default)]
struct Offers {
    next: u64,
    out: HashMap<u64, Claim>,
    /// Shared values that the pool was sent.
    shared: HashSet<ShareId>,
}

impl Nested {
    pub(super) fn new(worker: Weak<Worker>) -> Arc<Self> {
        Arc::new_cyclic(|me| Nested {
            me: Weak::clone(me),
            worker,
            local: Mutex::default(),
            offers: Mutex::default(),
            observers: Observers::default(),
            ran: AtomicU64::new(0),
        })
    }

    pub(super) fn engine(&self) -> Weak<dyn Engine> {
        Weak::clone(&self.me) as _
    }

    fn has_local(&self) -> bool {
        !self.local.lock().is_empty()
    }

    /// The claim that an answer is for.
    pub(super) fn answered(&self, id: u64) -> Option<Claim> {
        self.offers.lock().out.remove(&id)
    }

    /// What is out of that job.
    fn out_of(&self, job: JobId) -> Vec<u64> {
        let offers = self.offers.lock();
        let of_job = offers.out.iter().filter(|(_, claim)| claim.job().id() == job);
        let mut ids: Vec<u64> = of_job.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// A claim of a local job, of this thread's only if `own`.
    fn claim(&self, own: bool) -> Option<Claim> {
        let me = thread::current().id();
        loop {
            let job = {
                let mut local = self.local.lock();
                // Those that others have claimed to the end go on the way.
                local.retain(|(_, job)| job.unclaimed() > 0);
                let found = local.iter().find(|(thread, _)| !own || *thread == me);
                Arc::clone(&found?.1)
            };
            if let Some(claim) = job.claim(Claimant::Any) {
                return Some(claim);
            }
        }
    }
}

impl Worker {
    /// Offers everything that this thread has submitted and nobody has claimed.
    pub(super) fn offer_own(&self) {
        if !self.nested.has_local() {
            return;
        }
        while let Some(claim) = self.nested.claim(true) {
            self.offer(claim);
        }
    }

    /// Offers up to `count` claims of anything, because other workers are idle.
    pub(super) fn offer_some(&self, count: usize) {
        let mut left = count;
        while left > 0
            && let Some(claim) = self.nested.claim(false)
        {
            left -= 1;
            self.offer(claim);
        }
    }

    fn offer(&self, mut claim: Claim) {
        let mut input = Vec::new();
        // Code of users encodes, and may panic.
        let made = par_core::catch(|| {
            let mut recorder = Recorder::new();
            let call = claim.call(true)?;
            let part = claim.encode(&mut input, &mut recorder)?;
            check_length("inputs", input.len(), self.longest)?;
            let mut shares = Vec::new();
            for share in recorder.take() {
                self.send_share(&*share)?;
                shares.push(share.id());
            }
            Ok((call, part, shares))
        });
        let (call, part, shares) = match made.and_then(|made| made) {
            Ok(made) => made,
            Err(error) => return claim.fail(error),
        };
        let (idempotent, attempts) = (claim.job().idempotent(), claim.job().attempts());
        claim.delivered(None);
        let mut offers = self.nested.offers.lock();
        offers.next += 1;
        let id = offers.next;
        let submit = Submit {
            id,
            call,
            part,
            idempotent,
            attempts,
            shares,
        };
        offers.out.insert(id, claim);
        // Said under the lock: a value that it names must not be taken back in between.
        self.say(up::SUBMIT, |out| {
            put(out, &submit);
            out.extend_from_slice(&input);
        });
    }

    /// Sends a shared value to the pool, if it was not sent before.
    fn send_share(&self, share: &dyn AnyShare) -> Result<(), TaskError> {
        let id = share.id();
        if self.nested.offers.lock().shared.contains(&id) {
            return Ok(());
        }
        let value = share.bytes()?;
        check_length("a shared value", value.len(), self.longest)?;
        let mut offers = self.nested.offers.lock();
        self.say(up::SHARE, |out| {
            put(out, &id);
            out.extend_from_slice(&value);
        });
        offers.shared.insert(id);
        Ok(())
    }

    fn tell(&self, kind: u32, id: u64, flag: Option<u8>) {
        self.say(kind, |out| {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend(flag);
        });
    }
}

impl Engine for Nested {
    fn info(&self) -> Info {
        let worker = self.worker.upgrade();
        let processes = worker
            .as_ref()
            .is_some_and(|worker| worker.desk.transport.processes());
        let capabilities = Capabilities {
            processes,
            shared_fate: processes,
            same_program: true,
            ..Capabilities::default()
        };
        Info {
            name: crate::NAME,
            workers: worker.map_or(1, |worker| worker.workers),
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, _: Room) -> Result<(), Refused> {
        let worker = self.worker.upgrade().ok_or(Refused::Closed)?;
        self.local.lock().push_back((thread::current().id(), job));
        if par_core::worker_index().is_some() {
            worker.desk.call();
        } else {
            // A thread of the user's own: nobody knows when it waits.
            worker.offer_own();
        }
        Ok(())
    }

    fn cancel(&self, job: &Arc<Job>, kill: bool) {
        self.local.lock().retain(|(_, held)| held.unclaimed() > 0);
        let Some(worker) = self.worker.upgrade() else {
            return;
        };
        for id in self.out_of(job.id()) {
            worker.tell(up::CANCEL, id, Some(u8::from(kill)));
        }
    }

    fn run_inline(&self, claim: Claim) {
        self.ran.fetch_add(claim.range().len() as u64, Ordering::Relaxed);
        claim.run();
    }

    fn assist(&self, job: &Job) -> bool {
        if let Some(worker) = self.worker.upgrade() {
            for id in self.out_of(job.id()).into_iter().rev() {
                worker.tell(up::PREFER, id, None);
            }
        }
        false
    }

    fn blocking(&self, begins: bool) {
        if let Some(worker) = self.worker.upgrade() {
            worker.blocking(begins);
        }
    }

    fn evict(&self, share: ShareId) {
        if self.offers.lock().shared.remove(&share)
            && let Some(worker) = self.worker.upgrade()
        {
            worker.say(up::EVICT, |out| put(out, &share));
        }
    }

    fn observers(&self) -> &Observers {
        &self.observers
    }

    /// A task cannot end the pool that it runs on.
    fn shutdown(&self, _: Shutdown, _: Option<Duration>) -> ShutdownReport {
        ShutdownReport {
            ran: self.ran.load(Ordering::Relaxed),
            ..ShutdownReport::default()
        }
    }
}
