//! [`Lights`]: processes as light tasks, all on one thread.
//!
//! A task that is woken is put into the line of those that are ready, once; the thread polls them in that order, and sleeps while the line is
//! empty. Wakers come from any thread.

use super::network::ProcessError;
use super::stop::{Context as StopContext, Stop, switch};
use super::trace::{self, What};
use crate::sync_seam::Until;
use crate::watch::{self, Hold, Kind, Watch};
use par_core::TaskError;
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// A network of processes that are futures, run by the thread that calls [`run`](Self::run).
///
/// A process that waits without `.await` keeps all others waiting. See the [module](super).
pub struct Lights {
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
    line: Arc<Line>,
    watch: Watch,
}

struct Task {
    name: String,
    future: Pin<Box<dyn Future<Output = Result<(), Stop>>>>,
    waker: Arc<LightWaker>,
    context: StopContext,
}

#[derive(Default)]
struct Line {
    ready: Mutex<VecDeque<usize>>,
    filled: Condvar,
}

struct LightWaker {
    at: usize,
    queued: AtomicBool,
    line: Arc<Line>,
}

impl Wake for LightWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let mut ready = self.line.ready.lock();
            ready.push_back(self.at);
            if ready.len() == 1 {
                self.line.filled.notify_one();
            }
        }
    }
}

/// When to wake whom, the earliest first.
struct Alarm(Instant, Waker);

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Alarm {}

thread_local! {
    /// The process that runs on this thread.
    static HERE: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The alarms of the network that this thread runs.
    static ALARMS: RefCell<BinaryHeap<Alarm>> = const { RefCell::new(BinaryHeap::new()) };
}

/// The light process that runs on this thread.
pub(super) fn here() -> Option<String> {
    HERE.with(|here| here.borrow().clone())
}

/// Has a light task of this thread polled again at that time.
pub(super) fn wake_at(at: Instant, waker: &Waker) {
    ALARMS.with(|alarms| alarms.borrow_mut().push(Alarm(at, waker.clone())));
}

impl Lights {
    /// A network without a process.
    #[track_caller]
    pub fn new() -> Self {
        Lights {
            tasks: Vec::new(),
            free: Vec::new(),
            line: Arc::default(),
            watch: Watch::new(Kind::Lights),
        }
    }

    /// Adds a process. It need not be `Send`: it stays on this thread.
    pub fn spawn(&mut self, name: &str, process: impl Future<Output = Result<(), Stop>> + 'static) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        let waker = Arc::new(LightWaker {
            at,
            queued: AtomicBool::new(true),
            line: Arc::clone(&self.line),
        });
        self.tasks[at] = Some(Task {
            name: name.to_owned(),
            future: Box::pin(process),
            waker,
            context: StopContext::default(),
        });
        self.line.ready.lock().push_back(at);
        trace::process(What::Start, name);
    }

    /// Runs the processes until all have ended. One that ends with a [`Stop`] has ended, like any other.
    ///
    /// # Errors
    /// The first that panicked; the others have ended by then.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that all wait, and nobody can wake one.
    #[track_caller]
    pub fn run(&mut self) -> Result<(), ProcessError> {
        let mut left = self.tasks.iter().flatten().count();
        let mut first = Ok(());
        while left > 0 {
            let next = self.next();
            let Some(task) = self.tasks[next].as_mut() else {
                continue;
            };
            task.waker.queued.store(false, Ordering::Release);
            let at = task.waker.at;
            let waker = Waker::from(Arc::clone(&task.waker));
            let outer = switch(Arc::clone(&task.context));
            if trace::is_on() {
                HERE.set(Some(task.name.clone()));
            }
            let future = task.future.as_mut();
            let polled = par_core::catch(|| match future.poll(&mut Context::from_waker(&waker)) {
                // The word of the end is dropped in its process.
                Poll::Ready(ended) => {
                    drop(ended);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            });
            if !matches!(polled, Ok(Poll::Pending)) {
                left -= 1;
                first = first.and(self.finish(at, polled.err()));
            }
            switch(outer);
            HERE.set(None);
        }
        first
    }

    /// A process has ended; in its context.
    fn finish(&mut self, at: usize, panic: Option<TaskError>) -> Result<(), ProcessError> {
        let Some(task) = self.tasks[at].take() else {
            return Ok(());
        };
        self.free.push(at);
        // What it still has goes under its panic.
        let word = panic.as_ref().map(|_| Stop::poison());
        let dropped = par_core::catch(|| drop(task.future));
        drop(word);
        trace::process(What::Quit, &task.name);
        match panic.or(dropped.err()) {
            Some(error) => Err(ProcessError::new(&task.name, error)),
            None => Ok(()),
        }
    }

    /// The next that is ready.
    #[track_caller]
    fn next(&self) -> usize {
        let mut ready = self.line.ready.lock();
        loop {
            if let Some(at) = ready.pop_front() {
                return at;
            }
            let alarm = ALARMS.with(|alarms| alarms.borrow().peek().map(|alarm| alarm.0));
            match alarm {
                None if Watch::ON => {
                    drop(ready);
                    let filled = || !self.line.ready.lock().is_empty();
                    let sleep = watch::surely(self.watch.wait(Hold::Shared, Until::Forever, filled));
                    ready = self.line.ready.lock();
                    if ready.is_empty() {
                        self.line.filled.wait(&mut ready);
                    }
                    sleep.over();
                }
                None => self.line.filled.wait(&mut ready),
                Some(at) => {
                    if !self.line.filled.wait_until(&mut ready, at).timed_out() {
                        continue;
                    }
                    drop(ready);
                    let now = Instant::now();
                    let due = || {
                        ALARMS.with(|alarms| {
                            let mut alarms = alarms.borrow_mut();
                            let is_due = alarms.peek().is_some_and(|alarm| alarm.0 <= now);
                            is_due.then(|| alarms.pop()).flatten()
                        })
                    };
                    while let Some(alarm) = due() {
                        alarm.1.wake();
                    }
                    ready = self.line.ready.lock();
                }
            }
        }
    }
}

impl Default for Lights {
    #[track_caller]
    fn default() -> Self {
        Lights::new()
    }
}

impl fmt::Debug for Lights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lights")
            .field("processes", &self.tasks.iter().flatten().count())
            .finish_non_exhaustive()
    }
}
