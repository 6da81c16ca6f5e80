//! [`Worker`]: what is said of a worker of an app before it starts, and the handle of one that runs.

use super::AppError;
use super::child::Wear;
use super::control::Cancelled;
use super::crew::Crew;
use super::hands::Mode;
use super::instance::App;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A worker of an [`App`], to be started; see [`App::worker`]. What is not said here is as the app's [file](super::AppBuilder::file) or
/// environment says.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `start` is called"]
pub struct Worker {
    pub(super) app: App,
    pub(super) mode: Mode,
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    pub(super) queues: Vec<String>,
    pub(super) wear: Wear,
}

/// How long what was ended by force, or told to end, may take.
const GRACE: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) fn new(app: &App) -> Self {
        let config = &app.inner.config.worker;
        let queues = if config.queues.is_empty() {
            vec![app.inner.config.queue.clone()]
        } else {
            config.queues.clone()
        };
        Worker {
            app: app.clone(),
            mode: config.mode,
            concurrency: config
                .concurrency
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
            prefetch: config.prefetch,
            queues,
            wear: Wear {
                tasks: config.tasks_per_child,
                memory: config.memory_per_child,
            },
        }
    }

    /// What runs the tasks: threads by default.
    ///
    /// ```
    /// use par_dist::app::{App, Mode};
    /// use par_dist::task;
    /// use std::time::Duration;
    ///
    /// #[task]
    /// fn who() -> u32 { std::process::id() }
    ///
    /// let app = App::builder("demo").broker("memory:").task::<who>().build()?;
    /// let _worker = app.worker().mode(Mode::Processes).concurrency(1).start()?;
    /// assert_ne!(app.delay::<who>(())?.get(Duration::from_secs(60))?, std::process::id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "--pool")]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How many tasks run at a time; as many as there are processors by default.
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = tasks;
        self
    }

    /// How many tasks are leased ahead for each that runs, which is one of them; 4 by default.
    #[doc(alias = "worker_prefetch_multiplier")]
    pub fn prefetch(mut self, tasks: usize) -> Self {
        self.prefetch = tasks;
        self
    }

    /// The queues whose tasks it runs, those of the first before those of the second; that of the app by default.
    #[doc(alias = "-Q")]
    pub fn queues<'a>(mut self, queues: impl IntoIterator<Item = &'a str>) -> Self {
        self.queues = queues.into_iter().map(str::to_owned).collect();
        self
    }

    /// A child process is replaced after so many tasks.
    #[doc(alias = "max_tasks_per_child")]
    pub fn tasks_per_child(mut self, tasks: u64) -> Self {
        self.wear.tasks = Some(tasks);
        self
    }

    /// A child process that has more bytes in memory after a task is replaced.
    #[doc(alias = "max_memory_per_child")]
    pub fn memory_per_child(mut self, bytes: u64) -> Self {
        self.wear.memory = Some(bytes);
        self
    }

    /// What it says of itself: app, broker, concurrency, queues and tasks, a line each.
    pub fn banner(&self) -> String {
        let list = |names: Vec<&str>| {
            names
                .iter()
                .map(|name| format!("\n  . {name}"))
                .collect::<String>()
        };
        let config = &self.app.inner.config;
        // What a URL says of passwords is nobody's business.
        let broker = crate::BrokerUrl::from(config.broker.as_str());
        let results = match (&config.results, self.app.results().reply_to()) {
            (Some(results), _) => crate::BrokerUrl::from(results.as_str()).to_string(),
            (None, Some(_)) => "rpc://".to_owned(),
            (None, None) => broker.to_string(),
        };
        format!(
            "app:         {}\nbroker:      {broker}\nresults:     {results}\nconcurrency: {} ({})\n[queues]{}\n[tasks]{}",
            self.app.name(),
            self.concurrency,
            self.mode,
            list(self.queues.iter().map(String::as_str).collect()),
            list(self.app.tasks().collect()),
        )
    }

    /// Starts it.
    ///
    /// # Errors
    /// An option is bad, the broker cannot be used, or the system has no thread or process to give.
    pub fn start(self) -> Result<RunningWorker, AppError> {
        let bad = |option, reason: String| Err(AppError::Option { option, reason });
        for (option, value) in [("concurrency", self.concurrency), ("prefetch", self.prefetch)] {
            if value == 0 {
                return bad(option, "0 is none; at least 1".to_owned());
            }
        }
        if self.queues.is_empty() {
            return bad("queues", "a worker needs at least one".to_owned());
        }
        if self.wear.tasks == Some(0) {
            return bad("tasks_per_child", "0 is none; at least 1".to_owned());
        }
        Crew::start(self)
    }
}

/// A worker that runs. Dropped, it stops.
pub struct RunningWorker {
    pub(super) crew: Arc<Crew>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl RunningWorker {
    pub(super) fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Crew) + Send + 'static,
    ) -> Result<(), AppError> {
        let crew = Arc::clone(&self.crew);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&crew));
        let thread = thread.map_err(|error| AppError::Option {
            option: "concurrency",
            reason: format!("the system gives no more threads: {error}"),
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// How many tasks it has ended.
    pub fn ended(&self) -> u64 {
        self.crew.state.lock().ended
    }

    /// How many tasks run now.
    pub fn running(&self) -> usize {
        self.crew.state.lock().running
    }

    /// Why it cannot speak to its broker, if it cannot; it tries again by itself.
    pub fn trouble(&self) -> Option<String> {
        self.crew.state.lock().trouble.clone()
    }

    /// Begins nothing more, and waits until what runs has ended. What was leased and not begun goes to others.
    #[doc(alias = "warm shutdown")]
    pub fn stop(self) {}

    /// As [`stop`](Self::stop), waiting at most for `deadline`. Then what runs is ended: a child process is killed and a future dropped; what was
    /// to be acknowledged late goes back to its queue, and the rest has failed. Threads are told ([`TaskContext::cancelled`](super::TaskContext::cancelled)), and have
    /// a moment to end. False if something runs still: it goes on by itself, and its outcome is kept.
    #[doc(alias = "soft shutdown")]
    pub fn stop_within(mut self, deadline: Duration) -> bool {
        self.crew.tell_to_stop();
        let ended = self.crew.is_idle_within(deadline) || {
            for control in self.crew.reins.of(None) {
                control.end(Cancelled::Shutdown);
            }
            self.crew.is_idle_within(GRACE)
        };
        if !ended {
            self.threads.clear();
        }
        ended
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.crew.tell_to_stop();
        for thread in self.threads.drain(..) {
            // Panics of tasks are caught; of another nothing is left to be told here.
            let _ = thread.join();
        }
        self.crew.flush();
    }
}

impl fmt::Debug for RunningWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningWorker")
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}

impl Crew {
    fn is_idle_within(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut state = self.state.lock();
        while state.running > 0 {
            match until {
                Some(until) => {
                    if self.calm.wait_until(&mut state, until).timed_out() {
                        break;
                    }
                }
                None => self.calm.wait(&mut state),
            }
        }
        state.running == 0
    }
}
