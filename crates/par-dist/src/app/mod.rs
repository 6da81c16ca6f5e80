//! A distributed task queue for those who know Celery: an [`App`] sends calls of `#[task]`s to a broker, workers run them, and whoever has the
//! [`AsyncResult`] reads what came of them.
//!
//! The broker is a file (SQLite), durable, for the processes of one machine; or memory, for tests. Tasks and results have the form of Celery's
//! message protocol, version 2.
//!
//! ```
//! use par_dist::app::{App, State};
//! use par_dist::task;
//! use std::time::Duration;
//!
//! #[task]
//! fn add(a: i64, b: i64) -> i64 { a + b }
//!
//! let app = App::builder("demo").broker("memory:").task::<add>().build()?;
//! let worker = app.worker().concurrency(2).start()?;
//! let five = app.delay::<add>((2, 3))?;
//! assert_eq!(five.get(Duration::from_secs(60))?, 5);
//! assert_eq!(five.state()?, State::Success);
//!
//! // As `apply_async`, with options; and by name, as from another language.
//! let later = app.call::<add>((1, 1)).countdown(Duration::from_millis(20)).send()?;
//! assert_eq!(later.get(Duration::from_secs(60))?, 2);
//! let by_name = app.send_task(add_name(), [2.into()], [("b".to_owned(), 2.into())])?;
//! assert_eq!(by_name.get(Duration::from_secs(60))?, 4);
//! worker.stop();
//! # fn add_name() -> &'static str { <add as par_dist::Task>::NAME }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - What [`send`](Call::send) returned is on the disk, and is run: once, or more often where its task [acknowledges late](TaskOptions::acks_late).
//!   A task that acknowledges early, as they do by default, is lost when its worker dies in the middle of it.
//! - A worker that dies, by SIGKILL too, gives back what it had fetched and not begun, and what it had begun of tasks that acknowledge late.
//!   Others notice at their next heartbeat, a second at most.
//! - A task that waits for its time lies in the file, in nobody's memory.
//! - Arguments that do not fit, tasks that nobody knows and messages that are none end with a failure that says why; the worker goes on.
//!
//! # If you know Celery
//!
//! | Celery | here |
//! |---|---|
//! | `Celery("proj", broker=...)` | [`App::builder`] |
//! | `@app.task` | `#[task]` and [`AppBuilder::task`] |
//! | `delay`, `apply_async` | [`App::delay`], [`App::call`] |
//! | `send_task` | [`App::send_task`] |
//! | `signature`, `s()`, `si()` | [`App::signature`], [`Signature::immutable`] |
//! | `chain`, `link`, `link_error` | [`Call::then`], [`Call::link`], [`Call::link_error`] |
//! | `AsyncResult.get`, `state`, `forget` | [`AsyncResult`] |
//! | `self.request`, `self.retry`, `self.update_state`, `self.replace` | [`current_task`], [`TaskContext`] |
//! | `autoretry_for`, `retry_backoff`, `max_retries` | [`Retry`] |
//! | `acks_late`, `ignore_result` | [`TaskOptions`] |
//! | `task_routes` | [`AppBuilder::route`] |
//! | `task_always_eager` | [`AppBuilder::eager`] |
//! | `worker -c 4 -Q mail` | [`App::worker`]; `cli`, which also has `call`, `result`, `purge` and `status` |

mod arguments;
mod broker;
mod builder;
mod call;
mod child;
#[cfg(feature = "cli")]
mod cli;
mod config;
mod context;
mod control;
#[cfg(any(feature = "amqp", feature = "redis"))]
mod control_message;
mod crew;
mod hands;
#[cfg(feature = "cli")]
mod health;
mod hooks;
mod message;
mod options;
mod outcome;
mod rate;
mod run;
mod worker;

pub use arguments::ArgumentError;
pub use builder::{App, AppBuilder};
pub use call::{Call, Prepared};
#[cfg(feature = "cli")]
pub use cli::cli;
pub use context::{Leave, TaskContext, current_task};
pub use control::Cancelled;
pub use hands::Mode;
#[cfg(feature = "cli")]
pub use health::Health;
pub use hooks::Hooks;
pub use message::{Format, MessageError, Signature};
pub use options::{Retry, TaskOptions};
pub use outcome::{AsyncResult, ResultError, State};
pub use rate::{Rate, RateError};
pub use worker::{RunningWorker, Worker};

use crate::BrokerError;

/// Why an app cannot be used, or a task not be sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Arguments are no JSON.
    #[error("the arguments of {task} are no JSON: {reason}")]
    Arguments {
        /// The task.
        task: String,
        /// What was wrong.
        reason: String,
    },
    /// An option has a value that nothing can work with.
    #[error("bad option {option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was wrong with its value, and what is expected.
        reason: String,
    },
}
