//! [`AppBuilder`]: what an app is told before there is one.

use super::AppError;
use super::arguments::Code;
use super::broker::open;
use super::config::{self, Config};
use super::format::Format;
use super::hooks::{Hooks, NoHooks};
use super::instance::{App, Inner, Known};
use super::options::TaskOptions;
use par_core::Task;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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

impl AppBuilder {
    pub(super) fn new(name: &str) -> Self {
        AppBuilder {
            name: name.to_owned(),
            config: Ok(Config::default()),
            tasks: BTreeMap::new(),
            eager: false,
            hooks: Arc::new(NoHooks),
        }
    }

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

    /// A call to a RabbitMQ server does not wait until the server has it, and costs its caller next to nothing. It is sent again if the connection breaks all
    /// the same; but what fails later is only logged, and what the server does not have when this process dies is lost. 1000 calls, or 4 MiB of them,
    /// are ahead of the server at most for each thread that sends; [`App::flush`] waits for them, as for five seconds does the end of the app.
    #[doc(alias = "confirm_publish")]
    pub fn unconfirmed(self) -> Self {
        self.with(|config| config.unconfirmed = true)
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
