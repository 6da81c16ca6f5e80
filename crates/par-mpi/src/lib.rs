//! Message passing between ranks, with the ranks as threads of one process.
//!
//! [`run`] starts `n` ranks and gives each a [`Communicator`]: sends and receives of serde values by rank and tag, and the
//! collectives that are built of them. Values cross encoded, as they would between processes. Real MPI ranks, and an engine
//! for pools, are still to come.
//!
//! ```
//! // Every rank sends its number to the right and receives from the left.
//! let sums = par_mpi::run(4, |comm| {
//!     let right = (comm.rank() + 1) % comm.size();
//!     let left = (comm.rank() + comm.size() - 1) % comm.size();
//!     comm.send(right, 0, &comm.rank())?;
//!     let from_left: usize = comm.recv(left, 0)?;
//!     comm.all_reduce(from_left as u64, par_mpi::Sum)
//! })?;
//! assert_eq!(sums, [6, 6, 6, 6]);
//! # Ok::<(), par_mpi::MpiError>(())
//! ```
//!
//! | mpi4py | here |
//! |---|---|
//! | `comm.rank`, `comm.size` | [`Communicator::rank`], [`Communicator::size`] |
//! | `comm.send`, `comm.recv` | [`Communicator::send`], [`Communicator::recv`] |
//! | `comm.bcast`, `comm.gather`, `comm.scatter` | [`Communicator::bcast`], [`Communicator::gather`], [`Communicator::scatter`] |
//! | `comm.allreduce`, `comm.barrier` | [`Communicator::all_reduce`], [`Communicator::barrier`] |

#![deny(unsafe_code)]

mod communicator;
mod crew;
mod error;
mod local;
mod pool;
mod protocol;
pub mod transport;
mod worker;
#[cfg(feature = "mpi")]
mod world;

pub use communicator::{Communicator, run};
pub use crew::Crew;
pub use error::MpiError;
pub use par_core;
pub use par_core::*;
pub use pool::{MpiEngine, MpiOptions};
#[cfg(feature = "mpi")]
pub use world::{run_world, world};

/// A pool whose workers are ranks.
#[doc(alias = "MPIPoolExecutor")]
pub type MpiPool = Pool<MpiEngine>;

/// The name of the engine.
const NAME: &str = "mpi";
