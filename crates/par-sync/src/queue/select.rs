//! [`Select`]: the first of several things that can be done.
//!
//! 1. Each branch is tried, in an order drawn anew each time or in that of the list. The first that can be done is done, and that is all.
//! 2. If none can, the select watches every object, and tries all once more: what changed before it watched is seen now, and what changes
//!    later pokes it. Then it sleeps until it is poked, until a channel of crossbeam has something, or until its time is over.
//! 3. A poke says only that something changed. Who was quicker may have taken it; then the select tries and sleeps again.
//! 4. When it is done it watches nothing any more, also when a branch panicked.

use super::{GetError, Order, OrderedQueue, Poke, PutError};
use crate::Event;
use crate::csp::{Reader, Stop};
use crate::sync_seam::Until;
use crate::watch::{self, Hold, Kind, Watch};
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Waits for several things, and does the first that can be done: get from a queue, put into one, read from a channel of [`csp`](crate::csp), see an
/// event or the end of a time; with channels of crossbeam, see [`crossbeam`](crate::crossbeam).
///
/// Each branch says what its outcome becomes. Where several can be done at once, one is drawn, so that none starves; in a
/// [`biased`](Self::biased) select the first of them is done.
///
/// ```
/// use par_sync::{Event, Queue, Select};
/// use std::time::Duration;
///
/// let (numbers, words, stop) = (Queue::new(10), Queue::new(10), Event::new());
/// let told: Vec<String> = std::thread::scope(|scope| {
///     scope.spawn(|| {
///         numbers.put(5).expect("not shut down");
///         words.put("six").expect("not shut down");
///         numbers.shutdown();
///     });
///     let mut told = Vec::new();
///     while told.len() < 3 {
///         let next = Select::new()
///             .get(&numbers, |number| number.map_or("no more".to_owned(), |number: i32| number.to_string()))
///             .get(&words, |word| word.expect("not shut down").to_owned())
///             .event(&stop, || "stopped".to_owned())
///             .after(Duration::from_secs(60), || "late".to_owned())
///             .wait();
///         if !told.contains(&next) {
///             told.push(next);
///         }
///     }
///     told
/// });
/// assert!(["5", "six", "no more"].iter().all(|word| told.contains(&(*word).to_owned())));
/// ```
#[must_use = "it does nothing until one of its forms of `wait` is called"]
pub struct Select<'a, R> {
    branches: Vec<Box<dyn Branch<R> + 'a>>,
    biased: bool,
}

/// One of the things that can be done.
pub(super) trait Branch<R> {
    /// Does it if that is possible now. Not called again after that.
    fn attempt(&mut self) -> Option<R>;
    fn watch(&self, poke: &Poke);
    fn unwatch(&self, poke: &Poke);
    /// When to try again in any case.
    fn alarm(&self) -> Option<Instant> {
        None
    }
    /// A channel that can be slept at.
    fn enroll<'s>(&'s self, _sleep: &mut crossbeam_channel::Select<'s>) {}
}

struct Get<'a, T, O: Order<T>, F> {
    queue: &'a OrderedQueue<T, O>,
    then: Option<F>,
}

impl<T, O: Order<T>, R, F: FnOnce(Result<T, GetError>) -> R> Branch<R> for Get<'_, T, O, F> {
    fn attempt(&mut self) -> Option<R> {
        match self.queue.try_get() {
            Err(GetError::Empty) => None,
            got => self.then.take().map(|then| then(got)),
        }
    }

    fn watch(&self, poke: &Poke) {
        self.queue.watch(poke);
    }

    fn unwatch(&self, poke: &Poke) {
        self.queue.unwatch(poke);
    }
}

struct Put<'a, T, O: Order<T>, F> {
    queue: &'a OrderedQueue<T, O>,
    item: Option<T>,
    then: Option<F>,
}

impl<T, O: Order<T>, R, F: FnOnce(Result<(), PutError<T>>) -> R> Branch<R> for Put<'_, T, O, F> {
    fn attempt(&mut self) -> Option<R> {
        match self.queue.try_put(self.item.take()?) {
            Err(PutError::Full(item)) => {
                self.item = Some(item);
                None
            }
            put => self.then.take().map(|then| then(put)),
        }
    }

    fn watch(&self, poke: &Poke) {
        self.queue.watch(poke);
    }

    fn unwatch(&self, poke: &Poke) {
        self.queue.unwatch(poke);
    }
}

struct Read<'a, T, K, F> {
    reader: &'a mut Reader<T, K>,
    then: Option<F>,
}

impl<T, K, R, F: FnOnce(Result<T, Stop>) -> R> Branch<R> for Read<'_, T, K, F> {
    fn attempt(&mut self) -> Option<R> {
        let read = self.reader.try_read().transpose()?;
        self.then.take().map(|then| then(read))
    }

    fn watch(&self, poke: &Poke) {
        self.reader.watch(poke);
    }

    fn unwatch(&self, poke: &Poke) {
        self.reader.unwatch(poke);
    }
}

struct See<'a, F> {
    event: &'a Event,
    then: Option<F>,
}

impl<R, F: FnOnce() -> R> Branch<R> for See<'_, F> {
    fn attempt(&mut self) -> Option<R> {
        let then = self.event.is_set().then(|| self.then.take())?;
        then.map(|then| then())
    }

    fn watch(&self, poke: &Poke) {
        self.event.watch(poke);
    }

    fn unwatch(&self, poke: &Poke) {
        self.event.unwatch(poke);
    }
}

struct At<F> {
    at: Option<Instant>,
    then: Option<F>,
}

impl<R, F: FnOnce() -> R> Branch<R> for At<F> {
    fn attempt(&mut self) -> Option<R> {
        let over = self.at.is_some_and(|at| Instant::now() >= at);
        let then = over.then(|| self.then.take())?;
        then.map(|then| then())
    }

    fn watch(&self, _: &Poke) {}

    fn unwatch(&self, _: &Poke) {}

    fn alarm(&self) -> Option<Instant> {
        self.at
    }
}

impl<'a, R> Select<'a, R> {
    /// Nothing to wait for yet.
    pub fn new() -> Self {
        Select {
            branches: Vec::new(),
            biased: false,
        }
    }

    /// Of what can be done at once, the first in the list is done, not one that is drawn.
    #[doc(alias = "prioritised")]
    pub fn biased(mut self) -> Self {
        self.biased = true;
        self
    }

    pub(super) fn branch(mut self, branch: impl Branch<R> + 'a) -> Self {
        self.branches.push(Box::new(branch));
        self
    }

    /// Gets an item; or hears that the queue is shut down and empty ([`GetError::ShutDown`]).
    pub fn get<T, O: Order<T>>(
        self,
        queue: &'a OrderedQueue<T, O>,
        then: impl FnOnce(Result<T, GetError>) -> R + 'a,
    ) -> Self
    where
        T: 'a,
    {
        let then = Some(then);
        self.branch(Get { queue, then })
    }

    /// Puts an item; or hears that the queue is shut down ([`PutError::ShutDown`], with the item). If another branch is done, the item
    /// is dropped with the select.
    pub fn put<T, O: Order<T>>(
        self,
        queue: &'a OrderedQueue<T, O>,
        item: T,
        then: impl FnOnce(Result<(), PutError<T>>) -> R + 'a,
    ) -> Self
    where
        T: 'a,
    {
        let (item, then) = (Some(item), Some(then));
        self.branch(Put { queue, item, then })
    }

    /// Reads from a channel of [`csp`](crate::csp); or hears the [`Stop`].
    pub fn read<T: 'a, K: 'a>(
        self,
        reader: &'a mut Reader<T, K>,
        then: impl FnOnce(Result<T, Stop>) -> R + 'a,
    ) -> Self {
        let then = Some(then);
        self.branch(Read { reader, then })
    }

    /// Sees an event whose flag is up.
    pub fn event(self, event: &'a Event, then: impl FnOnce() -> R + 'a) -> Self {
        let then = Some(then);
        self.branch(See { event, then })
    }

    /// Sees the end of a time from now.
    pub fn after(self, time: Duration, then: impl FnOnce() -> R + 'a) -> Self {
        // A time beyond what the clock can say never ends.
        let at = Instant::now().checked_add(time);
        let then = Some(then);
        self.branch(At { at, then })
    }

    /// Sees that a time has come.
    pub fn at(self, at: Instant, then: impl FnOnce() -> R + 'a) -> Self {
        let (at, then) = (Some(at), Some(then));
        self.branch(At { at, then })
    }

    /// Does the first thing that can be done, waiting as long as it takes. A select without branches waits for ever.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can do what it waits for.
    #[track_caller]
    pub fn wait(mut self) -> R {
        loop {
            if let Some(done) = self.run(Until::Forever) {
                return done;
            }
        }
    }

    /// Does the first thing that can be done within `timeout`.
    #[track_caller]
    pub fn wait_timeout(mut self, timeout: Duration) -> Option<R> {
        self.run(Until::after(timeout))
    }

    /// Does what can be done now.
    #[doc(alias = "default")]
    #[doc(alias = "skip")]
    pub fn now(mut self) -> Option<R> {
        self.attempt()
    }

    /// Rule 1.
    fn attempt(&mut self) -> Option<R> {
        let count = self.branches.len();
        let first = if self.biased { 0 } else { draw(count) };
        (0..count).find_map(|at| self.branches[(first + at) % count].attempt())
    }

    #[track_caller]
    fn run(&mut self, until: Until) -> Option<R> {
        if let Some(done) = self.attempt() {
            return Some(done);
        }
        let watch = Watch::new(Kind::Select);
        let (poke, poked) = Poke::new();
        let mut watching = Watching {
            select: self,
            poke: &poke,
        };
        watching.begin();
        loop {
            if let Some(done) = watching.select.attempt() {
                return Some(done);
            }
            if until.is_over() {
                return None;
            }
            let branches = &watching.select.branches;
            let mut sleep = crossbeam_channel::Select::new();
            sleep.recv(&poked);
            branches.iter().for_each(|branch| branch.enroll(&mut sleep));
            let alarm = branches.iter().filter_map(|branch| branch.alarm()).min();
            let end = match until {
                Until::At(until) => Some(alarm.map_or(until, |alarm| alarm.min(until))),
                _ => alarm,
            };
            let sleep = RefCell::new(sleep);
            let ready = || sleep.borrow_mut().try_ready().is_ok();
            let asleep_until = end.map_or(Until::Forever, Until::At);
            // A poke that has come, or something at a channel of crossbeam.
            let waiting = watch::surely(watch.wait(Hold::Shared, asleep_until, ready));
            // Whatever it says, all is tried again.
            let mut sleep = sleep.into_inner();
            let _ = match end {
                Some(end) => sleep.ready_deadline(end).ok(),
                None => Some(sleep.ready()),
            };
            drop(sleep);
            waiting.over();
            let _ = poked.try_recv();
        }
    }
}

impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Select::new()
    }
}

/// A select that watches its objects (rule 4).
struct Watching<'s, 'a, R> {
    select: &'s mut Select<'a, R>,
    poke: &'s Poke,
}

impl<R> Watching<'_, '_, R> {
    fn begin(&mut self) {
        for branch in &self.select.branches {
            branch.watch(self.poke);
        }
    }
}

impl<R> Drop for Watching<'_, '_, R> {
    fn drop(&mut self) {
        for branch in &self.select.branches {
            branch.unwatch(self.poke);
        }
    }
}

/// A number below `count`: fairness needs no more than xorshift (Marsaglia, 2003).
fn draw(count: usize) -> usize {
    thread_local! {
        static SEED: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    if count < 2 {
        return 0;
    }
    let mut seed = SEED.get();
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    SEED.set(seed);
    // It fits: the rest is less than a usize.
    (seed % count as u64) as usize
}
