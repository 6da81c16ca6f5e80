//! The bench that an engine is held against: starting pools, waiting with patience, running checks under a deadline.

use super::folder::Folder;
use super::tasks::{self, gate};
use crate::engine::{Capabilities, Engine, Launch};
use crate::error::{StartError, TaskError};
use crate::handle::Handle;
use crate::pool::{AnyPool, Builder, Pool};
use parking_lot::Mutex;
use std::io::Write;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// What a law wants of the pool that it is tested on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Setup {
    /// Number of workers.
    pub workers: usize,
    /// The bound of the queue, where the law needs another than the engine's own.
    pub queue: Option<usize>,
    /// The restart budget, where the law needs another than the engine's own.
    pub restarts: Option<u32>,
    /// The argument of the initialiser, where the law needs one: a folder, and whether it is to fail.
    pub(super) initializer: Option<(String, bool)>,
}

/// How a pool is started for a law.
pub type Start<P> = fn(&Setup) -> Result<P, StartError>;

impl Setup {
    /// A builder that follows the setup, for engines that need options besides.
    pub fn builder<E: Launch>(&self) -> Builder<E> {
        let mut builder = Pool::<E>::builder().workers(self.workers);
        if let Some(queue) = self.queue {
            builder = builder.queue(queue);
        }
        if let Some(restarts) = self.restarts {
            builder = builder.restarts(restarts);
        }
        if let Some(input) = &self.initializer {
            builder = builder.initializer::<tasks::initialize>(input.clone());
        }
        builder
    }

    /// Starts a pool that follows the setup, with the engine's own options at their defaults.
    ///
    /// # Errors
    /// As the engine has them.
    pub fn start<E: Launch>(&self) -> Result<AnyPool, StartError> {
        self.builder::<E>().build().map(Pool::into_any)
    }
}

/// How long a law may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What does not happen within this counts as never happening. Generous: machines are busy.
    pub patience: Duration,
    /// When a law as a whole counts as hanging.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            patience: Duration::from_secs(20),
            deadline: Duration::from_secs(90),
        }
    }
}

/// A part of a law: its name, and what panics where the law is broken.
pub type Check<P> = (&'static str, fn(&Bench<P>));

/// An engine at a number of workers, as checks see it.
#[derive(Debug)]
pub struct Bench<P> {
    law: String,
    start: Start<P>,
    workers: usize,
    patience: Duration,
    said: Mutex<Vec<String>>,
}

/// Runs the checks of a law one after the other, in a thread, under the deadline.
pub(super) fn run<P: 'static>(
    law: String,
    checks: Vec<Check<P>>,
    start: Start<P>,
    workers: usize,
    limits: Limits,
) -> Result<(), String> {
    let place = format!("at {workers} worker{}", if workers == 1 { "" } else { "s" });
    let bench = Bench {
        law: law.clone(),
        start,
        workers,
        patience: limits.patience,
        said: Mutex::default(),
    };
    let progress = Arc::new(Mutex::new(Progress {
        check: "the start",
        broken: Vec::new(),
    }));
    let (tell, told) = mpsc::channel();
    let spawned = thread::Builder::new().name(law.clone()).spawn({
        let (progress, law, place) = (Arc::clone(&progress), law.clone(), place.clone());
        move || {
            for (check, run) in checks {
                progress.lock().check = check;
                if let Err(error) = crate::panics::catch(|| run(&bench)) {
                    progress
                        .lock()
                        .broken
                        .push(format!("{law}, {check}, {place}: {error}"));
                }
            }
            // The test may have given up on us.
            let _ = tell.send(());
        }
    });
    spawned.map_err(|error| format!("{law}: no thread for it: {error}"))?;
    let in_time = told.recv_timeout(limits.deadline).is_ok();
    let mut progress = progress.lock();
    if !in_time {
        let hangs = format!(
            "{law}, {}, {place}: it hangs, after {:?}",
            progress.check, limits.deadline
        );
        progress.broken.push(hangs);
    }
    if progress.broken.is_empty() {
        Ok(())
    } else {
        Err(progress.broken.join("\n"))
    }
}

/// How far a law is.
struct Progress {
    check: &'static str,
    broken: Vec<String>,
}

impl<P> Bench<P> {
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// A pool for this law.
    pub(super) fn pool(&self) -> P {
        self.pool_with(|_| {})
    }

    pub(super) fn pool_with(&self, change: impl FnOnce(&mut Setup)) -> P {
        self.try_pool(change)
            .unwrap_or_else(|error| panic!("the pool does not start: {error}"))
    }

    pub(super) fn try_pool(&self, change: impl FnOnce(&mut Setup)) -> Result<P, StartError> {
        let mut setup = Setup {
            workers: self.workers,
            queue: None,
            restarts: None,
            initializer: None,
        };
        change(&mut setup);
        (self.start)(&setup)
    }

    /// Says, once, that a law holds in a weaker form here.
    pub(super) fn weaker<E: ?Sized + Engine>(&self, pool: &Pool<E>, why: &str) {
        let mut said = self.said.lock();
        if !said.iter().any(|other| other == why) {
            said.push(why.to_owned());
            let plural = if self.workers == 1 { "" } else { "s" };
            let name = pool.info().name;
            // Written, not printed: a test that passes would swallow it.
            let _ = writeln!(
                std::io::stderr(),
                "{} in the weaker form on {name} at {} worker{plural}: {why}",
                self.law,
                self.workers
            );
        }
    }

    /// Whether the engine runs jobs inside `submit`; says what is then not asked of it.
    pub(super) fn inline<E: ?Sized + Engine>(&self, pool: &Pool<E>, what: &str) -> bool {
        let inline = pool.info().capabilities.inline;
        if inline {
            self.weaker(
                pool,
                &format!("jobs run inside submit (capability inline), so {what}"),
            );
        }
        inline
    }

    /// How the task ended; a panic if it does not.
    #[track_caller]
    pub(super) fn ended<O: 'static>(&self, handle: Handle<O>) -> Result<O, TaskError> {
        let id = handle.id();
        match handle.wait_timeout(self.patience) {
            Ok(outcome) => outcome,
            Err(handle) => panic!(
                "{id:?} never ended; it is {:?} after {:?}",
                handle.state(),
                self.patience
            ),
        }
    }

    /// Waits for something that has no wait of its own.
    #[track_caller]
    pub(super) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        assert!(
            self.within(self.patience, &mut holds),
            "not within {:?}: {what}",
            self.patience
        );
    }

    /// Whether it holds before the time is up.
    pub(super) fn within(&self, time: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + time;
        loop {
            if holds() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Gives every worker a task that runs until the folder's gate opens, so that what is submitted next is pending.
    #[track_caller]
    pub(super) fn occupy<E: ?Sized + Engine>(&self, pool: &Pool<E>, folder: &Folder) -> Vec<Handle<u64>> {
        self.occupy_all(pool, folder, self.workers)
    }

    /// As `occupy`, for a pool that has another number of workers than at its start.
    #[track_caller]
    pub(super) fn occupy_all<E: ?Sized + Engine>(
        &self,
        pool: &Pool<E>,
        folder: &Folder,
        workers: usize,
    ) -> Vec<Handle<u64>> {
        let submit = |tag| {
            pool.submit::<gate>((folder.path(), tag))
                .expect("the pool is open")
        };
        let gates = (0..workers as u64)
            .map(|worker| submit(GATE_TAGS + worker))
            .collect();
        self.until("each worker begins a task while the others have one", || {
            folder.count("gates") >= workers
        });
        gates
    }

    /// Opens the gate and waits for the tasks that occupied the workers.
    #[track_caller]
    pub(super) fn release(&self, folder: &Folder, gates: Vec<Handle<u64>>) {
        folder.open();
        for gate in gates {
            let outcome = self.ended(gate);
            assert!(
                outcome.is_ok(),
                "a task whose gate was opened ended as {outcome:?}"
            );
        }
    }
}

/// Tags of the tasks that occupy workers; those of others are smaller.
pub(super) const GATE_TAGS: u64 = 1 << 32;

/// The capabilities, for a condition.
pub(super) fn can<E: ?Sized + Engine>(pool: &Pool<E>) -> Capabilities {
    pool.info().capabilities
}

/// Submits, which the pool must accept.
#[track_caller]
pub(super) fn submit<T: crate::Task>(pool: &AnyPool, input: T::Input) -> Handle<T::Output> {
    pool.submit::<T>(input)
        .unwrap_or_else(|error| panic!("{} was not accepted: {error}", T::NAME))
}
