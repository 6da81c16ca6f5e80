//! Pieces: the futures by which async jobs run.
//!
//! A job of one part is one piece. A job of more parts has *drivers*, at most one a worker: a driver claims ranges and polls part after
//! part itself, so that a part which is ready at once costs neither a task of the runtime nor a wake-up; what is pending after its
//! first poll goes on as a piece of its own, beside the others, under a permit of the job.

use super::{Inner, State};
use par_core::job::{Job, RunAsync, Step, Tally};
use par_core::{Claimant, TaskError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// How long a driver polls before it lets other tasks of the runtime go on, looking at the clock every few parts.
const TURN: Duration = Duration::from_micros(200);
const LOOK: u32 = 4;

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
struct Flow {
    job: Arc<Job>,
    outside: bool,
    permits: Arc<Semaphore>,
}

/// A piece's share in the count of its pool (rule 3).
struct Counted {
    inner: Arc<Inner>,
    /// Whether the piece is the whole of a job from outside.
    outside: bool,
    flow: Option<Arc<Flow>>,
    seat: Option<usize>,
}

impl Counted {
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

    /// A closed pool begins nothing, and lets nothing sleep.
    fn look_at_phase(&self, job: &Job) {
        if self.inner.closed.load(Ordering::Acquire) && !job.is_cancelled() {
            job.cancel();
        }
    }

    /// The piece is over; begins what had to wait for it.
    fn end(&mut self, tally: Tally) {
        let last = self.flow.take().and_then(Arc::into_inner);
        let mut outside = self.outside;
        if let Some(flow) = last {
            outside = flow.outside;
            // Nothing is left here but where the runtime dropped the drivers.
            flow.job.fail_unclaimed(&TaskError::Lost {
                attempts: 0,
                maybe_ran: false,
                reason: "the runtime of its pool is gone".to_owned(),
            });
        }
        let inner = &self.inner;
        let mut gone = Vec::new();
        let next = {
            let mut state = inner.state.lock();
            state.live -= 1;
            state.ran += tally.ran as u64;
            state.cancelled += tally.cancelled as u64;
            gone.extend(self.seat.take().and_then(|seat| state.sleeping.leave(seat)));
            let next = outside
                .then(|| inner.next_pending(&mut state, &mut gone))
                .flatten();
            inner.look_at_end(&state);
            next
        };
        drop(gone);
        if let Some(job) = next {
            Inner::begin(inner, job, true);
        }
    }
}

impl Inner {
    /// A job from outside has ended: the next one, if one waits. What is dropped goes to `gone`.
    fn next_pending(&self, state: &mut State, gone: &mut Vec<Arc<Job>>) -> Option<Arc<Job>> {
        state.outside -= 1;
        self.made_room(state);
        loop {
            let job = state.pending.pop_front()?;
            if job.unclaimed() == 0 {
                gone.push(job);
                continue;
            }
            state.outside += 1;
            state.live += first_pieces(self, &job);
            return Some(job);
        }
    }

    /// Begins an async job, whose first pieces are counted already.
    pub(super) fn begin(this: &Arc<Inner>, job: Arc<Job>, outside: bool) {
        let counted = |outside, flow| Counted {
            inner: Arc::clone(this),
            outside,
            flow,
            seat: None,
        };
        if job.parts() == 1 {
            let mut counted = counted(outside, None);
            match job.claim(Claimant::Any) {
                Some(claim) => Self::spawn(this, Piece::new(claim.run_async(), counted, None)),
                // It was cancelled meanwhile.
                None => counted.end(Tally::default()),
            }
            return;
        }
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
                counted: counted(false, Some(flow)),
            };
            this.runtime.handle().spawn(driver);
        }
    }

    /// Begins an async job that waits for its turn: a task of this pool waits for it (rule 2).
    pub(super) fn begin_now(this: &Arc<Inner>, job: &Arc<Job>) {
        let waiting = {
            let mut state = this.state.lock();
            let at = state.pending.iter().position(|other| Arc::ptr_eq(other, job));
            let waiting = at.and_then(|at| state.pending.remove(at));
            if let Some(job) = &waiting {
                state.outside += 1;
                state.live += first_pieces(this, job);
                this.made_room(&state);
            }
            waiting
        };
        if let Some(job) = waiting {
            Inner::begin(this, job, true);
        }
    }

    fn spawn(this: &Arc<Inner>, piece: Piece) {
        // Detached: the piece tells its own end. A runtime that is gone drops it at once, which is an end as well.
        drop(this.runtime.handle().spawn(piece));
    }
}

/// A claim on the runtime, of one part.
struct Piece {
    run: RunAsync,
    counted: Counted,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Piece {
    fn new(run: RunAsync, counted: Counted, permit: Option<OwnedSemaphorePermit>) -> Self {
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
        this.counted.look_at_phase(this.run.job());
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
        let counted = Counted {
            inner: Arc::clone(inner),
            outside: false,
            flow: self.counted.flow.clone(),
            seat: None,
        };
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
        this.counted.look_at_phase(&this.job);
        let inner = Arc::clone(&this.counted.inner);
        let _visit = inner.visit();
        let began = Instant::now();
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
            match run.step(cx) {
                Step::Ended => {}
                Step::Pending => this.detach(),
                Step::Done => this.close(),
            }
            if polled.is_multiple_of(LOOK) && began.elapsed() > TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(())
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
