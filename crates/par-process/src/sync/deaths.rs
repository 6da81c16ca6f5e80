//! Tests that let a process die at named places inside the primitives, with the lock of a table in hand or without.

use super::{Barrier, Condvar, LockError, Mutex, Semaphore, SyncError};
use crate::failpoint::{self, How};
use crate::{Process, RawValue};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a machine under load; nothing waits so long where all is right.
const LONG: Duration = Duration::from_secs(60);

/// Runs in another process, which must die at this point.
fn dies<I: par_core::Data>(point: &'static str, input: I, function: fn((String, I))) {
    let child = Process::of_fn((point.to_owned(), input), function)
        .daemon(true)
        .start()
        .expect("starts");
    let end = child.join_timeout(LONG).expect("waits");
    child.kill().expect("signals");
    assert_eq!(end, Some(-9), "at {point}");
}

fn arm(point: String) {
    failpoint::arm(&point, 0, How::Kill);
}

#[test]
fn a_semaphore_is_whole_wherever_a_process_dies() {
    for point in ["semaphore.taking", "semaphore.taken"] {
        let semaphore = Semaphore::new(1).expect("memory");
        dies(point, semaphore.clone(), |(point, semaphore)| {
            arm(point);
            drop(semaphore.acquire());
        });
        let permit = semaphore.acquire_timeout(LONG).expect("it is free again");
        drop(permit);
        assert_eq!(semaphore.available().expect("whole"), 1);
    }
    let semaphore = Semaphore::new(2).expect("memory");
    dies("semaphore.spending", semaphore.clone(), |(point, semaphore)| {
        let permit = semaphore.acquire().expect("free");
        arm(point);
        permit.spend();
    });
    // One is spent, as it was to be; nobody holds the other.
    let permit = semaphore.acquire_timeout(LONG).expect("free");
    assert!(matches!(semaphore.try_acquire(), Err(SyncError::TimedOut)));
    drop(permit);
    let semaphore = Semaphore::new(0).expect("memory");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| semaphore.acquire_timeout(LONG).map(drop));
        dies("semaphore.released", semaphore.clone(), |(point, semaphore)| {
            arm(point);
            drop(semaphore.release(1));
        });
        waiter.join().expect("no panic").expect("it looks for itself");
    });
}

/// Waits for the value to rise, dying on the way.
fn waits((point, (mutex, changed)): (String, (Mutex<u32>, Condvar))) {
    let guard = mutex.lock().expect("free");
    arm(point);
    drop(changed.wait_while(guard, |ready| *ready == 0));
}

#[test]
fn a_condvar_goes_on_wherever_a_waiter_dies() {
    for point in [
        "waiters.entering",
        "waiters.entered",
        "condvar.awake",
        "condvar.locked",
    ] {
        let (mutex, changed) = (
            Mutex::new(0_u32).expect("memory"),
            Condvar::new().expect("memory"),
        );
        let (theirs, done) = (
            (mutex.clone(), changed.clone()),
            RawValue::new(0_u32).expect("memory"),
        );
        let started = Instant::now();
        thread::scope(|scope| {
            let dying = scope.spawn(|| dies(point, theirs, waits));
            // Whoever waits longest gets the notification, and dies with it. The one below gets it then, or word of the death.
            let notifier = scope.spawn(|| {
                while done.load() == 0 {
                    changed.notify_one();
                    thread::yield_now();
                    assert!(started.elapsed() < LONG, "at {point}");
                }
            });
            dying.join().expect("it dies");
            let guard = mutex.lock_timeout(LONG).or_else(|error| match error {
                LockError::Abandoned(abandoned) => Ok(abandoned.repaired()),
                error => Err(error),
            });
            let guard = guard.expect("nobody lives who has it");
            let (guard, _) = changed
                .wait_timeout(guard, LONG)
                .expect("nobody lives who has it");
            drop(guard);
            done.store(1);
            notifier.join().expect("no panic");
        });
        assert_eq!(changed.notify_all(), 0, "at {point}");
    }
}

#[test]
fn a_waker_that_dies_wakes_nevertheless() {
    let (mutex, changed) = (
        Mutex::new(0_u32).expect("memory"),
        Condvar::new().expect("memory"),
    );
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = mutex.lock().expect("free");
            let (_guard, notified) = changed.wait_timeout(guard, LONG).expect("free");
            notified
        });
        dies("waiters.waking", changed.clone(), |(point, changed)| {
            arm(point);
            while !changed.notify_one() {
                thread::yield_now();
            }
        });
        assert!(waiter.join().expect("no panic"), "it looks for itself");
    });
}

#[test]
fn a_barrier_breaks_wherever_a_process_dies() {
    for point in ["waiters.entering", "waiters.entered"] {
        let barrier = Barrier::new(3).expect("memory");
        dies(point, barrier.clone(), |(point, barrier)| {
            arm(point);
            drop(barrier.wait());
        });
        // It had not come, or it has died; and then with the lock of the table in hand, which breaks the barrier too.
        let broken = barrier.wait_timeout(LONG);
        assert!(matches!(broken, Err(SyncError::Broken)), "{broken:?} at {point}");
        barrier.reset().expect("whole");
        assert_eq!(barrier.waiting(), 0);
    }
    let barrier = Barrier::new(3).expect("memory");
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| barrier.wait_timeout(LONG)))
            .collect();
        dies("waiters.waking", barrier.clone(), |(point, barrier)| {
            while barrier.waiting() < 2 {
                thread::yield_now();
            }
            arm(point);
            drop(barrier.wait());
        });
        let answers: Vec<_> = waiters
            .into_iter()
            .map(|waiter| waiter.join().expect("no panic"))
            .collect();
        // One had its leave, the other hears that the barrier broke before it had.
        assert_eq!(
            answers.iter().filter(|answer| answer.is_ok()).count(),
            1,
            "{answers:?}"
        );
        assert!(
            answers
                .iter()
                .any(|answer| matches!(answer, Err(SyncError::Broken))),
            "{answers:?}"
        );
    });
    assert!(barrier.is_broken());
}
