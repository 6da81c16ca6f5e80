//! The crew: threads that run what is not async, and substitutes for those that sleep in waits.

use super::runtime::Inside;
use super::{Inner, Phase, State};
use par_core::engine::Engine;
use par_core::job::{Claim, Job};
use par_core::{Claimant, Event, StartError, TaskError, Token, push_token};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::{Arc, Weak, mpsc};
use std::task::Waker;
use std::thread::Builder;

/// What a thread is running parts of, outermost first, for a shutdown that raises their tokens.
#[derive(Default)]
pub(super) struct Desk {
    jobs: Mutex<Vec<Arc<Job>>>,
}

impl Desk {
    pub(super) fn jobs(&self) -> Vec<Arc<Job>> {
        self.jobs.lock().clone()
    }
}

/// A thread of a crew: the number of its pool, the worker that it is or stands in for, its desk.
#[derive(Clone)]
struct Hand {
    pool: u64,
    index: usize,
    desk: Arc<Desk>,
}

thread_local! {
    static HAND: RefCell<Option<Hand>> = const { RefCell::new(None) };
}

fn hand_of(pool: u64) -> Option<Hand> {
    HAND.with(|hand| hand.borrow().clone().filter(|hand| hand.pool == pool))
}

/// Whether this thread is one of the crew of that pool.
pub(super) fn is_crew(pool: u64) -> bool {
    HAND.with(|hand| hand.borrow().as_ref().is_some_and(|hand| hand.pool == pool))
}

impl State {
    /// The worker to lend a substitute for, if that is needed (rule 5); it counts as a thread from then on.
    pub(super) fn lend(&mut self) -> Option<usize> {
        if self.threads == 0 || self.blocked.len() < self.threads || self.jobs.is_empty() {
            return None;
        }
        self.threads += 1;
        self.blocked.last().copied()
    }
}

impl Inner {
    /// Starts the crew and waits until it is ready.
    pub(super) fn muster(&self, workers: usize) -> Result<(), StartError> {
        let (report, reports) = mpsc::channel();
        for index in 0..workers {
            self.state.lock().threads += 1;
            let report = report.clone();
            let started = self.thread(format!("par-crew-{index}"), index, move |inner, ready| {
                inner.observers.emit(|| match &ready {
                    Ok(()) => Event::WorkerUp {
                        worker: index,
                        pid: None,
                    },
                    Err(error) => Event::WorkerLost {
                        worker: index,
                        reason: error.to_string(),
                    },
                });
                let good = ready.is_ok();
                // Nobody listens any more where the start was given up; the thread is then told to go.
                let _ = report.send((index, ready));
                if good {
                    inner.serve();
                }
            });
            if let Err(source) = started {
                let what = format!("starting the thread of worker {index}");
                return Err(StartError::Io { what, source });
            }
        }
        drop(report);
        for (worker, ready) in reports.iter().take(workers) {
            ready.map_err(|error| StartError::Initializer { worker, error })?;
        }
        Ok(())
    }

    /// Starts a thread that counts already: it runs the initialiser, then `serve`.
    fn thread(
        &self,
        name: String,
        index: usize,
        serve: impl FnOnce(&Inner, Result<(), TaskError>) + Send + 'static,
    ) -> std::io::Result<()> {
        let engine = self.engine.clone();
        let inner = engine.upgrade().map(|engine| Arc::clone(&engine.inner));
        let Some(inner) = inner else {
            self.thread_ended(None, false);
            return Err(std::io::Error::other("the pool is gone"));
        };
        let spawned = Builder::new().name(name).spawn(move || {
            let desk = Arc::new(Desk::default());
            inner.state.lock().desks.push(Arc::clone(&desk));
            let hand = Hand {
                pool: inner.number,
                index,
                desk: Arc::clone(&desk),
            };
            HAND.set(Some(hand));
            let entered = par_core::enter_worker(index, engine as Weak<dyn Engine>);
            let good = {
                // Timers and sockets of the runtime are there for these tasks as well.
                let _runtime = inner.runtime.handle().enter();
                let _inside = Inside::enter(inner.number);
                let task = inner.common.initializer.as_ref();
                let ready = task.map_or(Ok(()), |task| task.run());
                let good = ready.is_ok();
                serve(&inner, ready);
                good
            };
            // Worker-local state goes before the thread counts as gone.
            drop(entered);
            HAND.set(None);
            inner.thread_ended(Some(&desk), good);
        });
        match spawned {
            Ok(handle) => {
                let mut state = self.state.lock();
                state.handles.retain(|handle| !handle.is_finished());
                state.handles.push(handle);
                Ok(())
            }
            Err(error) => {
                self.thread_ended(None, false);
                Err(error)
            }
        }
    }

    /// A thread has ended, or did not come to be. Where that leaves work with nobody awake, `lend` allows a substitute.
    fn thread_ended(&self, desk: Option<&Arc<Desk>>, lend: bool) {
        let lend = {
            let mut state = self.state.lock();
            state.threads -= 1;
            if let Some(desk) = desk {
                state.desks.retain(|other| !Arc::ptr_eq(other, desk));
            }
            if state.threads == 0 {
                self.ended.notify_all();
            }
            if lend { state.lend() } else { None }
        };
        self.substitute(lend);
    }

    /// The day of a worker.
    fn serve(&self) {
        loop {
            if let Some(claim) = self.next() {
                self.run_guarded(claim);
                continue;
            }
            let mut state = self.state.lock();
            loop {
                if !state.jobs.is_empty() {
                    break;
                }
                if state.phase != Phase::Open && state.is_idle() {
                    return;
                }
                self.work.wait(&mut state);
            }
        }
    }

    /// The next piece of work for the crew.
    fn next(&self) -> Option<Claim> {
        loop {
            let job = {
                let mut state = self.state.lock();
                let job = Arc::clone(state.jobs.front()?);
                if job.parts() == 1 {
                    state.jobs.pop_front();
                    self.made_room(&state);
                }
                job
            };
            match job.claim(Claimant::Any) {
                Some(claim) => return Some(claim),
                None if job.parts() > 1 => self.remove(&job),
                None => {}
            }
        }
    }

    /// Lets go of a job that has nothing unclaimed left.
    pub(super) fn remove(&self, job: &Job) {
        let removed = {
            let mut state = self.state.lock();
            let queue = if job.is_async() {
                &mut state.pending
            } else {
                &mut state.jobs
            };
            let at = queue.iter().position(|other| other.id() == job.id());
            let removed = at.and_then(|at| queue.remove(at));
            if removed.is_some() {
                self.made_room(&state);
            }
            (removed, self.look_at_end(&mut state))
        };
        let (job, wakers) = removed;
        drop(job);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Runs a claim on this thread, which may be one of the crew.
    pub(super) fn run_here(&self, mut claim: Claim) {
        struct Off<'a>(&'a Desk);
        impl Drop for Off<'_> {
            fn drop(&mut self) {
                let job = self.0.jobs.lock().pop();
                // Outside the lock: it may be the last owner of the job and of the user's values in it.
                drop(job);
            }
        }
        let job = Arc::clone(claim.job());
        let hand = hand_of(self.number);
        if let Some(hand) = &hand {
            hand.desk.jobs.lock().push(Arc::clone(&job));
        }
        let _off = hand.as_ref().map(|hand| Off(&hand.desk));
        let _token = push_token(Token::Job(Arc::clone(&job)));
        if claim.is_last() {
            self.remove(&job);
        }
        let parts = claim.range().len() as u64;
        claim.run_here();
        self.state.lock().ran += parts;
    }

    /// As `run_here`. What panics there is a callback or a destructor of the user's, not a task; it was reported by the panic
    /// hook, and the thread goes on.
    fn run_guarded(&self, claim: Claim) {
        let run = || self.run_here(claim);
        // Everything that a panic could leave half done here is ended by its destructor: claims fail, desks are cleared.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    }

    /// A thread of the crew begins (`true`) or ends a sleep in a wait.
    pub(super) fn blocking(&self, begins: bool) {
        let Some(hand) = hand_of(self.number) else { return };
        let lend = {
            let mut state = self.state.lock();
            if begins {
                state.blocked.push(hand.index);
                state.lend()
            } else {
                if let Some(at) = state.blocked.iter().rposition(|index| *index == hand.index) {
                    state.blocked.swap_remove(at);
                }
                None
            }
        };
        self.substitute(lend);
    }

    /// Starts a substitute for that worker, which counts as a thread already.
    pub(super) fn substitute(&self, index: Option<usize>) {
        let Some(index) = index else { return };
        // Where none can be started, or its initialiser fails, those who wait keep their deadline all the same.
        let _ = self.thread(format!("par-crew-{index}s"), index, move |inner, ready| {
            while ready.is_ok()
                && let Some(claim) = inner.next()
            {
                inner.run_guarded(claim);
                let state = inner.state.lock();
                if state.threads - state.blocked.len() > 1 {
                    break;
                }
            }
        });
    }
}
