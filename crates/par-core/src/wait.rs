//! Completion: one bit that turns on once, and everything that waits for it.
//!
//! 1. The bit, and whether anybody ever waited, are one atomic. A waiter says under the lock of the list that it waits, and
//!    enters the list under the same lock, unless it saw the bit in that step.
//! 2. Whoever turns the bit on and saw a waiter in that step takes the list under its lock and wakes it; who saw none leaves
//!    the lock alone. So either the waiter sees the bit, or the list is looked at after the waiter entered it.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;
use std::thread::{self, Thread};
use std::time::Instant;

enum Waiter {
    Thread(Thread),
    Task(u64, Waker),
    Callback(Box<dyn FnOnce() + Send>),
}

impl Waiter {
    fn wake(self) {
        match self {
            Waiter::Thread(thread) => thread.unpark(),
            // Code of users, on a thread of an engine and with other waiters behind it: its panic may end neither.
            Waiter::Task(_, waker) => crate::panics::report("a waker", || waker.wake()),
            Waiter::Callback(call) => crate::panics::report("a callback of a task", call),
        }
    }
}

#[derive(Default)]
struct Waiters {
    /// Most have one waiter at most, which then needs no memory of its own.
    first: Option<Waiter>,
    more: Vec<Waiter>,
    next_key: u64,
}

impl Waiters {
    fn push(&mut self, waiter: Waiter) {
        match &self.first {
            None => self.first = Some(waiter),
            Some(_) => self.more.push(waiter),
        }
    }

    /// Takes one out. It is dropped outside the lock: a waker is code of users, which may want this completion.
    #[must_use = "a waker must not be dropped under the lock"]
    fn take(&mut self, which: impl Fn(&Waiter) -> bool) -> Option<Waiter> {
        if self.first.as_ref().is_some_and(&which) {
            return self.first.take();
        }
        let at = self.more.iter().position(which)?;
        Some(self.more.remove(at))
    }
}

pub(crate) struct Completion {
    state: AtomicU8,
    waiters: Mutex<Waiters>,
}

/// Bits of the state of a completion. It is on when one of the first two is set; which of them it is, is settled in one step.
const DONE: u8 = 1;
const EARLY: u8 = 2;
/// Somebody waits, or did (rule 1).
const WAITED: u8 = 4;

const fn is_on(state: u8) -> bool {
    state & (DONE | EARLY) != 0
}

impl Completion {
    pub(crate) fn new() -> Self {
        Completion {
            state: AtomicU8::new(0),
            waiters: Mutex::new(Waiters::default()),
        }
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        is_on(self.state.load(Ordering::Acquire))
    }

    /// Whether it was turned on by `turn_on_early`.
    #[inline]
    pub(crate) fn is_early(&self) -> bool {
        self.state.load(Ordering::Acquire) & EARLY != 0
    }

    /// Turns the bit on and wakes everyone; later calls do nothing.
    pub(crate) fn complete(&self) {
        if self.turn_on() {
            self.wake();
        }
    }

    /// Turns the bit on; whoever did it first must call `wake`, holding no lock that a callback may want.
    #[must_use]
    pub(crate) fn turn_on(&self) -> bool {
        self.turn(DONE)
    }

    /// As `turn_on`, and says that this was an early end.
    #[must_use]
    pub(crate) fn turn_on_early(&self) -> bool {
        self.turn(EARLY)
    }

    #[inline]
    fn turn(&self, to: u8) -> bool {
        let mut seen = 0;
        while !is_on(seen) {
            let turned =
                self.state
                    .compare_exchange_weak(seen, seen | to, Ordering::AcqRel, Ordering::Acquire);
            match turned {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Under the lock, before a waiter enters the list: says that there is one (rule 1). Whether it need not, as the bit is on.
    fn comes_late(&self) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        if state & WAITED == 0 {
            state = self.state.fetch_or(WAITED, Ordering::AcqRel);
        }
        is_on(state)
    }

    pub(crate) fn wake(&self) {
        if self.state.load(Ordering::Acquire) & WAITED == 0 {
            return;
        }
        let (first, more) = {
            let mut waiters = self.waiters.lock();
            (waiters.first.take(), std::mem::take(&mut waiters.more))
        };
        if let Some(waiter) = first {
            waiter.wake();
        }
        more.into_iter().for_each(Waiter::wake);
    }

    /// Sleeps until the bit is on or `deadline` passes; says whether it is on.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        // A worker is often about to finish. Spinning for a moment costs less than two context switches; on a machine
        // with every core busy the yields let the worker have this one.
        for round in 0..SPINS {
            if self.is_done() {
                return true;
            }
            if round < SPINS / 2 {
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        {
            let mut waiters = self.waiters.lock();
            if self.comes_late() {
                return true;
            }
            waiters.push(Waiter::Thread(thread::current()));
        }
        loop {
            match deadline {
                None => thread::park(),
                Some(at) => {
                    let now = Instant::now();
                    if now < at && !self.is_done() {
                        thread::park_timeout(at - now);
                    }
                }
            }
            if self.is_done() {
                return true;
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                let me = thread::current().id();
                let gone = self
                    .waiters
                    .lock()
                    .take(|w| matches!(w, Waiter::Thread(t) if t.id() == me));
                drop(gone);
                return self.is_done();
            }
        }
    }

    /// Wakes `waker` when the bit turns on, in place of the one registered under `key` before. Ready when it is on already.
    pub(crate) fn register(&self, key: &mut Option<u64>, waker: &Waker) -> bool {
        // Cloned before the lock and dropped after it, as `take` says.
        let mut mine = waker.clone();
        let mut waiters = self.waiters.lock();
        if self.comes_late() {
            drop(waiters);
            return true;
        }
        if let Some(key) = *key {
            let Waiters { first, more, .. } = &mut *waiters;
            for waiter in first.iter_mut().chain(more) {
                if let Waiter::Task(k, old) = waiter
                    && *k == key
                {
                    std::mem::swap(old, &mut mine);
                    drop(waiters);
                    return false;
                }
            }
        }
        let fresh = waiters.next_key;
        waiters.next_key += 1;
        waiters.push(Waiter::Task(fresh, mine));
        *key = Some(fresh);
        false
    }

    /// Forgets the waker under `key`.
    pub(crate) fn unregister(&self, key: u64) {
        let gone = self
            .waiters
            .lock()
            .take(|waiter| matches!(waiter, Waiter::Task(k, _) if *k == key));
        drop(gone);
    }

    /// Calls `call` when the bit turns on, on the thread that turns it; at once if it is on.
    pub(crate) fn on_done(&self, call: Box<dyn FnOnce() + Send>) {
        {
            let mut waiters = self.waiters.lock();
            if !self.comes_late() {
                waiters.push(Waiter::Callback(call));
                return;
            }
        }
        Waiter::Callback(call).wake();
    }
}

const SPINS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[test]
    fn every_kind_of_waiter_is_woken_once() {
        let completion = Arc::new(Completion::new());
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        completion.on_done(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let waiter = {
            let completion = Arc::clone(&completion);
            thread::spawn(move || completion.wait(None))
        };
        completion.complete();
        completion.complete();
        assert!(waiter.join().expect("no panic"));
        let count = Arc::clone(&calls);
        completion.on_done(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    /// A waker that looks at the completion when it is dropped, and panics when it is woken.
    struct Nosy(Arc<Completion>);

    impl std::task::Wake for Nosy {
        fn wake(self: Arc<Self>) {
            panic!("nobody listens here");
        }
    }

    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.on_done(Box::new(|| {}));
        }
    }

    #[test]
    fn a_waker_is_dropped_outside_the_lock() {
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let completion = Arc::new(Completion::new());
            let mut key = None;
            let nosy = || Waker::from(Arc::new(Nosy(Arc::clone(&completion))));
            assert!(!completion.register(&mut key, &nosy()));
            assert!(!completion.register(&mut key, &nosy()), "replaced");
            completion.unregister(key.expect("it is registered"));
            completion.turn_on().then(|| completion.wake());
            assert!(completion.register(&mut None, &nosy()), "it is on");
            tell.send(())
        });
        let outcome = told.recv_timeout(Duration::from_secs(30));
        assert_eq!(outcome, Ok(()), "it waits for its own lock");
    }

    #[test]
    fn a_waker_that_panics_leaves_no_other_waiter_asleep() {
        let completion = Arc::new(Completion::new());
        let calls = Arc::new(AtomicUsize::new(0));
        let nosy = Waker::from(Arc::new(Nosy(Arc::clone(&completion))));
        assert!(!completion.register(&mut None, &nosy));
        let count = Arc::clone(&calls);
        completion.on_done(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        completion.complete();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_deadline_is_kept_and_leaves_no_waiter_behind() {
        let completion = Completion::new();
        let start = Instant::now();
        assert!(!completion.wait(Some(start + Duration::from_millis(20))));
        assert!(start.elapsed() >= Duration::from_millis(20));
        let waiters = completion.waiters.lock();
        assert!(waiters.first.is_none() && waiters.more.is_empty());
    }
}
