//! A call that begins at once in its own thread, and takes whatever help comes before it is done.
//!
//! 1. The caller claims chunks one after the other; so does each helper, a job of rayon's. A chunk is claimed once (`next`).
//! 2. A helper enters before its first claim and leaves after its last. When the caller finds no chunk left it closes the
//!    call: who has not entered never will, and finds nothing but this shared part, which it owns too.
//! 3. The caller waits for those inside, and only for those, also while it unwinds; then what it borrowed is free again.
//! 4. A panic of a helper becomes the caller's, when all have left.
//!
//! So neither a thread that sleeps nor one that is busy elsewhere makes a call late.

use crate::backend::Chunks;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Helpers that were asked for and have not come yet, in the whole program.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);

struct Call {
    /// Valid for the caller and for those inside: see rules 2 and 3.
    chunks: NonNull<Chunks<'static>>,
    next: AtomicUsize,
    inside: Mutex<Inside>,
    left: Condvar,
}

#[derive(Default)]
struct Inside {
    closed: bool,
    helpers: usize,
    panic: Option<Box<dyn Any + Send>>,
}

// SAFETY: `Chunks` may be used from any thread, and those that use it are inside.
unsafe impl Send for Call {}
// SAFETY: as above.
unsafe impl Sync for Call {}

impl Call {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs chunks until none is left.
    ///
    /// # Safety
    /// This is the caller, or a helper that is inside.
    unsafe fn work(&self) {
        // SAFETY: by the promise above.
        let chunks = unsafe { self.chunks.as_ref() };
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= chunks.count() {
                return;
            }
            chunks.run(index);
        }
    }

    fn help(&self) {
        let mut inside = self.lock();
        if inside.closed {
            return;
        }
        inside.helpers += 1;
        drop(inside);
        // SAFETY: counted as inside, above.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { self.work() }));
        let mut inside = self.lock();
        inside.helpers -= 1;
        if let Err(panic) = result {
            inside.panic.get_or_insert(panic);
        }
        drop(inside);
        self.left.notify_one();
    }
}

/// Closes the call and waits for its helpers, whatever made the caller leave.
struct Closing<'a>(&'a Call);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut inside = self.0.lock();
        inside.closed = true;
        while inside.helpers > 0 {
            inside = self.0.left.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs all chunks, in this thread and in those of rayon that are free.
pub(super) fn run(chunks: &Chunks<'_>) {
    run_among(chunks, &EXPECTED);
}

/// `expected` counts the helpers that were asked for and have not come.
fn run_among(chunks: &Chunks<'_>, expected: &'static AtomicUsize) {
    let threads = rayon::current_num_threads();
    let call = Arc::new(Call {
        // Only the lifetime changes. `Closing` keeps this frame until every helper inside has left.
        chunks: NonNull::from(chunks).cast(),
        next: AtomicUsize::new(0),
        inside: Mutex::default(),
        left: Condvar::new(),
    });
    {
        let _closing = Closing(&call);
        for _ in 1..threads.min(chunks.count()) {
            // Where rayon's threads are busy for long, calls must not queue up there without bound.
            if expected.fetch_add(1, Ordering::Relaxed) >= 8 * threads {
                expected.fetch_sub(1, Ordering::Relaxed);
                break;
            }
            let call = Arc::clone(&call);
            rayon::spawn(move || {
                expected.fetch_sub(1, Ordering::Relaxed);
                call.help();
            });
        }
        // SAFETY: this is the caller.
        unsafe { call.work() };
    }
    let panic = call.lock().panic.take();
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    /// Counts the runs of each chunk.
    fn counted(count: usize, each: impl Fn(usize) + Sync) -> Vec<usize> {
        let runs: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let work = |index: usize| {
            runs[index].fetch_add(1, Ordering::Relaxed);
            each(index);
        };
        run(&Chunks::new(count, &work));
        runs.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_chunk_runs_once() {
        for count in [1, 2, 3, 64, 1000] {
            assert_eq!(counted(count, |_| {}), vec![1; count]);
        }
    }

    #[test]
    fn a_call_ends_while_all_threads_of_rayon_are_busy() {
        let threads = rayon::current_num_threads();
        let (started, has_started) = mpsc::channel();
        let gates: Vec<mpsc::Sender<()>> = (0..threads)
            .map(|_| {
                let (gate, wait) = mpsc::channel::<()>();
                let started = started.clone();
                rayon::spawn(move || {
                    started.send(()).expect("the test waits");
                    // Until the gate is dropped.
                    let _ = wait.recv();
                });
                gate
            })
            .collect();
        // All that rayon has are in there, or this would be no test; other tests of this program end by themselves.
        (0..threads).for_each(|_| has_started.recv().expect("a thread"));
        for _ in 0..100 {
            assert_eq!(counted(50, |_| {}), vec![1; 50]);
        }
        assert!(
            EXPECTED.load(Ordering::Relaxed) <= 8 * threads + 8,
            "calls queue up"
        );
        drop(gates);
    }

    #[test]
    fn a_panic_of_any_thread_is_the_callers() {
        for bad in [0, 37, 99] {
            let result = catch_unwind(|| counted(100, |index| assert_ne!(index, bad, "chunk {index}")));
            assert!(result.is_err(), "chunk {bad}");
        }
        assert_eq!(counted(100, |_| {}), vec![1; 100]);
    }

    #[test]
    fn a_caller_that_panics_waits_for_its_helper() {
        // Of its own: other tests ask for helpers too, and while many are on their way no more are.
        static HELPERS: AtomicUsize = AtomicUsize::new(0);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .build()
            .expect("a pool");
        let [inside, leaving, gone, left, early] = [(); 5].map(|()| AtomicUsize::new(0));
        let deadline = Instant::now() + Duration::from_secs(60);
        let wait_for = |what: &AtomicUsize, whose: &str| {
            while what.load(Ordering::Acquire) == 0 {
                assert!(Instant::now() < deadline, "no {whose} came");
                std::thread::yield_now();
            }
        };
        let panicked = pool.install(|| {
            let caller = std::thread::current().id();
            let work = |index: usize| {
                if std::thread::current().id() == caller {
                    wait_for(&inside, "helper");
                    leaving.store(1, Ordering::Release);
                    panic!("chunk {index}");
                }
                inside.store(1, Ordering::Release);
                wait_for(&leaving, "caller");
                // A caller that does not wait is gone by then.
                let until = Instant::now() + Duration::from_millis(300);
                while gone.load(Ordering::Acquire) == 0 && Instant::now() < until {
                    std::thread::yield_now();
                }
                early.store(gone.load(Ordering::Acquire), Ordering::Release);
                left.store(1, Ordering::Release);
            };
            let result = catch_unwind(AssertUnwindSafe(|| run_among(&Chunks::new(2, &work), &HELPERS)));
            gone.store(1, Ordering::Release);
            wait_for(&left, "helper's end");
            result.is_err()
        });
        assert!(panicked, "the panic is the caller's");
        assert_eq!(
            early.load(Ordering::Acquire),
            0,
            "the caller left before its helper"
        );
    }
}
