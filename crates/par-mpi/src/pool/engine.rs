//! The MPI engine: a pool whose workers are ranks.

use super::office::is_reading;
use super::queue::Queue;
use super::seat::Seat;
use super::{Health, Hub};
use crate::crew::{self, Crew, Threads};
use crate::protocol::{OVERHEAD, Setup, down, put};
use par_core::engine::{
    Capabilities, Common, Engine, Info, Launch, Placement, Refused, Room, SameProgram, Shutdown,
    ShutdownReport,
};
use par_core::job::Job;
use par_core::observe::Observers;
use par_core::{ShareId, StartError};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long workers may take to start. Initialisers may be long.
const START: Duration = Duration::from_secs(120);
/// The bounds of the option `longest`: a message's length is a positive number of 31 bits in MPI.
const SHORTEST: u64 = 1024;
const LONGEST: u64 = i32::MAX as u64 - OVERHEAD;
/// How long a pool that did not start waits for the workers that did.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// Options of [`MpiPool`](crate::MpiPool), beside those that every pool has.
///
/// ```
/// use par_mpi::{MpiOptions, MpiPool};
/// let options = MpiOptions { longest: 1 << 20, ..MpiOptions::default() };
/// let pool = MpiPool::builder().workers(1).options(options).build()?;
/// # Ok::<(), par_mpi::StartError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MpiOptions {
    /// The ranks that work; [`Crew::builder`] fills it in. `None`, the default, starts ranks that are threads of this process.
    pub crew: Option<Crew>,
    /// The longest encoded input or output of one request, in bytes; 1 GiB. What is longer fails with
    /// [`TaskError::Codec`](crate::TaskError::Codec). From 1024 to 2^31 - 2^20 - 1.
    pub longest: u64,
}

impl Default for MpiOptions {
    fn default() -> Self {
        MpiOptions {
            crew: None,
            longest: 1 << 30,
        }
    }
}

/// The engine of [`MpiPool`](crate::MpiPool).
pub struct MpiEngine {
    hub: Arc<Hub>,
    /// Whether the pool has not been shut down, and the ranks that it started itself.
    running: Mutex<Option<Option<Threads>>>,
}

impl Launch for MpiEngine {
    type Options = MpiOptions;

    fn launch(common: Common, options: MpiOptions) -> Result<Arc<Self>, StartError> {
        if !(SHORTEST..=LONGEST).contains(&options.longest) {
            return Err(StartError::Option {
                option: "longest",
                reason: format!("{SHORTEST} to {LONGEST} bytes, got {}", options.longest),
            });
        }
        let (office, own) = match options.crew {
            Some(crew) => (Arc::clone(crew.office()), None),
            None => {
                let (office, threads) = crew::threads(common.workers).map_err(|source| StartError::Io {
                    what: "cannot start the threads of the ranks".to_owned(),
                    source,
                })?;
                (office, Some(threads))
            }
        };
        let ranks = office.workers();
        if common.workers > ranks {
            return Err(StartError::Option {
                option: "workers",
                reason: format!(
                    "at most {ranks}, one for each rank but rank 0, got {}; start more ranks (mpiexec -n)",
                    common.workers
                ),
            });
        }
        if let Some(why) = office.closed() {
            return Err(StartError::Unavailable(why));
        }
        let hub = Arc::new_cyclic(|me| Hub {
            me: me.clone(),
            pool: office.number(),
            office,
            longest: options.longest,
            observers: Observers::default(),
            queue: Queue::new(common.queue),
            seats: (0..common.workers).map(|_| Seat::new()).collect(),
            health: Mutex::new(Health::default()),
            health_changed: Condvar::new(),
            ran: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        });
        hub.office.enter(&hub);
        let engine = Arc::new(MpiEngine {
            hub,
            running: Mutex::new(Some(own)),
        });
        // If this fails, dropping the engine ends what has started.
        engine.hub.start(&common)?;
        Ok(engine)
    }
}

impl Hub {
    /// Sets the workers up, and waits until they are ready.
    fn start(&self, common: &Common) -> Result<(), StartError> {
        let _attention = self.office.attend();
        let workers = common.workers;
        for index in 0..workers {
            let setup = Setup {
                index,
                workers,
                longest: self.longest,
                initializer: common.initializer.clone(),
            };
            self.say(index, down::SETUP, |out| put(out, &setup));
        }
        let until = Instant::now() + START;
        let mut health = self.health.lock();
        loop {
            if let Some(error) = health.failed.take() {
                return Err(error);
            }
            if health.ready >= workers {
                return Ok(());
            }
            if self.health_changed.wait_until(&mut health, until).timed_out() {
                return Err(StartError::Unavailable(format!(
                    "{} of {workers} worker(s) were ready after {} s",
                    health.ready,
                    START.as_secs()
                )));
            }
        }
    }
}

impl Engine for MpiEngine {
    fn info(&self) -> Info {
        let processes = self.hub.office.transport().processes();
        let capabilities = Capabilities {
            processes,
            shared_fate: processes,
            same_program: true,
            placement: true,
            ..Capabilities::default()
        };
        Info {
            name: crate::NAME,
            workers: self.hub.seats.len(),
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        self.hub.queue.submit(job, room)?;
        self.hub.feed_idle();
        Ok(())
    }

    fn cancel(&self, job: &Arc<Job>, _: bool) {
        self.hub.cancel(job);
    }

    fn drive(&self, job: &Job, until: Option<Instant>) {
        self.hub.office.drive(job, until);
    }

    fn evict(&self, share: ShareId) {
        self.hub.evict(share);
    }

    fn observers(&self) -> &Observers {
        &self.hub.observers
    }

    fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        let Some(own) = self.running.lock().take() else {
            return ShutdownReport {
                ran: self.hub.ran.load(Ordering::Relaxed),
                ..ShutdownReport::default()
            };
        };
        let until = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        if is_reading() {
            // A callback lets go of the last pool. What it wants to wait for is read by this very thread.
            let hub = Arc::clone(&self.hub);
            self.hub.queue.refuse(Refused::Closed);
            // Without a thread the workers end with this process.
            let _ = thread::Builder::new()
                .name("par-mpi-end".to_owned())
                .spawn(move || finish(&hub, own, how, until));
            return ShutdownReport::default();
        }
        finish(&self.hub, own, how, until)
    }
}

fn finish(hub: &Hub, own: Option<Threads>, how: Shutdown, until: Option<Instant>) -> ShutdownReport {
    let report = {
        let _attention = hub.office.attend();
        hub.end(how, until)
    };
    hub.office.leave(hub.pool);
    if let Some(threads) = own {
        threads.end(&hub.office);
    }
    report
}

impl SameProgram for MpiEngine {}
impl Placement for MpiEngine {}

impl Drop for MpiEngine {
    fn drop(&mut self) {
        // Only where no pool was made of it: pools shut their engine down.
        self.shutdown(Shutdown::Kill, Some(GIVEN_UP));
    }
}
