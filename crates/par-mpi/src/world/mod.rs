//! Real ranks: processes that a launcher has started, with MPI between them (feature `mpi`).
//!
//! The ranks live and die together. A panic outside of tasks, an exit, an error that MPI reports to a rank that serves, and any
//! death end them all; the rank that was the reason says so first.

mod native;
mod peers;

use crate::communicator::Communicator;
use crate::error::MpiError;
use crate::transport::Transport;
use crate::{MpiPool, StartError};
use native::{World, open_world};
use std::panic;
use std::sync::Arc;

/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Runs `program` on every rank of `MPI_COMM_WORLD`: all ranks call this together, once, and leave together when all of them have
/// ended.
///
/// A panic on a rank, outside of tasks, ends all ranks: its place and message are printed with the number of the rank, and
/// `MPI_Abort` is called, whoever might have caught it. So does an exit. A rank that returns an error leaves like any other, and
/// whoever waits for a message of it gets [`MpiError::PeerEnded`].
///
/// ```no_run
/// // mpiexec -n 4 target/release/program
/// let numbers = par_mpi::run_world(|comm| comm.gather(0, comm.rank()))?;
/// println!("{numbers:?}");
/// # Ok::<(), par_mpi::MpiError>(())
/// ```
///
/// # Errors
/// What `program` returned; [`MpiError::Unusable`] for a second call, or an MPI library without threads; what MPI says.
#[doc(alias = "MPI_Init")]
#[doc(alias = "COMM_WORLD")]
pub fn run_world<R>(program: impl FnOnce(&Communicator) -> Result<R, MpiError>) -> Result<R, MpiError> {
    let world = World::open()?;
    end_all_on_panic();
    let transport: Arc<dyn Transport> = Arc::clone(&world) as _;
    let ended = program(&Communicator::over(transport));
    let left = world.leave();
    let value = ended?;
    left?;
    Ok(value)
}

/// Runs `program` on rank 0 with a pool whose workers are the other ranks, which serve until it returns: all ranks call this
/// together, once. Rank 0 gets what it returns, the others get `None`. Started alone, without a launcher or with `-n 1`, the program
/// works all the same: with one worker, a thread of its own.
///
/// ```no_run
/// // mpiexec -n 4 target/release/program
/// use par_mpi::{Sum, task, world};
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let total = world(|pool| pool.map_reduce::<square, _>(0..1_000, Sum))?;
/// if let Some(total) = total {
///     println!("{}", total?); // on rank 0
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`MpiError::OtherProgram`] if a rank runs another build; as [`run_world`].
#[doc(alias = "MPIPoolExecutor")]
#[doc(alias = "MPICommExecutor")]
pub fn world<R>(program: impl FnOnce(&MpiPool) -> R) -> Result<Option<R>, MpiError> {
    run_world(|comm| {
        let ended = comm.serve(|crew| Ok::<R, StartError>(program(&crew.pool()?)))?;
        let started = |error: StartError| MpiError::Unusable(format!("the pool does not start: {error}"));
        ended.transpose().map_err(started)
    })
}

/// A panic that nobody of ours catches ends all ranks, instead of leaving the others to wait for this one.
fn end_all_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // In a task it is the outcome of the task.
        if par_core::catches() {
            return before(info);
        }
        let Some(world) = open_world() else {
            return before(info);
        };
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("its payload was not a text");
        let place = info
            .location()
            .map_or_else(String::new, |place| format!(" at {place}"));
        before(info);
        world.abort(PANICKED, &format!("it panicked{place}: {text}"));
    }));
}
