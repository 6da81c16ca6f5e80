//! [`App`]: the tasks that a program knows, the broker to which they go, and how they are called.

use super::arguments::Code;
use super::broker::{Outgoing, Results, Transport, open};
use super::call::{Call, Prepared, arguments as positional};
use super::config::{self, Config};
use super::hooks::{Hooks, NoHooks};
use super::message::{Format, Signature};
use super::options::TaskOptions;
use super::{AppError, AsyncResult, Worker, hooks, run};
use par_core::Task;
use serde::{Deserialize, Serialize};
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
    pub(super) config: Config,
    pub(super) tasks: BTreeMap<String, Known>,
    pub(super) eager: bool,
    pub(super) hooks: Arc<dyn Hooks>,
    transport: Arc<dyn Transport>,
    results: Arc<dyn Results>,
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

/// An app that is yet to be built; see [`App::builder`].
#[must_use = "it is no app until `build` is called"]
pub struct AppBuilder {
    name: String,
    /// Or why it is none.
    config: Result<Config, AppError>,
    tasks: BTreeMap<String, (Code, TaskOptions)>,
    eager: bool,
    hooks: Arc<dyn Hooks>,
}

impl App {
    /// An app of that name, without tasks, on the broker `par.db` in the working directory.
    pub fn builder(name: &str) -> AppBuilder {
        AppBuilder {
            name: name.to_owned(),
            config: Ok(Config::default()),
            tasks: BTreeMap::new(),
            eager: false,
            hooks: Arc::new(NoHooks),
        }
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
        Ok(self.transport().publish(tasks)?)
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

impl AppBuilder {
    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        if let Ok(config) = &mut self.config {
            change(config);
        }
        self
    }

    /// The broker: the path of a file, `memory:`, or the URL of a server: RabbitMQ (`amqp://...`, feature `amqp`; over TLS `amqps://...`, feature
    /// `amqp-tls`) or Redis (`redis://...`, feature `redis`). Several URLs of a cluster of RabbitMQ are separated by `;`: the first that
    /// answers is used, and the next when it goes away.
    pub fn broker(self, broker: &str) -> Self {
        self.with(|config| broker.clone_into(&mut config.broker))
    }

    /// Where results are kept, if it is not the broker: the path of a file, or the URL of a Redis server. With RabbitMQ as broker they go to the
    /// queue of who called by default, as with Celery's `rpc://`.
    #[doc(alias = "backend")]
    pub fn results(self, results: &str) -> Self {
        self.with(|config| config.results = Some(results.to_owned()))
    }

    /// A task that its workers run.
    pub fn task<T: Task>(self) -> Self {
        self.task_with::<T>(TaskOptions::default())
    }

    /// As [`task`](Self::task), with options.
    pub fn task_with<T: Task>(mut self, options: TaskOptions) -> Self {
        self.tasks.insert(T::NAME.to_owned(), (Code::of::<T>(), options));
        self
    }

    /// The queue for calls that say no other; `celery` by default.
    #[doc(alias = "task_default_queue")]
    pub fn queue(self, queue: &str) -> Self {
        self.with(|config| queue.clone_into(&mut config.queue))
    }

    /// The queue for tasks whose name fits a pattern, in which `*` is any text; the first that fits counts.
    #[doc(alias = "task_routes")]
    pub fn route(self, pattern: &str, queue: &str) -> Self {
        let (pattern, queue) = (pattern.to_owned(), queue.to_owned());
        self.with(|config| config.routes.push(config::Route { pattern, queue }))
    }

    /// How the arguments of calls are written; JSON by default. Whatever is known is read.
    #[doc(alias = "task_serializer")]
    pub fn format(self, format: Format) -> Self {
        self.with(|config| config.format = format)
    }

    /// Calls run at once, in the thread that sends them: for tests.
    #[doc(alias = "task_always_eager")]
    pub fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// What is called around tasks.
    #[doc(alias = "signals")]
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.hooks = Arc::new(hooks);
        self
    }

    /// How long the heartbeat of a worker may stand still; 30 s by default. A worker that has ended is noticed at once.
    #[doc(alias = "visibility_timeout")]
    pub fn lease(self, lease: Duration) -> Self {
        self.with(|config| config.lease = lease)
    }

    /// How long results are kept; a day by default.
    pub fn result_expires(self, time: Duration) -> Self {
        self.with(|config| config.result_expires = time)
    }

    /// Queues that are made on a RabbitMQ server are quorum queues: each on several nodes of a cluster. One that is there already stays what it is.
    #[doc(alias = "task_default_queue_type")]
    pub fn quorum_queues(self) -> Self {
        self.with(|config| config.quorum_queues = true)
    }

    /// The highest priority that counts in queues that are made on a RabbitMQ server; without it there is none. Each costs the server something.
    #[doc(alias = "task_queue_max_priority")]
    pub fn highest_priority(self, priority: u8) -> Self {
        self.with(|config| config.highest_priority = Some(priority))
    }

    /// The queue to which a RabbitMQ server moves what is rejected, or was delivered too often, from queues that are made there.
    #[doc(alias = "x-dead-letter-routing-key")]
    pub fn dead_letters(self, queue: &str) -> Self {
        self.with(|config| config.dead_letters = Some(queue.to_owned()))
    }

    /// What a file in TOML says; what was said before and is not in there stays.
    ///
    /// ```
    /// # use par_dist::{app::App, task};
    /// # #[task(name = "post.send")]
    /// # fn send(to: String) {}
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.toml");
    /// std::fs::write(&path, r#"
    ///     broker = "memory:"       # results, queue, lease, result_expires, format, routes, ...
    ///     [[routes]]
    ///     pattern = "post.*"
    ///     queue = "post"
    ///     [tasks."post.send"]      # the fields of TaskOptions, times in seconds
    ///     rate = "100/m"
    ///     hard_limit = 30
    ///     [worker]                 # mode, concurrency, prefetch, queues, tasks_per_child, memory_per_child
    ///     mode = "processes"
    /// "#)?;
    /// let app = App::builder("demo").task::<send>().file(&path).environment().build()?;
    /// assert!(app.worker().banner().contains("processes"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.config = self.config.and_then(|config| config.with_file(path.as_ref()));
        self
    }

    /// What variables of the environment say: `PAR_DIST_BROKER`, `PAR_DIST_RESULTS`, `PAR_DIST_WORKER_CONCURRENCY` and so on, with the names of the
    /// [file](Self::file); lists and maps in JSON.
    pub fn environment(mut self) -> Self {
        self.config = self.config.and_then(|config| {
            let pairs = std::env::vars_os();
            let texts =
                pairs.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            config.with_environment(texts)
        });
        self
    }

    /// Opens the broker.
    ///
    /// # Errors
    /// It cannot be opened, or is something else; or an option is bad.
    pub fn build(self) -> Result<App, AppError> {
        let config = self.config?;
        if config.lease < Duration::from_millis(100) {
            return Err(AppError::Option {
                option: "lease",
                reason: format!("{} ms is too short; at least 100 ms", config.lease.as_millis()),
            });
        }
        let mut tasks = BTreeMap::new();
        for (name, (code, mut options)) in self.tasks {
            if let Some(with) = config.tasks.get(&name) {
                options = config::options(&name, &options, with)?;
            }
            let known = Known {
                code: Some(code),
                options: Arc::new(options),
            };
            tasks.insert(name, known);
        }
        // Tasks that only others know may have options as well.
        for (name, with) in &config.tasks {
            if !tasks.contains_key(name) {
                let options = Arc::new(config::options(name, &TaskOptions::default(), with)?);
                tasks.insert(name.clone(), Known { code: None, options });
            }
        }
        let (transport, results, together) = open(&config)?;
        Ok(App {
            inner: Arc::new(Inner {
                name: self.name,
                config,
                tasks,
                eager: self.eager,
                hooks: self.hooks,
                transport,
                results,
                together,
            }),
        })
    }
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppBuilder")
            .field("name", &self.name)
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
