//! [`Hooks`]: what an app calls around its tasks.

use super::context::TaskContext;
use super::outcome::State;
use serde_json::Value;

/// What an app calls around its tasks; each does nothing unless it is written. See [`AppBuilder::hooks`](super::AppBuilder::hooks).
///
/// They are called in the process of the app, also where the tasks run in others. A panic in one is caught, and logged.
///
/// ```
/// use par_dist::app::{App, Hooks, State, TaskContext};
/// use par_dist::task;
/// use std::sync::mpsc::{Sender, channel};
/// use std::time::Duration;
///
/// #[task]
/// fn half(x: u32) -> u32 { x / 2 }
///
/// struct Tell(Sender<String>);
/// impl Hooks for Tell {
///     fn after(&self, run: &TaskContext, state: &State, value: &serde_json::Value) {
///         let _ = self.0.send(format!("{} {state}: {value}", run.task()));
///     }
/// }
///
/// let (tell, told) = channel();
/// let app = App::builder("demo").broker("memory:").task::<half>().hooks(Tell(tell)).build()?;
/// let _worker = app.worker().start()?;
/// app.delay::<half>(8)?;
/// assert!(told.recv_timeout(Duration::from_secs(60))?.ends_with("half SUCCESS: 4"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "signals")]
pub trait Hooks: Send + Sync {
    /// A task is about to be sent.
    #[doc(alias = "before_task_publish")]
    fn sends(&self, task: &str, id: &str) {
        let _ = (task, id);
    }

    /// A task is about to run.
    #[doc(alias = "task_prerun")]
    fn before(&self, run: &TaskContext) {
        let _ = run;
    }

    /// A task has run: what came of it, with its value, or its error as Celery writes one.
    #[doc(alias = "task_postrun")]
    #[doc(alias = "task_success")]
    #[doc(alias = "task_failure")]
    #[doc(alias = "task_retry")]
    fn after(&self, run: &TaskContext, state: &State, value: &Value) {
        let _ = (run, state, value);
    }
}

/// None.
pub(super) struct NoHooks;

impl Hooks for NoHooks {}

/// Calls a hook; a panic ends there.
pub(super) fn call(what: &str, hook: impl FnOnce()) {
    if let Err(error) = par_core::catch(hook) {
        tracing::error!(hook = what, %error, "a hook panicked");
    }
}
