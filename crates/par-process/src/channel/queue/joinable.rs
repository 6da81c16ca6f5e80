//! A queue that counts the tasks which its items stand for.

use super::Queue;
use par_core::Data;
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Deref;
use std::time::{Duration, Instant};

/// A [`Queue`] whose items are tasks: who gets one says when it is done, and others wait until all are.
///
/// A process that gets an item and dies before [`task_done`](Self::task_done) leaves a task unfinished, which somebody else may
/// finish.
///
/// ```
/// use par_process::{JoinableQueue, Process};
///
/// let tasks = JoinableQueue::new(10)?;
/// let worker = Process::of_fn(tasks.clone(), |tasks: JoinableQueue<u32>| {
///     while let Ok(_task) = tasks.get() {
///         tasks.task_done().expect("one a get");
///     }
/// })
/// .start()?;
/// for task in 0..5 {
///     tasks.put(task)?;
/// }
/// tasks.join()?;
/// assert_eq!(tasks.unfinished(), 0);
/// assert!(tasks.task_done().is_err());
/// tasks.close();
/// assert_eq!(worker.join()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
#[doc(alias = "multiprocessing.JoinableQueue")]
pub struct JoinableQueue<T>(Queue<T>);

impl<T: Data> JoinableQueue<T> {
    /// As [`Queue::new`].
    ///
    /// # Errors
    /// As there.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Queue::new(capacity).map(JoinableQueue)
    }

    /// As [`Queue::with_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn with_bytes(capacity: usize, bytes: usize) -> io::Result<Self> {
        Queue::with_bytes(capacity, bytes).map(JoinableQueue)
    }

    /// Says that one task is done whose item was got.
    ///
    /// # Errors
    /// [`TaskDoneError::TooOften`] if all tasks whose items were put are done; [`TaskDoneError::Io`] for what the system refused.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        if self.0.ring.finish().map_err(TaskDoneError::Io)? {
            Ok(())
        } else {
            Err(TaskDoneError::TooOften)
        }
    }

    /// Waits until all tasks are done whose items were put.
    ///
    /// # Errors
    /// What the system refused.
    pub fn join(&self) -> io::Result<()> {
        self.0.ring.join(None).map(|_| ())
    }

    /// Waits until all tasks are done whose items were put, at most for `timeout`; false if some are not.
    ///
    /// # Errors
    /// What the system refused.
    pub fn join_timeout(&self, timeout: Duration) -> io::Result<bool> {
        self.0.ring.join(Instant::now().checked_add(timeout))
    }

    /// How many tasks are not done whose items were put.
    pub fn unfinished(&self) -> usize {
        usize::try_from(self.0.ring.unfinished()).unwrap_or(usize::MAX)
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        JoinableQueue(self.0.clone())
    }
}

/// Why a task was not counted as done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// There is no unfinished task.
    #[error("task_done was called more often than items were put")]
    TooOften,
    /// The system refused.
    #[error("cannot finish a task: {0}")]
    Io(#[source] io::Error),
}
