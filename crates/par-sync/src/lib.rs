//! Threads, and what they meet at: [locks](#locks-and-their-like), [queues](#queues), [threads](#threads-of-ones-own) with names and
//! results, and a [pool](#a-pool) whose workers are threads of this process, on the trait layer of [`par_core`], all of which this crate
//! hands on.
//!
//! # Locks and their like
//!
//! [`Mutex`], [`ReentrantMutex`], [`RwLock`], [`Semaphore`], [`BoundedSemaphore`], [`Condvar`], [`Event`], [`Barrier`]; and [`RawMutex`] and
//! [`RawReentrantMutex`], without data. Each waits in three forms: as long as it takes, not at all (`try_..`), and for a time
//! (`.._timeout`). What is held goes back when its guard is dropped, also while a thread panics; nothing is poisoned. Nobody wakes
//! for nothing. They cost what parking_lot's cost, on which they stand.
//!
//! ```
//! use par_sync::{Condvar, Mutex, scope};
//! use std::time::Duration;
//!
//! let (jobs, added) = (Mutex::new(Vec::new()), Condvar::new());
//! scope(|scope| {
//!     scope.spawn(|| {
//!         jobs.lock().push("sweep");
//!         added.notify_one();
//!     });
//!     let mut jobs = jobs.lock();
//!     added.wait_for(&mut jobs, |jobs| !jobs.is_empty());
//!     assert_eq!(jobs.pop(), Some("sweep"));
//! });
//! let held = jobs.lock();
//! assert!(jobs.lock_timeout(Duration::from_millis(1)).is_err());
//! # drop(held);
//! ```
//!
//! # Queues
//!
//! [`Queue`], [`LifoQueue`] and [`PriorityQueue`], bounded or not, with [`join`](OrderedQueue::join) and
//! [`task_done`](OrderedQueue::task_done), and with a [`shutdown`](OrderedQueue::shutdown) that wakes everyone. An item that cannot be put
//! comes back. [`Select`] does the first that can be done of several: get, put, see an event or the end of a time, or use a channel
//! of [`crossbeam`].
//!
//! ```
//! use par_sync::{Event, Queue, Select};
//!
//! let (jobs, stop) = (Queue::new(10), Event::new());
//! jobs.put("cook")?;
//! let job = Select::new().get(&jobs, |job| job.ok()).event(&stop, || None).wait();
//! assert_eq!(job, Some("cook"));
//! # Ok::<(), par_sync::PutError<&str>>(())
//! ```
//!
//! # Threads of one's own
//!
//! [`Thread::new`] for a closure, [`Thread::of`] for a value that [`Run`]s; [`JoinHandle`] for the result, or the panic. [`Thread::current`],
//! [`Thread::enumerate`], [`Thread::on_panic`]; [`Local`] values, [`Timer`]s, and [`scope`] for threads that borrow. [`wait_at_exit`] in
//! `main` waits for those that are no daemons.
//!
//! ```
//! use par_sync::Thread;
//!
//! let thread = Thread::new(|| 6 * 7).name("deep thought").start()?;
//! assert_eq!(thread.join()?, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Communicating sequential processes
//!
//! [`csp`] has channels with ends, which are poisoned or retire; choice among communications on both sides; and networks of threads or of light
//! tasks:
//!
//! ```
//! use par_sync::csp;
//!
//! let (mut out, mut into) = csp::one2one();
//! let sum = csp::parallel(|network| {
//!     network.spawn("numbers", move || {
//!         for number in 1..=10 {
//!             out.write(number)?;
//!         }
//!         Ok(()) // its end retires
//!     });
//!     std::iter::from_fn(|| into.read().ok()).sum::<u32>()
//! });
//! assert_eq!(sum, 55);
//! ```
//!
//! # Deadlocks and contention
//!
//! With the feature `deadlock`, switched on at run time, the call that would close a cycle of locks and joins does not wait: it panics with
//! a report of who holds and waits for what, and where, or returns it ([`Mutex::lock_checked`]). Locks that are taken in different orders
//! are warned of before they meet. With the feature `statistics`, each object tells how often and for how long threads waited for it. The
//! modules `deadlock` and `statistics` say more. Without the features not an instruction is added.
//!
//! # A pool
//!
//! Values move to the workers and back in place, without being encoded or copied, so a million tiny tasks cost about what a
//! loop over rayon's iterators costs; and the same `#[task]`, moved to processes or to a cluster, gives the same bits.
//!
//! ```
//! use par_sync::{ChunkPlan, Plan, Sum, ThreadPool, task};
//!
//! #[task]
//! fn harmonic(n: u64) -> f64 { 1.0 / (n as f64) }
//!
//! let pool = ThreadPool::new(4)?;
//! let handle = pool.submit::<harmonic>(2)?;            // one task: wait() for it, or .await it
//! assert_eq!(handle.wait()?, 0.5);
//! let parts = pool.map::<harmonic>(1..5)?;             // in the order of the inputs
//! assert_eq!(parts, [1.0, 1.0 / 2.0, 1.0 / 3.0, 0.25]);
//!
//! // A sum has the same bits at every number of workers, in chunks of any size, and on every other engine.
//! let sum = pool.map_reduce::<harmonic, _>(1..100_000, Sum)?;
//! let other = ThreadPool::new(1)?.with_plan(Plan::default().chunk(ChunkPlan::Fixed(7)));
//! assert_eq!(sum.to_bits(), other.map_reduce::<harmonic, _>(1..100_000, Sum)?.to_bits());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What only threads can do
//!
//! Closures may borrow from their caller, who waits for them also when one of them panics:
//!
//! ```
//! # use par_sync::{Sum, ThreadPool};
//! let pool = ThreadPool::new(2)?;
//! let words = ["to", "be", "or", "not", "to", "be"];
//!
//! // A scope: what it spawns has ended when it returns.
//! let (mut short, mut long) = (0, 0);
//! pool.scope_with(|scope| {
//!     scope.spawn(|| short = words.iter().filter(|word| word.len() < 3).count());
//!     scope.spawn(|| long = words.iter().filter(|word| word.len() >= 3).count());
//! })?;
//! assert_eq!((short, long), (5, 1));
//!
//! // Two closures side by side, which may fork further.
//! fn count(pool: &ThreadPool, words: &[&str], wanted: &str) -> usize {
//!     match words {
//!         [] => 0,
//!         [word] => usize::from(*word == wanted),
//!         _ => {
//!             let (left, right) = words.split_at(words.len() / 2);
//!             let (a, b) = pool.join_with(|| count(pool, left, wanted), || count(pool, right, wanted));
//!             a + b
//!         }
//!     }
//! }
//! assert_eq!(count(&pool, &words, "to"), 2);
//!
//! // Slices: read, changed in place, changed by the chunk, folded.
//! let mut lengths = pool.map_slice(&words, |word| word.len() as u64)?;
//! pool.for_each_mut(&mut lengths, |length| *length *= 10)?;
//! pool.for_each_chunk_mut(&mut lengths, 2, |chunk, pair| pair[0] += chunk as u64)?;
//! assert_eq!(lengths, [20, 20, 21, 30, 22, 20]);
//! assert_eq!(pool.reduce_slice(&lengths, Sum)?, 133);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Faults of serde, found before a cluster finds them
//!
//! Threads need no encoding, so a type that does not survive it works here and fails elsewhere. With
//! [`ThreadOptions::encode`] every input and output crosses as bytes, as it would to another process:
//!
//! ```
//! # use par_sync::{ThreadOptions, ThreadPool};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Point {
//!     x: i32,
//!     #[serde(skip)] // forgotten on the way
//!     y: i32,
//! }
//!
//! #[par_sync::task]
//! fn height(point: Point) -> i32 { point.y }
//!
//! let typed = ThreadPool::new(1)?;
//! assert_eq!(typed.submit::<height>(Point { x: 1, y: 2 })?.wait()?, 2);
//! let options = ThreadOptions { encode: true, ..Default::default() };
//! let encoding = ThreadPool::builder().workers(1).options(options).build()?;
//! assert_eq!(encoding.submit::<height>(Point { x: 1, y: 2 })?.wait()?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # If you know another library
//!
//! | concurrent.futures | here |
//! |---|---|
//! | `ThreadPoolExecutor(4, thread_name_prefix="w")` | `ThreadPool::builder().workers(4)`, [`ThreadOptions::name`] |
//! | `initializer=`, `initargs=` | [`Builder::initializer`] |
//! | `submit(f, x)` | [`Pool::submit`]; [`Pool::submit_fn`] for a function without `#[task]` |
//! | `map(f, xs, chunksize=256)` | [`Pool::map`] with [`Plan::chunk`] |
//! | `map(f, xs, timeout=)` | [`Plan::timeout`], or [`Stream::next_timeout`] an item |
//! | `future.result(timeout)` | [`Handle::wait`], [`Handle::wait_timeout`] |
//! | `future.cancel()`, `add_done_callback` | [`Handle::cancel`], which a running task sees too ([`cancelled()`]); [`Handle::on_done`] |
//! | `as_completed`, `wait` | [`as_completed`], [`wait_any`], [`wait_all`] |
//! | `shutdown(cancel_futures=True)` | [`Pool::shutdown`] with [`Shutdown::CancelPending`] |
//!
//! | multiprocessing.pool.ThreadPool | here |
//! |---|---|
//! | `apply`, `apply_async(f, (a, b))` | [`Pool::submit`]: several arguments are a tuple |
//! | `map`, `starmap` | [`Pool::map`] |
//! | `map_async`, `starmap_async` | [`Pool::submit_map`] |
//! | `callback=`, `error_callback=` | [`Handle::then`] |
//! | `imap`, `imap_unordered` | [`Pool::map_ordered`], [`Pool::map_unordered`]: lazy, bounded by [`Plan::window`] |
//! | `close(); join()` | [`Pool::shutdown`] with [`Shutdown::Drain`] |
//! | `terminate()` | [`Shutdown::Kill`] raises every token; a thread itself cannot be killed |
//!
//! | threading | here |
//! |---|---|
//! | `Thread(target=f, name="n", daemon=True).start()` | [`Thread::new`], [`ThreadBuilder::name`], [`ThreadBuilder::daemon`], [`ThreadBuilder::start`] |
//! | a subclass with `run` | [`Run`], [`Thread::of`] |
//! | `join(timeout)`, `is_alive()` | [`JoinHandle::join_timeout`] (or [`join`](JoinHandle::join)), [`JoinHandle::is_alive`]; the result comes with it |
//! | `current_thread()`, `main_thread()`, `enumerate()`, `active_count()` | [`Thread::current`], [`Thread::main`], [`Thread::enumerate`], [`Thread::active_count`] |
//! | `get_ident()`, `get_native_id()` | [`Thread::ident`], [`Thread::native_id`] |
//! | waiting for threads at exit | [`wait_at_exit`], once, in `main` |
//! | `excepthook` | [`Thread::on_panic`] |
//! | `local()` | [`Local`]; in tasks of a pool [`with_local`] |
//! | `Timer(5, f).start()`, `cancel()` | [`Timer::start`], [`Timer::cancel`] |
//! | `Lock()`; `with lock:` | [`Mutex`], which holds what it guards; [`RawMutex`] with `acquire` and `release` |
//! | `RLock()` | [`ReentrantMutex`], whose guards give `&T`; [`RawReentrantMutex`] |
//! | `lock.acquire(timeout=1)`, `acquire(blocking=False)` | [`Mutex::lock_timeout`], [`Mutex::try_lock`] |
//! | `Condition()`: `wait`, `wait_for(p, timeout)`, `notify(n)` | [`Condvar`] beside a [`Mutex`]: [`wait`](Condvar::wait), [`wait_for`](Condvar::wait_for), [`wait_for_timeout`](Condvar::wait_for_timeout), [`notify`](Condvar::notify) |
//! | `Semaphore(n)`, `BoundedSemaphore(n)`, `release(k)` | [`Semaphore`], [`BoundedSemaphore`]: a [`Permit`] goes back by itself, or is [spent](Permit::spend) |
//! | `Event()` | [`Event`] (what a pool tells its observers is [`par_core::Event`]) |
//! | `Barrier(n, action, timeout)`, `BrokenBarrierError` | [`Barrier::with_action`], [`Barrier::timeout`], [`BarrierError`] |
//!
//! | queue | here |
//! |---|---|
//! | `Queue(maxsize)`, `LifoQueue`, `PriorityQueue`, `SimpleQueue` | [`Queue::new`], [`LifoQueue`], [`PriorityQueue`]; 0 is without a bound |
//! | `put(x)`, `put_nowait`, `put(x, timeout=1)` | [`put`](OrderedQueue::put), [`try_put`](OrderedQueue::try_put), [`put_timeout`](OrderedQueue::put_timeout) |
//! | `get()`, `get_nowait`, `get(timeout=1)` | [`get`](OrderedQueue::get), [`try_get`](OrderedQueue::try_get), [`get_timeout`](OrderedQueue::get_timeout) |
//! | `Full`, `Empty`, `ShutDown` | [`PutError`], with the item, and [`GetError`] |
//! | `qsize`, `empty`, `full` | [`len`](OrderedQueue::len), [`is_empty`](OrderedQueue::is_empty), [`is_full`](OrderedQueue::is_full) |
//! | `task_done`, `join` | [`task_done`](OrderedQueue::task_done), [`join`](OrderedQueue::join), [`join_timeout`](OrderedQueue::join_timeout) |
//! | `shutdown()`, `shutdown(immediate=True)` | [`shutdown`](OrderedQueue::shutdown), [`shutdown_now`](OrderedQueue::shutdown_now), which hands back what was there |
//!
//! | crossbeam-channel | here |
//! |---|---|
//! | `bounded`, `unbounded`, `send`, `recv` | a [`Queue`] that both sides share |
//! | `select!` | [`Select`], over its channels too ([`crossbeam`]) |
//! | the last sender is dropped | [`shutdown`](OrderedQueue::shutdown) |
//!
//! | rayon | here |
//! |---|---|
//! | `ThreadPoolBuilder::num_threads` | [`Builder::workers`], and [`Pool::resize`] later |
//! | `thread_name`, `stack_size`, and cores of one's own | [`ThreadOptions`]; what workers did: [`ThreadEngine::statistics`] |
//! | `join(a, b)` | [`Pool::join_with`] |
//! | `scope(\|s\| s.spawn(..))` | [`Pool::scope_with`] |
//! | `par_iter().map(f).collect()` | [`Pool::map_slice`] |
//! | `par_iter().sum()`, `reduce(identity, op)` | [`Pool::reduce_slice`] with a [`Reduction`], in one fixed order |
//! | `par_iter_mut().for_each(f)`, `par_chunks_mut` | [`Pool::for_each_mut`], [`Pool::for_each_chunk_mut`] |
//! | `with_min_len(256)` | [`ChunkPlan::Fixed`]; [`Mapping`] says who gets which chunk |
//! | `current_thread_index()` | [`worker_index`] |
//!
//! PyCSP has its table in [`csp`].
#![deny(unsafe_code)]

pub mod csp;
mod locks;
mod pool;
mod queue;
mod sync_seam;
mod thread;
mod watch;

pub use locks::{
    Barrier, BarrierError, BoundedSemaphore, Event, LockError, NotOwner, OverRelease, Permit, RawMutex,
    RawReentrantMutex, Semaphore,
};
#[cfg(not(loom))]
pub use locks::{
    Condvar, Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard, RwLock, RwLockReadGuard,
    RwLockWriteGuard,
};
pub use par_core;
// The whole trait layer: who depends on this crate alone needs no other.
pub use par_core::*;
pub use pool::{ThreadEngine, ThreadOptions, ThreadPool, WorkerStatistics};
pub use queue::{
    Fifo, GetError, Iter, Lifo, LifoQueue, Order, OrderedQueue, Priority, PriorityQueue, PutError, Queue,
    TaskDoneError,
};
#[cfg(not(loom))]
pub use queue::{Select, crossbeam};
pub use thread::{
    JoinError, JoinHandle, PanicHook, Run, ScopedJoinHandle, Thread, ThreadBuilder, ThreadScope, WaitAtExit,
    scope, wait_at_exit,
};
#[cfg(not(loom))]
pub use thread::{Local, Timer};
#[cfg(feature = "deadlock")]
pub use watch::detector as deadlock;
#[cfg(feature = "statistics")]
pub use watch::statistics;
pub use watch::{Deadlock, Kind};
