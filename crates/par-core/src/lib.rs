//! The trait layer of the par toolkit: tasks, engines, pools, reductions, plans and metrics.
//!
//! A function marked [`#[task]`](task) runs unchanged on every engine; a [`Reduction`] folds its results to the same bits
//! everywhere. This crate knows no runtime, no socket and no thread pool: engines live in the wings (par-sync, par-process,
//! par-dist, ...), each of which re-exports this crate as `par_core`.
//!
//! ```
//! use par_core::{SerialPool, Sum};
//!
//! #[par_core::task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! let pool = SerialPool::new(1)?;
//! let total: u64 = pool.map_reduce::<square, _>(0..1_000, Sum)?;
//! assert_eq!(total, 332_833_500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// The macros name this crate by its own name, also where they are used within it.
#[allow(unused_extern_crates, reason = "named by expansions in tests and doc tests")]
extern crate self as par_core;

mod body;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
pub mod engine;
mod entry;
mod error;
mod executor;
pub mod fold;
mod handle;
pub mod job;
mod kernel;
mod log;
#[doc(hidden)]
pub mod macro_support;
pub mod metrics;
pub mod observe;
mod panics;
mod plan;
mod pool;
mod reduction;
pub mod registry;
pub mod remote;
mod run_async;
mod serial;
pub mod share;
mod signature;
mod slots;
mod task;
mod timer;
mod wait;
pub mod wire;

pub use context::{
    CancelFlag, NoBlockingGuard, Token, TokenGuard, WorkerGuard, WorkerSeat, blocks_async, cancelled,
    check_cancelled, current, enter_worker, forbid_blocking, log, push_token, with_local, worker_index,
};
pub use engine::{Capabilities, Info, Shutdown, ShutdownReport};
pub use entry::build_id;
pub use error::{Failure, MapError, Panic, RegistryError, StartError, TaskError};
pub use executor::block_on;
pub use fold::ScanKind;
pub use handle::{AsCompleted, Handle, TaskState, as_completed, wait_all, wait_any};
pub use observe::{Event, Level, Observer};
pub use panics::{Carried, carry, catch, catches};
pub use par_macros::{reduction, task};
pub use plan::{ChunkPlan, Claimant, Mapping, Plan};
pub use pool::{AnyPool, BorrowScope, Builder, Pool, Scope, SliceError, Stream, TrySubmitError};
pub use reduction::*;
pub use serial::{Serial, SerialPool};
pub use share::{ShareId, Shared};
pub use signature::Signature;
pub use task::{Data, Task, signature_of};

/// Makes sure that the tasks of a crate are linked into this program. The linker drops a crate that is never named.
///
/// ```
/// par_core::link!(par_core); // the name of the crate whose tasks you want
/// ```
#[macro_export]
macro_rules! link {
    ($crate_name:ident) => {
        extern crate $crate_name as _;
    };
}
