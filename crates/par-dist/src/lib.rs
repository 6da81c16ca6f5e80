//! Tasks for many processes that meet at a broker: [`ClusterPool`] finds tasks by name, so that worker and submitter may be
//! different programs. The broker is embedded: one SQLite file, durable, without a server.
//!
//! ```
//! use par_dist::{ClusterPool, par_core::Sum};
//!
//! #[par_dist::task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! let pool = ClusterPool::new(2)?;
//! assert_eq!(pool.submit::<square>(12)?.wait()?, 144);
//! assert_eq!(pool.map_reduce::<square, _>(0..1_000, Sum)?, 332_833_500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod broker;
mod child;
mod client;
mod consumer;
mod engine;
mod local;
mod nested;
mod node;
mod options;
mod worker;

pub use broker::BrokerError;
pub use engine::ClusterEngine;
pub use options::Options;
pub use worker::{RunningWorker, Worker, WorkerError};

pub use par_core;
pub use par_core::{
    AnyPool, ChunkPlan, Handle, MapError, Plan, Pool, Shared, Shutdown, ShutdownReport, StartError,
    TaskError, as_completed, current, reduction, task, wait_all, wait_any,
};

/// A pool whose workers find tasks by name through a broker.
pub type ClusterPool = Pool<ClusterEngine>;

/// The name of the engine.
const NAME: &str = "cluster";

/// The key of a shared value in a broker.
fn share_key(share: par_core::ShareId) -> Vec<u8> {
    // Numbers always encode; an empty key names no value.
    par_core::wire::to_bytes(&share).unwrap_or_default()
}
