//! The process engine: a pool whose workers are child processes of the same program.

use super::leave::check_workers;
use super::pump::{Pump, is_reading};
use super::queue::Queue;
use super::seats::Seats;
use super::{Health, Hub};
use crate::protocol::{Image, Setup};
use crate::{NAME, Options, Output};
use par_core::engine::{
    Capabilities, Common, Elastic, Engine, Info, Kill, Launch, Placement, Refused, Room, SameProgram,
    Shutdown, ShutdownReport,
};
use par_core::job::Job;
use par_core::observe::Observers;
use par_core::{ShareId, StartError};
use parking_lot::{Condvar, Mutex};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a worker may take to begin something when it has nothing else to do, where the deadline of that passes.
const STUCK: Duration = Duration::from_millis(100);

/// The engine of [`ProcessPool`](crate::ProcessPool).
pub struct ProcessEngine {
    pub(super) hub: Arc<Hub>,
    /// The pool's own thread; taken by the shutdown.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Launch for ProcessEngine {
    type Options = Options;

    fn launch(common: Common, options: Options) -> Result<Arc<Self>, StartError> {
        let image = Image::own().map_err(refused("cannot tell which program this is"))?;
        Self::start(common, &options, image)
    }
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io {
        what: what.to_owned(),
        source,
    }
}

impl ProcessEngine {
    /// Starts a pool whose workers must run `image`.
    fn start(common: Common, options: &Options, image: Image) -> Result<Arc<Self>, StartError> {
        options.check()?;
        check_workers(common.workers)?;
        let setup = Setup {
            image,
            index: 0,
            workers: common.workers,
            longest: options.longest,
            memory: options.memory,
            address_space: options.address_space,
            initializer: common.initializer,
        };
        let pump = Pump::new().map_err(refused("cannot make an event"))?;
        let output = match options.output {
            Output::Lines => Some(super::output::Output::new().map_err(refused("cannot make an event"))?),
            Output::Inherit => None,
        };
        let hub = Arc::new_cyclic(|me| Hub {
            me: me.clone(),
            setup,
            restarts: common.restarts,
            shared: options.shared,
            tasks_per_worker: options.tasks_per_worker.unwrap_or(u64::MAX),
            observers: Observers::default(),
            queue: Queue::new(common.queue),
            seats: Seats::new(common.workers),
            resizing: Mutex::default(),
            leaving: Mutex::default(),
            pump,
            output,
            health: Mutex::new(Health {
                vacant: (0..common.workers).rev().collect(),
                ..Health::default()
            }),
            health_changed: Condvar::new(),
            ran: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        });
        let own = Arc::clone(&hub);
        let thread = thread::Builder::new()
            .name("par-process".to_owned())
            .spawn(move || own.supervise())
            .map_err(refused("cannot start the thread of the pool"))?;
        let engine = Arc::new(ProcessEngine {
            hub,
            thread: Mutex::new(Some(thread)),
        });
        // If this fails, dropping the engine ends what has started.
        engine.hub.wait_ready(common.workers)?;
        Ok(engine)
    }
}

impl Hub {
    /// A job was cancelled or ended early: takes back what has not begun, tells the workers that run it, and kills them if
    /// `kill`.
    pub(super) fn cancel(&self, job: &Arc<Job>, kill: bool) {
        let id = job.id();
        self.queue.purge();
        let mut gone = self.queue.take_again(id);
        let mut others_back = Vec::new();
        for seat in self.seats.iter() {
            let mut state = seat.state.lock();
            let mine = |flight: &super::seat::Flight| flight.taken.claim.job().id() == id;
            if !state.flight.iter().any(mine) {
                continue;
            }
            let (own, others): (Vec<_>, Vec<_>) = state
                .recall()
                .into_iter()
                .partition(|taken| taken.claim.job().id() == id);
            // Its deadline is over, and a worker with nothing else to do has not begun it: stopped, or worse.
            let stuck = kill && !own.is_empty() && state.flight.is_empty() && state.since.elapsed() >= STUCK;
            gone.extend(own.into_iter().map(|taken| taken.claim));
            let runs = state.flight.iter().any(mine);
            if let (true, Some(link)) = (runs, &mut state.link) {
                // A socket that is full belongs to a worker that hears nothing anyway.
                let _ = link.control.write(&id.0.to_le_bytes());
                if kill {
                    // One that has ended already is as good.
                    let _ = link.child.kill();
                    state.killed.get_or_insert("its task was ended by force");
                }
            }
            if stuck && let Some(link) = &mut state.link {
                // One that has ended already is as good.
                let _ = link.child.kill();
                state.killed.get_or_insert("it did not begin what it was sent");
            }
            others_back.extend(others);
        }
        self.give_back(others_back);
        for claim in gone {
            self.cancel_claim(claim);
        }
        self.feed_idle();
        self.pump.kick();
    }

    /// The shared value is gone.
    pub(super) fn evict(&self, share: ShareId) {
        let mut foreign = Vec::new();
        for seat in self.seats.iter() {
            let mut state = seat.state.lock();
            foreign.extend(state.foreign.remove(&share));
            if state.link.is_some() {
                state.evicted.push(share);
                state.settle_evictions();
            }
        }
    }
}

impl Engine for ProcessEngine {
    fn info(&self) -> Info {
        let capabilities = Capabilities {
            processes: true,
            same_program: true,
            kill: true,
            placement: true,
            elastic: true,
            ..Capabilities::default()
        };
        Info {
            name: NAME,
            workers: self.hub.seats.wanted(),
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        self.hub.queue.submit(job, room)?;
        self.hub.feed_idle();
        Ok(())
    }

    fn cancel(&self, job: &Arc<Job>, kill: bool) {
        self.hub.cancel(job, kill);
    }

    fn drive(&self, job: &Job, until: Option<Instant>) {
        self.hub.drive(job, until);
    }

    fn evict(&self, share: ShareId) {
        self.hub.evict(share);
    }

    fn observers(&self) -> &Observers {
        &self.hub.observers
    }

    fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        let Some(own) = self.thread.lock().take() else {
            // Another thread waits for the end. One who wants it sooner gets it sooner.
            self.hub.hasten(how);
            return ShutdownReport {
                ran: self.hub.ran.load(std::sync::atomic::Ordering::Relaxed),
                ..ShutdownReport::default()
            };
        };
        let until = deadline.map(|deadline| Instant::now() + deadline);
        if is_reading() {
            // A callback lets go of the last pool. What it wants to wait for is read by this very thread.
            let hub = Arc::clone(&self.hub);
            self.hub.queue.refuse(Refused::Closed);
            // Without a thread the workers end with this process.
            let _ = thread::Builder::new()
                .name("par-process-end".to_owned())
                .spawn(move || {
                    finish(&hub, own, how, until);
                });
            return ShutdownReport::default();
        }
        finish(&self.hub, own, how, until)
    }
}

fn finish(hub: &Hub, own: JoinHandle<()>, how: Shutdown, until: Option<Instant>) -> ShutdownReport {
    let report = hub.end_work(how, until);
    hub.health.lock().over = Some(until);
    hub.pump.call_own();
    // A panic there has been printed by its hook.
    let _ = own.join();
    report
}

impl Kill for ProcessEngine {}
impl SameProgram for ProcessEngine {}
impl Placement for ProcessEngine {}

impl Elastic for ProcessEngine {
    /// A worker that is to go finishes what it runs, and what its tasks wait for; this does not wait for that. New workers are
    /// ready when this returns.
    fn resize(&self, workers: usize) -> Result<(), StartError> {
        self.hub.resize(workers)
    }
}

impl Drop for ProcessEngine {
    fn drop(&mut self) {
        // Only where no pool was made of it: pools shut their engine down.
        self.shutdown(Shutdown::Kill, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_another_program_is_refused_with_both() {
        let common = Common {
            workers: 1,
            queue: 1,
            initializer: None,
            restarts: 0,
        };
        let other = Image::own().expect("this program").altered();
        let refused = ProcessEngine::start(common, &Options::default(), other).err();
        let text = refused.expect("it runs another program").to_string();
        assert!(
            text.starts_with("worker 0: it runs another program than its pool: Image { ")
                && text.matches("Image { ").count() == 2,
            "{text}"
        );
    }
}
