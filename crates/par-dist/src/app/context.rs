//! What a task knows of its own run, and how it ends it otherwise than by a value or an error: again later, never, or by another task.
//!
//! What it asks for lies with the thread that runs it until it has returned; so it returns the word of it ([`Leave`]) as its error.

use super::broker::Outgoing;
use super::builder::App;
use super::message::{Message, Signature};
use super::outcome::{State, document};
use super::{AppError, AsyncResult};
use par_core::Task;
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

/// The run of a task, as the task itself sees it.
#[derive(Clone)]
#[doc(alias = "request")]
pub struct TaskContext {
    pub(super) app: App,
    pub(super) id: String,
    pub(super) reply_to: Option<String>,
    pub(super) task: String,
    pub(super) root: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) retries: u32,
    pub(super) queue: String,
    pub(super) redelivered: bool,
}

/// What a task asks for instead of an end.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Retry { after: Option<Duration> },
    Ignore,
    Reject { requeue: bool },
    Replace(Box<Signature>),
}

struct Running {
    context: TaskContext,
    wish: Option<Wish>,
    children: Vec<String>,
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// The word with which a task leaves otherwise than by a value or an error of its own: it is to be returned as the task's error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
#[must_use = "it does nothing until the task returns it as its error"]
pub struct Leave(&'static str);

/// The run of the task that this thread runs for a worker of an [`App`].
///
/// ```
/// use par_dist::app::{App, Retry, TaskOptions, current_task};
/// use par_dist::task;
/// use std::time::Duration;
///
/// #[task]
/// fn third_time() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     let run = current_task().expect("a worker runs it");
///     if run.retries() < 2 {
///         return Err(run.retry(Some(Duration::ZERO)).into());
///     }
///     Ok(run.retries())
/// }
///
/// let options = TaskOptions { retry: Retry { count: 5, ..Retry::default() }, ..TaskOptions::default() };
/// let app = App::builder("demo").broker("memory:").task_with::<third_time>(options).build()?;
/// let worker = app.worker().start()?;
/// assert_eq!(app.delay::<third_time>(())?.get(Duration::from_secs(60))?, 2);
/// worker.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn current_task() -> Option<TaskContext> {
    RUNNING.with_borrow(|running| running.as_ref().map(|running| running.context.clone()))
}

impl TaskContext {
    /// The app whose worker runs it.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The id of the call.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the task.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The call with which all began.
    #[doc(alias = "root_id")]
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// The call that this one follows, or was sent by.
    #[doc(alias = "parent_id")]
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// How often it was tried before.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// The queue from which it came.
    #[doc(alias = "delivery_info")]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Whether another worker had it before.
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// Tells those who have its result how far it is.
    ///
    /// # Errors
    /// The results cannot be written, or `meta` is no JSON.
    #[doc(alias = "update_state")]
    pub fn progress(&self, state: &str, meta: impl Serialize) -> Result<(), AppError> {
        let meta = serde_json::to_value(meta).map_err(|error| AppError::Arguments {
            task: self.task.clone(),
            reason: error.to_string(),
        })?;
        let state = State::Other(state.to_owned());
        let document = document(&self.id, &state, meta, &[]);
        Ok(self
            .app
            .results()
            .store(&self.id, self.reply_to.as_deref(), &document)?)
    }

    /// Again, after that time or what the task's [`Retry`](super::Retry) says. It fails if it was tried as often as that allows.
    pub fn retry(&self, after: Option<Duration>) -> Leave {
        self.wish(Wish::Retry { after }, "the task is to be tried again")
    }

    /// Without an outcome.
    pub fn ignore(&self) -> Leave {
        self.wish(Wish::Ignore, "the task has no outcome")
    }

    /// Not by this worker: back into the queue, or dropped. Only what [acknowledges late](super::TaskOptions::acks_late) can go back.
    pub fn reject(&self, requeue: bool) -> Leave {
        self.wish(Wish::Reject { requeue }, "the task is rejected")
    }

    /// By another call, whose value becomes this one's.
    pub fn replace(&self, by: Signature) -> Leave {
        self.wish(Wish::Replace(Box::new(by)), "the task is replaced by another")
    }

    fn wish(&self, wish: Wish, word: &'static str) -> Leave {
        RUNNING.with_borrow_mut(|running| {
            if let Some(running) = running.as_mut().filter(|running| running.context.id == self.id) {
                running.wish = Some(wish);
            }
        });
        Leave(word)
    }

    /// Sends another task, as a child of this one.
    ///
    /// # Errors
    /// As [`App::delay`].
    pub fn delay<T: Task>(&self, input: T::Input) -> Result<AsyncResult<T::Output>, AppError> {
        self.app.delay::<T>(input)
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("task", &self.task)
            .field("id", &self.id)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// Runs a task in its context. What it asked for, and what it sent.
pub(super) fn within<R>(context: TaskContext, work: impl FnOnce() -> R) -> (R, Option<Wish>, Vec<String>) {
    let outer = RUNNING.replace(Some(Running {
        context,
        wish: None,
        children: Vec::new(),
    }));
    let result = work();
    let inner = RUNNING.replace(outer);
    let (wish, children) = inner.map_or((None, Vec::new()), |inner| (inner.wish, inner.children));
    (result, wish, children)
}

/// A call that is sent by a task is its child.
pub(super) fn adopt(task: &mut Outgoing) {
    RUNNING.with_borrow_mut(|running| {
        if let Some(running) = running {
            let Message { headers, .. } = &mut task.message;
            headers.parent_id = Some(running.context.id.clone());
            let root = running.context.root.as_ref().unwrap_or(&running.context.id);
            headers.root_id = Some(root.clone());
            running.children.push(headers.id.clone());
        }
    });
}

/// A value in JSON.
pub(super) fn json(task: &str, value: impl Serialize) -> Result<Value, AppError> {
    serde_json::to_value(value).map_err(|error| AppError::Arguments {
        task: task.to_owned(),
        reason: error.to_string(),
    })
}
