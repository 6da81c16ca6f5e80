//! The threads of a worker that run tasks and, in between, read what comes.

use super::Worker;
use super::inbox::{Heard, Request};
use crate::arena::LARGE;
use crate::failpoint::reach;
use crate::protocol::{Hello, check_length, put_error, up};
use par_core::engine::{Engine, Initializer};
use par_core::{CancelFlag, TaskError, Token, enter_worker, push_token, wire};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

/// Stack of a thread that runs tasks: as much as a program's first thread usually has.
const STACK: usize = 8 << 20;
/// The most memory that stays with a thread for the next reply.
const WARM: usize = 16 << 20;
/// Replies that are gathered while there is more to run.
const GATHER: usize = 64;

/// The threads, and what they take from each other.
#[derive(Default)]
pub(super) struct Executors {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    /// The jobs that run, with their tokens.
    running: Vec<(u64, Arc<CancelFlag>)>,
    /// Threads that wait inside tasks.
    blocked: usize,
    /// Whether a thread reads, or is about to.
    reading: bool,
    threads: usize,
    /// Replies since the last were sent.
    gathered: usize,
    stopping: bool,
    /// This worker has grown too large, and begins nothing but what its tasks wait for.
    worn: bool,
}

/// What the first thread does before it runs tasks.
struct First {
    initializer: Option<Initializer>,
    tell: Sender<Result<(), TaskError>>,
}

impl State {
    fn has_place(&self) -> bool {
        self.running.len() <= self.blocked
    }

    /// Whether a request may begin.
    fn may_begin(&self) -> bool {
        self.has_place() && (!self.worn || self.blocked > 0)
    }

    /// Whether somebody should read: for a place that is free, or for those that wait for answers.
    fn wants_reader(&self) -> bool {
        !self.reading && (self.has_place() || self.blocked > 0)
    }

    /// Whether all threads are inside tasks, so that nobody would read.
    fn lacks_reader(&self) -> bool {
        self.wants_reader() && self.threads <= self.running.len()
    }
}

impl Executors {
    /// Raises the tokens of what runs of that job. What does not run yet was recalled.
    pub(super) fn raise(&self, job: u64) {
        for (running, flag) in &self.state.lock().running {
            if *running == job {
                flag.raise();
            }
        }
    }

    /// Asks `question` while a task runs, which does not end meanwhile; false where none does.
    pub(super) fn while_running(&self, question: impl FnOnce() -> bool) -> bool {
        let state = self.state.lock();
        // One that waits for others runs no code.
        state.running.len() > state.blocked && question()
    }

    pub(super) fn all_ended(&self) -> bool {
        let state = self.state.lock();
        state.stopping && state.threads == 0
    }
}

impl Worker {
    /// Starts the first executor, which runs the initialiser and tells the pool how that ended.
    pub(super) fn start_first(
        self: &Arc<Self>,
        engine: Weak<dyn Engine>,
        initializer: Option<Initializer>,
    ) -> io::Result<Result<(), TaskError>> {
        let (tell, told) = channel();
        self.spawn(engine, Some(First { initializer, tell }))?;
        Ok(told.recv().unwrap_or_else(|_| {
            Err(TaskError::Rejected(
                "the thread of its tasks ended before it began".to_owned(),
            ))
        }))
    }

    fn spawn(self: &Arc<Self>, engine: Weak<dyn Engine>, first: Option<First>) -> io::Result<()> {
        let me = Arc::clone(self);
        self.executors.state.lock().threads += 1;
        let started = thread::Builder::new()
            .name("par-worker".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                {
                    let _worker = enter_worker(me.index, engine);
                    if first.is_none_or(|first| me.initialize(first)) {
                        me.work();
                    }
                }
                let mut state = me.executors.state.lock();
                state.threads -= 1;
                drop(state);
                me.rouse();
            });
        if started.is_err() {
            self.executors.state.lock().threads -= 1;
        }
        started.map(|_| ())
    }

    fn initialize(&self, First { initializer, tell }: First) -> bool {
        let ready = initializer.map_or(Ok(()), |initializer| initializer.run());
        let hello = match &ready {
            Ok(()) => Hello::Ready {
                arena: self.arena.is_some(),
            },
            Err(error) => Hello::Initializer(error.clone()),
        };
        let go = ready.is_ok();
        // Texts and numbers always encode.
        let _ = self.outbox.frame(up::HELLO, |out| wire::encode(&hello, out));
        self.outbox.flush();
        // The first thread waits for it.
        let _ = tell.send(ready);
        go
    }

    /// Runs what is there, while there is a place; reads where there is nothing, if nobody does.
    fn work(self: &Arc<Self>) {
        let Executors { state, changed } = &self.executors;
        let mut reply = Vec::new();
        let mut now = state.lock();
        while !now.stopping {
            if now.may_begin()
                && let Some(request) = now.requests.pop_front()
            {
                reach("worker.received");
                if self.outbox.page().begin(request.generation, request.number) {
                    now = self.run_for(now, &request, &mut reply);
                }
            } else if now.wants_reader() {
                now.reading = true;
                drop(now);
                let heard = self.read();
                now = state.lock();
                now.reading = false;
                match heard {
                    Heard::Requests(requests) => {
                        now.requests.extend(requests);
                        // This thread takes one, or none if it has no place.
                        changed.notify_all();
                    }
                    Heard::Other => {}
                    Heard::Stop => {
                        now.stopping = true;
                        changed.notify_all();
                    }
                    Heard::End => super::die(),
                }
            } else {
                changed.wait(&mut now);
            }
        }
        drop(now);
        self.outbox.flush();
    }

    fn run_for<'a>(
        self: &'a Arc<Self>,
        mut now: MutexGuard<'a, State>,
        request: &Request,
        reply: &mut Vec<u8>,
    ) -> MutexGuard<'a, State> {
        let Executors { state, changed } = &self.executors;
        let flag = Arc::new(CancelFlag::new(None));
        now.running.push((request.job, Arc::clone(&flag)));
        if self.gauge.is_some() {
            self.tick();
        }
        if now.wants_reader() {
            self.call_reader(&mut now);
        }
        drop(now);
        reach("worker.begun");
        let full = self.run(request, &flag, reply);
        let worn = self.is_worn();
        now = state.lock();
        now.worn |= worn;
        if let Some(at) = now.running.iter().position(|(_, held)| Arc::ptr_eq(held, &flag)) {
            now.running.swap_remove(at);
        }
        now.gathered += 1;
        if full || now.gathered >= GATHER || (now.requests.is_empty() && now.reading) {
            now.gathered = 0;
            MutexGuard::unlocked(&mut now, || self.outbox.flush());
        } else if !now.requests.is_empty() {
            // The next task may be long.
            self.tick();
        }
        // Another thread may have waited for the place.
        if now.blocked > 0 {
            changed.notify_all();
        }
        now
    }

    /// Finds a thread that reads on.
    fn call_reader(self: &Arc<Self>, now: &mut MutexGuard<'_, State>) {
        if now.lacks_reader() {
            // Without one, tasks that wait here do so until one of the others ends.
            let _ = MutexGuard::unlocked(now, || self.spawn(self.nested.engine(), None));
        } else {
            self.executors.changed.notify_one();
        }
    }

    fn read(&self) -> Heard {
        let mut inbox = self.inbox.lock();
        if inbox.is_dry() {
            self.outbox.flush();
        }
        inbox.hear(self).unwrap_or_else(|error| {
            eprintln!(
                "par-process: worker {} (process {}) cannot read what its pool says: {error}",
                self.index,
                std::process::id()
            );
            std::process::exit(1)
        })
    }

    /// Runs a request and gathers its reply; returns whether that should be sent now.
    fn run(&self, request: &Request, flag: &Arc<CancelFlag>, reply: &mut Vec<u8>) -> bool {
        let started = Instant::now();
        reply.clear();
        let ended = match &request.call {
            Ok(prepared) => {
                let _token = push_token(Token::Flag(Arc::clone(flag)));
                // Code of users runs outside of tasks as well, while inputs are decoded.
                par_core::catch(|| match request.input(self.arena.as_deref()) {
                    Some(input) => {
                        prepared.run(request.part, input, reply);
                        Ok(())
                    }
                    None => Err(TaskError::Codec("input: it lies nowhere".to_owned())),
                })
                .and_then(|run| run)
            }
            Err(error) => Err(error.clone()),
        };
        // Others may run what it has left behind.
        self.offer_own();
        let ended = ended.and_then(|()| check_length("outputs", reply.len(), self.longest));
        if let Err(error) = &ended {
            reply.clear();
            put_error(reply, error);
        }
        reach("worker.ran");
        let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let shared = match &self.arena {
            Some(arena) if reply.len() >= LARGE => {
                self.outbox.reply_shared(request.number, took, arena, reply)
            }
            _ => None,
        };
        let full = shared.unwrap_or_else(|| self.outbox.reply(request.number, took, ended.is_err(), reply));
        reach("worker.kept");
        if reply.capacity() > WARM {
            *reply = Vec::new();
        }
        full
    }

    /// A thread begins or ends a wait inside its task, and lends its place meanwhile.
    pub(super) fn blocking(self: &Arc<Self>, begins: bool) {
        if begins {
            self.offer_own();
        }
        let blocked = {
            let mut now = self.executors.state.lock();
            if begins {
                now.blocked += 1;
                self.call_reader(&mut now);
            } else {
                now.blocked -= 1;
            }
            now.blocked
        };
        let told: Result<(), wire::WireError> = self.outbox.frame(up::BLOCKED, |out| {
            out.extend_from_slice(&(blocked as u64).to_le_bytes());
            Ok(())
        });
        // Infallible: it writes 8 bytes into memory.
        let _ = told;
        if begins {
            self.outbox.flush();
        } else {
            self.tick();
        }
    }
}
