//! [`App`]: the tasks that a program knows, the broker to which they go, and how they are called.

use super::arguments::{self, CallError};
use super::broker::{File, Outgoing, Results, Transport};
use super::call::{Call, arguments as positional};
use super::message::Signature;
use super::options::TaskOptions;
use super::{AppError, AsyncResult, Worker, run};
use par_core::Task;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The tasks that a program knows, the broker to which they go, and how they are called. A clone is the same app.
#[derive(Clone)]
#[doc(alias = "Celery")]
pub struct App {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) name: String,
    pub(super) broker: String,
    pub(super) queue: String,
    pub(super) tasks: BTreeMap<&'static str, Known>,
    routes: Vec<(String, String)>,
    pub(super) eager: bool,
    transport: Arc<dyn Transport>,
    results: Arc<dyn Results>,
}

type Run = fn(&[Value], &Map<String, Value>) -> Result<Value, CallError>;

/// A task that the app knows.
pub(super) struct Known {
    pub(super) call: Run,
    pub(super) options: TaskOptions,
}

/// An app that is yet to be built; see [`App::builder`].
#[must_use = "it is no app until `build` is called"]
pub struct AppBuilder {
    name: String,
    broker: String,
    queue: String,
    tasks: BTreeMap<&'static str, Known>,
    routes: Vec<(String, String)>,
    eager: bool,
    lease: Duration,
    expires: Duration,
}

impl App {
    /// An app of that name, without tasks, on the broker `par.db` in the working directory.
    pub fn builder(name: &str) -> AppBuilder {
        AppBuilder {
            name: name.to_owned(),
            broker: "par.db".to_owned(),
            queue: "celery".to_owned(),
            tasks: BTreeMap::new(),
            routes: Vec::new(),
            eager: false,
            lease: Duration::from_secs(30),
            expires: Duration::from_secs(24 * 3600),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The names of the tasks that it knows.
    pub fn tasks(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.inner.tasks.keys().copied()
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
        self.publish(&tasks)?;
        let ids = tasks.into_iter().map(|task| task.message.headers.id);
        Ok(ids.map(|id| AsyncResult::new(id, self.results())).collect())
    }

    /// What came of the task of that id.
    #[doc(alias = "AsyncResult")]
    pub fn result<T>(&self, id: &str) -> AsyncResult<T> {
        AsyncResult::new(id.to_owned(), self.results())
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

    pub(super) fn options(&self, task: &str) -> TaskOptions {
        self.inner
            .tasks
            .get(task)
            .map(|known| known.options.clone())
            .unwrap_or_default()
    }

    /// Where the calls of a task go: what its options say, the first route that fits, or the queue of the app.
    pub(super) fn queue_of(&self, task: &str, options: &TaskOptions) -> String {
        let route = || {
            let mut routes = self.inner.routes.iter();
            routes
                .find(|(pattern, _)| fits(pattern, task))
                .map(|(_, queue)| queue.clone())
        };
        let queue = options.queue.clone().or_else(route);
        queue.unwrap_or_else(|| self.inner.queue.clone())
    }

    pub(super) fn publish(&self, tasks: &[Outgoing]) -> Result<(), AppError> {
        if self.inner.eager {
            tasks.iter().for_each(|task| run::eagerly(self, task.clone()));
            return Ok(());
        }
        Ok(self.transport().publish(tasks)?)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.inner.name)
            .field("broker", &self.inner.broker)
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

impl AppBuilder {
    /// The broker, and where results are kept: the path of a file, `memory:`, or the URL of a RabbitMQ server (`amqp://...`, feature `amqp`),
    /// where results go to the queue of who called, as with Celery's `rpc://`.
    pub fn broker(mut self, broker: &str) -> Self {
        broker.clone_into(&mut self.broker);
        self
    }

    /// A task that its workers run.
    pub fn task<T: Task>(self) -> Self {
        self.task_with::<T>(TaskOptions::default())
    }

    /// As [`task`](Self::task), with options.
    pub fn task_with<T: Task>(mut self, options: TaskOptions) -> Self {
        let call = arguments::call::<T>;
        self.tasks.insert(T::NAME, Known { call, options });
        self
    }

    /// The queue for calls that say no other; `celery` by default.
    #[doc(alias = "task_default_queue")]
    pub fn queue(mut self, queue: &str) -> Self {
        queue.clone_into(&mut self.queue);
        self
    }

    /// The queue for tasks whose name fits a pattern, in which `*` is any text; the first that fits counts.
    #[doc(alias = "task_routes")]
    pub fn route(mut self, pattern: &str, queue: &str) -> Self {
        self.routes.push((pattern.to_owned(), queue.to_owned()));
        self
    }

    /// Calls run at once, in the thread that sends them: for tests.
    #[doc(alias = "task_always_eager")]
    pub fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// How long the heartbeat of a worker may stand still; 30 s by default. A worker that has ended is noticed at once.
    #[doc(alias = "visibility_timeout")]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long results are kept; a day by default.
    pub fn result_expires(mut self, time: Duration) -> Self {
        self.expires = time;
        self
    }

    /// Opens the broker.
    ///
    /// # Errors
    /// It cannot be opened, or is something else; or an option is bad.
    pub fn build(self) -> Result<App, AppError> {
        if self.lease < Duration::from_millis(100) {
            return Err(AppError::Option {
                option: "lease",
                reason: format!("{} ms is too short; at least 100 ms", self.lease.as_millis()),
            });
        }
        let (transport, results) = open(&self.broker, self.lease, self.expires)?;
        Ok(App {
            inner: Arc::new(Inner {
                name: self.name,
                broker: self.broker,
                queue: self.queue,
                tasks: self.tasks,
                routes: self.routes,
                eager: self.eager,
                transport,
                results,
            }),
        })
    }
}

type Broker = (Arc<dyn Transport>, Arc<dyn Results>);

fn both(broker: Arc<impl Transport + Results + 'static>) -> Broker {
    (Arc::clone(&broker) as Arc<dyn Transport>, broker)
}

fn open(broker: &str, lease: Duration, expires: Duration) -> Result<Broker, AppError> {
    let bad = |reason: String| {
        Err(AppError::Option {
            option: "broker",
            reason,
        })
    };
    match broker.split_once("://") {
        None if broker == "memory:" => Ok(both(Arc::new(File::open(None, lease, expires)?))),
        None => Ok(both(Arc::new(File::open(
            Some(Path::new(broker)),
            lease,
            expires,
        )?))),
        #[cfg(feature = "amqp")]
        Some(("amqp", _)) => Ok(both(Arc::new(super::broker::Server::open(broker)?))),
        #[cfg(not(feature = "amqp"))]
        Some(("amqp", _)) => bad(format!(
            "{broker:?} needs the feature `amqp`, which this program was built without"
        )),
        Some(_) => bad(format!(
            "a path, `memory:` or `amqp://...` is expected, got {}",
            crate::BrokerUrl::from(broker)
        )),
    }
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppBuilder")
            .field("name", &self.name)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
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
