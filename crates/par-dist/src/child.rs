//! Local workers, seen from inside: the role that a copy of this program runs, and what it exchanges with its pool.

use crate::broker::{BrokerUrl, PeerId, Place};
use crate::worker::{Plan, RunningWorker};
use par_core::engine::Initializer;
use par_core::{TaskError, wire};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

/// The name of the role.
pub(crate) const LOCAL_WORKER: &str = "par-dist-worker";

par_process::role!(LOCAL_WORKER, main);

/// What a pool tells its worker.
#[derive(Serialize, Deserialize)]
pub(crate) enum FromPool {
    /// First of all.
    Setup(Box<Setup>),
    /// Lease.
    Go,
    /// Finish what runs, and end.
    Stop,
}

/// What a worker tells its pool.
#[derive(Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// It has joined as this peer.
    Ready {
        /// Its number.
        peer: i64,
    },
    /// Its initialiser failed.
    Initializer(TaskError),
    /// It could not start.
    Failed(String),
}

/// How a local worker is set up.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) broker: BrokerUrl,
    /// The folder that goes with the pool, where the broker is a temporary one.
    pub(crate) temporary: Option<PathBuf>,
    pub(crate) limit: Option<u64>,
    pub(crate) outage: Duration,
    pub(crate) queue: String,
    pub(crate) prefetch: usize,
    pub(crate) lease: Duration,
    pub(crate) index: usize,
    pub(crate) pool: i64,
    pub(crate) initializer: Option<Initializer>,
}

/// Setups hold an initialiser's input, and nothing else that is long.
const FRAME: u64 = 1 << 30;

fn main() -> i32 {
    // Wakes a stopped worker when its pool dies, so that it sees the end of its socket. A pool that cannot be followed so is
    // followed by the socket alone.
    let _ = set_parent_process_death_signal(Some(Signal::CONT));
    let socket = match take_socket() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("par-dist: the worker has no socket to its pool: {error}");
            return 1;
        }
    };
    match serve(&socket) {
        Ok(()) => 0,
        Err(text) => {
            tell(&socket, &FromWorker::Failed(text));
            1
        }
    }
}

/// The socket arrives as standard input; tasks that read theirs get the end of file.
fn take_socket() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

fn serve(socket: &UnixStream) -> Result<(), String> {
    let FromPool::Setup(setup) = hear(socket).ok_or("its pool went away")? else {
        return Err("the first message of its pool was no setup".to_owned());
    };
    let temporary = setup.temporary.clone();
    let plan = Plan {
        place: Place {
            url: setup.broker,
            temporary: temporary.is_some(),
            limit: setup.limit,
            outage: setup.outage,
        },
        queue: setup.queue,
        concurrency: 1,
        prefetch: setup.prefetch,
        lease: setup.lease,
        index: setup.index,
        home: setup
            .initializer
            .map(|initializer| (PeerId(setup.pool), initializer)),
    };
    let running = match RunningWorker::start(plan) {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            tell(socket, &FromWorker::Initializer(error));
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    tell(
        socket,
        &FromWorker::Ready {
            peer: running.peer().0,
        },
    );
    // A worker that is no use any more makes place for another one.
    running.on_failure(|error| {
        eprintln!("par-dist: worker process {} ends: {error}", process::id());
        process::exit(1);
    });
    let mut running = Some(running);
    loop {
        match hear(socket) {
            Some(FromPool::Go) => {
                if let Some(running) = &mut running {
                    running.go().map_err(|error| error.to_string())?;
                }
            }
            Some(FromPool::Stop) => {
                // On another thread: the pool may die meanwhile.
                if let Some(running) = running.take() {
                    thread::spawn(move || {
                        running.stop(None);
                        process::exit(0);
                    });
                }
            }
            Some(FromPool::Setup(_)) => return Err("a second setup".to_owned()),
            None => break,
        }
    }
    // The pool is gone, and with it everyone who waits. Tasks that still run end with the process.
    if let Some(running) = running {
        running.vanish(Duration::from_secs(1));
    }
    if let Some(folder) = temporary {
        // The other workers do the same: one of them is the last.
        let _ = std::fs::remove_dir_all(folder);
    }
    process::exit(0)
}

fn hear(mut socket: &UnixStream) -> Option<FromPool> {
    let mut payload = Vec::new();
    wire::read_frame(&mut socket, FRAME, &mut payload)
        .ok()
        .flatten()?;
    wire::from_bytes(&payload).ok()
}

fn tell(mut socket: &UnixStream, what: &FromWorker) {
    let Ok(bytes) = wire::to_bytes(what) else { return };
    // A pool that is gone is noticed by the next read.
    let _ = wire::write_frame(&mut socket, 0, &bytes);
}
