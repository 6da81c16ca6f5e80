//! What runs tasks for a worker: its threads themselves, their child processes, or futures on a runtime.

use super::arguments::CallError;
use super::child::Child;
use super::context::{Ran, within};
use super::control::Cancelled;
use super::run::Begun;
use serde::{Deserialize, Serialize};

/// What runs the tasks of a worker; see [`Worker::mode`](super::Worker::mode).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[doc(alias = "--pool")]
pub enum Mode {
    /// Threads of the worker: the quickest. What a task does to its process, it does to the worker.
    #[default]
    Threads,
    /// Child processes of the worker, one for each task that runs: they can be killed, and die alone.
    #[doc(alias = "prefork")]
    Processes,
    /// Futures: thousands of async tasks on two threads. A task that is not async holds up one of these.
    #[cfg(feature = "async")]
    Async,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Threads => "threads",
            Mode::Processes => "processes",
            #[cfg(feature = "async")]
            Mode::Async => "async",
        })
    }
}

/// How a run ended.
pub(super) enum Ended {
    /// By itself.
    Ran(Ran),
    /// By force.
    Forced(Cancelled),
    /// What ran it is gone, as that says.
    Lost(String),
}

/// What runs the tasks of one thread of a worker.
pub(super) enum Hands {
    Own,
    Child(Box<Child>),
}

impl Hands {
    pub(super) fn run(&mut self, begun: &Begun) -> Ended {
        let control = &begun.context.control;
        let ended = match self {
            Hands::Own => Ended::Ran(here(begun)),
            Hands::Child(child) => match child.run(&begun.context, begun.code, &begun.message.body) {
                Ok(ran) => Ended::Ran(ran),
                Err(how) => Ended::Lost(how),
            },
        };
        // What was to end it counts, whatever came of it meanwhile.
        control.ended().map_or(ended, Ended::Forced)
    }
}

/// Runs a task in this thread.
pub(super) fn here(begun: &Begun) -> Ran {
    let body = &begun.message.body;
    within(begun.context.clone(), || {
        par_core::catch(|| (begun.code.call)(&body.args, &body.kwargs))
            .unwrap_or_else(|panic| Err(CallError::Task(panic)))
    })
}

/// Runs tasks as futures.
#[cfg(feature = "async")]
pub(super) struct Futures(tokio::runtime::Runtime);

#[cfg(feature = "async")]
impl Futures {
    pub(super) fn start() -> std::io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime
            .worker_threads(2)
            .thread_name("par-dist-async")
            .enable_all();
        Ok(Futures(runtime.build()?))
    }

    /// Runs a task; `end` is called with it when it has ended.
    pub(super) fn run(&self, begun: Begun, end: impl FnOnce(Begun, Ended) + Send + 'static) {
        use super::control::Said;
        let (context, body) = (begun.context.clone(), &begun.message.body);
        let future = (begun.code.start)(&body.args, &body.kwargs);
        let ends = std::sync::Arc::new(tokio::sync::Notify::new());
        let tell = std::sync::Arc::clone(&ends);
        begun.context.control.hear(move |said| {
            if matches!(said, Said::End) {
                tell.notify_one();
            }
        });
        self.0.spawn(async move {
            let ended = tokio::select! {
                ran = super::context::within_polls(context, future) => Ended::Ran(ran),
                () = ends.notified() => Ended::Forced(Cancelled::Shutdown),
            };
            begun.context.control.done();
            let ended = begun.context.control.ended().map_or(ended, Ended::Forced);
            end(begun, ended);
        });
    }

    /// Waits for nothing: what runs is dropped where it waits.
    pub(super) fn stop(self) {
        self.0.shutdown_background();
    }
}
