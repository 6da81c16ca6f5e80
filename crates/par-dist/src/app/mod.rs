//! A distributed task queue for those who know Celery: an [`App`] sends calls of `#[task]`s to a broker, workers run them, and whoever has the
//! [`AsyncResult`] reads what came of them.
//!
//! The broker is a file (SQLite), durable, for the processes of one machine; a RabbitMQ or a Redis server; or memory, for tests. Tasks and
//! results have the form of Celery's message protocol, version 2, so that Celery's own programs and workers do what those here do, on the
//! same queues.
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
//! # Brokers, and where results are kept
//!
//! | | file | RabbitMQ (feature `amqp`) | Redis (feature `redis`) |
//! |---|---|---|---|
//! | [broker](AppBuilder::broker) | `jobs.db` | `amqp://HOST/%2f`, with `amqp-tls` also `amqps://..?cacertfile=ca.pem`; several, separated by `;` | `redis://HOST/0`, of version 6.2 or later; with `redis-tls` also `rediss://..?cacertfile=ca.pem` |
//! | programs | of one machine | anywhere | anywhere |
//! | a worker that dies is noticed | at the next heartbeat of another | at once, by its connection | when its [lease](AppBuilder::lease) is over |
//! | priorities | 255 first | of queues that [have them](AppBuilder::highest_priority), the highest first | four steps, 0 first, as with Celery |
//! | what waits for its time | in the file | in quorum queues `QUEUE.later.N`, and passes through `QUEUE.later` (RabbitMQ 3.10 or later) | in the set `QUEUE.later` |
//! | [results](AppBuilder::results), unless elsewhere | in the file | in the queue of who called (`rpc://`) | at `celery-task-meta-ID` |
//! | [revoked](AsyncResult::revoke) | kept as long as results | told to workers that run, Celery's too | told to workers that run, Celery's too |
//!
//! # What is promised
//!
//! - What [`send`](Call::send) returned is with the broker, on its disk as far as that keeps it there, and is run: once, or more often where its task
//!   [acknowledges late](TaskOptions::acks_late). A task that acknowledges early, as they do by default, is lost when its worker dies in the middle
//!   of it; on RabbitMQ it is run again if it was begun in the very moment before, and a task that waits for its time may be run twice if the
//!   connection breaks while it passes from one queue to the next. A server that is killed may deliver again what was acknowledged just before, and may forget a queue that it made just before.
//! - A worker that dies, by SIGKILL too, gives back what it had fetched and not begun, and what it had begun of tasks that acknowledge late.
//! - A child process that dies takes only its task with it, which has failed then, or [goes back](TaskOptions::requeue_lost), as often as it may.
//! - A server that is away is waited for: who sends waits, and workers go on by themselves when it is back.
//! - A task that waits for its time lies with the broker, in nobody's memory but, on RabbitMQ, for its last quarter of a second. If it was sent to a queue of Celery's workers, these keep it in theirs.
//! - Of calls with the same [key](Call::idempotency_key) one runs, and all have its result. A call can be [written down](Call::prepare) in the user's own
//!   transaction, and sent after it: see the example `outbox`.
//! - Arguments that do not fit, tasks that nobody knows and messages that are none end with a failure that says why; the worker goes on.
//!
//! # Workers
//!
//! A worker runs its tasks on threads, in child processes, or as futures ([`Mode`]). What each can do about a task that runs:
//!
//! | | threads | processes | async (feature `async`) |
//! |---|---|---|---|
//! | it is past its [soft limit](TaskOptions::soft_limit), revoked, or its worker stops | is told ([`TaskContext::cancelled`]) | is told | is told |
//! | it is past its [hard limit](TaskOptions::hard_limit), or [terminated](AsyncResult::terminate) | is told, and has failed | is killed | is dropped where it waits |
//! | it kills its process | the worker is gone | the child is replaced | the worker is gone |
//! | it leaks memory | so does the worker | the child is replaced after [some tasks](Worker::tasks_per_child), or when it is [large](Worker::memory_per_child) | so does the worker |
//!
//! A task in a child process starts no processes of its own pools, and no workers. `cli` makes of an app a program with the commands `worker`, `call`,
//! `result`, `revoke`, `purge` and `status`; [`Health`] tells supervisors how a worker is.
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
//! | `revoke`, `revoke(terminate=True)` | [`AsyncResult::revoke`], [`AsyncResult::terminate`] |
//! | `autoretry_for`, `retry_backoff`, `max_retries` | [`Retry`] |
//! | `acks_late`, `ignore_result`, `time_limit`, `rate_limit` | [`TaskOptions`] |
//! | `confirm_publish` | as a rule; [`AppBuilder::unconfirmed`] |
//! | `task_serializer` | [`Format`] |
//! | signals (`task_prerun`, `task_postrun` ...) | [`Hooks`] |
//! | `celeryconfig.py` | [`AppBuilder::file`], [`AppBuilder::environment`] |
//! | `task_routes` | [`AppBuilder::route`] |
//! | `task_always_eager` | [`AppBuilder::eager`] |
//! | `worker -c 4 -Q mail -P prefork` | [`App::worker`], [`Worker::mode`]; `cli` |

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
mod follow;
mod format;
mod hands;
#[cfg(feature = "cli")]
mod health;
mod hooks;
mod instance;
mod lease;
mod message;
mod options;
mod outcome;
mod rate;
mod revoked;
mod run;
mod time;
mod worker;

pub use arguments::ArgumentError;
pub use builder::AppBuilder;
pub use call::{Call, Prepared};
#[cfg(feature = "cli")]
pub use cli::cli;
pub use context::{Leave, TaskContext, current_task};
pub use control::Cancelled;
pub use format::Format;
pub use hands::Mode;
#[cfg(feature = "cli")]
pub use health::Health;
pub use hooks::Hooks;
pub use instance::App;
pub use message::{MessageError, Signature};
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
