//! The pool's own thread: starts workers, replaces those that died, and reads when nobody else does.

use super::queue::Taken;
use super::seat::{Left, Link};
use super::{Health, Hub};
use crate::arena::Arena;
use crate::before_main::WORKER;
use crate::files::send_files;
use crate::page::Page;
use crate::protocol::{Setup, down};
use crate::role;
use par_core::engine::Refused;
use par_core::{Event, StartError, TaskError, wire};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the pool waits before it tries again to start a worker that the system refused, at first and at most.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
const LONG_PAUSE: Duration = Duration::from_secs(1);

impl Health {
    /// Whether a worker is to be started now.
    fn is_due(&self) -> bool {
        !self.vacant.is_empty() && !self.ending && self.not_before.is_none_or(|at| Instant::now() >= at)
    }
}

impl Hub {
    /// The life of the pool's own thread.
    pub(super) fn supervise(&self) {
        loop {
            let again = self.fill_seats();
            let over = self.health.lock().over;
            if let Some(until) = over {
                return self.end_workers(until);
            }
            self.pump.stay_away(again);
            let has_work = || {
                let health = self.health.lock();
                health.over.is_some() || health.is_due() || self.pump.is_wanted()
            };
            if has_work() {
                continue;
            }
            #[cfg(test)]
            if let Some(call) = self.pump.before_role.lock().take() {
                call();
            }
            // Whoever has it now may keep it for long (rule 4 of the pump).
            if let Some(mut role) = self.pump.role.try_lock() {
                let left = again.map(|at| at.saturating_duration_since(Instant::now()));
                self.turn(&mut role, left, has_work);
            }
        }
    }

    /// Starts the workers that are missing; returns when to try again where the system refused one.
    fn fill_seats(&self) -> Option<Instant> {
        loop {
            let index = {
                let mut health = self.health.lock();
                if health.ending {
                    health.vacant.clear();
                }
                if !health.is_due() {
                    return health.not_before.filter(|_| !health.vacant.is_empty());
                }
                match health.vacant.pop()? {
                    // It is not wanted any more.
                    index if index >= self.seats.wanted() => continue,
                    // It was asked for twice.
                    index if self.seats[index].state.lock().link.is_some() => continue,
                    index => index,
                }
            };
            let started = self.start_worker(index);
            {
                let mut health = self.health.lock();
                if started.is_ok() {
                    (health.not_before, health.pause) = (None, Duration::ZERO);
                } else {
                    // Files or processes are short, maybe for a moment: to try again at once would only use the budget up.
                    health.pause = (health.pause * 2).clamp(SHORT_PAUSE, LONG_PAUSE);
                    health.not_before = Some(Instant::now() + health.pause);
                }
            }
            if let Err(source) = started {
                let error = StartError::Io {
                    what: format!("cannot start worker {index}"),
                    source,
                };
                let text = error.to_string();
                let started = {
                    let mut health = self.health.lock();
                    health.failed.get_or_insert(error);
                    health.started
                };
                self.health_changed.notify_all();
                if started {
                    self.count_death(index, &text);
                }
            }
        }
    }

    fn start_worker(&self, index: usize) -> io::Result<()> {
        let (work, theirs) = UnixStream::pair()?;
        let (control, their_control) = UnixStream::pair()?;
        let (page, file) = Page::create()?;
        let setup = Setup {
            index,
            workers: self.seats.wanted(),
            ..self.setup.clone()
        };
        // Without it, large values go over the socket.
        let arena = (self.shared > 0)
            .then(|| Arena::create(self.shared).ok())
            .flatten();
        let mut command = role::command(WORKER)?;
        if let Some(output) = &self.output {
            command.stdout(output.pipe()?);
        }
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // What is sent to the group of the pool, such as Ctrl-C, leaves its workers to their pool, which may want to drain.
            .process_group(0)
            .spawn()?;
        // It holds the other end of the pipe, which would never come to its end.
        drop(command);
        let mut link = Link {
            sentinel: crate::sentinel::of(&child).ok().map(Arc::new),
            child,
            work: Arc::new(work),
            control,
            page,
            arena: arena.map(Arc::new),
        };
        let mut files = vec![their_control.as_fd(), file.as_fd()];
        files.extend(link.arena.as_deref().map(Arena::file));
        let sent = send_files(&link.work, &files)
            .and_then(|()| link.work.set_nonblocking(true))
            .and_then(|()| link.control.set_nonblocking(true));
        drop(files);
        if let Err(error) = sent {
            // What matters is why it could not be reached.
            let _ = end(&mut link.child);
            return Err(error);
        }
        let mut state = self.seats[index].state.lock();
        state.occupy(link, self.tasks_per_worker);
        // Whoever wants fewer workers from now on finds it.
        state.surplus = index >= self.seats.wanted();
        state.send(|out| {
            // An initialiser's input is bytes, and everything else numbers: that encodes.
            let _ = wire::append_frame(out, down::SETUP, |out| wire::encode(&setup, out));
        });
        drop(state);
        // Whoever reads does not know it yet.
        self.pump.kick();
        Ok(())
    }

    /// The worker that sat there in that life is gone, or of no use any more.
    pub(super) fn worker_gone(&self, index: usize, life: u64, why: &str) {
        let (pid, status, kept, verdict) = {
            let mut state = self.seats[index].state.lock();
            let same = state.life == life;
            let Some(link) = state.link.as_mut().filter(|_| same) else {
                return;
            };
            (
                link.child.id(),
                end(&mut link.child),
                link.page.kept(),
                link.page.verdict(),
            )
        };
        // What it had ended and not sent. Bytes that make no sense are the end of it.
        let _ = self.replies(index, life, &kept);
        let (
            begun,
            Left {
                flight,
                nested,
                killed,
            },
        ) = {
            let mut state = self.seats[index].state.lock();
            (state.begun(), state.vacate())
        };
        let killed = killed.map(str::to_owned).or_else(|| {
            let limit = self.setup.memory?;
            (verdict == crate::page::OVER_MEMORY)
                .then(|| format!("its memory was over twice the limit of {limit} bytes (option memory)"))
        });
        let reason = match (&killed, status) {
            (Some(killed), _) => format!("worker {index} (process {pid}) was killed: {killed}"),
            (None, Ok(status)) if why == ENDED => format!("worker {index} (process {pid}) {}", how(status)),
            (None, _) => format!("worker {index} (process {pid}) is gone: {why}"),
        };
        self.observers.emit(|| Event::WorkerLost {
            worker: index,
            reason: reason.clone(),
        });
        // Before those who wait hear of it: what they do next should find how things are.
        if killed.is_some() {
            self.replace(index);
        } else {
            self.count_death(index, &reason);
        }
        let mut back = Vec::new();
        for (at, flight) in flight.into_iter().enumerate() {
            let Taken { mut claim, nested } = flight.taken;
            if at < begun {
                claim.begun();
            }
            let parts = claim.range().len() as u64;
            match claim.lost(&reason) {
                Some(claim) => back.push(Taken { claim, nested }),
                None => {
                    self.lost.fetch_add(parts, Ordering::Relaxed);
                    self.queue.ended(1);
                }
            }
        }
        self.put_back(back);
        // Nobody waits any more for what its tasks had submitted.
        for job in nested.into_values().filter_map(|job| job.upgrade()) {
            job.cancel();
            self.cancel(&job, true);
        }
        self.feed_all();
    }

    /// Asks for another worker in that seat, if it is wanted.
    pub(super) fn replace(&self, index: usize) {
        {
            let mut health = self.health.lock();
            if index < self.seats.wanted() && !health.vacant.contains(&index) {
                health.vacant.push(index);
            }
        }
        self.health_changed.notify_all();
        self.pump.call_own();
    }

    /// Counts a death against the budget; past it, the pool is broken.
    fn count_death(&self, index: usize, reason: &str) {
        let broken = {
            let mut health = self.health.lock();
            if !health.started && health.failed.is_none() {
                health.failed = Some(StartError::Unavailable(reason.to_owned()));
            }
            let spent = !health.ending && health.restarted >= self.restarts;
            if spent {
                health.ending = true;
            } else {
                health.restarted += 1;
            }
            spent
        };
        self.health_changed.notify_all();
        if !broken {
            return self.replace(index);
        }
        let text = format!("{reason}; {} restart(s) were used up", self.restarts);
        self.queue.refuse(Refused::Broken(text.clone()));
        self.kill_all("the pool is broken");
        let error = TaskError::Broken(text);
        let (claims, jobs) = self.queue.end(&error);
        claims.into_iter().for_each(|claim| self.end_claim(claim, &error));
        for job in jobs {
            job.fail_unclaimed(&error);
        }
    }

    /// Kills all workers. What becomes of their requests is dealt with when their sockets close.
    pub(super) fn kill_all(&self, why: &'static str) {
        for seat in self.seats.iter() {
            let mut state = seat.state.lock();
            if let Some(link) = &mut state.link {
                // One that has ended already is as good.
                let _ = link.child.kill();
                state.killed.get_or_insert(why);
            }
        }
    }
}

/// Why a worker is gone, where its socket just closed.
pub(super) const ENDED: &str = "it ended";

/// Makes sure that a worker is gone, and how it went.
pub(super) fn end(child: &mut Child) -> io::Result<ExitStatus> {
    // Its socket is closed: it has ended, or will not do anything useful any more. How it ended by itself stays.
    let _ = child.kill();
    child.wait()
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}{}", name_of(signal)),
        (None, None) => "ended".to_owned(),
    }
}

fn name_of(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT: abort, or out of memory)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL: by hand, or the system was out of memory)",
        11 => " (SIGSEGV: a stack overflow, or a bad address)",
        15 => " (SIGTERM)",
        _ => "",
    }
}
