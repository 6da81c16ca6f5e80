//! [`Alternation`]: the first of several communications.
//!
//! 1. The guards are tried in their order, begun at one that is drawn, or at the first where the alternation is prioritised. Nobody else sees
//!    an offer of this process by then.
//! 2. If none can be done, one offer is made for all guards. Each is tried once more, with the offer, and entered at its channel under the lock
//!    of that; if somebody takes the offer meanwhile, that is all.
//! 3. The process sleeps until the offer is taken, or closes it itself when the first of its times is over.
//! 4. Whatever was taken, all entries are withdrawn.

use super::core::{End, Slot, Tried};
use super::ends::{Reader, Writer};
use super::offer::Offer;
use super::stop::{Stop, WriteError};
use crate::sync_seam::{Lock, Until};
use crate::watch::{self, Hold, Kind, Watch};
use std::cell::Cell;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Waits for several communications at once, and does one of them: read, write, or see the end of a time; or none, where nothing can be done
/// at once.
///
/// Two alternations may meet, one with a guard to read and one with a guard to write at the same channel.
///
/// ```
/// use par_sync::csp::{self, Alternation};
/// use std::time::Duration;
///
/// let (mut left, mut from_left) = csp::one2one_buffered(1);
/// let (_right, mut from_right) = csp::one2one::<u32>();
/// left.write(5)?;
/// let got = Alternation::new()
///     .read(&mut from_left, |value| value.ok())
///     .read(&mut from_right, |value| value.ok())
///     .after(Duration::from_secs(60), || None)
///     .wait();
/// assert_eq!(got, Some(5));
/// let nothing = Alternation::new().read(&mut from_left, |value| value.ok()).skip(|| None).wait();
/// assert_eq!(nothing, None);
/// # Ok::<(), csp::Stop>(())
/// ```
#[doc(alias = "AltSelect")]
#[doc(alias = "PriSelect")]
#[doc(alias = "FairSelect")]
#[must_use = "it does nothing until `wait` is called"]
pub struct Alternation<'a, R> {
    guards: Vec<Box<dyn Guard<R> + Send + 'a>>,
    prioritised: bool,
}

/// What came of an attempt.
enum Attempt<R> {
    Done(R),
    Gone,
    Blocked,
}

trait Guard<R> {
    /// Does it, if that is possible; else, with an offer, enters it.
    fn attempt(&mut self, offer: Option<(&Arc<Offer>, usize)>) -> Attempt<R>;
    /// Takes out what was entered.
    fn withdraw(&mut self, offer: &Arc<Offer>);
    /// The result, where its branch was taken by somebody else, or its time is over.
    fn finish(&mut self) -> Option<R>;
    fn alarm(&self) -> Option<Instant> {
        None
    }
    /// Whether it can be done if nothing else can.
    fn skips(&self) -> bool {
        false
    }
}

struct Input<'a, T, K, F> {
    reader: &'a mut Reader<T, K>,
    slot: Slot<Result<T, End>>,
    then: Option<F>,
}

impl<T, K, R, F: FnOnce(Result<T, Stop>) -> R> Guard<R> for Input<'_, T, K, F> {
    fn attempt(&mut self, offer: Option<(&Arc<Offer>, usize)>) -> Attempt<R> {
        match self.reader.core.try_read(offer) {
            Tried::Done(read) => match self.then.take() {
                Some(then) => Attempt::Done(then(read.map_err(Stop::from))),
                None => Attempt::Gone,
            },
            Tried::Gone => Attempt::Gone,
            Tried::Blocked(mut state) => {
                if let Some((offer, branch)) = offer {
                    state.read_later(offer, branch, &self.slot);
                }
                Attempt::Blocked
            }
        }
    }

    fn withdraw(&mut self, offer: &Arc<Offer>) {
        self.reader.core.withdraw_read(offer);
    }

    fn finish(&mut self) -> Option<R> {
        let outcome = self.slot.lock().take()?;
        self.then.take().map(|then| then(outcome.map_err(Stop::from)))
    }
}

struct Output<'a, T, K, F> {
    writer: &'a mut Writer<T, K>,
    value: Option<T>,
    slot: Slot<Result<(), (End, T)>>,
    then: Option<F>,
}

impl<T, K, R, F: FnOnce(Result<(), WriteError<T>>) -> R> Guard<R> for Output<'_, T, K, F> {
    fn attempt(&mut self, offer: Option<(&Arc<Offer>, usize)>) -> Attempt<R> {
        match self.writer.core.try_write(&mut self.value, offer) {
            Tried::Done(written) => {
                let written = match (written, self.value.take()) {
                    (Err(end), Some(value)) => Err(WriteError {
                        stop: end.into(),
                        value,
                    }),
                    _ => Ok(()),
                };
                match self.then.take() {
                    Some(then) => Attempt::Done(then(written)),
                    None => Attempt::Gone,
                }
            }
            Tried::Gone => Attempt::Gone,
            Tried::Blocked(mut state) => {
                if let Some((offer, branch)) = offer
                    && let Some(value) = self.value.take()
                {
                    state.write_later(offer, branch, value, &self.slot);
                    let watchers = state.watchers.all();
                    drop(state);
                    watchers.poke();
                }
                Attempt::Blocked
            }
        }
    }

    fn withdraw(&mut self, offer: &Arc<Offer>) {
        self.value = self.writer.core.withdraw_write(offer).or(self.value.take());
    }

    fn finish(&mut self) -> Option<R> {
        let outcome = self.slot.lock().take()?;
        let written = outcome.map_err(|(end, value)| WriteError {
            stop: end.into(),
            value,
        });
        self.then.take().map(|then| then(written))
    }
}

struct Time<F> {
    at: Option<Instant>,
    skip: bool,
    then: Option<F>,
}

impl<R, F: FnOnce() -> R> Guard<R> for Time<F> {
    fn attempt(&mut self, offer: Option<(&Arc<Offer>, usize)>) -> Attempt<R> {
        let over = self.at.is_some_and(|at| Instant::now() >= at);
        if !over {
            return Attempt::Blocked;
        }
        if offer.is_some_and(|(offer, branch)| !offer.close_own(branch)) {
            return Attempt::Gone;
        }
        match self.then.take() {
            Some(then) => Attempt::Done(then()),
            None => Attempt::Gone,
        }
    }

    fn withdraw(&mut self, _: &Arc<Offer>) {}

    fn finish(&mut self) -> Option<R> {
        self.then.take().map(|then| then())
    }

    fn alarm(&self) -> Option<Instant> {
        self.at
    }

    fn skips(&self) -> bool {
        self.skip
    }
}

impl<'a, R> Alternation<'a, R> {
    /// Nothing to choose from yet.
    pub fn new() -> Self {
        Alternation {
            guards: Vec::new(),
            prioritised: false,
        }
    }

    /// Of what can be done at once, the first in the list is done, not one that is drawn.
    pub fn prioritised(mut self) -> Self {
        self.prioritised = true;
        self
    }

    fn guard(mut self, guard: impl Guard<R> + Send + 'a) -> Self {
        self.guards.push(Box::new(guard));
        self
    }

    /// Reads a value, or hears the [`Stop`].
    #[doc(alias = "InputGuard")]
    pub fn read<T: Send, K>(
        self,
        reader: &'a mut Reader<T, K>,
        then: impl FnOnce(Result<T, Stop>) -> R + Send + 'a,
    ) -> Self {
        let (slot, then) = (Arc::new(Lock::new(None)), Some(then));
        self.guard(Input { reader, slot, then })
    }

    /// Writes a value, or hears the [`Stop`], with the value. If another guard is chosen, the value is dropped.
    #[doc(alias = "OutputGuard")]
    pub fn write<T: Send + 'a, K>(
        self,
        writer: &'a mut Writer<T, K>,
        value: T,
        then: impl FnOnce(Result<(), WriteError<T>>) -> R + Send + 'a,
    ) -> Self {
        let (value, slot, then) = (Some(value), Arc::new(Lock::new(None)), Some(then));
        self.guard(Output {
            writer,
            value,
            slot,
            then,
        })
    }

    /// Sees the end of a time from now.
    #[doc(alias = "TimeoutGuard")]
    pub fn after(self, time: Duration, then: impl FnOnce() -> R + Send + 'a) -> Self {
        // A time beyond what the clock can say never ends.
        let (at, then) = (Instant::now().checked_add(time), Some(then));
        self.guard(Time {
            at,
            skip: false,
            then,
        })
    }

    /// Does nothing else, if nothing else can be done at once.
    #[doc(alias = "SkipGuard")]
    pub fn skip(self, then: impl FnOnce() -> R + Send + 'a) -> Self {
        let then = Some(then);
        self.guard(Time {
            at: None,
            skip: true,
            then,
        })
    }

    /// Rule 1, and rule 2 with an offer.
    fn attempt(&mut self, offer: Option<&Arc<Offer>>) -> Attempt<R> {
        let count = self.guards.len();
        let first = if self.prioritised { 0 } else { draw(count) };
        for at in (0..count).map(|at| (first + at) % count) {
            match self.guards[at].attempt(offer.map(|offer| (offer, at))) {
                Attempt::Blocked => {}
                other => return other,
            }
        }
        Attempt::Blocked
    }

    /// Does one of them, waiting as long as it takes. Without a guard that can ever be done, it waits for ever.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can come.
    #[doc(alias = "execute")]
    #[track_caller]
    pub fn wait(mut self) -> R {
        let watch = Watch::new(Kind::Alternation);
        loop {
            if let Some(done) = self.at_once() {
                return done;
            }
            let mut entered = Entered::begin(&mut self);
            if let Some(done) = entered.done.take() {
                return done;
            }
            let until = entered.alarm().map_or(Until::Forever, |(_, at)| Until::At(at));
            let ready = || entered.offer.taken().is_some();
            let sleep = watch::surely(watch.wait(Hold::Shared, until, ready));
            let taken = entered.offer.wait(until).or_else(|| entered.ring());
            sleep.over();
            if let Some(done) = taken.and_then(|branch| entered.finish(branch)) {
                return done;
            }
        }
    }

    /// As [`wait`](Self::wait), for a light task. Its times are seen where the thread that runs it sleeps no longer: in a network of light
    /// tasks.
    pub async fn wait_async(mut self) -> R {
        if let Some(done) = self.at_once() {
            return done;
        }
        let mut entered = Entered::begin(&mut self);
        if let Some(done) = entered.done.take() {
            return done;
        }
        let branch = std::future::poll_fn(|cx| {
            if let Some((_, at)) = entered.alarm() {
                if Instant::now() >= at
                    && let Some(branch) = entered.ring()
                {
                    return Poll::Ready(branch);
                }
                super::light::wake_at(at, cx.waker());
            }
            entered.offer.poll(cx)
        })
        .await;
        match entered.finish(branch) {
            Some(done) => done,
            // The guard that was taken has its outcome.
            None => unreachable!("an offer is taken with an outcome"),
        }
    }

    fn at_once(&mut self) -> Option<R> {
        if let Attempt::Done(done) = self.attempt(None) {
            return Some(done);
        }
        let skip = self.guards.iter_mut().find(|guard| guard.skips())?;
        skip.finish()
    }
}

impl<R> Default for Alternation<'_, R> {
    fn default() -> Self {
        Alternation::new()
    }
}

/// The guards of an alternation, entered at their channels (rule 4).
struct Entered<'s, 'a, R> {
    alternation: &'s mut Alternation<'a, R>,
    offer: Arc<Offer>,
    done: Option<R>,
}

impl<'s, 'a, R> Entered<'s, 'a, R> {
    fn begin(alternation: &'s mut Alternation<'a, R>) -> Self {
        let mut entered = Entered {
            alternation,
            offer: Offer::new(),
            done: None,
        };
        let offer = Arc::clone(&entered.offer);
        if let Attempt::Done(done) = entered.alternation.attempt(Some(&offer)) {
            entered.done = Some(done);
        }
        entered
    }

    /// The guard whose time is over first.
    fn alarm(&self) -> Option<(usize, Instant)> {
        let guards = self.alternation.guards.iter().enumerate();
        guards
            .filter_map(|(at, guard)| Some((at, guard.alarm()?)))
            .min_by_key(|(_, alarm)| *alarm)
    }

    /// Its time is over: that guard is taken, unless another was.
    fn ring(&self) -> Option<usize> {
        let (at, _) = self.alarm()?;
        if self.offer.close_own(at) {
            Some(at)
        } else {
            self.offer.taken()
        }
    }

    fn finish(&mut self, branch: usize) -> Option<R> {
        self.withdraw();
        self.alternation.guards[branch].finish()
    }

    fn withdraw(&mut self) {
        for guard in &mut self.alternation.guards {
            guard.withdraw(&self.offer);
        }
    }
}

impl<R> Drop for Entered<'_, '_, R> {
    fn drop(&mut self) {
        // Nobody takes it any more.
        self.offer.close_own(usize::MAX);
        self.withdraw();
    }
}

/// A number below `count`, one after the other: who is first changes each time.
fn draw(count: usize) -> usize {
    thread_local! {
        static NEXT: Cell<usize> = const { Cell::new(0) };
    }
    let next = NEXT.get();
    NEXT.set(next.wrapping_add(1));
    if count == 0 { 0 } else { next % count }
}
