//! Workers: peers that run tasks. By hand through [`Worker`]; the local ones of a pool are the same inside.

use crate::broker::{self, Joining, PeerId, Place, Role};
use crate::consumer::Consumer;
use crate::nested::Nested;
use crate::node::{Node, Setup};
use crate::options::{DEFAULT_QUEUE, LEASE, OUTAGE, PREFETCH};
use crate::{BrokerError, BrokerUrl};
use par_core::TaskError;
use par_core::engine::{Engine, Initializer};
use par_core::registry;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A worker that is started by hand: a program of its own, with the tasks that are linked into it.
///
/// ```no_run
/// #[par_dist::task]
/// fn square(x: u64) -> u64 { x * x }
///
/// // Says what it knows, then works until the process ends.
/// par_dist::Worker::new("/var/tmp/jobs.db").concurrency(2).run()?;
/// # Ok::<(), par_dist::WorkerError>(())
/// ```
#[doc(alias = "celery worker")]
#[derive(Debug, Clone)]
#[must_use = "a worker does nothing until run() or start()"]
pub struct Worker {
    place: Place,
    queue: String,
    concurrency: usize,
    prefetch: usize,
    lease: Duration,
}

/// Why a worker did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Two tasks of this program share a name.
    #[error(transparent)]
    Registry(#[from] par_core::RegistryError),
    /// A thread could not be started.
    #[error("cannot start a thread of the worker: {0}")]
    Thread(#[source] std::io::Error),
}

impl Worker {
    /// A worker for that broker: the file of one, which is made where there is none, or the URL of a server.
    pub fn new(broker: impl Into<BrokerUrl>) -> Self {
        let place = Place {
            url: broker.into(),
            temporary: false,
            limit: None,
            outage: OUTAGE,
        };
        Worker {
            place,
            queue: DEFAULT_QUEUE.to_owned(),
            concurrency: 1,
            prefetch: PREFETCH,
            lease: LEASE,
        }
    }

    /// Sets how many messages it runs at a time, each on a thread of its own; at least 1, default 1.
    pub fn concurrency(mut self, threads: usize) -> Self {
        self.concurrency = threads;
        self
    }

    /// Sets the queue that it works for; by default `default`.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = name.into();
        self
    }

    /// Sets the most messages that it leases ahead; at least 1, default 128. It leases fewer when they take long.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages;
        self
    }

    /// Sets how long its heartbeat may stand still before the others take it for dead; at least 100 ms, default 30 s. A worker
    /// whose process ends is noticed at once.
    pub fn lease(mut self, duration: Duration) -> Self {
        self.lease = duration;
        self
    }

    /// Sets how long a server may be out of reach, once the worker has started, before the worker ends; default 5 minutes. A server
    /// forgets a worker that it has not seen for 10 minutes, which then ends too.
    pub fn outage(mut self, duration: Duration) -> Self {
        self.place.outage = duration;
        self
    }

    /// Works until the process ends, after a banner on the standard error that says for whom and what it knows.
    ///
    /// # Errors
    /// What was wrong at the start, or [`BrokerError`] when the broker fails for good.
    pub fn run(self) -> Result<(), WorkerError> {
        let banner = self.banner();
        let running = self.start()?;
        eprintln!("{banner}");
        running.wait()
    }

    fn banner(&self) -> String {
        let names = registry::names();
        format!(
            "par-dist worker {} on {}, queue {:?}, {} at a time, knows {} task(s): {}",
            std::process::id(),
            self.place.url,
            self.queue,
            self.concurrency,
            names.len(),
            names.join(", ")
        )
    }

    /// Starts the worker in the background of this process.
    ///
    /// # Errors
    /// What was wrong at the start.
    pub fn start(self) -> Result<RunningWorker, WorkerError> {
        registry::check()?;
        check(self.concurrency, "concurrency")?;
        check(self.prefetch, "prefetch")?;
        crate::options::check_lease(self.lease)?;
        let plan = Plan {
            place: self.place,
            queue: self.queue,
            concurrency: self.concurrency,
            prefetch: self.prefetch,
            lease: self.lease,
            index: 0,
            home: None,
        };
        match RunningWorker::start(plan)? {
            Ok(mut running) => {
                running.go()?;
                Ok(running)
            }
            // Without a home there is no initialiser that could fail.
            Err(error) => Err(WorkerError::Thread(std::io::Error::other(error.to_string()))),
        }
    }
}

fn check(value: usize, option: &'static str) -> Result<(), BrokerError> {
    if value == 0 {
        return Err(BrokerError::Option {
            option,
            reason: "must be at least 1, got 0".to_owned(),
        });
    }
    Ok(())
}

/// Everything a worker is told.
pub(crate) struct Plan {
    pub(crate) place: Place,
    pub(crate) queue: String,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    pub(crate) lease: Duration,
    /// The index of its first thread.
    pub(crate) index: usize,
    /// The pool that started it, with its initialiser.
    pub(crate) home: Option<(PeerId, Initializer)>,
}

/// A worker at work. Dropping it lets what runs finish and gives the rest back.
#[derive(Debug)]
pub struct RunningWorker {
    inner: Inner,
}

struct Inner {
    node: Arc<Node>,
    consumer: Arc<Consumer>,
    /// Tasks reach their pool through a weak pointer to it.
    _engine: Arc<Nested>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "peer {}", self.node.broker.me().0)
    }
}

impl RunningWorker {
    /// Joins, and gets ready to work; the inner error is that of the initialiser.
    pub(crate) fn start(plan: Plan) -> Result<Result<Self, TaskError>, WorkerError> {
        let joining = Joining {
            role: Role::Worker {
                concurrency: plan.concurrency,
            },
            queue: plan.queue.clone(),
            lease: plan.lease,
            initializer: None,
            leases: plan.prefetch + plan.concurrency + 64,
        };
        let broker = broker::join(&plan.place, joining)?;
        let consumer = Arc::new(Consumer::new(
            Arc::clone(&broker),
            plan.concurrency,
            plan.prefetch,
            plan.index,
        ));
        let setup = Setup {
            queue: plan.queue,
            lease: plan.lease,
            bound: usize::MAX,
            // A task that submits needs only as many messages out as others can run; the rest it claims itself.
            published: 2,
            own: 0,
        };
        let node = Node::new(broker, Some(Arc::clone(&consumer)), setup);
        let engine = Nested::new(Arc::clone(&node));
        let weak: Weak<dyn Engine> = Arc::downgrade(&(Arc::clone(&engine) as Arc<dyn Engine>));
        let inner = Inner {
            node,
            consumer,
            _engine: engine,
            thread: None,
        };
        let ready = inner
            .consumer
            .start(&weak, plan.home)
            .map_err(WorkerError::Thread)?;
        Ok(ready.map(|()| RunningWorker { inner }))
    }

    /// Begins to lease.
    pub(crate) fn go(&mut self) -> Result<(), WorkerError> {
        self.inner.thread = Some(self.inner.node.start().map_err(WorkerError::Thread)?);
        Ok(())
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.inner.node.broker.me()
    }

    /// Calls `call` if the broker fails for good.
    pub(crate) fn on_failure(&self, call: impl FnOnce(&BrokerError) + Send + 'static) {
        self.inner.node.on_failure(Box::new(call));
    }

    /// Leaves within `limit`, without waiting for what runs: the process ends after that.
    pub(crate) fn vanish(self, limit: Duration) {
        let node = Arc::clone(&self.inner.node);
        std::mem::forget(self);
        node.stop();
        let (tell, told) = std::sync::mpsc::channel();
        let spawned = std::thread::Builder::new().spawn(move || {
            let _ = node.broker.leave();
            let _ = tell.send(());
        });
        if spawned.is_ok() {
            let _ = told.recv_timeout(limit);
        }
    }

    /// Waits until the worker ends by itself: only when its broker fails for good.
    ///
    /// # Errors
    /// What the broker failed with.
    pub fn wait(mut self) -> Result<(), WorkerError> {
        if let Some(thread) = self.inner.thread.take() {
            // A panic there has been printed by its hook.
            let _ = thread.join();
        }
        match self.inner.node.failure() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Begins nothing more, gives back what it has not begun, and waits until what runs has ended or the deadline has passed.
    /// Whether everything has ended.
    pub fn stop(mut self, deadline: Option<Duration>) -> bool {
        self.inner.stop(deadline)
    }
}

impl Inner {
    fn stop(&mut self, deadline: Option<Duration>) -> bool {
        let Some(thread) = self.thread.take() else {
            return true;
        };
        let until = deadline.map(|deadline| Instant::now() + deadline);
        // What was not begun goes to others; if it cannot be given back now, it is when this peer leaves. What still runs may
        // wait for work that it submitted itself, and that only this worker may be there to do.
        let _ = self.node.broker.release(&self.consumer.close());
        let ended = loop {
            if !self.node.client.wait_idle(until) || !self.consumer.wait_quiet(until) {
                break false;
            }
            if self.node.client.is_idle() {
                break true;
            }
        };
        let _ = self.node.broker.release(&self.consumer.stop());
        let ended = ended && self.consumer.wait_ended(until);
        self.node.stop();
        let _ = thread.join();
        // Whoever stays buries this peer otherwise.
        let _ = self.node.broker.leave();
        ended
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop(None);
    }
}
