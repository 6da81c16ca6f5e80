//! [`AsyncResult`]: what came of a task, read from where results are kept, in the form of Celery's documents.

use super::broker::{Results, Revocation};
use super::instance::App;
use crate::BrokerError;
use jiff::Timestamp;
use par_core::TaskError;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far a task is. The names are Celery's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Nothing is known of it: it waits, runs, or was never sent.
    Pending,
    /// It runs.
    Started,
    /// It is to be tried again.
    Retry,
    /// It has a value.
    Success,
    /// It failed.
    Failure,
    /// It is not run: its time to live was over, or it was revoked.
    Revoked,
    /// One of the user's own, such as `PROGRESS`.
    Other(String),
}

impl State {
    fn of(text: &str) -> Self {
        match text {
            "PENDING" => State::Pending,
            "STARTED" => State::Started,
            "RETRY" => State::Retry,
            "SUCCESS" => State::Success,
            "FAILURE" => State::Failure,
            "REVOKED" => State::Revoked,
            other => State::Other(other.to_owned()),
        }
    }

    /// Whether nothing more comes.
    #[doc(alias = "ready")]
    pub fn is_ready(&self) -> bool {
        matches!(self, State::Success | State::Failure | State::Revoked)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Pending => "PENDING",
            State::Started => "STARTED",
            State::Retry => "RETRY",
            State::Success => "SUCCESS",
            State::Failure => "FAILURE",
            State::Revoked => "REVOKED",
            State::Other(other) => other,
        })
    }
}

/// Why there is no value.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// The time was over first.
    #[error("task {id} has no result after {} ms; it is {state}", waited.as_millis())]
    #[doc(alias = "TimeoutError")]
    TimedOut {
        /// The task.
        id: String,
        /// How long was waited.
        waited: Duration,
        /// What is known of it.
        state: State,
    },
    /// The task failed.
    #[error("task {id} failed: {kind}: {message}")]
    Failed {
        /// The task.
        id: String,
        /// The type of its error.
        #[doc(alias = "exc_type")]
        kind: String,
        /// What it said.
        message: String,
        /// Where it was, as the worker tells.
        traceback: Option<String>,
    },
    /// The task is not run.
    #[error("task {id} was revoked: {reason}")]
    #[doc(alias = "TaskRevokedError")]
    Revoked {
        /// The task.
        id: String,
        /// Why.
        reason: String,
    },
    /// The value is of another type.
    #[error("the value of task {id} is not what it should be: {reason}")]
    Type {
        /// The task.
        id: String,
        /// What was wrong.
        reason: String,
    },
    /// The results cannot be read.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// A task that was sent, for who wants to know what came of it.
pub struct AsyncResult<T = Value> {
    id: String,
    app: App,
    _value: PhantomData<fn() -> T>,
}

impl<T> AsyncResult<T> {
    pub(super) fn new(id: String, app: &App) -> Self {
        AsyncResult {
            id,
            app: app.clone(),
            _value: PhantomData,
        }
    }

    fn results(&self) -> Arc<dyn Results> {
        self.app.results()
    }

    /// The task's id.
    #[doc(alias = "task_id")]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How far it is.
    ///
    /// # Errors
    /// The results cannot be read.
    #[doc(alias = "status")]
    pub fn state(&self) -> Result<State, BrokerError> {
        Ok(self
            .results()
            .outcome(&self.id)?
            .as_ref()
            .map_or(State::Pending, state))
    }

    /// What the task said last of its own state ([`TaskContext::progress`](super::TaskContext::progress)), or its value.
    ///
    /// # Errors
    /// The results cannot be read.
    pub fn info(&self) -> Result<Option<Value>, BrokerError> {
        let document = self.results().outcome(&self.id)?;
        Ok(document.and_then(|mut document| Some(document.get_mut("result")?.take())))
    }

    /// The tasks that it started: those that follow it, and those that it sent while it ran.
    ///
    /// # Errors
    /// The results cannot be read.
    pub fn children(&self) -> Result<Vec<AsyncResult>, BrokerError> {
        let document = self.results().outcome(&self.id)?.unwrap_or_default();
        let children = document["children"].as_array().into_iter().flatten();
        // Celery's form, for each: [[id, parent in this form], members of a group].
        let ids = children.filter_map(|child| child.pointer("/0/0")?.as_str());
        Ok(ids.map(|id| AsyncResult::new(id.to_owned(), &self.app)).collect())
    }

    /// It is not to run, where it has not begun. On a RabbitMQ or Redis server only workers that run now hear of it; in a file it is kept as
    /// long as results are. Celery's workers on the same server hear of it, too.
    ///
    /// ```
    /// use par_dist::app::{App, ResultError};
    /// use par_dist::task;
    /// use std::time::Duration;
    ///
    /// #[task]
    /// fn bill(customer: u32) {}
    ///
    /// let app = App::builder("demo").broker("memory:").task::<bill>().build()?;
    /// let call = app.delay::<bill>(7)?;
    /// call.revoke()?;
    /// let _worker = app.worker().start()?;
    /// assert!(matches!(call.get(Duration::from_secs(60)), Err(ResultError::Revoked { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The broker cannot be used.
    pub fn revoke(&self) -> Result<(), BrokerError> {
        self.revoked(false)
    }

    /// As [`revoke`](Self::revoke), and where it runs it is to end: a child process is killed, a future dropped, and a thread told
    /// ([`TaskContext::cancelled`](super::TaskContext::cancelled)).
    ///
    /// # Errors
    /// The broker cannot be used.
    #[doc(alias = "revoke(terminate=True)")]
    pub fn terminate(&self) -> Result<(), BrokerError> {
        self.revoked(true)
    }

    fn revoked(&self, terminate: bool) -> Result<(), BrokerError> {
        let id = self.id.clone();
        self.app.transport().revoke(&Revocation { id, terminate })
    }

    /// Drops what is known of it.
    ///
    /// # Errors
    /// The results cannot be written.
    pub fn forget(&self) -> Result<(), BrokerError> {
        self.results().forget(&self.id)
    }
}

impl<T: DeserializeOwned> AsyncResult<T> {
    /// Waits for the value, at most for `timeout`.
    ///
    /// # Errors
    /// [`ResultError`]: it failed, was revoked, or is not done in time.
    pub fn get(&self, timeout: Duration) -> Result<T, ResultError> {
        let (start, results) = (Instant::now(), self.results());
        loop {
            let seen = results.seen();
            let document = results.outcome(&self.id)?;
            let now = document.as_ref().map_or(State::Pending, state);
            if let Some(document) = document.filter(|_| now.is_ready()) {
                return self.read(&now, document);
            }
            let waited = start.elapsed();
            let Some(left) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(ResultError::TimedOut {
                    id: self.id.clone(),
                    waited,
                    state: now,
                });
            };
            results.wait(&self.id, seen, left);
        }
    }

    fn read(&self, state: &State, mut document: Value) -> Result<T, ResultError> {
        let id = self.id.clone();
        let result = document["result"].take();
        if *state == State::Success {
            return serde_json::from_value(result).map_err(|error| ResultError::Type {
                id,
                reason: error.to_string(),
            });
        }
        let message = message(&result["exc_message"]);
        if *state == State::Revoked {
            return Err(ResultError::Revoked { id, reason: message });
        }
        Err(ResultError::Failed {
            id,
            kind: result["exc_type"].as_str().unwrap_or("unknown").to_owned(),
            message,
            traceback: document["traceback"].as_str().map(str::to_owned),
        })
    }
}

/// Celery's is the list of an exception's arguments, or a text.
fn message(of: &Value) -> String {
    match of {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts
                .iter()
                .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn state(document: &Value) -> State {
    document["status"].as_str().map_or(State::Pending, State::of)
}

impl<T> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncResult").field(&self.id).finish()
    }
}

/// A document as Celery writes it.
pub(super) fn document(id: &str, state: &State, result: Value, children: &[String]) -> Value {
    let children: Vec<Value> = children
        .iter()
        .map(|child| json!([[child, null], null]))
        .collect();
    json!({
        "status": state.to_string(),
        "result": result,
        "traceback": null,
        "children": children,
        "date_done": super::time::write_time(Timestamp::now()),
        "task_id": id,
    })
}

/// An error as Celery writes it: type, arguments and module of an exception.
pub(super) fn exception(kind: &str, message: &str) -> Value {
    let (module, name) = kind.rsplit_once("::").unwrap_or(("builtins", kind));
    json!({ "exc_type": name, "exc_message": [message], "exc_module": module })
}

/// What is kept instead of a result that the broker does not take.
pub(super) fn no_result(id: &str, error: &BrokerError) -> Value {
    let error = exception("par_dist::BrokerError", &error.to_string());
    document(id, &State::Failure, error, &[])
}

/// The error of a task as Celery would write one.
pub(super) fn failure(error: &TaskError) -> Value {
    match error {
        TaskError::Failed(failure) => {
            let chain: String = failure.chain.iter().map(|cause| format!(": {cause}")).collect();
            exception(&failure.type_name, &format!("{}{chain}", failure.message))
        }
        TaskError::Panicked(panic) => exception("par_core::Panic", &panic.to_string()),
        other => exception("par_core::TaskError", &other.to_string()),
    }
}
