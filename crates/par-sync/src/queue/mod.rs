//! Queues between threads: [`Queue`], [`LifoQueue`], [`PriorityQueue`], and [`Select`] over them and other things to wait for.
//!
//! 1. A first-in-first-out queue with a bound keeps its items in a [ring], without a lock. All others have two locks: those who put hold
//!    that of the back, those who get that of the front. Where the front is empty, and the order lets them, they lock the back as well and take all
//!    that is there; in other orders the back is all there is. The front is locked first.
//! 2. With locks, how many were put is written with the back locked, how many were got with what they were got from. Room is what is between, seen
//!    by who puts as it was when it last looked; it looks again when there seems to be none.
//! 3. Who finds no item, or no room, looks at the numbers for a moment without a lock, as the other side is often about to act; then it sleeps.
//!    It is counted before it looks for the last time, with the back locked; whoever wakes it takes it from the count.
//! 4. Who puts or gets, and who says that an item is done, writes its number and then looks whether anybody waits for that, as those count themselves
//!    and then look at the number (both in one order, `SeqCst`); if so it locks the back to wake one. Those who watch (`select`) are counted and
//!    poked in the same ways.
//! 5. What is put belongs to the queue until it is got, and is handed back if it is not put. Items are dropped without a lock; they
//!    are compared with one, so an `Ord` must not use the queue that orders by it.

mod bell;
mod error;
mod order;
mod protocol;
mod ring;
#[cfg(not(loom))]
mod select;
mod watchers;

#[cfg(not(loom))]
pub mod crossbeam;

pub use error::{GetError, PutError, TaskDoneError};
pub use order::{Fifo, Lifo, Order, Priority};
#[cfg(not(loom))]
pub use select::Select;

use crate::sync_seam::{AtomicBool, AtomicU64, AtomicUsize, Lock, Ordering, Signal, Until, dekker};
use crate::watch::{Kind, Watch};
use bell::Bell;
#[cfg(not(loom))]
use crossbeam_utils::CachePadded;
use ring::Ring;
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
    capacity: u64,
    ring: Option<Ring<T>>,
    back: Apart<Lock<Back<T, O>>>,
    front: Apart<Lock<O>>,
    /// Rule 2.
    put: Apart<AtomicU64>,
    got: Apart<AtomicU64>,
    done: Apart<Done>,
    /// Where who puts sleeps, and who gets.
    room: Bell,
    items: Bell,
    /// How many wait until all is done.
    for_end: AtomicUsize,
    shut: AtomicBool,
    all_done: Signal,
}

/// How many are done, and how many were put when somebody who said so last had to look.
struct Done {
    count: AtomicU64,
    put: AtomicU64,
}

/// On a line of the cache of its own: the two sides write at the same time.
#[cfg(not(loom))]
type Apart<T> = CachePadded<T>;

#[cfg(not(loom))]
fn apart<T>(value: T) -> Apart<T> {
    CachePadded::new(value)
}

#[cfg(loom)]
type Apart<T> = T;

#[cfg(loom)]
fn apart<T>(value: T) -> Apart<T> {
    value
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

struct Back<T, O> {
    items: O,
    /// How many were got when somebody last looked.
    got: u64,
    watchers: Watchers,
    _of: std::marker::PhantomData<fn() -> T>,
}

macro_rules! constructors {
    ($order:ident $(, $bound:path)?) => {
        impl<T $(: $bound)?> OrderedQueue<T, $order<T>> {
            /// A queue for at most `capacity` items at a time; for any number, if that is 0.
            #[doc(alias = "maxsize")]
            #[track_caller]
            pub fn new(capacity: usize) -> Self {
                let mut queue = OrderedQueue::with_order($order::default(), capacity);
                queue.ring = $order::<T>::RING.then(|| Ring::fits(capacity)).flatten();
                queue
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
            capacity: if capacity == 0 { u64::MAX } else { capacity as u64 },
            ring: None,
            back: apart(Lock::new(Back {
                items,
                got: 0,
                watchers: Watchers::default(),
                _of: std::marker::PhantomData,
            })),
            front: apart(Lock::new(O::default())),
            put: apart(AtomicU64::new(0)),
            got: apart(AtomicU64::new(0)),
            done: apart(Done {
                count: AtomicU64::new(0),
                put: AtomicU64::new(0),
            }),
            room: Bell::new(),
            items: Bell::new(),
            for_end: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
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
        let mut put = 0;
        let done = self
            .done
            .count
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |done| {
                put = self.done.put.load(Ordering::Relaxed);
                if done + 1 >= put {
                    // Never less than was done: whoever says so has got it.
                    put = self.puts();
                    self.done.put.store(put, Ordering::Relaxed);
                }
                (done < put).then_some(done + 1)
            });
        let done = done.map_err(|_| TaskDoneError)?;
        dekker();
        if done + 1 == put && self.for_end.load(Ordering::SeqCst) > 0 {
            // They look, and sleep, with the lock: who was counted sleeps by now, or has seen the number.
            drop(self.back.lock());
            self.all_done.notify_all();
        }
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
        if self.unfinished() == 0 {
            return true;
        }
        let waiting = self.sleeps(until, || self.unfinished() == 0);
        let mut back = self.back.lock();
        self.for_end.fetch_add(1, Ordering::SeqCst);
        dekker();
        let mut in_time = true;
        while self.unfinished() > 0 && in_time {
            in_time = self.all_done.wait(&mut back, until);
        }
        self.for_end.fetch_sub(1, Ordering::Relaxed);
        drop(back);
        waiting.over();
        self.unfinished() == 0
    }

    /// How many items were put and are not [done](Self::task_done).
    #[doc(alias = "unfinished_tasks")]
    pub fn unfinished(&self) -> usize {
        let done = self.done.count.load(Ordering::SeqCst);
        // Put is never less; nobody has that many.
        (self.puts() - done) as usize
    }

    /// No more is put: who tries, or waits for room, hears of it. What is there can still be got; then who gets hears of it too.
    #[doc(alias = "close")]
    pub fn shutdown(&self) {
        self.shut(self.back.lock());
    }

    /// As [`shutdown`](Self::shutdown), and what is there is handed back, in order, and counts as done.
    pub fn shutdown_now(&self) -> Vec<T> {
        let (left, back) = self.take_all();
        // Those that others said to be done, and did not get, may be among them.
        let most = self.puts();
        let done = |done: u64| Some((done + left.len() as u64).min(most));
        let count = &self.done.count;
        let _ = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, done);
        self.shut(back);
        left
    }

    /// Whether it is shut down.
    pub fn is_shut_down(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// How many items are there. Another thread may change that at any time.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        let got = self.gots();
        // Put is never less; nobody has that many.
        (self.puts() - got) as usize
    }

    /// Whether no item is there.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.len() as u64 >= self.capacity
    }

    /// How many items it has room for; `None` for any number.
    pub fn capacity(&self) -> Option<usize> {
        // It was one.
        (self.capacity < u64::MAX).then_some(self.capacity as usize)
    }

    /// The items as they come, until the queue is shut down and empty.
    pub fn iter(&self) -> Iter<'_, T, O> {
        Iter { queue: self }
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
