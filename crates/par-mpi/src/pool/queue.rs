//! Jobs that wait for workers, and claims that were put back.

use par_core::engine::{Refused, Room};
use par_core::job::{Claim, Job, JobId};
use par_core::{Claimant, TaskError};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often somebody who waits for more than the queue knows looks himself.
const LOOK: Duration = Duration::from_millis(5);

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
    again: VecDeque<Taken>,
    jobs: VecDeque<Arc<Job>>,
}

/// A claim, and where it belongs.
pub(super) struct Taken {
    pub(super) claim: Claim,
    /// Which lane it is from.
    pub(super) nested: bool,
    /// The only worker that may have it, where the plan says so.
    pub(super) only: Option<usize>,
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

    /// Claims up to `most` parts of what waits for worker `seat`, after those that `out` holds.
    pub(super) fn take(&self, seat: usize, most: usize, out: &mut Vec<Taken>) {
        // Jobs whose other parts are meant for other workers.
        let mut passed: Vec<JobId> = Vec::new();
        while out.len() < most {
            let (job, nested) = match self.next(seat, &passed) {
                Some(Next::Claim(taken)) => {
                    out.push(taken);
                    continue;
                }
                Some(Next::Job(job, nested)) => (job, nested),
                None => return,
            };
            let room = most - out.len();
            self.held(room);
            let only = job.is_static().then_some(seat);
            let before = out.len();
            while out.len() < most
                && let Some(claim) = job.claim(Claimant::Worker(seat))
            {
                out.push(Taken { claim, nested, only });
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

    fn next(&self, seat: usize, passed: &[JobId]) -> Option<Next> {
        let mut state = self.state.lock();
        for nested in [true, false] {
            let lane = state.lane(nested);
            let mine = |taken: &Taken| taken.only.is_none_or(|only| only == seat);
            if let Some(at) = lane.again.iter().position(mine)
                && let Some(taken) = lane.again.remove(at)
            {
                return Some(Next::Claim(taken));
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
        for taken in claims.into_iter().rev() {
            state.lane(taken.nested).again.push_front(taken);
        }
        Ok(())
    }

    /// A task waits for this nested job: it goes first. Whether it was found waiting.
    pub(super) fn prefer(&self, job: JobId) -> bool {
        let mut state = self.state.lock();
        let lane = &mut state.nested;
        if let Some(at) = lane.again.iter().position(|taken| taken.claim.job().id() == job)
            && let Some(taken) = lane.again.remove(at)
        {
            lane.again.push_front(taken);
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
        self.held.fetch_add(count, Ordering::SeqCst);
    }

    /// This many claims have ended.
    pub(super) fn ended(&self, count: usize) {
        if count > 0 && self.held.fetch_sub(count, Ordering::SeqCst) == count {
            // Under the lock, so that nobody is between looking and waiting.
            let _state = self.state.lock();
            self.changed.notify_all();
        }
    }

    /// Whether any claim is held.
    pub(super) fn holds(&self) -> bool {
        self.held.load(Ordering::SeqCst) > 0
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
        let claims = nested.again.drain(..).chain(outer.again.drain(..));
        let claims = claims.map(|taken| taken.claim).collect();
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
            let (mine, others): (Vec<_>, Vec<_>) =
                again.drain(..).partition(|taken| taken.claim.job().id() == job);
            again.extend(others);
            taken.extend(mine.into_iter().map(|taken| taken.claim));
        }
        taken
    }

    /// Waits until `holds`, which is asked whenever a claim has ended, or the time is up.
    pub(super) fn wait_until(&self, until: Instant, holds: impl Fn() -> bool) {
        // Asked without the lock, as it takes those of seats.
        while !holds() && Instant::now() < until {
            let mut state = self.state.lock();
            self.changed
                .wait_until(&mut state, until.min(Instant::now() + LOOK));
        }
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
