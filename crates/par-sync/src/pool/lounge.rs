//! The lounge, where workers without work sleep.
//!
//! 1. A worker that found nothing announces itself, looks once more, and then sleeps or leaves.
//! 2. Whoever brings work first makes it visible and then calls.
//! 3. Between the two steps of either side stands a sequentially consistent fence. So the worker's second look sees the
//!    work, or the call sees the announcement: no work is missed.
//! 4. A call takes workers from the list and rings the bell of each. A worker sleeps as long as it is on the list, so a
//!    call that was meant for it cannot be used up by another: work may be there for just this worker.

use crate::sync_seam::{AtomicUsize, Condvar, Mutex, Ordering, fence, lock, wait};
use std::sync::Arc;

pub(crate) struct Lounge {
    /// How many are on the list, for those who call.
    announced: AtomicUsize,
    list: Mutex<Vec<Bell>>,
}

/// What wakes one worker; it keeps the same one all its life.
#[derive(Clone)]
pub(crate) struct Bell(Arc<Condvar>);

impl Bell {
    pub(crate) fn new() -> Self {
        Bell(Arc::new(Condvar::new()))
    }

    fn is(&self, other: &Bell) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Lounge {
    pub(crate) fn new() -> Self {
        Lounge {
            announced: AtomicUsize::new(0),
            list: Mutex::new(Vec::new()),
        }
    }

    /// Says that this worker is about to sleep (rule 1). It looks for work once more, and then sleeps or leaves.
    pub(crate) fn announce(&self, bell: &Bell) {
        {
            let mut list = lock(&self.list);
            list.push(bell.clone());
            self.announced.store(list.len(), Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back, if no call has done so.
    pub(crate) fn leave(&self, bell: &Bell) {
        let mut list = lock(&self.list);
        list.retain(|other| !other.is(bell));
        self.announced.store(list.len(), Ordering::Relaxed);
    }

    /// Sleeps until called.
    pub(crate) fn sleep(&self, bell: &Bell) {
        let mut list = lock(&self.list);
        while list.iter().any(|other| other.is(bell)) {
            list = wait(&bell.0, list);
        }
    }

    /// Wakes up to `most` workers, after work was made visible (rule 2).
    pub(crate) fn call(&self, most: usize) {
        fence(Ordering::SeqCst);
        self.call_if_seen(most);
    }

    /// As [`call`](Self::call) without the fence: may miss a worker that is just lying down. For work that is done by its
    /// owner if nobody comes.
    #[inline]
    pub(crate) fn call_if_seen(&self, most: usize) {
        if self.announced.load(Ordering::Relaxed) > 0 {
            self.wake(most);
        }
    }

    #[cold]
    fn wake(&self, most: usize) {
        let called: Vec<Bell> = {
            let mut list = lock(&self.list);
            // Whoever lay down last is the one whose caches are warm.
            let from = list.len().saturating_sub(most);
            let called = list.drain(from..).collect();
            self.announced.store(list.len(), Ordering::Relaxed);
            called
        };
        for bell in called {
            bell.0.notify_one();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;

    /// A worker whose work is one flag: it ends once it has seen it.
    fn work(lounge: &Lounge, flag: &AtomicUsize) {
        let bell = Bell::new();
        let there = || flag.load(Ordering::Relaxed) > 0;
        while !there() {
            lounge.announce(&bell);
            if there() {
                return lounge.leave(&bell);
            }
            lounge.sleep(&bell);
        }
    }

    /// That many workers, each with work of its own, and what their caller does. A worker that sleeps for ever is a deadlock, which
    /// loom reports.
    fn model(workers: usize, caller: fn(&Lounge, &[Arc<AtomicUsize>])) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let lounge = Arc::new(Lounge::new());
            let flags: Vec<_> = (0..workers).map(|_| Arc::new(AtomicUsize::new(0))).collect();
            let threads: Vec<_> = flags
                .iter()
                .map(|flag| {
                    let (lounge, flag) = (Arc::clone(&lounge), Arc::clone(flag));
                    loom::thread::spawn(move || work(&lounge, &flag))
                })
                .collect();
            caller(&lounge, &flags);
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert!(lock(&lounge.list).is_empty(), "somebody is still on the list");
        });
    }

    #[test]
    fn a_call_after_the_work_is_not_missed() {
        model(1, |lounge, flags| {
            flags[0].store(1, Ordering::Relaxed);
            lounge.call(1);
        });
    }

    #[test]
    fn a_call_to_everyone_reaches_everyone() {
        model(2, |lounge, flags| {
            for flag in flags {
                flag.store(1, Ordering::Relaxed);
            }
            lounge.call(usize::MAX);
        });
    }

    #[test]
    fn a_worker_that_was_called_for_nothing_hears_the_next_call() {
        model(1, |lounge, flags| {
            lounge.call(1);
            flags[0].store(1, Ordering::Relaxed);
            lounge.call(1);
        });
    }
}
