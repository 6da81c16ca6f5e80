//! Queues between threads: [`Queue`], [`LifoQueue`], [`PriorityQueue`], and [`Select`] over them and other things to wait for.
//!
//! 1. Under one lock: the items, how many are not done, how many threads wait on each side, who watches, and whether the queue is shut down.
//! 2. Who finds no item, or no room, looks at the number of items for a moment without the lock, as the other side is often about to
//!    act; then it sleeps. It is counted before it sleeps, with the lock.
//! 3. Who puts or gets wakes one of the other side, if any is counted, and pokes all who watch (`select`), without the lock. Who is woken
//!    may find that another was quicker, and sleeps again: nobody is woken for nothing twice.
//! 4. What is put belongs to the queue until it is got, and is handed back if it is not put. Items are dropped without the lock; they
//!    are compared with it, so an `Ord` must not use the queue that orders by it.

mod error;
mod order;
#[cfg(not(loom))]
mod select;
mod watchers;

#[cfg(not(loom))]
pub mod crossbeam;

pub use error::{GetError, PutError, TaskDoneError};
pub use order::{Fifo, Lifo, Order, Priority};
#[cfg(not(loom))]
pub use select::Select;

use crate::sync_seam::{AtomicUsize, Lock, Locked, Ordering, Signal, Until};
use crate::watch::{Hold, Kind, Watch};
use std::fmt;
use std::time::Duration;
#[cfg(not(loom))]
pub(crate) use watchers::Poke;
pub(crate) use watchers::Watchers;

/// Items on their way from threads that put them to threads that get them, in an [`Order`]: [`Queue`], [`LifoQueue`],
/// [`PriorityQueue`], or a user's own.
///
/// Bounded, so that who puts waits for room, or not; shared by reference. Whoever gets an item may say when it has dealt with it
/// ([`task_done`](Self::task_done)), so that others can wait until all is done ([`join`](Self::join)).
pub struct OrderedQueue<T, O: Order<T>> {
    watch: Watch,
    capacity: usize,
    state: Lock<State<T, O>>,
    /// The number of items, for a look without the lock; [`SHUT`] once the queue is shut down.
    hint: AtomicUsize,
    not_empty: Signal,
    not_full: Signal,
    all_done: Signal,
}

/// Items on their way from threads that put them to threads that get them, in the order in which they were put.
///
/// Bounded, so that who puts waits for room, or not; shared by reference. Whoever gets an item may say when it has dealt with it
/// ([`task_done`](OrderedQueue::task_done)), so that others can wait until all is done ([`join`](OrderedQueue::join)).
///
/// ```
/// use par_sync::Queue;
///
/// let queue = Queue::new(10);
/// std::thread::scope(|scope| {
///     for _ in 0..3 {
///         scope.spawn(|| {
///             for number in &queue {
///                 assert!(number < 100);
///                 queue.task_done().expect("one for each item");
///             }
///         });
///     }
///     (0..100).try_for_each(|number| queue.put(number))?;
///     queue.join(); // all are done
///     queue.shutdown(); // and the three end
///     Ok::<(), par_sync::PutError<i32>>(())
/// })?;
/// # Ok::<(), par_sync::PutError<i32>>(())
/// ```
#[doc(alias = "SimpleQueue")]
#[doc(alias = "JoinableQueue")]
pub type Queue<T> = OrderedQueue<T, Fifo<T>>;

/// A [`Queue`] whose last item is got first: a stack.
///
/// ```
/// use par_sync::LifoQueue;
///
/// let stack = LifoQueue::new(0);
/// (1..=3).try_for_each(|number| stack.put(number))?;
/// assert_eq!((stack.get(), stack.get()), (Ok(3), Ok(2)));
/// # Ok::<(), par_sync::PutError<i32>>(())
/// ```
pub type LifoQueue<T> = OrderedQueue<T, Lifo<T>>;

/// A [`Queue`] whose least item is got first; of equal ones, the one that was put first.
///
/// ```
/// use par_sync::PriorityQueue;
///
/// let jobs = PriorityQueue::new(0);
/// jobs.put((2, "sweep"))?;
/// jobs.put((1, "cook"))?;
/// assert_eq!(jobs.get(), Ok((1, "cook")));
/// # Ok::<(), par_sync::PutError<(i32, &str)>>(())
/// ```
pub type PriorityQueue<T> = OrderedQueue<T, Priority<T>>;

struct State<T, O> {
    items: O,
    unfinished: usize,
    getters: usize,
    putters: usize,
    shut: bool,
    watchers: Watchers,
    _of: std::marker::PhantomData<fn() -> T>,
}

const SHUT: usize = usize::MAX;

macro_rules! constructors {
    ($order:ident $(, $bound:path)?) => {
        impl<T $(: $bound)?> OrderedQueue<T, $order<T>> {
            /// A queue for at most `capacity` items at a time; for any number, if that is 0.
            #[doc(alias = "maxsize")]
            #[track_caller]
            pub fn new(capacity: usize) -> Self {
                OrderedQueue::with_order($order::default(), capacity)
            }

            /// As [`new`](Self::new), with a name for reports.
            #[track_caller]
            pub fn named(name: &str, capacity: usize) -> Self {
                let queue = Self::new(capacity);
                queue.watch.name(name);
                queue
            }
        }
    };
}

constructors!(Fifo);
constructors!(Lifo);
constructors!(Priority, Ord);

impl<T, O: Order<T>> OrderedQueue<T, O> {
    /// A queue in an order of the caller's; see [`new`](Queue::new) for the capacity.
    #[track_caller]
    pub fn with_order(items: O, capacity: usize) -> Self {
        OrderedQueue {
            watch: Watch::new(Kind::Queue),
            capacity: if capacity == 0 { usize::MAX } else { capacity },
            state: Lock::new(State {
                items,
                unfinished: 0,
                getters: 0,
                putters: 0,
                shut: false,
                watchers: Watchers::default(),
                _of: std::marker::PhantomData,
            }),
            hint: AtomicUsize::new(0),
            not_empty: Signal::new(),
            not_full: Signal::new(),
            all_done: Signal::new(),
        }
    }

    /// Waits for room, and puts an item.
    ///
    /// # Errors
    /// [`PutError::ShutDown`], with the item.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can make room.
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, Until::Forever)
    }

    /// Puts an item if there is room.
    ///
    /// # Errors
    /// [`PutError::Full`] or [`PutError::ShutDown`], with the item.
    #[doc(alias = "put_nowait")]
    #[track_caller]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, Until::Now)
    }

    /// As [`put`](Self::put), waiting at most for `timeout`.
    ///
    /// # Errors
    /// [`PutError::Full`] or [`PutError::ShutDown`], with the item.
    #[track_caller]
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Until::after(timeout))
    }

    /// Waits for an item, and gets it.
    ///
    /// # Errors
    /// [`GetError::ShutDown`] once the queue is shut down and empty.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can put one.
    #[track_caller]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Until::Forever)
    }

    /// Gets an item if there is one.
    ///
    /// # Errors
    /// [`GetError::Empty`] or [`GetError::ShutDown`].
    #[doc(alias = "get_nowait")]
    #[track_caller]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Until::Now)
    }

    /// As [`get`](Self::get), waiting at most for `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] or [`GetError::ShutDown`].
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Until::after(timeout))
    }

    /// An item that was got is dealt with.
    ///
    /// # Errors
    /// [`TaskDoneError`] if that was said for as many as were put; nothing changes then.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        let mut state = self.state.lock();
        let left = state.unfinished.checked_sub(1).ok_or(TaskDoneError)?;
        state.unfinished = left;
        drop(state);
        if left == 0 {
            self.all_done.notify_all();
        }
        self.watch.used();
        Ok(())
    }

    /// Waits until every item that was put is [done](Self::task_done).
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can say so.
    #[track_caller]
    pub fn join(&self) {
        self.join_until(Until::Forever);
    }

    /// As [`join`](Self::join), at most for `timeout`; whether all is done.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.join_until(Until::after(timeout))
    }

    #[track_caller]
    fn join_until(&self, until: Until) -> bool {
        if self.state.lock().unfinished == 0 {
            return true;
        }
        let waiting = self.sleeps(until);
        let mut state = self.state.lock();
        let mut in_time = true;
        while state.unfinished > 0 && in_time {
            in_time = self.all_done.wait(&mut state, until);
        }
        let done = state.unfinished == 0;
        drop(state);
        waiting.over();
        done
    }

    /// How many items were put and are not [done](Self::task_done).
    #[doc(alias = "unfinished_tasks")]
    pub fn unfinished(&self) -> usize {
        self.state.lock().unfinished
    }

    /// No more is put: who tries, or waits for room, hears of it. What is there can still be got; then who gets hears of it too.
    #[doc(alias = "close")]
    pub fn shutdown(&self) {
        self.shut(|_| ());
    }

    /// As [`shutdown`](Self::shutdown), and what is there is handed back, in order, and counts as done.
    pub fn shutdown_now(&self) -> Vec<T> {
        let mut left = Vec::new();
        let done = self.shut(|state| {
            left.extend(std::iter::from_fn(|| state.items.pop()));
            state.unfinished = state.unfinished.saturating_sub(left.len());
            state.unfinished == 0
        });
        if done {
            self.all_done.notify_all();
        }
        left
    }

    fn shut<R>(&self, change: impl FnOnce(&mut State<T, O>) -> R) -> R {
        let mut state = self.state.lock();
        state.shut = true;
        self.hint.store(SHUT, Ordering::Relaxed);
        let result = change(&mut state);
        let watchers = state.watchers.all();
        drop(state);
        self.not_empty.notify_all();
        self.not_full.notify_all();
        watchers.poke();
        self.watch.used();
        result
    }

    /// Whether it is shut down.
    pub fn is_shut_down(&self) -> bool {
        self.hint.load(Ordering::Relaxed) == SHUT
    }

    /// How many items are there. Another thread may change that at any time.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Whether no item is there.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// How many items it has room for; `None` for any number.
    pub fn capacity(&self) -> Option<usize> {
        (self.capacity < usize::MAX).then_some(self.capacity)
    }

    /// The items as they come, until the queue is shut down and empty.
    pub fn iter(&self) -> Iter<'_, T, O> {
        Iter { queue: self }
    }

    /// Tells the watch of a sleep.
    #[track_caller]
    fn sleeps(&self, until: Until) -> crate::watch::Waiting<'_> {
        match self.watch.wait(Hold::Shared, until) {
            Ok(waiting) => waiting,
            Err(deadlock) => panic!("{deadlock}"),
        }
    }

    /// Looks for a moment whether the number of items becomes one that `suits` (rule 2).
    #[inline]
    fn glance(&self, suits: impl Fn(usize) -> bool) -> bool {
        #[cfg(not(loom))]
        {
            let moment = crossbeam_utils::Backoff::new();
            while !moment.is_completed() {
                moment.snooze();
                if suits(self.hint.load(Ordering::Relaxed)) {
                    return true;
                }
            }
        }
        // Under loom nobody acts while another looks.
        #[cfg(loom)]
        let _ = suits;
        false
    }

    #[inline]
    #[track_caller]
    fn put_until(&self, item: T, until: Until) -> Result<(), PutError<T>> {
        let state = self.state.lock();
        if state.shut {
            drop(state);
            return Err(PutError::ShutDown(item));
        }
        if state.items.len() < self.capacity {
            self.push(state, item);
            return Ok(());
        }
        drop(state);
        if until == Until::Now {
            return Err(PutError::Full(item));
        }
        self.put_later(item, until)
    }

    #[track_caller]
    fn put_later(&self, item: T, until: Until) -> Result<(), PutError<T>> {
        loop {
            let room = self.glance(|items| items < self.capacity || items == SHUT);
            let waiting = (!room).then(|| self.sleeps(until));
            let mut state = self.state.lock();
            let mut in_time = true;
            while !room && in_time && !state.shut && state.items.len() >= self.capacity {
                state.putters += 1;
                in_time = self.not_full.wait(&mut state, until);
                state.putters -= 1;
            }
            if let Some(waiting) = waiting {
                waiting.over();
            }
            if state.shut {
                drop(state);
                return Err(PutError::ShutDown(item));
            }
            if state.items.len() < self.capacity {
                self.push(state, item);
                return Ok(());
            }
            drop(state);
            if !in_time || until.is_over() {
                return Err(PutError::Full(item));
            }
        }
    }

    /// Puts an item for which there is room.
    #[inline]
    fn push(&self, mut state: Locked<'_, State<T, O>>, item: T) {
        state.items.push(item);
        state.unfinished += 1;
        self.hint.store(state.items.len(), Ordering::Relaxed);
        let wake = state.getters > 0;
        let watchers = state.watchers.all();
        drop(state);
        if wake {
            self.not_empty.notify_one();
        }
        watchers.poke();
        self.watch.used();
    }

    #[inline]
    #[track_caller]
    fn get_until(&self, until: Until) -> Result<T, GetError> {
        let mut state = self.state.lock();
        if let Some(item) = state.items.pop() {
            self.popped(state);
            return Ok(item);
        }
        let shut = state.shut;
        drop(state);
        if shut {
            return Err(GetError::ShutDown);
        }
        if until == Until::Now {
            return Err(GetError::Empty);
        }
        self.get_later(until)
    }

    #[track_caller]
    fn get_later(&self, until: Until) -> Result<T, GetError> {
        loop {
            let there = self.glance(|items| items > 0);
            let waiting = (!there).then(|| self.sleeps(until));
            let mut state = self.state.lock();
            let mut in_time = true;
            while !there && in_time && !state.shut && state.items.len() == 0 {
                state.getters += 1;
                in_time = self.not_empty.wait(&mut state, until);
                state.getters -= 1;
            }
            if let Some(waiting) = waiting {
                waiting.over();
            }
            if let Some(item) = state.items.pop() {
                self.popped(state);
                return Ok(item);
            }
            if state.shut {
                return Err(GetError::ShutDown);
            }
            if !in_time || until.is_over() {
                return Err(GetError::Empty);
            }
        }
    }

    /// What follows when an item was got.
    #[inline]
    fn popped(&self, state: Locked<'_, State<T, O>>) {
        if !state.shut {
            self.hint.store(state.items.len(), Ordering::Relaxed);
        }
        let wake = state.putters > 0;
        let watchers = state.watchers.all();
        drop(state);
        if wake {
            self.not_full.notify_one();
        }
        watchers.poke();
        self.watch.used();
    }

    /// From now on `poke` hears of each change, until it is [let go](Self::unwatch).
    #[cfg(not(loom))]
    fn watch(&self, poke: &Poke) {
        self.state.lock().watchers.add(poke);
    }

    #[cfg(not(loom))]
    fn unwatch(&self, poke: &Poke) {
        self.state.lock().watchers.remove(poke);
    }
}

impl<T, O: Order<T>> fmt::Debug for OrderedQueue<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("unfinished", &self.unfinished())
            .field("is_shut_down", &self.is_shut_down())
            .finish()
    }
}

/// The items of a queue as they come. See [`OrderedQueue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T, O: Order<T>> {
    queue: &'a OrderedQueue<T, O>,
}

impl<T, O: Order<T>> Iterator for Iter<'_, T, O> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.get().ok()
    }
}

impl<'a, T, O: Order<T>> IntoIterator for &'a OrderedQueue<T, O> {
    type Item = T;
    type IntoIter = Iter<'a, T, O>;

    fn into_iter(self) -> Iter<'a, T, O> {
        self.iter()
    }
}

#[cfg(all(test, loom))]
mod models;
