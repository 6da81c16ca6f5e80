//! Threads: a pool whose workers are threads of this process, on the trait layer of [`par_core`], all of which this crate
//! hands on.
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
//! | `Thread(target=f, args=(x,)).start()`, `join()` | [`Pool::submit`], [`Handle::wait`] |
//! | `local()` | [`with_local`] |
//!
//! | rayon | here |
//! |---|---|
//! | `ThreadPoolBuilder::num_threads` | [`Builder::workers`], and [`Pool::resize`] later |
//! | `join(a, b)` | [`Pool::join_with`] |
//! | `scope(\|s\| s.spawn(..))` | [`Pool::scope_with`] |
//! | `par_iter().map(f).collect()` | [`Pool::map_slice`] |
//! | `par_iter().sum()`, `reduce(identity, op)` | [`Pool::reduce_slice`] with a [`Reduction`], in one fixed order |
//! | `par_iter_mut().for_each(f)`, `par_chunks_mut` | [`Pool::for_each_mut`], [`Pool::for_each_chunk_mut`] |
//! | `with_min_len(256)` | [`ChunkPlan::Fixed`]; [`Mapping`] says who gets which chunk |
//! | `current_thread_index()` | [`worker_index`] |
//!
//! Locks, conditions, queues and channels are not here yet.
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
pub use pool::{ThreadEngine, ThreadOptions, ThreadPool};
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
pub use watch::{Deadlock, Kind};
