//! The threads of a pool: how they start, what they do all day, and how they end.

use super::Inner;
use super::lounge::Bell;
use super::queue::{Phase, Seeker, Work};
use super::worker::{Bench, Desk, Seat, Worker, count};
use par_core::{Claimant, Event, StartError, TaskError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, Builder, JoinHandle};

/// How often an idle worker looks for work before it sleeps. Work often follows work, and a look costs less than a wake-up;
/// after the first few looks it lets others have the core.
const LOOKS: u32 = 128;
const BUSY_LOOKS: u32 = 32;

/// Runs one piece of work. What panics here is a callback or a destructor of the user's, not a task; it has been reported
/// by the panic hook, and the worker goes on.
pub(crate) fn run(worker: &Worker, work: Work) {
    let inner = worker.inner();
    // More of the same needs no other look at the queue.
    let more = || inner.is_open().then(|| Claimant::Worker(worker.index()));
    let run = || match work {
        Work::Half(half) => half.run(worker),
        Work::Claim(claim) => worker.run_claim(claim, more),
    };
    // Everything that a panic could leave half done here is ended by its destructor: claims fail, desks are cleared.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
}

impl Inner {
    pub(crate) fn builder(&self, name: String) -> Builder {
        let builder = Builder::new().name(name);
        match self.options.stack_size {
            Some(bytes) => builder.stack_size(bytes),
            None => builder,
        }
    }

    /// Keeps the handle of a thread until shutdown, and lets go of those that have ended.
    pub(crate) fn keep(&self, handle: JoinHandle<()>) {
        let mut state = self.queue.state.lock();
        state.handles.retain(|handle| !handle.is_finished());
        state.handles.push(handle);
    }

    /// Changes the number of workers.
    pub(crate) fn resize(&self, workers: usize) -> Result<(), StartError> {
        if workers == 0 {
            return Err(StartError::Workers(0));
        }
        let _one_at_a_time = self.resizing.lock();
        if !self.is_open() {
            return Err(StartError::Unavailable("the pool is shut down".to_owned()));
        }
        let before = self.target.swap(workers, Ordering::AcqRel);
        self.most.fetch_max(workers, Ordering::AcqRel);
        let result = self.fill(workers);
        if result.is_err() {
            self.target.store(before, Ordering::Release);
        }
        // Those that are to go must see it.
        self.queue.news.fetch_add(1, Ordering::Release);
        self.lounge.call(usize::MAX);
        result
    }

    /// Starts the workers below `workers` that are missing, and waits until they are ready.
    fn fill(&self, workers: usize) -> Result<(), StartError> {
        let (report, reports) = mpsc::channel();
        let mut expected = 0;
        let mut result = Ok(());
        for index in 0..workers {
            let missing = {
                let mut state = self.queue.state.lock();
                if state.present.len() <= index {
                    state.present.resize(index + 1, false);
                }
                let missing = !state.present[index];
                if missing {
                    state.present[index] = true;
                    state.threads += 1;
                }
                missing
            };
            if missing {
                match self.start(index, report.clone()) {
                    Ok(()) => expected += 1,
                    Err(source) => {
                        self.queue.state.lock().present[index] = false;
                        self.thread_ended(None, false);
                        let what = format!("starting the thread of worker {index}");
                        result = Err(StartError::Io { what, source });
                        break;
                    }
                }
            }
        }
        drop(report);
        for (worker, ready) in reports.iter().take(expected) {
            if let (Err(error), Ok(())) = (ready, &result) {
                result = Err(StartError::Initializer { worker, error });
            }
        }
        result
    }

    fn start(
        &self,
        index: usize,
        report: mpsc::Sender<(usize, Result<(), TaskError>)>,
    ) -> std::io::Result<()> {
        let (deque, seat) = Seat::new();
        let engine = self.engine.clone();
        let inner = engine.upgrade().map(|engine| Arc::clone(&engine.inner));
        let Some(inner) = inner else {
            return Err(std::io::Error::other("the pool is gone"));
        };
        self.take_seat(index, Arc::clone(&seat));
        let handle = self
            .builder(format!("{}-{index}", self.options.name))
            .spawn(move || {
                inner.keep_to_core(index);
                let desk = Arc::new(Desk::new(index));
                inner.queue.state.lock().desks.push(Arc::clone(&desk));
                let entered = par_core::enter_worker(index, engine);
                let bench = Bench::new(deque, seat, &inner);
                let worker = Worker::new(Arc::clone(&inner), index, Arc::clone(&desk), Some(bench));
                worker.enter(|worker| {
                    let ready = inner
                        .common
                        .initializer
                        .as_ref()
                        .map_or(Ok(()), |task| task.run());
                    let good = ready.is_ok();
                    inner.observers.emit(|| match &ready {
                        Ok(()) => Event::WorkerUp {
                            worker: index,
                            pid: None,
                        },
                        Err(error) => Event::WorkerLost {
                            worker: index,
                            reason: error.to_string(),
                        },
                    });
                    // Nobody listens any more where the start was given up; the worker is then told to go.
                    let _ = report.send((index, ready));
                    drop(report);
                    if good {
                        serve(worker);
                    } else {
                        inner.queue.state.lock().present[index] = false;
                    }
                });
                drop(worker);
                // Worker-local state goes before the thread counts as gone.
                drop(entered);
                inner.thread_ended(Some(&desk), true);
            })?;
        self.keep(handle);
        Ok(())
    }

    /// A thread has ended, or did not come to be. Where that leaves work with nobody awake, `lend` allows a substitute.
    pub(crate) fn thread_ended(&self, desk: Option<&Arc<Desk>>, lend: bool) {
        let substitute = {
            let mut state = self.queue.state.lock();
            state.threads -= 1;
            if let Some(desk) = desk {
                self.ran
                    .fetch_add(desk.ran.load(Ordering::Relaxed), Ordering::Relaxed);
                state.desks.retain(|other| !Arc::ptr_eq(other, desk));
            }
            if state.threads == 0 {
                self.queue.ended.notify_all();
            }
            if lend { state.lend() } else { None }
        };
        self.substitute(substitute);
    }

    /// Whether this worker is to go; then it no longer counts as present.
    fn dismissed(&self, index: usize) -> bool {
        if index < self.target.load(Ordering::Acquire) {
            return false;
        }
        let mut state = self.queue.state.lock();
        // Looked at again under the lock: a resize that wants this worker after all sees it as present, or starts another.
        let dismissed = index >= self.target.load(Ordering::Acquire);
        if dismissed {
            state.present[index] = false;
        }
        dismissed
    }

    /// Whether the pool is closed and there is nothing left for that worker.
    fn finished(&self) -> bool {
        let state = self.queue.state.lock();
        match state.phase {
            Phase::Open => false,
            Phase::Draining | Phase::Closed => state.is_idle(),
        }
    }
}

/// The day of a worker.
fn serve(worker: &Worker) {
    let inner = worker.inner();
    let bell = Bell::new();
    let look = || {
        inner
            .queue
            .next(Seeker::Worker(worker.index()), inner)
            .or_else(|| worker.steal().map(Work::Half))
    };
    loop {
        let news = inner.queue.news.load(Ordering::Acquire);
        if let Some(work) = look() {
            run(worker, work);
            if inner.dismissed(worker.index()) {
                break;
            }
            continue;
        }
        if inner.dismissed(worker.index()) || inner.finished() {
            break;
        }
        if wait_for_news(worker, news) {
            continue;
        }
        inner.lounge.announce(&bell);
        let work = look();
        if work.is_some() || inner.dismissed(worker.index()) || inner.finished() {
            inner.lounge.leave(&bell);
            match work {
                Some(work) => run(worker, work),
                None => break,
            }
        } else {
            count(&worker.desk().slept, 1);
            inner.lounge.sleep(&bell);
        }
    }
    if !inner.is_open() {
        return;
    }
    inner.observers.emit(|| Event::WorkerLost {
        worker: worker.index(),
        reason: "the pool was made smaller".to_owned(),
    });
}

/// Looks out for a moment; whether there is something new.
fn wait_for_news(worker: &Worker, news: u64) -> bool {
    for look in 0..LOOKS {
        if worker.inner().queue.news.load(Ordering::Acquire) != news || worker.sees_halves() {
            return true;
        }
        if look < BUSY_LOOKS {
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
    false
}

impl Inner {
    fn take_seat(&self, index: usize, seat: Arc<Seat>) {
        let mut roster = self.roster.write();
        let mut seats: Vec<Arc<Seat>> = roster.iter().cloned().collect();
        if index < seats.len() {
            seats[index] = seat;
        } else {
            seats.push(seat);
        }
        *roster = seats.into();
        self.roster_version.fetch_add(1, Ordering::Release);
    }
}
