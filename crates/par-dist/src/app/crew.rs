//! The threads of a worker, and what they share.
//!
//! 1. One thread leases, as many as there is room for: what runs and what waits to run is at most the concurrency times the prefetch. Another shows
//!    the heartbeat, and hears what was revoked. A third tells tasks that their time is over. The others run tasks.
//! 2. Who stops leases no more, ends what runs, and gives the rest back.
//! 3. What was revoked is known before what was leased after it is begun.
//! 4. A task that has a rate waits in the line until it is its turn, and others pass it.
//! 5. What came of a task that cannot be told, as the broker or what keeps results is away, is told once more, for a while. Then, and when the worker
//!    stops meanwhile, the task is given back.

use super::AppError;
use super::broker::{Incoming, Transport};
use super::child::Child;
use super::control::{Cancelled, Rein, Reins};
use super::hands::{Ended, Hands, Mode};
use super::instance::App;
use super::rate::Bucket;
use super::revoked::Revoked;
use super::run::{self, Begun};
use super::worker::{RunningWorker, Worker};
use crate::BrokerError;
use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest time between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);
/// How long a broker that fails is left alone.
const PAUSE: Duration = Duration::from_millis(500);
/// How long what came of a task is told again.
const OUTAGE: Duration = Duration::from_secs(60);
pub(super) struct Crew {
    app: App,
    pub(super) queues: Vec<String>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) room: usize,
    #[cfg(feature = "async")]
    concurrency: usize,
    pub(super) reins: Arc<Reins>,
    pub(super) state: Mutex<State>,
    /// There is something to do.
    pub(super) work: Condvar,
    /// There is room in the line.
    pub(super) room_again: Condvar,
    /// The worker stops, or has nothing to do any more.
    pub(super) calm: Condvar,
    revoked: Mutex<Revoked>,
    #[cfg(feature = "async")]
    futures: Mutex<Option<super::hands::Futures>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) stops: bool,
    pub(super) line: VecDeque<Incoming>,
    /// Futures that have ended, and are to be told of.
    #[cfg(feature = "async")]
    finished: VecDeque<(Begun, Rein, Ended)>,
    pub(super) running: usize,
    pub(super) ended: u64,
    pub(super) trouble: Option<String>,
    /// Of tasks that have a rate.
    buckets: HashMap<String, Bucket>,
}

/// What a thread that runs tasks finds to do.
enum Work {
    Begin(Box<Incoming>),
    #[cfg(feature = "async")]
    End(Box<(Begun, Rein, Ended)>),
    Nothing,
}

impl Crew {
    pub(super) fn start(worker: Worker) -> Result<RunningWorker, AppError> {
        let Worker {
            app,
            mode,
            concurrency,
            prefetch,
            queues,
            wear,
        } = worker;
        let transport = app.transport();
        transport.beat()?;
        let now = Instant::now();
        let rates = app.inner.tasks.iter();
        let buckets = rates
            .filter_map(|(name, known)| Some((name.clone(), Bucket::new(known.options.rate?, now))))
            .collect();
        let crew = Arc::new(Crew {
            room: concurrency.saturating_mul(prefetch),
            #[cfg(feature = "async")]
            concurrency,
            app,
            queues,
            transport,
            reins: Arc::default(),
            state: Mutex::new(State {
                buckets,
                ..State::default()
            }),
            work: Condvar::new(),
            room_again: Condvar::new(),
            calm: Condvar::new(),
            revoked: Mutex::default(),
            #[cfg(feature = "async")]
            futures: Mutex::default(),
        });
        let bad = |reason: String| AppError::Option {
            option: "mode",
            reason,
        };
        let mut running = RunningWorker {
            crew: Arc::clone(&crew),
            threads: Vec::new(),
        };
        running.spawn("par-dist-beat", Crew::beat)?;
        running.spawn("par-dist-reins", |crew| crew.reins.watch())?;
        let name = |number: usize| format!("par-dist-task-{number}");
        match mode {
            Mode::Threads => {
                for number in 0..concurrency {
                    running.spawn(&name(number), |crew| crew.work(Hands::Own))?;
                }
            }
            Mode::Processes => {
                let spec = crew.app.spec();
                for number in 0..concurrency {
                    let child = Box::new(Child::start(&spec, wear).map_err(bad)?);
                    running.spawn(&name(number), |crew| crew.work(Hands::Child(child)))?;
                }
            }
            #[cfg(feature = "async")]
            Mode::Async => {
                let futures = super::hands::Futures::start().map_err(|error| bad(error.to_string()))?;
                *crew.futures.lock() = Some(futures);
                // They begin and end tasks, which waits for the broker; between that nobody waits.
                for number in 0..2 {
                    let crew = Arc::clone(&crew);
                    running.spawn(&name(number), move |_| Crew::tend(&crew))?;
                }
            }
        }
        // Only now is there somebody for what is leased.
        running.spawn("par-dist-lease", Crew::lease)?;
        Ok(running)
    }

    pub(super) fn tell_to_stop(&self) {
        self.state.lock().stops = true;
        for threads in [&self.work, &self.room_again, &self.calm] {
            threads.notify_all();
        }
        self.transport.wake();
    }

    /// Waits until what the worker said has arrived.
    pub(super) fn flush(&self) {
        self.transport.flush();
    }

    pub(super) fn pause(&self) {
        let mut state = self.state.lock();
        let until = Instant::now() + PAUSE;
        while !state.stops && !self.calm.wait_until(&mut state, until).timed_out() {}
    }

    /// Tells of a trouble with the broker when it begins, and when it is over.
    pub(super) fn troubled(&self, trouble: Option<String>) {
        let mut state = self.state.lock();
        match (&state.trouble, &trouble) {
            (None, Some(error)) => tracing::error!(error, "the broker cannot be used; tries again"),
            (Some(_), None) => tracing::info!("the broker can be used again"),
            _ => {}
        }
        state.trouble = trouble;
    }

    fn beat(&self) {
        let pause = BEAT.min(self.transport.lease_time() / 4);
        loop {
            self.hear();
            let until = Instant::now() + pause;
            let mut state = self.state.lock();
            while !state.stops && !self.calm.wait_until(&mut state, until).timed_out() {}
            // What runs to its end keeps its lease.
            if state.stops && state.running == 0 {
                self.reins.stop();
                return;
            }
            let stops = state.stops;
            drop(state);
            self.troubled(self.transport.beat().err().map(|error| error.to_string()));
            if stops {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Rule 3.
    pub(super) fn hear(&self) {
        let heard = match self.transport.revoked() {
            Ok(heard) if heard.is_empty() => return,
            Ok(heard) => heard,
            Err(error) => return tracing::debug!(%error, "cannot hear what was revoked"),
        };
        self.revoked.lock().add(&heard);
        for revocation in heard.iter().filter(|revocation| revocation.terminate) {
            for control in self.reins.of(Some(&revocation.id)) {
                control.end(Cancelled::Revoked);
            }
        }
    }

    /// What there is to do, once there is something.
    fn next(&self, most: usize) -> Work {
        let mut state = self.state.lock();
        loop {
            #[cfg(feature = "async")]
            if let Some(finished) = state.finished.pop_front() {
                return Work::End(Box::new(finished));
            }
            if state.stops && (state.running == 0 || most == usize::MAX) {
                return Work::Nothing;
            }
            let mut turn = None;
            if !state.stops && state.running < most {
                match state.pick(Instant::now()) {
                    Ok(incoming) => {
                        state.running += 1;
                        if state.wants_more(self.room) {
                            self.room_again.notify_one();
                        }
                        return Work::Begin(Box::new(incoming));
                    }
                    Err(when) => turn = when,
                }
            }
            match turn {
                Some(when) => drop(self.work.wait_until(&mut state, when)),
                None => self.work.wait(&mut state),
            }
        }
    }

    /// Begins a task that was taken from the line; nothing if that was all.
    fn begin(&self, incoming: Incoming) -> Option<(Begun, Rein)> {
        let is_revoked = |id: &str| self.revoked.lock().has(id);
        match run::begin(&self.app, incoming, is_revoked) {
            Ok(Some(begun)) => {
                let (soft, hard) = begun.limits();
                let (id, control) = (&begun.context.run.id, &begun.context.control);
                let rein = self.reins.take(id, control, soft, hard);
                // It may have been revoked just now.
                if self.revoked.lock().is_terminated(id) {
                    control.end(Cancelled::Revoked);
                }
                return Some((begun, rein));
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "cannot begin a task"),
        }
        self.ended();
        None
    }

    /// Rule 5.
    fn end(&self, begun: &Begun, ended: Ended) {
        let mut done = run::conclude(&self.app, begun, ended);
        let until = Instant::now() + OUTAGE;
        while let Err(error) = run::end(&self.app, begun, &done) {
            if matches!(error, BrokerError::TooLong { .. }) && !done.is_instead() {
                done = run::instead(&self.app, begun, &error);
                continue;
            }
            self.troubled(Some(error.to_string()));
            if self.state.lock().stops || Instant::now() > until {
                let (id, task) = (&begun.context.run.id, &begun.context.run.task);
                tracing::error!(%error, id, task, "cannot end a task; it runs once more, unless it was acknowledged");
                if let Err(error) = run::give_up(&self.app, begun) {
                    tracing::error!(%error, id, "nor give it back; others get it when this process has ended");
                }
                break;
            }
            self.pause();
        }
        self.ended();
    }

    fn ended(&self) {
        let mut state = self.state.lock();
        state.running -= 1;
        state.ended += 1;
        let (more, stops) = (state.wants_more(self.room), state.stops);
        drop(state);
        if more {
            self.room_again.notify_one();
        }
        if stops {
            self.work.notify_all();
            self.calm.notify_all();
        }
    }

    /// Runs tasks one after the other.
    fn work(&self, mut hands: Hands) {
        while let Work::Begin(incoming) = self.next(usize::MAX) {
            if let Some((begun, rein)) = self.begin(*incoming) {
                let ended = hands.run(&begun);
                drop(rein);
                self.end(&begun, ended);
            }
        }
    }

    /// Begins futures, and ends what they were.
    #[cfg(feature = "async")]
    fn tend(crew: &Arc<Self>) {
        loop {
            match crew.next(crew.concurrency) {
                Work::Begin(incoming) => {
                    let Some((begun, rein)) = crew.begin(*incoming) else {
                        continue;
                    };
                    let here = Arc::clone(crew);
                    let end = move |begun, ended| {
                        here.state.lock().finished.push_back((begun, rein, ended));
                        here.work.notify_one();
                    };
                    if let Some(futures) = &*crew.futures.lock() {
                        futures.run(begun, end);
                    }
                }
                Work::End(finished) => {
                    let (begun, rein, ended) = *finished;
                    drop(rein);
                    crew.end(&begun, ended);
                }
                Work::Nothing => {
                    if let Some(futures) = crew.futures.lock().take() {
                        futures.stop();
                    }
                    return;
                }
            }
        }
    }
}

impl State {
    /// Whether it is worth while to lease: many at once, unless somebody may be waiting for one.
    pub(super) fn wants_more(&self, room: usize) -> bool {
        let free = room.saturating_sub(self.line.len() + self.running);
        free > 0 && (self.line.is_empty() || free >= room.div_ceil(2))
    }

    /// The first of the line whose turn it is (rule 4); otherwise when one's turn comes.
    fn pick(&mut self, now: Instant) -> Result<Incoming, Option<Instant>> {
        if self.buckets.is_empty() {
            return self.line.pop_front().ok_or(None);
        }
        let mut soonest: Option<Instant> = None;
        for at in 0..self.line.len() {
            let name = self.line[at].headers.get("task").and_then(Value::as_str);
            let bucket = name.and_then(|name| self.buckets.get_mut(name));
            match bucket {
                Some(bucket) if bucket.next() > now => {
                    let next = bucket.next();
                    soonest = Some(soonest.map_or(next, |soonest| soonest.min(next)));
                    continue;
                }
                Some(bucket) => bucket.take(now),
                None => {}
            }
            return self.line.remove(at).ok_or(None);
        }
        Err(soonest)
    }
}
