//! [`App`]: the tasks that a program knows, the broker to which they go, and how they are called.

use super::arguments::Code;
use super::broker::{Outgoing, Results, Transport};
use super::builder::AppBuilder;
use super::call::{Call, Prepared, arguments as positional};
use super::config::Config;
use super::hooks::{Hooks, NoHooks};
use super::message::Signature;
use super::options::TaskOptions;
use super::{AppError, AsyncResult, Worker, hooks, run};
use par_core::Task;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The tasks that a program knows, the broker to which they go, and how they are called. A clone is the same app.
#[derive(Clone)]
#[doc(alias = "Celery")]
pub struct App {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) tasks: BTreeMap<String, Known>,
    pub(super) eager: bool,
    pub(super) hooks: Arc<dyn Hooks>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) results: Arc<dyn Results>,
    /// Whether both are one.
    pub(super) together: bool,
}

/// A task that the app knows.
#[derive(Clone)]
pub(super) struct Known {
    /// None of what only others run, and in a child process, which is told what to run.
    pub(super) code: Option<Code>,
    pub(super) options: Arc<TaskOptions>,
}

/// What a child process needs to make the app of its worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    name: String,
    config: Config,
    tasks: BTreeMap<String, TaskOptions>,
    pub(super) reply_to: Option<String>,
}

impl App {
    /// An app of that name, without tasks, on the broker `par.db` in the working directory.
    pub fn builder(name: &str) -> AppBuilder {
        AppBuilder::new(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The names of the tasks that its workers run.
    pub fn tasks(&self) -> impl Iterator<Item = &str> + '_ {
        let known = self.inner.tasks.iter();
        known
            .filter(|(_, known)| known.code.is_some())
            .map(|(name, _)| name.as_str())
    }

    /// Sends a task with its arguments. When this returns it is on the disk.
    ///
    /// # Errors
    /// The arguments are no JSON, or the broker cannot be used.
    pub fn delay<T: Task>(&self, input: T::Input) -> Result<AsyncResult<T::Output>, AppError> {
        self.call::<T>(input).send()
    }

    /// A task with its arguments, to be sent with options.
    #[doc(alias = "apply_async")]
    pub fn call<T: Task>(&self, input: T::Input) -> Call<T::Output> {
        Call::new(self, T::NAME, positional::<T>(input), Map::new())
    }

    /// Sends a task by its name, which this program need not know.
    ///
    /// # Errors
    /// The broker cannot be used.
    pub fn send_task(
        &self,
        name: &str,
        args: impl IntoIterator<Item = Value>,
        kwargs: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<AsyncResult, AppError> {
        let args = Ok(args.into_iter().collect());
        Call::new(self, name, args, kwargs.into_iter().collect()).send()
    }

    /// A task with arguments, to be sent by who runs another: see [`Call::link`] and [`Call::then`]. Those are the arguments after the value that it
    /// gets from there.
    ///
    /// # Errors
    /// The arguments are no JSON.
    #[doc(alias = "s")]
    pub fn signature<T: Task>(&self, args: impl IntoIterator<Item = Value>) -> Signature {
        Signature::of(T::NAME, args.into_iter().collect(), Map::new())
    }

    /// As [`signature`](Self::signature), of a task that this program need not know.
    pub fn signature_by_name(&self, name: &str, args: impl IntoIterator<Item = Value>) -> Signature {
        Signature::of(name, args.into_iter().collect(), Map::new())
    }

    /// A call of a task by its name, which this program need not know, to be sent with options.
    pub fn call_by_name(&self, name: &str, args: Vec<Value>, kwargs: Map<String, Value>) -> Call {
        Call::new(self, name, Ok(args), kwargs)
    }

    /// A call of a signature as it is.
    pub fn call_signature(&self, signature: &Signature) -> Call {
        signature.call(self, None)
    }

    /// Sends many at once: all or none, and in one step.
    ///
    /// # Errors
    /// As [`Call::send`].
    pub fn send_all<T>(
        &self,
        calls: impl IntoIterator<Item = Call<T>>,
    ) -> Result<Vec<AsyncResult<T>>, AppError> {
        let tasks = calls.into_iter().map(|call| Ok(call.into_outgoing()?.0));
        let tasks: Vec<Outgoing> = tasks.collect::<Result<_, AppError>>()?;
        for task in &tasks {
            let headers = &task.message.headers;
            hooks::call("sends", || self.inner.hooks.sends(&headers.task, &headers.id));
        }
        self.publish(&tasks)?;
        let ids = tasks.into_iter().map(|task| task.message.headers.id);
        Ok(ids.map(|id| AsyncResult::new(id, self)).collect())
    }

    /// Sends what was [prepared](Call::prepare), all or none, and in one step.
    ///
    /// # Errors
    /// The broker cannot be used, or one of them was changed to what no broker takes.
    pub fn send_prepared(&self, calls: impl IntoIterator<Item = Prepared>) -> Result<(), AppError> {
        let tasks: Vec<Outgoing> = calls.into_iter().map(|Prepared(task)| task).collect();
        for task in &tasks {
            let checked = task.check();
            checked.map_err(|(option, reason)| AppError::Option { option, reason })?;
        }
        self.publish(&tasks)
    }

    /// Waits until the broker has all that was sent before: at once, unless calls are [`unconfirmed`](AppBuilder::unconfirmed).
    ///
    /// ```
    /// use par_dist::app::App;
    /// use par_dist::task;
    ///
    /// #[task]
    /// fn index(page: u64) {
    ///     println!("page {page}");
    /// }
    ///
    /// # fn main() -> Result<(), par_dist::app::AppError> {
    /// # let broker = "memory:";
    /// let app = App::builder("search").broker(broker).unconfirmed().task::<index>().build()?;
    /// for page in 0..100 {
    ///     app.delay::<index>(page)?;
    /// }
    /// app.flush()?;
    /// assert_eq!(app.waiting("celery")?, 100);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The broker cannot be used.
    pub fn flush(&self) -> Result<(), AppError> {
        Ok(self.transport().arrived()?)
    }

    /// What came of the task of that id.
    #[doc(alias = "AsyncResult")]
    pub fn result<T>(&self, id: &str) -> AsyncResult<T> {
        AsyncResult::new(id.to_owned(), self)
    }

    /// A worker of this app, to be started.
    pub fn worker(&self) -> Worker {
        Worker::new(self)
    }

    /// How many tasks wait in a queue: in a file those that wait for their time among them, on a server only those that do not.
    ///
    /// # Errors
    /// The broker cannot be used.
    pub fn waiting(&self, queue: &str) -> Result<u64, AppError> {
        Ok(self.transport().waiting(queue)?)
    }

    /// Drops all tasks of a queue that no worker has; how many there were.
    ///
    /// # Errors
    /// The broker cannot be used.
    pub fn purge(&self, queue: &str) -> Result<u64, AppError> {
        Ok(self.transport().purge(queue)?)
    }

    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        Arc::clone(&self.inner.transport)
    }

    pub(super) fn results(&self) -> Arc<dyn Results> {
        Arc::clone(&self.inner.results)
    }

    pub(super) fn options(&self, task: &str) -> Arc<TaskOptions> {
        let known = self.inner.tasks.get(task);
        known.map(|known| Arc::clone(&known.options)).unwrap_or_default()
    }

    /// Where the calls of a task go: what its options say, the first route that fits, or the queue of the app.
    pub(super) fn queue_of(&self, task: &str, options: &TaskOptions) -> String {
        let config = &self.inner.config;
        let route = || {
            let mut routes = config.routes.iter();
            routes
                .find(|route| fits(&route.pattern, task))
                .map(|route| route.queue.clone())
        };
        let queue = options.queue.clone().or_else(route);
        queue.unwrap_or_else(|| config.queue.clone())
    }

    pub(super) fn publish(&self, tasks: &[Outgoing]) -> Result<(), AppError> {
        if self.inner.eager {
            tasks.iter().for_each(|task| run::eagerly(self, task.clone()));
            return Ok(());
        }
        Ok(self.transport().post(tasks)?)
    }

    /// What a child needs to make this app.
    pub(super) fn spec(&self) -> Spec {
        let tasks = self.inner.tasks.iter();
        Spec {
            name: self.inner.name.clone(),
            config: self.inner.config.clone(),
            tasks: tasks
                .map(|(name, known)| (name.clone(), TaskOptions::clone(&known.options)))
                .collect(),
            reply_to: self.inner.results.reply_to().map(str::to_owned),
        }
    }

    /// The app of a worker, in a child of it.
    pub(super) fn of_spec(spec: Spec, transport: Arc<dyn Transport>, results: Arc<dyn Results>) -> Self {
        let known = |options| Known {
            code: None,
            options: Arc::new(options),
        };
        let tasks = spec.tasks.into_iter();
        App {
            inner: Arc::new(Inner {
                name: spec.name,
                config: spec.config,
                tasks: tasks.map(|(name, options)| (name, known(options))).collect(),
                eager: false,
                hooks: Arc::new(NoHooks),
                transport,
                results,
                together: false,
            }),
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.inner.name)
            .field(
                "broker",
                &crate::BrokerUrl::from(self.inner.config.broker.as_str()),
            )
            .finish_non_exhaustive()
    }
}

/// Whether a name fits a pattern, in which `*` is any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(first) else {
        return false;
    };
    let Some((middle, last)) = rest.rsplit_once('*') else {
        return left.ends_with(rest);
    };
    for part in middle.split('*') {
        let Some(at) = left.find(part) else {
            return false;
        };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, does) in [
            ("mail.*", "mail.send", true),
            ("mail.*", "post.send", false),
            ("*.send", "mail.send", true),
            ("*", "", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, name), does, "{pattern} {name}");
        }
    }
}
