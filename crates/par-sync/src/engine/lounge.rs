//! The lounge, where workers without work sleep.
//!
//! 1. A worker that found nothing announces itself, looks once more, and then sleeps or leaves.
//! 2. Whoever brings work first makes it visible and then calls.
//! 3. Between the two steps of either side stands a sequentially consistent fence. So the worker's second look sees the
//!    work, or the call sees the announcement: no work is missed.
//! 4. A call turns announced workers into called ones; each called one wakes, or uses its call up by leaving. So the
//!    workers between announcement and waking are always as many as `announced + called`.

use crate::sync_seam::{AtomicUsize, Condvar, Mutex, Ordering, fence, lock, wait};

pub(crate) struct Lounge {
    /// A copy of `Seats::announced` for those who call.
    announced: AtomicUsize,
    seats: Mutex<Seats>,
    called: Condvar,
}

struct Seats {
    announced: usize,
    called: usize,
}

impl Lounge {
    pub(crate) fn new() -> Self {
        Lounge {
            announced: AtomicUsize::new(0),
            seats: Mutex::new(Seats {
                announced: 0,
                called: 0,
            }),
            called: Condvar::new(),
        }
    }

    /// Says that this worker is about to sleep (rule 1). It looks for work once more, and then sleeps or leaves.
    pub(crate) fn announce(&self) {
        {
            let mut seats = lock(&self.seats);
            seats.announced += 1;
            self.announced.store(seats.announced, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(crate) fn leave(&self) {
        let mut seats = lock(&self.seats);
        if seats.announced > 0 {
            seats.announced -= 1;
            self.announced.store(seats.announced, Ordering::Relaxed);
        } else {
            seats.called -= 1;
        }
    }

    /// Sleeps until called.
    pub(crate) fn sleep(&self) {
        let mut seats = lock(&self.seats);
        while seats.called == 0 {
            seats = wait(&self.called, seats);
        }
        seats.called -= 1;
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
        let count = {
            let mut seats = lock(&self.seats);
            let count = most.min(seats.announced);
            seats.announced -= count;
            seats.called += count;
            self.announced.store(seats.announced, Ordering::Relaxed);
            count
        };
        match count {
            0 => {}
            1 => self.called.notify_one(),
            _ => self.called.notify_all(),
        }
    }
}
