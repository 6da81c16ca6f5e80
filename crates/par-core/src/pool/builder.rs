//! The options of a pool before it starts.

use super::Pool;
use crate::engine::{Common, Initializer, Launch};
use crate::error::{StartError, TaskError};
use crate::registry;
use crate::task::Task;

/// Options of a pool; made by [`Pool::builder`].
///
/// ```
/// use par_core::SerialPool;
/// let pool = SerialPool::builder().workers(1).queue(16).build()?;
/// assert_eq!(pool.workers(), 1);
/// assert_eq!(SerialPool::builder().workers(0).build().unwrap_err().to_string(), "a pool needs at least 1 worker, got 0");
/// # Ok::<(), par_core::StartError>(())
/// ```
#[must_use = "a builder does nothing until build()"]
pub struct Builder<E: Launch> {
    common: Common,
    options: E::Options,
    bad: Option<TaskError>,
}

impl<E: Launch> Builder<E> {
    pub(super) fn new() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let common = Common {
            workers,
            queue: 1024,
            initializer: None,
            restarts: 64,
        };
        Builder {
            common,
            options: E::Options::default(),
            bad: None,
        }
    }

    /// Sets the number of workers; by default one for each core.
    pub fn workers(mut self, workers: usize) -> Self {
        self.common.workers = workers;
        self
    }

    /// Sets how many jobs may wait before `submit` does; at least 1, default 1024.
    pub fn queue(mut self, jobs: usize) -> Self {
        self.common.queue = jobs;
        self
    }

    /// Sets how many dead workers are replaced before the pool counts as broken; default 64.
    pub fn restarts(mut self, restarts: u32) -> Self {
        self.common.restarts = restarts;
        self
    }

    /// Makes every worker, also a replacement, run task `T` before its first job.
    #[doc(alias = "initargs")]
    pub fn initializer<T: Task>(mut self, input: T::Input) -> Self {
        match Initializer::of_task::<T>(&input) {
            Ok(initializer) => self.common.initializer = Some(initializer),
            Err(error) => self.bad = Some(TaskError::Codec(format!("input of the initialiser: {error}"))),
        }
        self
    }

    /// Sets what only this engine knows.
    pub fn options(mut self, options: E::Options) -> Self {
        self.options = options;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`StartError`] says which option was wrong, or what the system refused.
    pub fn build(self) -> Result<Pool<E>, StartError> {
        if self.common.workers == 0 {
            return Err(StartError::Workers(0));
        }
        if self.common.queue == 0 {
            return Err(StartError::Option {
                option: "queue",
                reason: "at least 1 job must fit, got 0".to_owned(),
            });
        }
        if let Some(error) = self.bad {
            return Err(StartError::Option {
                option: "initializer",
                reason: error.to_string(),
            });
        }
        registry::check()?;
        Ok(Pool::from_engine(E::launch(self.common, self.options)?))
    }
}
