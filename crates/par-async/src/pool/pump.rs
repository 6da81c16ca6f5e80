//! Pumps: futures of the pool on the runtime that begin async jobs of one part, as many as the runtime has threads.
//!
//! A pump takes a job from the line, polls it once, and takes the next: what is ready at once costs no task of the runtime and no
//! wake-up of its own. What is pending goes on as a piece of its own, which polls it again at once, so the first poll needs no waker.
//!
//! 1. Whoever puts a job in the line wakes a pump that sleeps, unless one is on its way already.
//! 2. A pump that gets going is not on its way any more. If it leaves something in the line behind what it took, it wakes the next.
//! 3. A pump goes to sleep under the lock, having seen the line empty under the same lock. So no job is left in the line with all
//!    pumps asleep.
//! 4. A task that awaits a job which stands first or last in the line takes it out and polls it itself, as a pump would: that is all
//!    it can do for its wait. It counts against the budget of its turn on the runtime, and goes only so deep.
//! 5. Pumps hold nothing of the user's and are not counted: they end when the pool has, as soon as their runtime runs them again.

use super::pieces::{After, Counted, Over, Piece};
use super::{Inner, Phase, State};
use par_core::job::{Job, Step, Tally};
use par_core::{Claimant, TaskError};
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::task::coop::{self, has_budget_remaining};

/// How long a pump or a driver polls before it lets other tasks of the runtime go on; it looks at the clock every few parts.
pub(super) const TURN: Duration = Duration::from_micros(100);
pub(super) const LOOK: u32 = 8;

/// Jobs of one part that are to be begun, and who is there for it.
#[derive(Default)]
pub(super) struct Line {
    /// Each with whether it came from outside.
    jobs: VecDeque<(Arc<Job>, bool)>,
    asleep: Vec<Waker>,
    /// Whether a pump was woken and has not got going.
    on_its_way: bool,
    /// Pumps that there are.
    pumps: usize,
}

impl Line {
    /// Puts a job in the line; the pump to wake for it (rule 1).
    #[must_use = "a pump may have to be woken, outside the lock"]
    #[inline]
    pub(super) fn push(&mut self, job: Arc<Job>, outside: bool) -> Option<Waker> {
        self.jobs.push_back((job, outside));
        self.call()
    }

    /// Takes that job out, if it is where a look costs nothing: those that are awaited as they were submitted are (rule 4).
    pub(super) fn take(&mut self, job: &Arc<Job>) -> Option<(Arc<Job>, bool)> {
        let is_it = |end: Option<&(Arc<Job>, bool)>| end.is_some_and(|(other, _)| Arc::ptr_eq(other, job));
        if is_it(self.jobs.front()) {
            self.jobs.pop_front()
        } else if is_it(self.jobs.back()) {
            self.jobs.pop_back()
        } else {
            None
        }
    }

    fn call(&mut self) -> Option<Waker> {
        if self.on_its_way {
            return None;
        }
        let pump = self.asleep.pop();
        self.on_its_way = pump.is_some();
        pump
    }

    /// Whether the runtime has dropped all pumps: nothing async is run any more.
    pub(super) fn is_dead(&self) -> bool {
        self.pumps == 0
    }

    /// All that sleep, for the end of the pool.
    pub(super) fn wake_all(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.asleep)
    }
}

impl State {
    /// Empties the line; what was in it counts no more.
    pub(super) fn take_line(&mut self) -> Vec<Arc<Job>> {
        let line = std::mem::take(&mut self.line.jobs);
        self.live -= line.len();
        self.outside -= line.iter().filter(|(_, outside)| *outside).count();
        line.into_iter().map(|(job, _)| job).collect()
    }
}

pub(super) struct Pump {
    inner: Arc<Inner>,
    /// Whether it came to its end by itself.
    ended: bool,
}

impl Pump {
    /// Starts that many pumps.
    pub(super) fn start(inner: &Arc<Inner>, count: usize) {
        inner.state.lock().line.pumps = count;
        for _ in 0..count {
            let pump = Pump {
                inner: Arc::clone(inner),
                ended: false,
            };
            // Detached: it ends when the pool does.
            drop(inner.runtime.handle().spawn(pump));
        }
    }

    /// Polls a job for the first time; what became of it, if that was all.
    pub(super) fn begin(inner: &Arc<Inner>, job: Arc<Job>, outside: bool) -> Option<Over> {
        inner.look_at_phase(&job);
        let Some(claim) = job.into_claim(Claimant::Any) else {
            // It was cancelled meanwhile.
            return Some(Over::of(Tally::default(), outside));
        };
        let mut run = claim.run_async();
        if run.step(&mut Context::from_waker(Waker::noop())) == Step::Pending {
            let counted = Counted::of(inner, outside, None);
            Inner::spawn(inner, Piece::new(run, counted, None));
            return None;
        }
        Some(Over::of(run.tally(), outside))
    }
}

thread_local! {
    /// How many polls of awaited jobs this thread is in, one within the other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// The leave to poll an awaited job within the poll of the task that awaits it (rule 4).
pub(super) struct Inline;

impl Inline {
    /// Each of them is a part of the stack.
    const DEEPEST: usize = 16;

    /// Nothing on a thread of the crew, which has no budget, or where the turn is over or the stack deep.
    pub(super) fn enter(inner: &Inner) -> Option<Self> {
        if super::crew::is_crew(inner.number) || DEPTH.get() >= Inline::DEEPEST {
            return None;
        }
        match coop::poll_proceed(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(budget) => budget.made_progress(),
            // The awaiting task registers with the job, and so ends its turn.
            Poll::Pending => return None,
        }
        DEPTH.set(DEPTH.get() + 1);
        Some(Inline)
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Future for Pump {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let inner = Arc::clone(&self.inner);
        let _visit = inner.visit();
        let mut began = None;
        let mut over = None;
        for polled in 1u32.. {
            let (next, after) = {
                let mut state = inner.state.lock();
                let mut after = After::default();
                if let Some(over) = over.take() {
                    inner.account(&mut state, over, &mut after);
                }
                if polled == 1 {
                    state.line.on_its_way = false;
                }
                let next = state.line.jobs.pop_front();
                if next.is_some() {
                    if !state.line.jobs.is_empty() {
                        // For what is left behind this job (rule 2).
                        after.wake(state.line.call());
                    }
                } else if state.phase != Phase::Open && state.is_idle() {
                    self.ended = true;
                } else {
                    state.line.asleep.push(cx.waker().clone());
                }
                (next, after)
            };
            after.follow(&inner);
            let Some((job, outside)) = next else {
                return if self.ended {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            };
            over = Pump::begin(&inner, job, outside);
            if polled.is_multiple_of(LOOK) && began.get_or_insert_with(Instant::now).elapsed() > TURN
                || !has_budget_remaining()
            {
                break;
            }
        }
        if let Some(over) = over {
            Inner::end_piece(&inner, over);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let stranded = {
            let mut state = self.inner.state.lock();
            state.line.pumps -= 1;
            if self.ended || !state.line.is_dead() {
                return;
            }
            // The runtime ended under the pool.
            let mut stranded = state.take_line();
            stranded.extend(std::mem::take(&mut state.pending));
            self.inner.made_room(&state);
            stranded
        };
        for job in stranded {
            job.fail_unclaimed(&TaskError::Lost {
                attempts: 0,
                maybe_ran: false,
                reason: RUNTIME_GONE.to_owned(),
            });
        }
        let wakers = {
            let mut state = self.inner.state.lock();
            self.inner.look_at_end(&mut state)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// What befell tasks whose runtime ended before their pool did.
pub(super) const RUNTIME_GONE: &str = "the tokio runtime that its pool runs on has ended";
