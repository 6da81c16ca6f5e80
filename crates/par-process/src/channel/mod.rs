//! Channels between processes: pipes of values, what can be sent through them, and queues.

mod error;
mod packet;
mod pipe;
mod queue;
pub(crate) mod transit;

pub use error::{RecvError, SendError};
pub use pipe::{Connection, Pipe, Receiver, Sender};
pub use queue::{GetError, JoinableQueue, PutError, Queue, TaskDoneError};
pub use transit::Descriptor;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Waits until at least one of several things is ready, at most for `timeout` (without one, for as long as it takes): the places
/// of those that are. Ends of pipes are ready when there is something to receive, the end of file included; a
/// [sentinel](crate::Process::sentinel) when its process has ended; a socket when it is readable. Empty when the time is over, or
/// if there is nothing to wait for.
///
/// # Errors
/// What the system says if it cannot wait.
///
/// ```
/// use par_process::{Pipe, Process, wait};
/// use std::time::Duration;
///
/// let (quiet, _other) = Pipe::duplex()?;
/// let (receiver, sender) = Pipe::one_way()?;
/// assert_eq!(wait(&[&quiet, &receiver], Some(Duration::ZERO))?, []);
/// sender.send(1)?;
/// let child = Process::of_fn((), |()| ()).start()?;
/// child.join()?;
/// assert_eq!(wait(&[&quiet, &receiver, &child.sentinel()], None)?, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.connection.wait")]
pub fn wait(things: &[&dyn AsFd], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    if things.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<_> = things.iter().map(|thing| thing.as_fd()).collect();
    crate::sentinel::wait(
        &files,
        timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
    )
}
