//! Threads: with a name, a result, a state of their own, and timers.
//!
//! 1. A thread is known from before it starts until its work has ended and its result lies in its record; then those who join it go on.
//! 2. Its result is taken once, by who joins it. A panic that nobody can join any more goes to the [hook](Thread::on_panic).
//! 3. Threads that are not daemons are counted; [`wait_at_exit`] waits until there is none.

mod builder;
mod handle;
#[cfg(not(loom))]
mod local;
mod registry;
mod scope;
#[cfg(not(loom))]
mod timer;

pub use builder::{Run, ThreadBuilder};
pub use handle::{JoinError, JoinHandle};
#[cfg(not(loom))]
pub use local::Local;
#[cfg(feature = "deadlock")]
pub(crate) use registry::native_id;
pub use registry::{PanicHook, Thread, WaitAtExit, wait_at_exit};
pub use scope::{ScopedJoinHandle, ThreadScope, scope};
#[cfg(not(loom))]
pub use timer::Timer;
