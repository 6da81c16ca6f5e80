//! Pieces: the futures by which async jobs run.
//!
//! A job of one part is one piece, once it was pending at its first poll (`pump.rs`). A job of more parts has *drivers*, at most one a worker: a driver claims ranges and polls part after
//! part itself, so that a part which is ready at once costs neither a task of the runtime nor a wake-up; what is pending after its
//! first poll goes on as a piece of its own, beside the others, under a permit of the job.

use super::pump::{Inline, LOOK, Pump, RUNTIME_GONE, TURN};
use super::{Inner, Phase, State};
use par_core::job::{Job, RunAsync, Step, Tally};
use par_core::{Claimant, TaskError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::coop::has_budget_remaining;

/// How many pieces a job is begun with.
pub(super) fn first_pieces(inner: &Inner, job: &Job) -> usize {
    inner.common.workers.min(job.parts()).max(1)
}

/// The jobs of pending pieces, each in a seat of its own (rule 6).
#[derive(Default)]
pub(super) struct Sleeping {
    seats: Vec<Option<Arc<Job>>>,
    free: Vec<usize>,
}

impl Sleeping {
    fn enter(&mut self, job: Arc<Job>) -> usize {
        match self.free.pop() {
            Some(seat) => {
                self.seats[seat] = Some(job);
                seat
            }
            None => {
                self.seats.push(Some(job));
                self.seats.len() - 1
            }
        }
    }

    #[must_use = "the last owner of a job drops the user's values in it, which must not happen under the lock"]
    fn leave(&mut self, seat: usize) -> Option<Arc<Job>> {
        self.free.push(seat);
        self.seats[seat].take()
    }

    pub(super) fn jobs(&self) -> Vec<Arc<Job>> {
        self.seats.iter().flatten().cloned().collect()
    }
}

/// What the pieces of a job of many parts share.
pub(super) struct Flow {
    job: Arc<Job>,
    outside: bool,
    permits: Arc<Semaphore>,
}

/// A piece's share in the count of its pool (rule 3).
pub(super) struct Counted {
    inner: Arc<Inner>,
    /// Whether the piece is the whole of a job from outside.
    outside: bool,
    flow: Option<Arc<Flow>>,
    seat: Option<usize>,
}

impl Counted {
    pub(super) fn of(inner: &Arc<Inner>, outside: bool, flow: Option<Arc<Flow>>) -> Self {
        Counted {
            inner: Arc::clone(inner),
            outside,
            flow,
            seat: None,
        }
    }

    /// The piece is pending: the end of the pool must find its job.
    fn sleep(&mut self, job: &Arc<Job>) {
        if self.seat.is_some() {
            return;
        }
        let closed = {
            let mut state = self.inner.state.lock();
            self.seat = Some(state.sleeping.enter(Arc::clone(job)));
            self.inner.closed.load(Ordering::Relaxed)
        };
        if closed {
            job.cancel();
        }
    }

    /// The piece is over.
    fn end(&mut self, tally: Tally) {
        let last = self.flow.take().and_then(Arc::into_inner);
        let mut outside = self.outside;
        if let Some(flow) = last {
            outside = flow.outside;
            // Nothing is left here but where the runtime dropped the drivers.
            flow.job.fail_unclaimed(&TaskError::Lost {
                attempts: 0,
                maybe_ran: false,
                reason: RUNTIME_GONE.to_owned(),
            });
        }
        let seat = self.seat.take();
        Inner::end_piece(&self.inner, Over { tally, outside, seat });
    }
}

/// What is to be accounted of a piece that is over.
pub(super) struct Over {
    tally: Tally,
    outside: bool,
    seat: Option<usize>,
}

impl Over {
    pub(super) fn of(tally: Tally, outside: bool) -> Self {
        Over {
            tally,
            outside,
            seat: None,
        }
    }
}

/// What follows from a change of the state, outside the lock.
#[derive(Default)]
#[must_use = "what was decided under the lock must be done"]
pub(super) struct After {
    /// To be dropped: the last owner of a job drops the user's values in it.
    gone: Vec<Arc<Job>>,
    /// To be begun, a job of many parts, and whether it came from outside.
    begin: Option<(Arc<Job>, bool)>,
    wake: Option<Waker>,
    wake_all: Vec<Waker>,
}

impl After {
    pub(super) fn wake(&mut self, waker: Option<Waker>) {
        match &self.wake {
            None => self.wake = waker,
            Some(_) => self.wake_all.extend(waker),
        }
    }

    #[inline]
    pub(super) fn follow(self, inner: &Arc<Inner>) {
        let most = self.gone.is_empty() && self.wake_all.is_empty() && self.begin.is_none();
        if most {
            // Nothing, or a pump to wake.
            self.wake.into_iter().for_each(Waker::wake);
        } else {
            self.follow_all(inner);
        }
    }

    fn follow_all(self, inner: &Arc<Inner>) {
        drop(self.gone);
        if let Some(waker) = self.wake {
            waker.wake();
        }
        self.wake_all.into_iter().for_each(Waker::wake);
        if let Some((job, outside)) = self.begin {
            Inner::drive(inner, job, outside);
        }
    }
}

impl Inner {
    /// A closed pool begins nothing, and lets nothing sleep.
    pub(super) fn look_at_phase(&self, job: &Job) {
        if self.closed.load(Ordering::Acquire) && !job.is_cancelled() {
            job.cancel();
        }
    }

    pub(super) fn end_piece(this: &Arc<Inner>, over: Over) {
        let mut after = After::default();
        this.account(&mut this.state.lock(), over, &mut after);
        after.follow(this);
    }

    /// Accounts a piece that is over, and decides what may begin in its place.
    pub(super) fn account(&self, state: &mut State, over: Over, after: &mut After) {
        state.live -= 1;
        state.ran += over.tally.ran as u64;
        state.cancelled += over.tally.cancelled as u64;
        let sleeper = over.seat.and_then(|seat| state.sleeping.leave(seat));
        after.gone.extend(sleeper);
        if over.outside {
            state.outside -= 1;
            while let Some(job) = state.pending.pop_front() {
                if job.unclaimed() == 0 {
                    after.gone.push(job);
                    continue;
                }
                self.admit(state, job, true, after);
                break;
            }
            self.made_room(state);
        }
        if state.phase != Phase::Open {
            after.wake_all.extend(self.look_at_end(state));
        }
    }

    /// Counts an async job in, and puts it in the line or has it begun.
    #[inline]
    pub(super) fn admit(&self, state: &mut State, job: Arc<Job>, outside: bool, after: &mut After) {
        state.outside += usize::from(outside);
        state.live += first_pieces(self, &job);
        if job.parts() == 1 {
            after.wake(state.line.push(job, outside));
        } else {
            after.begin = Some((job, outside));
        }
    }

    /// Begins a job of many parts, whose drivers are counted already.
    pub(super) fn drive(this: &Arc<Inner>, job: Arc<Job>, outside: bool) {
        let flow = Arc::new(Flow {
            job: Arc::clone(&job),
            outside,
            permits: Arc::new(Semaphore::new(this.in_flight.min(Semaphore::MAX_PERMITS))),
        });
        let drivers = first_pieces(this, &job);
        let flows: Vec<_> = (0..drivers).map(|_| Arc::clone(&flow)).collect();
        // The last of them to end is the end of the job: this one must not be it.
        drop(flow);
        for flow in flows {
            let driver = Driver {
                job: Arc::clone(&job),
                run: None,
                permits: Arc::clone(&flow.permits),
                permit: Permit::None,
                tally: Tally::default(),
                counted: Counted::of(this, false, Some(flow)),
            };
            drop(this.runtime.handle().spawn(driver));
        }
    }

    /// A task of this pool waits for an async job that has not begun: takes it out of turn (rule 2).
    pub(super) fn begin_now(this: &Arc<Inner>, job: &Arc<Job>) {
        let mut after = After::default();
        {
            let mut state = this.state.lock();
            let at = state.pending.iter().position(|other| Arc::ptr_eq(other, job));
            if let Some(job) = at.and_then(|at| state.pending.remove(at)) {
                this.admit(&mut state, job, true, &mut after);
                this.made_room(&state);
            }
        }
        after.follow(this);
        if job.parts() == 1 {
            Inner::begin_here(this, job);
        }
    }

    /// Polls an awaited job of one part here, if it may (rule 4 of the pumps).
    pub(super) fn begin_here(this: &Arc<Inner>, job: &Arc<Job>) {
        let Some(_here) = Inline::enter(this) else {
            return;
        };
        let mine = this.state.lock().line.take(job);
        if let Some((job, outside)) = mine {
            let visit = this.visit();
            let over = Pump::begin(this, job, outside);
            drop(visit);
            if let Some(over) = over {
                Inner::end_piece(this, over);
            }
        }
    }

    pub(super) fn spawn(this: &Arc<Inner>, piece: Piece) {
        // Detached: the piece tells its own end. A runtime that is gone drops it at once, which is an end as well.
        drop(this.runtime.handle().spawn(piece));
    }
}

/// A claim on the runtime, of one part.
pub(super) struct Piece {
    run: RunAsync,
    counted: Counted,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Piece {
    pub(super) fn new(run: RunAsync, counted: Counted, permit: Option<OwnedSemaphorePermit>) -> Self {
        Piece {
            run,
            counted,
            _permit: permit,
        }
    }
}

impl Future for Piece {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.counted.inner.look_at_phase(this.run.job());
        let visit = this.counted.inner.visit();
        let poll = Pin::new(&mut this.run).poll(cx);
        drop(visit);
        if poll.is_pending() {
            this.counted.sleep(this.run.job());
        }
        poll.map(|_| ())
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let visit = self.counted.inner.visit();
        let tally = self.run.end();
        drop(visit);
        self.counted.end(tally);
    }
}

/// The leave to begin a part.
enum Permit {
    None,
    Awaited(Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>),
    Held(OwnedSemaphorePermit),
}

struct Driver {
    job: Arc<Job>,
    run: Option<RunAsync>,
    permits: Arc<Semaphore>,
    permit: Permit,
    /// What became of the parts of the claims before this one.
    tally: Tally,
    counted: Counted,
}

impl Driver {
    /// Comes by a permit, so that what is begun may go on beside the others.
    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.permit {
                Permit::Held(_) => return Poll::Ready(()),
                Permit::None => {
                    let permits = Arc::clone(&self.permits);
                    self.permit = match Arc::clone(&permits).try_acquire_owned() {
                        Ok(permit) => Permit::Held(permit),
                        Err(_) => Permit::Awaited(Box::pin(permits.acquire_owned())),
                    };
                }
                Permit::Awaited(awaited) => match ready!(awaited.as_mut().poll(cx)) {
                    Ok(permit) => self.permit = Permit::Held(permit),
                    // Nobody closes it; should that change, parts go on one after the other.
                    Err(_) => return Poll::Ready(()),
                },
            }
        }
    }

    /// The part that was just begun is pending: it goes on by itself.
    fn detach(&mut self) {
        let Some(part) = self.run.as_mut().and_then(RunAsync::detach) else {
            return;
        };
        let permit = match std::mem::replace(&mut self.permit, Permit::None) {
            Permit::Held(permit) => Some(permit),
            other => {
                self.permit = other;
                None
            }
        };
        let inner = &self.counted.inner;
        inner.state.lock().live += 1;
        let counted = Counted::of(inner, false, self.counted.flow.clone());
        Inner::spawn(inner, Piece::new(part, counted, permit));
    }

    fn close(&mut self) {
        if let Some(mut run) = self.run.take() {
            let tally = run.end();
            self.tally.ran += tally.ran;
            self.tally.cancelled += tally.cancelled;
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.counted.inner.look_at_phase(&this.job);
        let inner = Arc::clone(&this.counted.inner);
        let _visit = inner.visit();
        let mut began = None;
        for polled in 1u32.. {
            if this.poll_permit(cx).is_pending() {
                // The parts that hold the permits are on the list of those that sleep, and wake this when they go.
                return Poll::Pending;
            }
            if this.run.is_none() {
                this.run = this.job.claim(Claimant::Any).map(|claim| claim.run_async());
            }
            let Some(run) = &mut this.run else {
                return Poll::Ready(());
            };
            // What is pending is polled again at once, as a piece of its own, which gives it a waker.
            match run.step(&mut Context::from_waker(Waker::noop())) {
                Step::Ended => {}
                Step::Pending => this.detach(),
                Step::Done => this.close(),
            }
            if polled.is_multiple_of(LOOK) && began.get_or_insert_with(Instant::now).elapsed() > TURN
                || !has_budget_remaining()
            {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let visit = self.counted.inner.visit();
        self.close();
        drop(visit);
        self.permit = Permit::None;
        self.counted.end(self.tally);
    }
}
