//! Async tasks on tokio, and awaiting the pools of the par toolkit.
//!
//! [`AsyncPool`] is a pool whose async tasks share a few threads: thousands of them are under way at once, each polled when it has
//! something to do. Tasks that are not async run beside them on threads of their own, so that neither kind stops the other.
//! And a [`Handle`] of *any* pool (threads, processes, a cluster) is a future: a runtime awaits ten thousand of them without a thread each.
//!
//! ```
//! use par_async::{AsyncPool, Sum, task};
//! use std::time::Duration;
//!
//! #[task]
//! async fn nap(ms: u64) -> u64 {
//!     tokio::time::sleep(Duration::from_millis(ms)).await; // timers and sockets of tokio work
//!     ms
//! }
//!
//! let pool = AsyncPool::new(1)?; // a runtime of its own
//! assert_eq!(pool.map_reduce::<nap, _>((0..500).map(|_| 10), Sum)?, 5_000); // in about 10 ms, not in 5 s
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On a runtime that is there already
//!
//! [`OnRuntime::current`] and [`OnRuntime::on`] run the tasks on yours, of either flavor. It lives on when the pool ends, and in async code
//! one awaits: handles, and the calls whose names end in `_async`.
//!
//! ```
//! use par_async::{AsyncPool, OnRuntime, task};
//!
//! #[task]
//! async fn double(x: u64) -> u64 { 2 * x }
//! #[task]
//! fn digits(x: u64) -> usize { x.to_string().len() } // not async: runs on a thread of the pool
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pool = AsyncPool::current(2)?; // two threads for what is not async
//!     assert_eq!(pool.map_async::<double>(0..3).await?, [0, 2, 4]);
//!     assert_eq!(pool.submit::<digits>(1_000)?.await?, 4);
//!     pool.shutdown_async(par_async::Shutdown::Drain, None).await;
//!     Ok(())
//! }
//! ```
//!
//! # What one should know
//!
//! - **A pool of `n` workers** has `n` threads that run what is not async and, unless the runtime is yours, `n` threads that poll. An
//!   initialiser runs on the former. Local state ([`with_local`]) belongs to a thread.
//! - **Bounds.** At most [`AsyncOptions::in_flight`] async tasks from outside are under way, and as many parts of one map; then jobs
//!   wait in the queue, up to its bound; then `submit` waits, or `submit_async` awaits. What a task submits is begun at once.
//! - **Cancelling** an async task (by hand, by the deadline of its plan, by a shutdown) drops its future where it waits, after one more
//!   poll in which it can see its token. What must be cleaned up belongs in a `Drop`. An async task that never waits cannot be stopped.
//! - **A blocking wait in async code is an error** that says what to do, instead of a runtime that stands still. Noticed is, for this
//!   pool: every wait within an async task, and every wait where tokio forbids its own blocking calls, so within `block_on` (that is
//!   `#[tokio::main]`) and in spawned tasks. `spawn_blocking`, `block_in_place` outside the pool's own tasks, and a thread that merely entered a
//!   handle may wait. Not noticed are runtimes other than tokio, and programs built with `panic = "abort"`; waits for *other* pools
//!   are noticed within async tasks of this one only. A scope is refused in async code before it begins.
//! - **The end.** In async code, and within its own tasks, a pool cannot wait for its end: `shutdown` and the drop of the last clone
//!   close it and leave the waiting to a thread of its own; `shutdown_async` is awaited, and has the full report.
//!   A current-thread runtime runs tasks only while somebody blocks on it: shut such a pool down within `block_on`.
//!
//! # If you know asyncio and concurrent.futures
//!
//! | asyncio, concurrent.futures | here |
//! |---|---|
//! | `async def` and an event loop | `#[task] async fn` and an [`AsyncPool`] |
//! | `asyncio.run(main())` | `#[tokio::main]`, or [`block_on`] |
//! | `asyncio.create_task(f(x))` | `pool.submit::<f>(x)` ([`Pool::submit`]) |
//! | `await future`, `future.result()` | `handle.await`, [`Handle::wait`] |
//! | `future.result(timeout)` | [`Handle::wait_timeout`] |
//! | `asyncio.gather` | [`gather`] |
//! | `asyncio.wait(.., FIRST_COMPLETED)` | [`first_completed`] |
//! | `asyncio.as_completed`, `futures.as_completed` | [`as_completed`] |
//! | `future.cancel()`, `CancelledError` | [`Handle::cancel`], [`TaskError::Cancelled`] |
//! | `future.add_done_callback` | [`Handle::on_done`] |
//! | `loop.run_in_executor(pool, f, x)`, `asyncio.to_thread` | `pool.submit::<f>(x)?.await` on any pool |
//! | `asyncio.Semaphore(n)` around tasks | [`AsyncOptions::in_flight`] |
//! | `asyncio.wait_for(f(x), t)` | a [`Plan`] with [`timeout`](Plan::timeout) |
//! | `ThreadPoolExecutor(5)`, `ProcessPoolExecutor(5)` | `par_sync::ThreadPool::new(5)`, `par_process::ProcessPool::new(5)` |
//! | `executor.map(f, items)` | [`Pool::map`], [`Pool::map_async`] |
//! | `executor.shutdown(wait=True, cancel_futures=..)`, `with` | [`Pool::shutdown`], [`Pool::shutdown_async`], or dropping the pool |

#![forbid(unsafe_code)]

mod pool;
mod waits;

pub use par_core;
// The whole trait layer: who depends on this crate alone needs no other. The waits below replace the blocking ones of that name.
pub use par_core::*;
pub use pool::{AsyncEngine, AsyncOptions, AsyncPool, OnRuntime};
pub use waits::{AsCompleted, as_completed, first_completed, gather};
