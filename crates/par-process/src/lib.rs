//! Child processes of the same program, re-executed and never forked, and a pool of them that survives their deaths.
//!
//! ```
//! use par_process::{ProcessPool, Sum, task};
//!
//! #[task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! let pool = ProcessPool::new(2)?;
//! assert_eq!(pool.map::<square>(0..5)?, [0, 1, 4, 9, 16]);
//! assert_eq!(pool.map_reduce::<square, _>(0..1_000, Sum)?, 332_833_500);
//! // A plain function needs no #[task] here: the workers run this very program.
//! assert_eq!(pool.map_fn(0..4u32, |x| f64::from(x).sqrt().floor())?, [0.0, 1.0, 1.0, 1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Workers
//!
//! A worker is a copy of this program that enters a [role](mod@role) before `main` begins. So pools work in programs, tests, examples and
//! benches, and `main` needs no line for them. Nothing is ever
//! forked: what a process has in memory, locks included, does not reach its workers. Inputs and outputs cross as bytes, a large
//! value that many tasks read crosses once with [`share`](Pool::share), and what a worker prints comes out where the program prints.
//!
//! The pool is up when every worker has run its [initialiser](Builder::initializer). Workers see the end of their pool at once,
//! also when its process is killed, and end themselves.
//!
//! # When a worker dies
//!
//! By a signal, an abort, an exit or for want of memory, a worker takes along only what it was running. Those tasks end as
//! [`TaskError::Lost`], which says how the worker ended; tasks marked `#[task(idempotent)]` are run again. What was sent to it and not
//! begun goes to other workers, what it had finished counts, and another worker takes its place, until
//! [`restarts`](Builder::restarts) are used up: then every wait says [`TaskError::Broken`].
//!
//! ```
//! use par_process::{ProcessPool, TaskError, task};
//!
//! #[task]
//! fn half(x: u64) -> u64 {
//!     if x == 13 { std::process::abort() }
//!     x / 2
//! }
//!
//! let pool = ProcessPool::new(1)?;
//! let lost = pool.submit::<half>(13)?.wait();
//! assert!(matches!(lost, Err(TaskError::Lost { maybe_ran: true, .. })));
//! assert_eq!(pool.submit::<half>(8)?.wait(), Ok(4));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A task that is past its deadline, or whose handle is [killed](Handle::kill), ends by force: its worker is killed and replaced,
//! which the budget does not count. So is a worker that has nothing else to do and has not begun what it was sent when the deadline
//! of that passes, such as one that was stopped.
//!
//! What becomes of a task, by the point of its life at which its worker is killed, aborts, exits, overflows its stack or runs out of memory
//! ([all that can go wrong](faults), each with its test):
//!
//! | the worker dies | the task |
//! |---|---|
//! | before it began the task | runs on another worker |
//! | while the task runs | `Lost`, or runs again if it is idempotent |
//! | after the task ended, before the outcome was sent | has its outcome: the pool finds it in memory that both share |
//! | while the outcome is sent | has its outcome |
//!
//! # How workers come and go
//!
//! A pool grows and shrinks with [`resize`](Pool::resize). A worker may be replaced after a
//! [number of tasks](Options::tasks_per_worker), or when it has [grown too large](Options::memory); it finishes what it
//! runs, what it had not begun goes to others, and nothing counts against the budget.
//!
//! ```
//! use par_process::{Options, ProcessPool};
//!
//! let options = Options { tasks_per_worker: Some(2), memory: Some(1 << 30), ..Options::default() };
//! let pool = ProcessPool::builder().workers(1).options(options).build()?;
//! let mut pids = pool.map_fn(0..6, |_: u8| std::process::id())?;
//! pids.dedup();
//! assert_eq!(pids.len(), 3);
//! pool.resize(2)?;
//! assert_eq!(pool.workers(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What crosses, and what comes out
//!
//! Inputs and outputs of 256 KiB and more go through memory that the pool and the worker [share](Options::shared), which is used again and again; where there
//! is no room they go over the socket like all others. What workers print comes out in [whole lines](Output::Lines).
//! Ctrl-C does not reach workers; [`on_interrupt`] makes the first end the pool in peace and the second kill what still runs.
//!
//! # Single processes
//!
//! A [`Process`] runs one task, function or value and ends. Its exit code is what Python tells: 1 for a task that fails or panics, the
//! negative number of the signal that ended it.
//!
//! ```
//! use par_process::Process;
//!
//! let child = Process::of_fn(3, |code: i32| std::process::exit(code)).name("brief").start()?;
//! assert_eq!(child.join()?, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Shared memory
//!
//! [`SharedValue`] and [`SharedArray`] are plain values (any [`Pod`] type) in memory that several processes have, with a lock;
//! [`RawValue`] and [`RawArray`] have none, and [`FrozenArray`] is sealed, so that all read it in place and nobody can change it. The locks
//! and their like are in [`sync`]. All of these are values: give one to a process or a task as its argument, or return it.
//!
//! ```
//! use par_process::{ProcessPool, SharedArray, task};
//!
//! #[task]
//! fn add(counts: SharedArray<u64>, place: usize) {
//!     counts.lock().unwrap()[place % 3] += 1;
//! }
//!
//! let counts = SharedArray::<u64>::zeroed(3)?;
//! let pool = ProcessPool::new(2)?;
//! pool.for_each::<add>((0..30).map(|i| (counts.clone(), i)))?;
//! assert_eq!(*counts.lock()?, [10, 10, 10]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What travels is a token, which names the process that encoded it; whoever decodes it asks there for the memory. So one handle must stay
//! in that process until the token has arrived. It may be dropped before: the process keeps the memory for each token until the token has
//! arrived, for ten minutes at most, and for the youngest 1024 of them. A token that comes too late is a clear error. Processes that did not get a token
//! find memory by a [name](SharedMemory#method.publish).
//!
//! Nothing of this is a file, and nothing has to be unlinked: the memory goes with its last user and a name with its publisher, however they
//! end. A lock whose owner died goes to the next with word of that, the permits of a dead process are free again, and no dead waiter blocks
//! anybody.
//!
//! # Channels and managers
//!
//! A [`Pipe`] carries values, raw bytes, open files and ends of pipes from process to process, in order and bounded. A [`Queue`] in
//! shared memory has many readers and writers; a [`JoinableQueue`] also counts what is done. A [`manager`] owns dictionaries, lists,
//! locks, queues and values of types of one's own, which other processes use through proxies. Whoever dies in the middle of any of
//! that, by whatever signal, loses nothing of others and keeps nobody waiting.
//!
//! ```
//! use par_process::{Pipe, Process, Receiver, Sender};
//!
//! let (numbers, to_child) = Pipe::one_way()?;
//! let (squares, from_child) = Pipe::one_way()?;
//! let square = |(numbers, squares): (Receiver, Sender)| {
//!     while let Ok(x) = numbers.recv::<u64>() {
//!         squares.send(x * x).expect("somebody wants them");
//!     }
//! };
//! let child = Process::of_fn((numbers, from_child), square).start()?;
//! to_child.send(7u64)?;
//! assert_eq!(squares.recv::<u64>()?, 49);
//! drop(to_child); // the end of file
//! assert_eq!(child.join()?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Systems
//!
//! Linux. Memory without names, processes and events as files, robust locks and futexes between processes, and the signal of a parent's
//! death are what all of this stands on; other systems lack some of them, and there the crate says so instead of building. It is tried with the
//! GNU C library; with another one, deadlines of locks follow the clock on the wall.
//!
//! # If you know multiprocessing
//!
//! | Python | here |
//! |---|---|
//! | `Process(target=f, args=(x,))`, `p.start()` | [`Process::new::<f>`](Process::new)`(x).`[`start`](ProcessBuilder::start)`()` |
//! | a subclass of `Process` with `run` | [`Run`], [`Process::of`] |
//! | `p.name`, `p.daemon` | [`ProcessBuilder::name`], [`ProcessBuilder::daemon`] |
//! | `p.join(timeout)`, `p.is_alive()`, `p.exitcode` | [`Process::join_timeout`], [`Process::is_alive`], [`Process::exit_code`] |
//! | `p.terminate()`, `p.kill()` | [`Process::terminate`], [`Process::kill`] |
//! | `p.sentinel`, `connection.wait` on sentinels | [`Process::sentinel`], [`Process::wait_any`] |
//! | `Pipe()`, `Pipe(duplex=False)` | [`Pipe::duplex`], [`Pipe::one_way`] |
//! | `c.send(x)`, `c.recv()`, `c.send_bytes(b)`, `c.poll(timeout)` | [`Connection::send`], [`Connection::recv`], [`Connection::send_bytes`], [`Connection::poll`] |
//! | `connection.wait([...])` | [`wait`](fn@wait) |
//! | `Queue(n)`, `JoinableQueue(n)` | [`Queue::new`]`(n)`, [`JoinableQueue::new`]`(n)` |
//! | `q.put(x, timeout=t)`, `q.put_nowait(x)`, `q.get()` | [`Queue::put_timeout`], [`Queue::try_put`], [`Queue::get`] |
//! | `q.task_done()`, `q.join()` | [`JoinableQueue::task_done`], [`JoinableQueue::join`] |
//! | `Manager()`, `manager.dict()`, `manager.list()` and so on | [`Manager::start`](manager::Manager::start), [`Manager::dict`](manager::Manager::dict) |
//! | `BaseManager.register`, `BaseManager(address, authkey)` | [`managed!`], [`Manager::builder`](manager::Manager::builder), [`Manager::connect`](manager::Manager::connect) |
//! | `EOFError` | [`RecvError::Closed`] |
//! | `current_process()`, `parent_process()`, `active_children()` | [`current_process`], [`parent_process`], [`active_children`] |
//! | `Value("i", 0)`, `v.get_lock()` | [`SharedValue::new`]`(0)`, [`lock`](sync::Mutex::lock) |
//! | `Array("d", 10)` | [`SharedArray`]`::<f64>::zeroed(10)` |
//! | `RawValue`, `RawArray` | [`RawValue`], [`RawArray`] |
//! | `shared_memory.SharedMemory(name, create=True, size=n)` | [`SharedMemory::zeroed`](RawArray::zeroed)`(n)?.`[`publish`](RawArray::publish)`(name)` |
//! | `SharedMemory(name)`, `shm.unlink()` | [`SharedMemory::open`](RawArray::open)`(name)`, dropping [`Published`] |
//! | `numpy.ndarray(shape, buffer=shm.buf)` | `guard.array_view(shape)` (feature `ndarray`), [`FrozenArray`] as a slice |
//! | `Lock`, `RLock` | [`sync::Mutex`], [`sync::ReentrantMutex`]: a lock and what it guards |
//! | `Semaphore`, `BoundedSemaphore` | [`sync::Semaphore`], [`sync::BoundedSemaphore`]; [`spend`](sync::Permit::spend) where no guard is wanted |
//! | `Condition`, `c.wait_for(p)` | [`sync::Condvar`], [`wait_while`](sync::Condvar::wait_while)`(guard, \|value\| !p(value))` |
//! | `Event`, `Barrier` | [`sync::Event`], [`sync::Barrier`] |
//! | `os.execvp`, `subprocess.run` | [`exec`], [`run`] |
//! | `Pool(n)`, `ProcessPoolExecutor(n)` | [`ProcessPool::new`](Pool::new)`(n)` |
//! | `initializer=`, `initargs=` | [`builder().initializer::<task>(input)`](Builder::initializer) |
//! | `pool.map(f, xs, chunksize=k)` | [`map::<f>`](Pool::map)`(xs)`, with [`ChunkPlan::Fixed`]`(k)` in the [`Plan`] |
//! | `pool.imap(f, xs)` | [`map_ordered::<f>`](Pool::map_ordered)`(xs)` |
//! | `pool.imap_unordered(f, xs)` | [`map_unordered::<f>`](Pool::map_unordered)`(xs)` |
//! | `pool.starmap(f, pairs)` | [`map::<f>`](Pool::map)`(pairs)`: several arguments are a tuple |
//! | `pool.apply(f, args)` | [`submit::<f>`](Pool::submit)`(args)?.`[`wait`](Handle::wait)`()` |
//! | `pool.apply_async(f, args)`, `executor.submit` | [`submit::<f>`](Pool::submit)`(args)` |
//! | `pool.map_async(f, xs)`, `pool.starmap_async(f, pairs)` | [`submit_map::<f>`](Pool::submit_map)`(xs)` |
//! | `AsyncResult.get(timeout)` | [`Handle::wait`], [`Handle::wait_timeout`] |
//! | `AsyncResult.ready()` | [`Handle::is_done`] |
//! | `callback=g, error_callback=h` | `handle.`[`then`](Handle::then)`(\|outcome\| match outcome { Ok(value) => g(value), Err(error) => h(error) })` |
//! | `add_done_callback` | [`Handle::on_done`] |
//! | `maxtasksperchild=n` | [`Options::tasks_per_worker`] |
//! | `pool._processes` | [`Pool::workers`], [`resize`](Pool::resize) |
//! | `as_completed`, `wait` | [`as_completed`], [`wait_any`], [`wait_all`] |
//! | `pool.close(); pool.join()` | [`shutdown`](Pool::shutdown)`(`[`Shutdown::Drain`]`, None)`, or dropping the pool |
//! | `pool.terminate()` | [`shutdown`](Pool::shutdown)`(`[`Shutdown::Kill`]`, None)` |
//! | a global that an initialiser sets | [`with_local`] |
//! | `if __name__ == "__main__":` | not needed |
//! | `BrokenProcessPool` | [`TaskError::Lost`] for what was lost; the pool goes on |
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "par-process needs Linux: memfd, pidfd, eventfd, futexes, robust mutexes and abstract sockets; see its page"
);

mod arena;
mod before_main;
mod channel;
mod exec;
mod failpoint;
pub mod faults;
mod files;
mod interrupt;
pub mod manager;
mod options;
mod page;
mod pool;
mod process;
mod protocol;
pub mod role;
mod sentinel;
mod shared;
pub mod sync;
mod worker;

pub use bytemuck;
pub use bytemuck::{Pod, Zeroable};
pub use channel::{
    Connection, Descriptor, GetError, JoinableQueue, Pipe, PutError, Queue, Receiver, RecvError, SendError,
    Sender, TaskDoneError, wait,
};
pub use exec::{exec, run};
pub use interrupt::{Interrupt, on_interrupt};
pub use options::{Options, Output};
pub use par_core;
pub use par_core::*;
pub use pool::ProcessEngine;
pub use process::{
    CurrentProcess, ParentProcess, Process, ProcessBuilder, Run, active_children, current_process,
    parent_process,
};
pub use role::init;
pub use shared::{
    Content, FrozenArray, Published, RawArray, RawValue, SharedError, SharedMemory, SharedOptions,
};
#[cfg(not(loom))]
pub use sync::{SharedArray, SharedValue};

use files::receive_files;

/// A pool whose workers are child processes of this program.
pub type ProcessPool = Pool<ProcessEngine>;

/// The name of the engine.
const NAME: &str = "processes";

/// Ends this process: its parent is gone, and with it everyone who waits for what still runs here.
fn die() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    // Nothing of this process is worth a clean end, and what runs may never reach one.
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

/// What the macros of this crate expand to.
#[doc(hidden)]
pub mod macro_support {
    pub use linkme;
}
