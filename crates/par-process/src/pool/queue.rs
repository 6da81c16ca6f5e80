//! Jobs that wait for workers, and claims that were put back.

use par_core::engine::{Refused, Room};
use par_core::job::{Claim, Job, JobId};
use par_core::{Claimant, TaskError};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What waits, and what is held (rule 1 of the pool).
pub(super) struct Queue {
    state: Mutex<State>,
    /// Room was made, or everything has ended.
    changed: Condvar,
    /// Jobs that may wait.
    bound: usize,
    held: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// What tasks have submitted goes first: somebody who has a worker waits for it.
    nested: Lane,
    outer: Lane,
    refusing: Option<Refused>,
    /// What everything that has not begun ends with, once nothing more is to begin.
    ending: Option<TaskError>,
}

#[derive(Default)]
struct Lane {
    /// Claims that were put back.
    again: VecDeque<Claim>,
    jobs: VecDeque<Arc<Job>>,
}

/// A claim, and which lane it is from.
pub(super) struct Taken {
    pub(super) claim: Claim,
    pub(super) nested: bool,
}

enum Next {
    Claim(Taken),
    Job(Arc<Job>, bool),
}

impl State {
    fn lane(&mut self, nested: bool) -> &mut Lane {
        if nested { &mut self.nested } else { &mut self.outer }
    }

    fn is_empty(&self) -> bool {
        [&self.nested, &self.outer]
            .iter()
            .all(|lane| lane.again.is_empty() && lane.jobs.is_empty())
    }
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            bound,
            held: AtomicUsize::new(0),
        }
    }

    /// Takes a job, once there is room.
    pub(super) fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        let mut state = self.state.lock();
        loop {
            if let Some(refused) = &state.refusing {
                return Err(refused.clone());
            }
            if state.outer.jobs.len() < self.bound {
                state.outer.jobs.push_back(job);
                return Ok(());
            }
            match room {
                Room::Now => return Err(Refused::Full),
                Room::Wait => self.changed.wait(&mut state),
                Room::Until(at) => {
                    let late = self.changed.wait_until(&mut state, at).timed_out();
                    if late && state.refusing.is_none() && state.outer.jobs.len() >= self.bound {
                        return Err(Refused::Full);
                    }
                }
            }
        }
    }

    /// Takes a job of a task, unless nothing more is to begin.
    pub(super) fn submit_nested(&self, job: Arc<Job>) -> Result<(), TaskError> {
        let mut state = self.state.lock();
        match &state.ending {
            Some(error) => Err(error.clone()),
            None => {
                state.nested.jobs.push_back(job);
                Ok(())
            }
        }
    }

    /// Makes `out` hold up to `most` claims of what waits for the worker of a seat; of what tasks have submitted only, if so. The
    /// seat is given with the number of seats that are in use and of those that ever were: what a static mapping has given to
    /// the others falls to those that are.
    pub(super) fn take(
        &self,
        (seat, used, made): (usize, usize, usize),
        most: usize,
        only_nested: bool,
        out: &mut Vec<Taken>,
    ) {
        // Jobs whose other parts are meant for other workers.
        let mut passed: Vec<JobId> = Vec::new();
        while out.len() < most {
            let (job, nested) = match self.next(&passed, only_nested) {
                Some(Next::Claim(taken)) => {
                    out.push(taken);
                    continue;
                }
                Some(Next::Job(job, nested)) => (job, nested),
                None => return,
            };
            let room = most - out.len();
            self.held(room);
            let before = out.len();
            let shares = if job.is_static() { made } else { seat + 1 };
            for share in (seat..shares).step_by(used.max(1)) {
                while out.len() < most
                    && let Some(claim) = job.claim(Claimant::Worker(share))
                {
                    out.push(Taken { claim, nested });
                }
            }
            if job.unclaimed() == 0 {
                self.remove(&job, nested);
            } else {
                passed.push(job.id());
            }
            // What was counted and not claimed.
            self.ended(before + room - out.len());
        }
    }

    fn next(&self, passed: &[JobId], only_nested: bool) -> Option<Next> {
        let mut state = self.state.lock();
        for nested in [true, false] {
            if only_nested && !nested {
                return None;
            }
            let lane = state.lane(nested);
            if let Some(claim) = lane.again.pop_front() {
                return Some(Next::Claim(Taken { claim, nested }));
            }
            if let Some(job) = lane.jobs.iter().find(|job| !passed.contains(&job.id())) {
                return Some(Next::Job(Arc::clone(job), nested));
            }
        }
        None
    }

    fn remove(&self, job: &Arc<Job>, nested: bool) {
        let mut state = self.state.lock();
        let jobs = &mut state.lane(nested).jobs;
        let at = jobs.iter().position(|held| held.id() == job.id());
        // Dropped by the caller at the latest, outside of the lock.
        let removed = at.and_then(|at| jobs.remove(at));
        self.changed.notify_all();
        drop(state);
        drop(removed);
    }

    /// Removes the jobs that have nothing left to claim.
    pub(super) fn purge(&self) {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        for nested in [true, false] {
            let jobs = &mut state.lane(nested).jobs;
            let (left, done): (Vec<_>, Vec<_>) = jobs.drain(..).partition(|job| job.unclaimed() > 0);
            jobs.extend(left);
            // Dropped after the lock.
            gone.extend(done);
        }
        self.changed.notify_all();
        drop(state);
        drop(gone);
    }

    /// Puts claims back, before everything else in their lanes; if nothing more is to begin, they come back with the error that
    /// they end with.
    pub(super) fn put_back(&self, claims: Vec<Taken>) -> Result<(), (TaskError, Vec<Taken>)> {
        let mut state = self.state.lock();
        if let Some(error) = &state.ending {
            return Err((error.clone(), claims));
        }
        for Taken { claim, nested } in claims.into_iter().rev() {
            state.lane(nested).again.push_front(claim);
        }
        Ok(())
    }

    /// A task waits for this nested job: it goes first. Whether it was found waiting.
    pub(super) fn prefer(&self, job: JobId) -> bool {
        let mut state = self.state.lock();
        let lane = &mut state.nested;
        if let Some(at) = lane.again.iter().position(|claim| claim.job().id() == job)
            && let Some(claim) = lane.again.remove(at)
        {
            lane.again.push_front(claim);
            return true;
        }
        if let Some(at) = lane.jobs.iter().position(|held| held.id() == job)
            && let Some(held) = lane.jobs.remove(at)
        {
            lane.jobs.push_front(held);
            return true;
        }
        false
    }

    /// This many claims are held, from before they are claimed.
    pub(super) fn held(&self, count: usize) {
        self.held.fetch_add(count, Ordering::AcqRel);
    }

    /// This many claims have ended.
    pub(super) fn ended(&self, count: usize) {
        if count > 0 && self.held.fetch_sub(count, Ordering::AcqRel) == count {
            // Under the lock, so that nobody is between looking and waiting.
            let _state = self.state.lock();
            self.changed.notify_all();
        }
    }

    /// Whether nothing waits for a worker.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().is_empty()
    }

    /// Refuses what is submitted from now on; a reason that is graver than the one before replaces it.
    pub(super) fn refuse(&self, reason: Refused) {
        let mut state = self.state.lock();
        if state.refusing.is_none() || reason != Refused::Closed {
            state.refusing = Some(reason);
        }
        self.changed.notify_all();
    }

    /// Takes everything out, the claims that were put back and the jobs; what comes later ends with `error`.
    pub(super) fn end(&self, error: &TaskError) -> (Vec<Claim>, Vec<Arc<Job>>) {
        let mut state = self.state.lock();
        state.ending.get_or_insert(error.clone());
        let State { nested, outer, .. } = &mut *state;
        let claims = nested.again.drain(..).chain(outer.again.drain(..)).collect();
        let jobs = nested.jobs.drain(..).chain(outer.jobs.drain(..)).collect();
        self.changed.notify_all();
        (claims, jobs)
    }

    /// Takes out the claims of that job that were put back.
    pub(super) fn take_again(&self, job: JobId) -> Vec<Claim> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        for nested in [true, false] {
            let again = &mut state.lane(nested).again;
            let (mine, others): (Vec<_>, Vec<_>) = again.drain(..).partition(|claim| claim.job().id() == job);
            again.extend(others);
            taken.extend(mine);
        }
        taken
    }

    /// Waits until nothing waits and nothing is held; false when the deadline passes first.
    pub(super) fn wait_idle(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.is_empty() && self.held.load(Ordering::Acquire) == 0 {
                return true;
            }
            match until {
                None => self.changed.wait(&mut state),
                Some(at) => {
                    if self.changed.wait_until(&mut state, at).timed_out() {
                        return state.is_empty() && self.held.load(Ordering::Acquire) == 0;
                    }
                }
            }
        }
    }
}
