//! Tasks for many processes that meet at a broker: [`ClusterPool`] finds tasks by name, so that worker and submitter may be
//! different programs. The broker is embedded: one SQLite file, durable, without a server.
//!
//! ```
//! use par_dist::{ClusterPool, Sum};
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
mod cluster;
mod consumer;
mod local;
mod nested;
mod node;
mod options;
#[doc(hidden)]
pub mod probe;
mod worker;

pub use broker::BrokerError;
pub use cluster::ClusterEngine;
pub use options::Options;
pub use worker::{RunningWorker, Worker, WorkerError};

pub use par_core;
// The whole trait layer: who depends on this crate alone needs no other. What is named here as well is this crate's.
pub use par_core::*;

/// A pool whose workers find tasks by name through a broker.
pub type ClusterPool = Pool<ClusterEngine>;

/// The name of the engine.
const NAME: &str = "cluster";

/// The key of a shared value in a broker.
fn share_key(share: par_core::ShareId) -> Vec<u8> {
    // Numbers always encode; an empty key names no value.
    par_core::wire::to_bytes(&share).unwrap_or_default()
}
