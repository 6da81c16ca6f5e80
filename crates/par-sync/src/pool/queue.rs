//! The queue of jobs, and who is there to run them.
//!
//! 1. Jobs stand in the order of their numbers, each as long as it has unclaimed parts and no longer. A job of one part
//!    leaves when a worker goes for it, since nobody else could find anything in it.
//! 2. Nothing of the user's is run or dropped under the lock: inputs have destructors, which may submit.
//! 3. A thread is blocked while it sleeps in a wait of this pool. When all threads are blocked and there is work, whoever
//!    made it so lends a substitute: brought the work, began to sleep, or left.

use super::Inner;
use super::stack_job::JobRef;
use super::worker::Desk;
use par_core::Claimant;
use par_core::engine::{Refused, Room};
use par_core::job::{Claim, Job};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Open,
    /// Only what the workers' own tasks submit is still taken.
    Draining,
    Closed,
}

pub(crate) struct Queue {
    pub(crate) state: Mutex<State>,
    room: Condvar,
    /// Told when the last thread has ended.
    pub(crate) ended: Condvar,
    /// Goes up whenever there is something new to look for.
    pub(crate) news: AtomicU64,
    /// A copy of `State::phase` for those who only glance.
    pub(crate) phase: AtomicU8,
    bound: usize,
}

pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) jobs: VecDeque<Arc<Job>>,
    injected: VecDeque<JobRef>,
    waiting_for_room: usize,
    /// Threads that serve: workers and substitutes.
    pub(crate) threads: usize,
    /// The indices of those that sleep in a wait.
    blocked: Vec<usize>,
    /// Which workers are there, by index.
    pub(crate) present: Vec<bool>,
    pub(crate) desks: Vec<Arc<Desk>>,
    pub(crate) handles: Vec<JoinHandle<()>>,
}

/// Something for a worker without work.
pub(crate) enum Work {
    Claim(Claim),
    Half(JobRef),
}

/// Who looks for work.
#[derive(Clone, Copy)]
pub(crate) enum Seeker {
    Worker(usize),
    /// A substitute stands in for whoever is blocked: it takes of everybody's share.
    Substitute,
}

impl State {
    /// The index of the worker to lend a substitute for, if that is needed (rule 3); it counts as a thread from then on.
    pub(crate) fn lend(&mut self) -> Option<usize> {
        let stuck = self.threads > 0 && self.blocked.len() == self.threads;
        if !stuck || (self.jobs.is_empty() && self.injected.is_empty()) {
            return None;
        }
        self.threads += 1;
        self.blocked.last().copied()
    }

    /// Whether somebody besides the asking thread is awake.
    pub(crate) fn others_awake(&self) -> bool {
        self.threads - self.blocked.len() > 1
    }

    pub(crate) fn block(&mut self, index: usize) {
        self.blocked.push(index);
    }

    pub(crate) fn unblock(&mut self, index: usize) {
        if let Some(at) = self.blocked.iter().rposition(|blocked| *blocked == index) {
            self.blocked.swap_remove(at);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.injected.is_empty()
    }
}

impl Queue {
    pub(crate) fn new(bound: usize) -> Self {
        Queue {
            state: Mutex::new(State {
                phase: Phase::Open,
                jobs: VecDeque::new(),
                injected: VecDeque::new(),
                waiting_for_room: 0,
                threads: 0,
                blocked: Vec::new(),
                present: Vec::new(),
                desks: Vec::new(),
                handles: Vec::new(),
            }),
            room: Condvar::new(),
            ended: Condvar::new(),
            news: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Open as u8),
            bound,
        }
    }

    /// Takes a job; the index of the worker that now needs a substitute.
    pub(crate) fn push(&self, job: Arc<Job>, room: Room, inside: bool) -> Result<Option<usize>, Refused> {
        let mut state = self.state.lock();
        loop {
            match state.phase {
                Phase::Open => {}
                Phase::Draining if inside => {}
                Phase::Draining | Phase::Closed => return Err(Refused::Closed),
            }
            if job.unclaimed() == 0 {
                // It timed out, or was cancelled, while it waited.
                return Ok(None);
            }
            if state.jobs.len() < self.bound || (inside && room != Room::Now) {
                break;
            }
            let until = match room {
                Room::Now => return Err(Refused::Full),
                Room::Wait => job.deadline(),
                Room::Until(at) if Instant::now() >= at => return Err(Refused::Full),
                Room::Until(at) => Some(job.deadline().map_or(at, |end| end.min(at))),
            };
            state.waiting_for_room += 1;
            match until {
                None => self.room.wait(&mut state),
                Some(at) => {
                    self.room.wait_until(&mut state, at);
                }
            }
            state.waiting_for_room -= 1;
            // Its deadline may be what ended the wait; this ends its parts, and drops their inputs, outside the lock.
            parking_lot::MutexGuard::unlocked(&mut state, || job.expire());
        }
        let id = job.id();
        match state.jobs.back() {
            Some(last) if last.id() > id => {
                let at = state.jobs.partition_point(|other| other.id() < id);
                state.jobs.insert(at, job);
            }
            _ => state.jobs.push_back(job),
        }
        self.news.fetch_add(1, Ordering::Release);
        Ok(state.lend())
    }

    /// Takes a join from outside the pool, unless it is closed; whether it did, and the index of the worker that now needs
    /// a substitute.
    pub(crate) fn inject(&self, half: JobRef) -> (bool, Option<usize>) {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return (false, None);
        }
        state.injected.push_back(half);
        self.news.fetch_add(1, Ordering::Release);
        (true, state.lend())
    }

    /// The next piece of work for that thread.
    pub(crate) fn next(&self, who: Seeker, inner: &Inner) -> Option<Work> {
        let mut seen = None;
        loop {
            let (job, draining) = {
                let mut state = self.state.lock();
                if let Some(half) = state.injected.pop_front() {
                    return Some(Work::Half(half));
                }
                let at = seen.map_or(0, |seen| state.jobs.partition_point(|job| job.id() <= seen));
                let job = Arc::clone(state.jobs.get(at)?);
                if job.parts() == 1 {
                    self.remove_at(&mut state, at);
                }
                (job, state.phase != Phase::Open)
            };
            seen = Some(job.id());
            // While the pool drains, workers that have nothing left are gone: the others take of every share.
            let claim = if draining {
                job.claim(Claimant::Any)
            } else {
                claim(&job, who, inner)
            };
            match claim {
                Some(claim) => return Some(Work::Claim(claim)),
                None if job.parts() > 1 && job.unclaimed() == 0 => self.remove(&job),
                None => {}
            }
        }
    }

    /// Lets go of a job that has nothing unclaimed left.
    pub(crate) fn remove(&self, job: &Job) {
        let removed = {
            let mut state = self.state.lock();
            match state.jobs.binary_search_by_key(&job.id(), |other| other.id()) {
                Ok(at) => self.remove_at(&mut state, at),
                Err(_) => None,
            }
        };
        drop(removed);
    }

    fn remove_at(&self, state: &mut State, at: usize) -> Option<Arc<Job>> {
        let job = state.jobs.remove(at);
        if state.waiting_for_room > 0 {
            // All of them: one that gave up meanwhile would swallow the news.
            self.room.notify_all();
        }
        job
    }

    /// Changes the phase, and takes what is queued where `take` says so.
    pub(crate) fn close(&self, phase: Phase, take: bool) -> VecDeque<Arc<Job>> {
        let mut state = self.state.lock();
        if state.phase != Phase::Closed {
            state.phase = phase;
            self.phase.store(phase as u8, Ordering::Relaxed);
        }
        self.news.fetch_add(1, Ordering::Release);
        self.room.notify_all();
        if take {
            std::mem::take(&mut state.jobs)
        } else {
            VecDeque::new()
        }
    }
}

/// Claims for a thread. After the pool has shrunk, each worker also takes the shares of those that would be at its place,
/// counted modulo the workers there are.
fn claim(job: &Arc<Job>, who: Seeker, inner: &Inner) -> Option<Claim> {
    match who {
        Seeker::Substitute => job.claim(Claimant::Any),
        Seeker::Worker(index) => job.claim(Claimant::Worker(index)).or_else(|| {
            let (now, most) = inner.sizes();
            (1..)
                .map(|turn| index + turn * now)
                .take_while(|other| *other < most)
                .find_map(|other| job.claim(Claimant::Worker(other)))
        }),
    }
}
