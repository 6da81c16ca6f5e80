//! Observers: what a pool tells those who watch it. Progress bars, traces and monitors stand on it.

mod chrome;
#[cfg(feature = "progress")]
mod progress;

pub use chrome::ChromeTrace;
#[cfg(feature = "progress")]
pub use progress::ProgressBar;

use crate::error::TaskError;
use crate::job::{Body, Job, JobId};
use parking_lot::RwLock;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Severity of a log event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// Something worth knowing.
    Info,
    /// Detail for developers.
    Debug,
    /// All detail.
    Trace,
}

/// Something that happened in a pool. Times are of the process that holds the pool.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A job entered the queue.
    Submitted {
        /// The job.
        job: JobId,
        /// Name of its task.
        name: &'static str,
        /// Number of its parts.
        parts: usize,
    },
    /// Parts went to a worker.
    Started {
        /// The job.
        job: JobId,
        /// Which of its parts.
        parts: Range<usize>,
        /// The worker, where it is known.
        worker: Option<usize>,
    },
    /// Parts came back from a worker that had not begun them, or died: they will go to another, and start again.
    Returned {
        /// The job.
        job: JobId,
        /// Which of its parts.
        parts: Range<usize>,
    },
    /// A worker is through with parts, whatever came out.
    Finished {
        /// The job.
        job: JobId,
        /// Name of its task.
        name: &'static str,
        /// Which of its parts.
        parts: Range<usize>,
        /// The worker, where it is known.
        worker: Option<usize>,
        /// When the worker began.
        started: Instant,
        /// How long it took.
        took: Duration,
    },
    /// Parts ended without being run to their end.
    Failed {
        /// The job.
        job: JobId,
        /// Which of its parts.
        parts: Range<usize>,
        /// Why.
        error: TaskError,
    },
    /// A worker is ready.
    WorkerUp {
        /// Its index.
        worker: usize,
        /// Its process, where it is one of its own.
        pid: Option<u32>,
    },
    /// A worker went away.
    WorkerLost {
        /// Its index.
        worker: usize,
        /// What happened to it.
        reason: String,
    },
    /// A task [logged](crate::log()) something.
    Log {
        /// The job that the task belongs to. What tasks log that were submitted by a task in another process comes under the
        /// job of the latter.
        job: JobId,
        /// The worker, where it is known.
        worker: Option<usize>,
        /// How serious it is.
        level: Level,
        /// What it said.
        text: String,
    },
}

/// Watches a pool. Called on the threads of the pool: be quick. A panic is printed and goes no further.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// The observers of one pool; clones are the same list.
#[derive(Clone)]
pub struct Observers {
    /// Nothing for a job that nobody watched when it was made.
    inner: Option<Arc<Inner>>,
}

impl Default for Observers {
    fn default() -> Self {
        Observers {
            inner: Some(Arc::default()),
        }
    }
}

#[derive(Default)]
struct Inner {
    any: AtomicBool,
    list: RwLock<Vec<Arc<dyn Observer>>>,
}

impl Inner {
    #[inline]
    fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

impl Observers {
    /// Adds one, which sees what is submitted from now on.
    pub fn add(&self, observer: Arc<dyn Observer>) {
        if let Some(inner) = &self.inner {
            inner.list.write().push(observer);
            inner.any.store(true, Ordering::Release);
        }
    }

    /// For a job that is made now: it is watched from its beginning to its end, or not at all.
    pub(crate) fn of_job(&self) -> Self {
        Observers {
            inner: self.inner.as_ref().filter(|inner| inner.any()).cloned(),
        }
    }

    /// Whether anybody watches. Nothing is built for nobody.
    #[inline]
    pub fn any(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.any())
    }

    /// Tells everyone, if there is anyone.
    pub fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(inner) = self.inner.as_ref().filter(|inner| inner.any()) {
            let event = event();
            for observer in inner.list.read().iter() {
                // Whoever tells of an event has a claim to end, which somebody waits for.
                if let Err(error) = crate::panics::catch(|| observer.event(&event)) {
                    eprintln!("par: an observer: {error}");
                }
            }
        }
    }

    pub(crate) fn begin<B: ?Sized + Body>(&self, job: &Job<B>, parts: &Range<usize>, worker: Option<usize>) {
        self.emit(|| Event::Started {
            job: job.id(),
            parts: parts.clone(),
            worker,
        });
    }

    pub(crate) fn end<B: ?Sized + Body>(
        &self,
        job: &Job<B>,
        parts: &Range<usize>,
        worker: Option<usize>,
        started: Instant,
        took: Duration,
    ) {
        self.emit(|| Event::Finished {
            job: job.id(),
            name: job.name(),
            parts: parts.clone(),
            worker,
            started,
            took,
        });
    }
}
