//! The threads of a rank that run tasks and, in between, read what comes.

use super::hear::Request;
use super::{Desk, Post, State, Worker};
use crate::protocol::{Hello, check_length, put, up};
use par_core::engine::Initializer;
use par_core::{CancelFlag, Token, enter_worker, push_token};
use parking_lot::MutexGuard;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// Stack of a thread that runs tasks: as much as a program's first thread usually has.
const STACK: usize = 8 << 20;

impl Worker {
    /// Starts an executor. The first runs the initialiser, if there is one, and tells the pool how that ended.
    pub(super) fn spawn(self: &Arc<Self>, first: Option<Option<Initializer>>) -> io::Result<()> {
        self.count(1);
        let me = Arc::clone(self);
        let started = thread::Builder::new()
            .name("par-rank-worker".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                // What the thread kept for its tasks goes before the pool is told that it has ended, and may panic.
                let ended = par_core::catch(|| {
                    let _worker = enter_worker(me.index, me.engine());
                    if first.is_none_or(|initializer| me.initialize(initializer)) {
                        me.work();
                    }
                });
                if let Err(error) = ended {
                    eprintln!("par-mpi: worker {}, at its end: {error}", me.index);
                }
                me.leave();
            });
        if started.is_err() {
            self.count(-1);
        }
        started.map(|_| ())
    }

    fn count(&self, change: isize) {
        if let Some(post) = self.desk.state.lock().posts.get_mut(&self.pool) {
            post.threads = post.threads.saturating_add_signed(change);
        }
    }

    /// A thread ends, perhaps as the last.
    fn leave(&self) {
        self.flush();
        let ended = {
            let mut now = self.desk.state.lock();
            let last = now.posts.get_mut(&self.pool).is_some_and(|post| {
                post.threads -= 1;
                post.threads == 0
            });
            last.then(|| now.posts.remove(&self.pool)).flatten()
        };
        if ended.is_some() {
            self.say(up::ENDED, |_| {});
            self.desk.called.notify_one();
        }
    }

    fn initialize(&self, initializer: Option<Initializer>) -> bool {
        // An initialiser is a task: it may panic while its input is decoded.
        let ready = initializer.map_or(Ok(()), |initializer| {
            par_core::catch(|| initializer.run()).and_then(|ended| ended)
        });
        let hello = match &ready {
            Ok(()) => Hello::Ready(std::process::id()),
            Err(error) => Hello::Initializer(error.clone()),
        };
        self.say(up::HELLO, |out| put(out, &hello));
        ready.is_ok()
    }

    /// Runs what is there, while there is a place; reads where there is nothing, if nobody does.
    fn work(self: &Arc<Self>) {
        let desk = &self.desk;
        let mut reply = Vec::new();
        let mut now = desk.state.lock();
        while let Some(post) = now.posts.get_mut(&self.pool)
            && !post.stopping
        {
            if post.has_place()
                && let Some(request) = post.requests.pop_front()
            {
                now = self.run_for(now, &request, &mut reply);
            } else if post.wants_reader() && !now.reading && now.failed.is_none() {
                now = desk.read(now, true);
            } else {
                now.waiting += 1;
                desk.changed.wait(&mut now);
                now.waiting -= 1;
            }
        }
        // Whoever waits for the role may have it.
        desk.changed.notify_all();
        desk.called.notify_one();
    }

    fn run_for<'a>(
        self: &'a Arc<Self>,
        mut now: MutexGuard<'a, State>,
        request: &Request,
        reply: &mut Vec<u8>,
    ) -> MutexGuard<'a, State> {
        let flag = Arc::new(CancelFlag::new(None));
        if let Some(post) = now.posts.get_mut(&self.pool) {
            post.running.push((request.job, Arc::clone(&flag)));
        }
        self.call_reader(&mut now);
        drop(now);
        let full = self.run(request, &flag, reply);
        now = self.desk.state.lock();
        let Some(post) = now.posts.get_mut(&self.pool) else {
            return now;
        };
        if let Some(at) = post.running.iter().position(|(_, held)| Arc::ptr_eq(held, &flag)) {
            post.running.swap_remove(at);
        }
        let Post {
            requests, blocked, ..
        } = post;
        let (dry, lent) = (requests.is_empty(), *blocked > 0);
        // Another thread may have waited for the place.
        if lent {
            self.desk.changed.notify_all();
        }
        if full || dry {
            MutexGuard::unlocked(&mut now, || self.flush());
        }
        now
    }

    /// Sees to it that the post has a thread for what comes next, and that somebody reads, or looks now and then, while this thread is
    /// inside a task.
    fn call_reader(self: &Arc<Self>, now: &mut MutexGuard<'_, State>) {
        if now.rests {
            self.desk.called.notify_one();
        }
        // Also where an executor of another pool reads: it runs nothing of this one.
        let lacks = |post: &Post| post.wants_reader() && post.threads <= post.running.len();
        if now.posts.get(&self.pool).is_some_and(lacks) {
            // Without one, what waits here does so until one of the others ends.
            let _ = MutexGuard::unlocked(now, || self.spawn(None));
        } else if !now.reading && now.waiting > 0 {
            self.desk.changed.notify_all();
        }
    }

    /// Runs a request and gathers its reply; returns whether that should be sent now.
    fn run(&self, request: &Request, flag: &Arc<CancelFlag>, reply: &mut Vec<u8>) -> bool {
        let started = Instant::now();
        reply.clear();
        let ended = match &request.call {
            Ok(prepared) => {
                let _token = push_token(Token::Flag(Arc::clone(flag)));
                // Code of users runs outside of tasks as well, while inputs are decoded.
                par_core::catch(|| prepared.run(request.part, request.input(), reply))
            }
            Err(error) => Err(error.clone()),
        };
        // Others may run what it has left behind.
        self.offer_own();
        let ended = ended.and_then(|()| check_length("outputs", reply.len(), self.longest));
        if let Err(error) = &ended {
            reply.clear();
            put(reply, error);
        }
        let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let full = self.reply(request.number, took, ended.is_err(), reply);
        if reply.capacity() > 1 << 20 {
            *reply = Vec::new();
        }
        full
    }

    /// A thread begins or ends a wait inside its task, and lends its place meanwhile (rule 4).
    pub(super) fn blocking(self: &Arc<Self>, begins: bool) {
        if begins {
            self.offer_own();
        }
        let mut returned = Vec::new();
        let blocked = {
            let mut now = self.desk.state.lock();
            let Some(post) = now.posts.get_mut(&self.pool) else {
                return;
            };
            if begins {
                post.blocked += 1;
                returned.extend(post.requests.drain(..).map(|request| request.number));
            } else {
                post.blocked = post.blocked.saturating_sub(1);
            }
            let blocked = post.blocked;
            if begins {
                self.call_reader(&mut now);
            }
            blocked
        };
        if begins {
            self.flush();
        }
        self.say(up::BLOCKED, |out| {
            out.extend_from_slice(&(blocked as u64).to_le_bytes());
            for number in returned {
                out.extend_from_slice(&number.to_le_bytes());
            }
        });
    }
}

impl Desk {
    /// Whether the first thread should look after something.
    pub(super) fn call(&self) {
        if self.state.lock().rests {
            self.called.notify_one();
        }
    }
}
