//! [`Worker`]: threads that run the tasks of some queues.
//!
//! 1. One thread leases, as many as there is room for: what runs and what waits for a thread is at most the number of threads times the
//!    prefetch. Another shows the heartbeat. The others run tasks.
//! 2. Who stops leases no more, ends what runs, and gives the rest back.

use super::AppError;
use super::broker::{Incoming, Transport};
use super::builder::App;
use super::run;
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A worker of an [`App`], to be started; see [`App::worker`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `start` is called"]
pub struct Worker {
    app: App,
    concurrency: usize,
    prefetch: usize,
    queues: Vec<String>,
}

/// The longest time between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);
/// How long a broker that fails is left alone.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest sleep without a look.
const LOOK: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) fn new(app: &App) -> Self {
        Worker {
            app: app.clone(),
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
            prefetch: 4,
            queues: vec![app.inner.queue.clone()],
        }
    }

    /// How many tasks run at a time; as many as there are processors by default.
    pub fn concurrency(mut self, threads: usize) -> Self {
        self.concurrency = threads;
        self
    }

    /// How many tasks are leased ahead for each thread, what it runs included; 4 by default.
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

    /// What it says of itself: app, broker, concurrency, queues and tasks, a line each.
    pub fn banner(&self) -> String {
        let list = |names: Vec<&str>| {
            names
                .iter()
                .map(|name| format!("\n  . {name}"))
                .collect::<String>()
        };
        format!(
            "app:         {}\nbroker:      {}\nresults:     {}\nconcurrency: {} (threads)\n[queues]{}\n[tasks]{}",
            self.app.name(),
            self.app.inner.broker,
            self.app.inner.broker,
            self.concurrency,
            list(self.queues.iter().map(String::as_str).collect()),
            list(self.app.tasks().collect()),
        )
    }

    /// Starts it.
    ///
    /// # Errors
    /// An option is bad, the broker cannot be used, or the system has no thread to give.
    pub fn start(self) -> Result<RunningWorker, AppError> {
        for (option, value) in [("concurrency", self.concurrency), ("prefetch", self.prefetch)] {
            if value == 0 {
                return Err(AppError::Option {
                    option,
                    reason: "0 is none; at least 1".to_owned(),
                });
            }
        }
        if self.queues.is_empty() {
            return Err(AppError::Option {
                option: "queues",
                reason: "a worker needs at least one".to_owned(),
            });
        }
        let transport = self.app.transport();
        transport.beat()?;
        let crew = Arc::new(Crew {
            room: self.concurrency.saturating_mul(self.prefetch),
            app: self.app,
            queues: self.queues,
            transport,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut running = RunningWorker {
            crew: Arc::clone(&crew),
            threads: Vec::new(),
        };
        running.spawn("par-dist-beat", Crew::beat)?;
        running.spawn("par-dist-lease", Crew::lease)?;
        for number in 0..self.concurrency {
            running.spawn(&format!("par-dist-task-{number}"), Crew::work)?;
        }
        Ok(running)
    }
}

/// What the threads of a worker share.
struct Crew {
    app: App,
    queues: Vec<String>,
    transport: Arc<dyn Transport>,
    room: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stops: bool,
    line: VecDeque<Incoming>,
    running: usize,
    ended: u64,
}

impl Crew {
    /// Rule 1.
    fn lease(&self) {
        loop {
            let room = {
                let mut state = self.state.lock();
                while !state.stops && state.line.len() + state.running >= self.room {
                    self.changed.wait(&mut state);
                }
                if state.stops {
                    return self.give_back(state.line.drain(..).collect());
                }
                self.room - state.line.len() - state.running
            };
            let seen = self.transport.seen();
            match self.transport.lease(&self.queues, room) {
                Ok(leased) if leased.is_empty() => {
                    let due = self.transport.next_due(&self.queues).ok().flatten();
                    let until_due = due.map(|due| {
                        let left = due.as_millisecond() - Timestamp::now().as_millisecond();
                        Duration::from_millis(u64::try_from(left).unwrap_or(0))
                    });
                    self.transport
                        .wait(seen, until_due.map_or(LOOK, |due| due.min(LOOK)));
                }
                Ok(leased) => {
                    self.state.lock().line.extend(leased);
                    self.changed.notify_all();
                }
                Err(error) => {
                    tracing::error!(%error, "cannot lease tasks");
                    self.pause();
                }
            }
        }
    }

    /// Rule 2.
    fn give_back(&self, rest: Vec<Incoming>) {
        let tags: Vec<_> = rest.iter().map(|incoming| incoming.tag).collect();
        if !tags.is_empty()
            && let Err(error) = self.transport.release(&tags)
        {
            tracing::error!(%error, "cannot give tasks back; others get them when this process has ended");
        }
    }

    fn pause(&self) {
        let mut state = self.state.lock();
        let until = Instant::now() + PAUSE;
        while !state.stops && !self.changed.wait_until(&mut state, until).timed_out() {}
    }

    fn beat(&self) {
        let pause = BEAT.min(self.transport.lease_time() / 4);
        loop {
            let until = Instant::now() + pause;
            let mut state = self.state.lock();
            while !state.stops && !self.changed.wait_until(&mut state, until).timed_out() {}
            // What runs to its end keeps its lease.
            if state.stops && state.running == 0 {
                return;
            }
            let stops = state.stops;
            drop(state);
            if let Err(error) = self.transport.beat() {
                tracing::error!(%error, "cannot show a heartbeat");
            }
            if stops {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn work(&self) {
        loop {
            let incoming = {
                let mut state = self.state.lock();
                loop {
                    if state.stops {
                        return;
                    }
                    if let Some(incoming) = state.line.pop_front() {
                        state.running += 1;
                        break incoming;
                    }
                    self.changed.wait(&mut state);
                }
            };
            if let Err(error) = run::handle(&self.app, incoming) {
                tracing::error!(%error, "cannot end a task");
            }
            let mut state = self.state.lock();
            state.running -= 1;
            state.ended += 1;
            drop(state);
            self.changed.notify_all();
        }
    }
}

/// A worker that runs. Dropped, it stops.
pub struct RunningWorker {
    crew: Arc<Crew>,
    threads: Vec<JoinHandle<()>>,
}

impl RunningWorker {
    fn spawn(&mut self, name: &str, work: fn(&Crew)) -> Result<(), AppError> {
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

    /// Begins nothing more, and waits until what runs has ended. What was leased and not begun goes to others.
    #[doc(alias = "warm shutdown")]
    pub fn stop(self) {}

    /// As [`stop`](Self::stop), waiting at most for `deadline`; false if something runs still. It goes on by itself, and its outcome is kept.
    #[doc(alias = "soft shutdown")]
    pub fn stop_within(mut self, deadline: Duration) -> bool {
        self.tell();
        let until = Instant::now() + deadline;
        let mut state = self.crew.state.lock();
        while state.running > 0 && !self.crew.changed.wait_until(&mut state, until).timed_out() {}
        let ended = state.running == 0;
        drop(state);
        if !ended {
            self.threads.clear();
        }
        ended
    }

    fn tell(&self) {
        self.crew.state.lock().stops = true;
        self.crew.changed.notify_all();
        self.crew.transport.wake();
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.tell();
        for thread in self.threads.drain(..) {
            // Panics of tasks are caught; of another nothing is left to be told here.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for RunningWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningWorker")
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}
