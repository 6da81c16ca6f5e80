//! What a task knows of its own run, and how it ends it otherwise than by a value or an error: again later, never, or by another task.
//!
//! What it asks for lies with the thread that runs it until it has returned; so it returns the word of it ([`Leave`]) as its error.

use super::arguments::Called;
use super::broker::{Outcome, Outgoing};
use super::control::{Cancelled, Control};
use super::instance::App;
use super::message::{Message, Signature};
use super::outcome::{State, document};
use super::{AppError, AsyncResult};
use par_core::{Task, Token, push_token};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The run of a task, as the task itself sees it.
#[derive(Clone)]
#[doc(alias = "request")]
pub struct TaskContext {
    pub(super) app: App,
    pub(super) run: RunInfo,
    pub(super) control: Arc<Control>,
}

/// What is known of a run, in whatever process it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunInfo {
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Wish {
    Retry { after: Option<Duration> },
    Ignore,
    Reject { requeue: bool },
    Replace(Box<Signature>),
}

/// A run, and what it has asked for and sent so far.
struct Running {
    context: TaskContext,
    wish: Option<Wish>,
    children: Vec<String>,
}

/// What came of a run by itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ran {
    pub(super) called: Called,
    pub(super) wish: Option<Wish>,
    pub(super) children: Vec<String>,
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
        &self.run.id
    }

    /// The name of the task.
    pub fn task(&self) -> &str {
        &self.run.task
    }

    /// The call with which all began.
    #[doc(alias = "root_id")]
    pub fn root(&self) -> Option<&str> {
        self.run.root.as_deref()
    }

    /// The call that this one follows, or was sent by.
    #[doc(alias = "parent_id")]
    pub fn parent(&self) -> Option<&str> {
        self.run.parent.as_deref()
    }

    /// How often it was tried before.
    pub fn retries(&self) -> u32 {
        self.run.retries
    }

    /// The queue from which it came.
    #[doc(alias = "delivery_info")]
    pub fn queue(&self) -> &str {
        &self.run.queue
    }

    /// Whether another worker had it before.
    pub fn is_redelivered(&self) -> bool {
        self.run.redelivered
    }

    /// Why it is to end, if it is: a task that takes long looks from time to time, and ends as it sees fit. Code that knows nothing of this asks
    /// [`par_core::cancelled`].
    ///
    /// ```
    /// use par_dist::app::{App, Cancelled, TaskOptions, current_task};
    /// use par_dist::task;
    /// use std::time::Duration;
    ///
    /// #[task]
    /// fn counts() -> Result<u64, String> {
    ///     let run = current_task().ok_or("no worker runs it")?;
    ///     let mut count = 0;
    ///     while run.cancelled() != Some(Cancelled::SoftLimit) {
    ///         count += 1; // the work
    ///     }
    ///     Ok(count)
    /// }
    ///
    /// let options = TaskOptions { soft_limit: Some(Duration::from_millis(20)), ..TaskOptions::default() };
    /// let app = App::builder("demo").broker("memory:").task_with::<counts>(options).build()?;
    /// let _worker = app.worker().start()?;
    /// assert!(app.delay::<counts>(())?.get(Duration::from_secs(60))? > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "is_aborted")]
    pub fn cancelled(&self) -> Option<Cancelled> {
        self.control.why()
    }

    /// Tells those who have its result how far it is.
    ///
    /// # Errors
    /// The results cannot be written, or `meta` is no JSON.
    #[doc(alias = "update_state")]
    pub fn progress(&self, state: &str, meta: impl Serialize) -> Result<(), AppError> {
        let meta = serde_json::to_value(meta).map_err(|error| AppError::Arguments {
            task: self.run.task.clone(),
            reason: error.to_string(),
        })?;
        let state = State::Other(state.to_owned());
        Ok(self.app.results().store(Outcome {
            id: self.run.id.clone(),
            to: self.run.reply_to.clone(),
            document: document(&self.run.id, &state, meta, &[]),
        })?)
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
            if let Some(running) = running
                .as_mut()
                .filter(|running| running.context.run.id == self.run.id)
            {
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
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// Runs a task in its context.
pub(super) fn within(context: TaskContext, work: impl FnOnce() -> Called) -> Ran {
    let mut running = Some(Running::new(context));
    let called = enter(&mut running, work);
    Running::end(running, called)
}

impl Running {
    fn new(context: TaskContext) -> Self {
        Running {
            context,
            wish: None,
            children: Vec::new(),
        }
    }

    fn end(running: Option<Self>, called: Called) -> Ran {
        let (wish, children) = running.map_or((None, Vec::new()), |running| (running.wish, running.children));
        Ran {
            called,
            wish,
            children,
        }
    }
}

/// This thread runs that task while it does `work`.
fn enter<R>(running: &mut Option<Running>, work: impl FnOnce() -> R) -> R {
    let flag = running.as_ref().map(|running| running.context.control.flag());
    let _token = flag.map(|flag| push_token(Token::Flag(flag)));
    let outer = RUNNING.replace(running.take());
    let result = work();
    *running = RUNNING.replace(outer);
    result
}

/// Runs a task as a future: its context is there whenever it is polled.
#[cfg(feature = "async")]
pub(super) async fn within_polls(context: TaskContext, mut future: super::arguments::Future) -> Ran {
    use super::arguments::CallError;
    let mut running = Some(Running::new(context));
    let called = std::future::poll_fn(|cx| {
        let polled = enter(&mut running, || par_core::catch(|| future.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| std::task::Poll::Ready(Err(CallError::Task(panic))))
    });
    let called = called.await;
    Running::end(running, called)
}

/// A call that is sent by a task is its child.
pub(super) fn adopt(task: &mut Outgoing) {
    RUNNING.with_borrow_mut(|running| {
        if let Some(running) = running {
            let Message { headers, .. } = &mut task.message;
            headers.parent_id = Some(running.context.run.id.clone());
            let root = running
                .context
                .run
                .root
                .as_ref()
                .unwrap_or(&running.context.run.id);
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
