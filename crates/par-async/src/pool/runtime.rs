//! The runtime under a pool, its own or the user's, and what a thread knows of where it is.

use super::Inner;
use par_core::engine::Engine;
use par_core::{StartError, TaskError, WorkerGuard, WorkerSeat};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};

pub(super) struct Runtime {
    handle: Handle,
    /// Nothing where the runtime is the user's, or has ended.
    own: Mutex<Option<tokio::runtime::Runtime>>,
    /// How many threads have polled tasks of the pool so far: each is one of its workers while it does.
    seats: AtomicUsize,
}

impl Runtime {
    /// The user's runtime, or one with `threads` threads.
    pub(super) fn start(users: Option<Handle>, threads: usize) -> Result<Self, StartError> {
        let (handle, own) = match users {
            Some(handle) => (handle, None),
            None => {
                let built = Builder::new_multi_thread()
                    .worker_threads(threads)
                    .thread_name("par-async")
                    .enable_all()
                    .build();
                let runtime = built.map_err(|source| StartError::Io {
                    what: format!("starting a tokio runtime with {threads} threads"),
                    source,
                })?;
                (runtime.handle().clone(), Some(runtime))
            }
        };
        Ok(Runtime {
            handle,
            own: Mutex::new(own),
            seats: AtomicUsize::new(0),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether the code that runs now is this runtime's: what is polled here finds its timers and sockets.
    pub(super) fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.handle.id())
    }

    /// How many threads it polls on.
    pub(super) fn threads(&self) -> usize {
        self.handle.metrics().num_workers().max(1)
    }

    /// Ends the runtime, if it is the pool's own: waits for its threads, but not beyond `time`. Not for async code.
    pub(super) fn end(&self, time: Option<Duration>) {
        let own = self.own.lock().take();
        match (own, time) {
            (Some(runtime), Some(time)) => runtime.shutdown_timeout(time),
            (Some(runtime), None) => drop(runtime),
            (None, _) => {}
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Only where the start failed: everything else ends it before. This may be async code, which must not wait.
        if let Some(runtime) = self.own.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether a wait may block this thread, as tokio sees it.
///
/// Tokio refuses its own blocking calls on a thread that polls async code: within `Runtime::block_on` (so in `#[tokio::main]`) and
/// on the threads of a runtime while they poll. It allows them in `spawn_blocking`, in `block_in_place` and on threads that merely
/// entered a handle. One of those calls, that never has anything to wait for, tells which it is. Where it is refused it panics,
/// which is caught here.
pub(super) fn may_block() -> Result<(), TaskError> {
    if cfg!(panic = "abort") || Handle::try_current().is_err() {
        return Ok(());
    }
    let free = tokio::sync::Mutex::new(());
    match par_core::catch(|| drop(free.blocking_lock())) {
        Ok(()) => Ok(()),
        Err(_) => Err(par_core::blocks_async()),
    }
}

thread_local! {
    /// The number of the pool that this thread runs or polls a task of; 0 for none.
    static INSIDE: Cell<u64> = const { Cell::new(0) };
    /// The workers that this thread is while it polls, with the numbers of their pools.
    static SEATS: RefCell<Vec<Seat>> = const { RefCell::new(Vec::new()) };
}

struct Seat {
    pool: u64,
    engine: Weak<super::AsyncEngine>,
    worker: WorkerSeat,
}

/// Whether this thread runs or polls a task of that pool.
pub(super) fn is_inside(pool: u64) -> bool {
    INSIDE.get() == pool
}

/// Says that this thread is inside a pool while it lives.
pub(super) struct Inside {
    before: u64,
}

impl Inside {
    pub(super) fn enter(pool: u64) -> Self {
        Inside {
            before: INSIDE.replace(pool),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.before);
    }
}

impl Inner {
    /// Makes this thread one that polls tasks of the pool, until both guards are dropped.
    pub(super) fn visit(&self) -> (Inside, WorkerGuard) {
        let inside = Inside::enter(self.number);
        let seated = SEATS.try_with(|seats| {
            let mut seats = seats.borrow_mut();
            if let Some(seat) = seats.iter().find(|seat| seat.pool == self.number) {
                return seat.worker.enter();
            }
            let worker = self.new_seat();
            let guard = worker.enter();
            // What tasks of pools that are gone left here would stay as long as the thread; it is dropped outside the borrow.
            let (here, gone) = seats.drain(..).partition(|seat| seat.engine.strong_count() > 0);
            *seats = here;
            seats.push(Seat {
                pool: self.number,
                engine: self.engine.clone(),
                worker,
            });
            drop::<Vec<Seat>>(gone);
            guard
        });
        // A thread at its very end has no such list any more.
        let guard = seated.unwrap_or_else(|_| self.new_seat().enter());
        (inside, guard)
    }

    fn new_seat(&self) -> WorkerSeat {
        let index = self.runtime.seats.fetch_add(1, Ordering::Relaxed) % self.common.workers;
        WorkerSeat::new(index, self.engine.clone() as Weak<dyn Engine>)
    }
}
