//! Workers that leave in peace: those that have run their number of tasks, that have grown too large, or that are too many.
//!
//! 1. A worker that is to leave gets nothing more, but for what its own tasks wait for. What it has not begun is taken back.
//! 2. Once it has nothing in flight it is told to stop, and its seat is vacant at that moment: another worker may sit down while
//!    destructors still run in the one that leaves. A thread sees it off, and kills it if it takes too long.
//! 3. What its tasks have submitted and do not wait for stays: it is in the queue of the pool, or with another worker.

use super::Hub;
use super::seat::{Left, Link};
use super::supervisor::end;
use crate::protocol::down;
use par_core::{Event, StartError, wire};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long workers that have nothing to do may take to end: destructors of worker-local state may run.
pub(super) const GRACE: Duration = Duration::from_secs(5);

impl Hub {
    /// Lets the worker go that sits there, if it is to leave and has nothing to do.
    pub(super) fn let_go(&self, index: usize) {
        let (link, reason) = {
            let mut state = self.seats[index].state.lock();
            if !state.is_through() {
                return;
            }
            let Some(why) = state.leaves(self.setup.memory) else {
                return;
            };
            state.send(|out| {
                // Infallible: there is no payload.
                let _ = wire::append_frame(out, down::STOP, |_| Ok::<(), wire::WireError>(()));
            });
            let Some(link) = state.link.take() else { return };
            // Nothing is in flight (rule 2), and what was submitted stays (rule 3).
            let Left { .. } = state.vacate();
            let reason = format!("worker {index} (process {}) has left: {why}", link.child.id());
            (link, reason)
        };
        self.observers.emit(|| Event::WorkerLost {
            worker: index,
            reason,
        });
        self.replace(index);
        let mut leaving = self.leaving.lock();
        leaving.retain(|thread| !thread.is_finished());
        let until = Instant::now() + GRACE;
        let link = Arc::new(Mutex::new(Some(link)));
        let theirs = Arc::clone(&link);
        let started = thread::Builder::new()
            .name("par-process-end".to_owned())
            .spawn(move || theirs.lock().take().map(|link| see_off(link, until)));
        leaving.extend(started.ok());
        drop(leaving);
        // Without a thread for it, it gets no time.
        let unseen = if Arc::strong_count(&link) == 1 {
            link.lock().take()
        } else {
            None
        };
        if let Some(mut link) = unseen {
            let _ = end(&mut link.child);
        }
    }

    /// Waits for those that leave.
    pub(super) fn wait_for_leaving(&self) {
        let leaving = std::mem::take(&mut *self.leaving.lock());
        for thread in leaving {
            // A panic there has been printed by its hook.
            let _ = thread.join();
        }
    }

    /// Makes the pool larger, and waits until all its workers are ready, or smaller.
    pub(super) fn resize(&self, workers: usize) -> Result<(), StartError> {
        check_workers(workers)?;
        if super::pump::is_reading() && workers > self.seats.wanted() {
            return Err(StartError::Unavailable(
                "a pool cannot grow inside a callback: whoever runs it reads what the new workers would say"
                    .to_owned(),
            ));
        }
        let _one = self.resizing.lock();
        {
            let mut health = self.health.lock();
            if health.ending {
                return Err(StartError::Unavailable("the pool is at its end".to_owned()));
            }
            health.failed = None;
        }
        let before = self.set_size(workers);
        if workers <= before {
            return Ok(());
        }
        self.wait_ready(workers).inspect_err(|_| {
            self.set_size(before);
        })
    }

    /// Wants so many workers from now on; returns how many were wanted before.
    fn set_size(&self, workers: usize) -> usize {
        let before = self.seats.want(workers);
        for index in 0..self.seats.len() {
            let (back, vacant) = {
                let mut state = self.seats[index].state.lock();
                state.surplus = index >= workers;
                if state.surplus
                    && !state.ready
                    && let Some(link) = &mut state.link
                {
                    // It has nothing to finish, and what becomes of its initialiser is nothing to anybody.
                    let _ = link.child.kill();
                    state.killed.get_or_insert("the pool was made smaller");
                }
                let back = if state.surplus { state.recall() } else { Vec::new() };
                (back, state.link.is_none())
            };
            self.give_back(back);
            if vacant && (before..workers).contains(&index) {
                self.replace(index);
            }
        }
        // Those that are idle leave at once.
        self.feed_all();
        self.pump.kick();
        before
    }

    /// Waits until the workers of the first seats are ready.
    pub(super) fn wait_ready(&self, workers: usize) -> Result<(), StartError> {
        let until = Instant::now() + START;
        loop {
            let seen = self.health.lock().ready;
            let ready = (0..workers)
                .filter(|index| self.seats[*index].state.lock().ready)
                .count();
            let mut health = self.health.lock();
            if let Some(error) = health.failed.take() {
                return Err(error);
            }
            if ready == workers {
                health.started = true;
                return Ok(());
            }
            if health.started && health.ending {
                return Err(StartError::Unavailable(
                    "the pool came to its end meanwhile".to_owned(),
                ));
            }
            // Whoever became ready after the look counts as news.
            if health.ready == seen && self.health_changed.wait_until(&mut health, until).timed_out() {
                return Err(StartError::Unavailable(format!(
                    "{ready} of {workers} worker(s) were ready after {} s",
                    START.as_secs()
                )));
            }
        }
    }
}

/// How long workers may take to start. Initialisers may be long.
const START: Duration = Duration::from_secs(120);

/// Refuses a number of workers that no pool has.
pub(super) fn check_workers(workers: usize) -> Result<(), StartError> {
    match workers {
        0 => Err(StartError::Workers(0)),
        _ if workers > super::seats::MOST => Err(StartError::Option {
            option: "workers",
            reason: format!("at most {}, got {workers}", super::seats::MOST),
        }),
        _ => Ok(()),
    }
}

/// Waits until a worker that was told to stop has ended, and kills it past the deadline.
pub(super) fn see_off(mut link: Link, until: Instant) {
    // Whatever it still says, nobody is interested; its end is what counts.
    let mut rest = [0; 1024];
    loop {
        match (&*link.work).read(&mut rest) {
            Ok(0) => break,
            // Not even where it never stops.
            Ok(_) if Instant::now() < until => continue,
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        let left = until.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else {
            break;
        };
        let mut files = vec![PollFd::from_borrowed_fd(link.work.as_fd(), PollFlags::IN)];
        files.extend(
            link.sentinel
                .as_deref()
                .map(|sentinel| PollFd::new(sentinel, PollFlags::IN)),
        );
        match poll(&mut files, Some(&timeout)) {
            Ok(0) => break,
            // Ended, whoever else holds its socket.
            Ok(_) if files.get(1).is_some_and(|file| !file.revents().is_empty()) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    // Nobody asks any more how it ended.
    let _ = end(&mut link.child);
}
