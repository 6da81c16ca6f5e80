//! Ranks that send each other messages, and a pool whose workers are ranks: threads of this process, or processes under MPI.
//!
//! ```
//! use par_mpi::{MpiPool, Sum, task};
//!
//! #[task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! let pool = MpiPool::new(2)?; // two ranks, as threads that get everything as bytes
//! assert_eq!(pool.map::<square>(0..5)?, [0, 1, 4, 9, 16]);
//! assert_eq!(pool.map_reduce::<square, _>(0..1_000, Sum)?, 332_833_500);
//! // A plain function needs no #[task] here: all ranks run this very program.
//! assert_eq!(pool.map_fn(0..4u32, |x| f64::from(x).sqrt().floor())?, [0.0, 1.0, 1.0, 1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Messages
//!
//! [`run`] starts `n` ranks as threads and gives each a [`Communicator`]: sends and receives of serde values by rank and tag, and the
//! collectives that are built of them. Values cross encoded, as they do between processes. A send never waits for its receiver.
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
//! # Under mpiexec
//!
//! With the feature `mpi` the ranks are processes that `mpiexec` has started, on one machine or on many. `run_world` is to them what
//! [`run`] is to threads. `world` runs a closure on rank 0 with a pool of the others, which serve until it returns:
//!
//! ```text
//! // mpiexec -n 4 target/release/program
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let total = par_mpi::world(|pool| pool.map_reduce::<square, _>(0..1_000, Sum))?;
//!     if let Some(total) = total {
//!         println!("{}", total?); // on rank 0 only
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Inside `run_world`, and as well inside [`run`], [`Communicator::serve`] does the same for a part of a program, with as many pools as
//! it likes ([`Crew`]). All ranks must run one build of one program, which is checked before anything else is sent. A program that is
//! started without `mpiexec` is one rank, and works with a thread of its own. The feature needs an MPI library when it is built and when
//! the program runs; OpenMPI is better where ranks outnumber cores (`apt-get install libopenmpi-dev openmpi-bin libclang-dev`). As root,
//! OpenMPI wants `OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1`, and for more ranks than cores `--oversubscribe`.
//!
//! # Fate
//!
//! Ranks live and die together. A panic in a task is the outcome of that task, as on every engine; a panic outside of tasks, an exit,
//! or the death of a rank ends all of them at once, with that rank's number and words on the standard error, and never leaves the
//! others waiting. So law 4 holds in a weaker form ([`Capabilities::shared_fate`]), and a task cannot be killed: it is told by its token.
//! A rank listens while its tasks run, from a thread that looks every millisecond; an idle one sleeps between looks.
//!
//! # If you know mpi4py
//!
//! | mpi4py | here |
//! |---|---|
//! | `MPI.COMM_WORLD` | the [`Communicator`] that [`run`] or `run_world` gives |
//! | `comm.rank`, `comm.size` | [`Communicator::rank`], [`Communicator::size`] |
//! | `comm.send`, `comm.recv` | [`Communicator::send`], [`Communicator::recv`], [`Communicator::recv_timeout`] |
//! | `comm.bcast`, `comm.gather`, `comm.scatter` | [`Communicator::bcast`], [`Communicator::gather`], [`Communicator::scatter`] |
//! | `comm.allreduce`, `comm.barrier` | [`Communicator::all_reduce`], [`Communicator::barrier`] |
//! | `MPI.Exception` | [`MpiError`] |
//! | `comm.Abort()`, `mpi4py.run` | nothing to do: a panic ends all ranks |
//! | `MPIPoolExecutor`, `python -m mpi4py.futures` | `world`, or [`MpiPool::new`](Pool::new) for ranks that are threads |
//! | `MPICommExecutor(comm, root=0)` | [`Communicator::serve`] |
//! | `executor.submit(f, x)`, `executor.map(f, xs, chunksize=k)` | [`submit::<f>`](Pool::submit)`(x)`, [`map::<f>`](Pool::map)`(xs)` with [`ChunkPlan::Fixed`]`(k)` in the [`Plan`] |
//! | `executor.map(f, xs, unordered=True)` | [`map_unordered::<f>`](Pool::map_unordered)`(xs)` |
//! | `initializer=`, `initargs=` | [`crew.builder().initializer::<task>(input)`](Builder::initializer) |
//! | `executor.bootup(wait=True)` | a pool is up when it is made |
//! | `executor.shutdown(cancel_futures=True)` | [`shutdown`](Pool::shutdown)`(`[`Shutdown::CancelPending`]`, None)` |
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
