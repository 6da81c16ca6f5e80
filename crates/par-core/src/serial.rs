//! The reference engine: runs each job on the caller's thread before `submit` returns.

use crate::context;
use crate::engine::{
    Capabilities, Common, Engine, Info, Launch, Refused, Room, SameProgram, Shutdown, ShutdownReport,
};
use crate::error::StartError;
use crate::job::Job;
use crate::observe::Observers;
use crate::plan::Claimant;
use crate::pool::Pool;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A pool on the reference engine: one worker, which is whoever submits.
///
/// ```
/// #[par_core::task]
/// fn double(x: u64) -> u64 { 2 * x }
/// let pool = par_core::SerialPool::new(1)?;
/// assert_eq!(pool.map::<double>([1, 2])?, [2, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type SerialPool = Pool<Serial>;

/// The reference engine, against which the others are held. See [`SerialPool`].
pub struct Serial {
    me: Weak<Serial>,
    common: Common,
    initialized: parking_lot::Mutex<bool>,
    closed: AtomicBool,
    ran: AtomicU64,
    observers: Observers,
}

impl Launch for Serial {
    type Options = ();

    fn launch(common: Common, (): ()) -> Result<Arc<Self>, StartError> {
        if common.workers != 1 {
            let reason = format!("the serial engine has 1 worker, got {}", common.workers);
            return Err(StartError::Option {
                option: "workers",
                reason,
            });
        }
        let engine = Arc::new_cyclic(|me| Serial {
            me: Weak::clone(me),
            common,
            initialized: parking_lot::Mutex::new(false),
            closed: AtomicBool::new(false),
            ran: AtomicU64::new(0),
            observers: Observers::default(),
        });
        let _worker = context::enter_worker(0, engine.me.clone());
        engine
            .initialize()
            .map_err(|error| StartError::Initializer { worker: 0, error })?;
        Ok(engine)
    }
}

impl Serial {
    fn initialize(&self) -> Result<(), crate::TaskError> {
        let mut done = self.initialized.lock();
        match &self.common.initializer {
            Some(initializer) if !*done => {
                *done = true;
                initializer.run()
            }
            _ => Ok(()),
        }
    }
}

impl Engine for Serial {
    fn info(&self) -> Info {
        let capabilities = Capabilities {
            same_program: true,
            inline: true,
            placement: false,
            ..Capabilities::default()
        };
        Info {
            name: "serial",
            workers: 1,
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, _: Room) -> Result<(), Refused> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Refused::Closed);
        }
        let _worker = context::enter_worker(0, self.me.clone());
        while let Some(claim) = job.claim(Claimant::Any) {
            self.ran.fetch_add(claim.range().len() as u64, Ordering::Relaxed);
            claim.run();
        }
        Ok(())
    }

    fn cancel(&self, _: &Arc<Job>, _: bool) {}

    fn observers(&self) -> &Observers {
        &self.observers
    }

    fn shutdown(&self, _: Shutdown, _: Option<Duration>) -> ShutdownReport {
        self.closed.store(true, Ordering::Release);
        ShutdownReport {
            ran: self.ran.load(Ordering::Relaxed),
            ..ShutdownReport::default()
        }
    }
}

impl SameProgram for Serial {}
