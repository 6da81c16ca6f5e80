//! Bodies: the typed insides of jobs, one for each form of a pool's calls.

pub(crate) mod fold;
pub(crate) mod map;
pub(crate) mod relay;
pub(crate) mod single;
pub(crate) mod stream;

use crate::error::{MapError, TaskError};
use crate::job::Body;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a handle finds the outcome, whatever the body is.
pub(crate) trait Outcome<O, E>: Body {
    /// The outcome; the first taker gets it.
    ///
    /// # Safety
    /// The job is done and was not ended early: its claims have ended. Nobody else takes at the same time.
    unsafe fn take(&self) -> Option<Result<O, E>>;
    /// What is told where the job as a whole ended so, or could not be waited for.
    fn whole(&self, error: TaskError) -> E;
}

/// The failure with the lowest index so far (law 2: `map` fails with that one).
pub(crate) struct Failures {
    lowest: AtomicU64,
    first: Mutex<Option<MapError>>,
}

impl Failures {
    pub(crate) fn new() -> Self {
        Failures {
            lowest: AtomicU64::new(u64::MAX),
            first: Mutex::new(None),
        }
    }

    pub(crate) fn record(&self, index: u64, error: TaskError) {
        let mut first = self.first.lock();
        if first.as_ref().is_none_or(|held| index < held.index) {
            self.lowest.store(index, Ordering::Relaxed);
            *first = Some(MapError { index, error });
        }
    }

    /// Whether nothing at or after `index` matters any more.
    pub(crate) fn before(&self, index: u64) -> bool {
        self.lowest.load(Ordering::Relaxed) < index
    }

    pub(crate) fn get(&self) -> Option<MapError> {
        self.first.lock().clone()
    }
}
