//! Mutexes: counting, deaths, stops and deadlines.

use crate::clean::{LONG, clean, reached, start};
use par_process::sync::{LockError, Mutex, ReentrantMutex};
use par_process::{Process, RawValue, SharedArray};
use std::process::Stdio;
use std::time::{Duration, Instant};

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn no_increment_is_lost() {
    clean(|| {
        let (count, again) = (
            Mutex::new(0_u64).expect("memory"),
            ReentrantMutex::new(0_u64).expect("memory"),
        );
        let children: Vec<_> = (0..4)
            .map(|_| {
                start((count.clone(), again.clone()), |(count, again)| {
                    for _ in 0..5_000 {
                        *count.lock().expect("nobody dies") += 1;
                        let outer = again.lock().expect("nobody dies");
                        let inner = again.lock().expect("its own");
                        inner.set(outer.get() + 1);
                    }
                })
            })
            .collect();
        for child in &children {
            assert_eq!(child.ends(), 0);
        }
        assert_eq!(*count.lock().expect("nobody died"), 20_000);
        assert_eq!(again.lock().expect("nobody died").get(), 20_000);
    });
}

/// Locks, tells so, and never gives it back.
fn holder((mutex, step): (Mutex<[u64; 2]>, RawValue<u32>)) {
    let mut guard = mutex.lock().expect("free");
    guard[0] = 1;
    step.store(1);
    std::thread::sleep(LONG);
    guard[1] = 1;
}

#[test]
fn the_next_hears_of_a_killed_owner_and_mends() {
    clean(|| {
        let (mutex, step) = (
            Mutex::new([0_u64; 2]).expect("memory"),
            RawValue::new(0_u32).expect("memory"),
        );
        let owner = start((mutex.clone(), step.clone()), holder);
        reached(&step, 1);
        // One waits already when the owner dies.
        let waiter = start((mutex.clone(), step.clone()), |(mutex, step)| {
            step.store(2);
            let error = mutex.lock().expect_err("its owner died");
            let guard = error.abandoned().expect("held").into_guard();
            assert_eq!(*guard, [1, 0]);
        });
        reached(&step, 2);
        owner.kill();
        assert_eq!(waiter.ends(), 0);
        // The waiter said nothing of a repair, so everyone is told.
        for _ in 0..2 {
            let error = mutex.try_lock().expect_err("not repaired");
            assert!(matches!(error, LockError::Abandoned(_)), "{error}");
        }
        let mut guard = mutex.lock().expect_err("not repaired").abandoned().expect("held");
        guard[1] = 1;
        assert_eq!(*guard.repaired(), [1, 1]);
        assert_eq!(*mutex.lock().expect("repaired"), [1, 1]);
    });
}

#[test]
fn a_panic_is_told_as_a_death_is() {
    clean(|| {
        let mutex = SharedArray::from_slice(&[1, 2]).expect("memory");
        let child = Process::of_fn(mutex.clone(), |mutex: SharedArray<i32>| {
            let _guard = mutex.lock().expect("free");
            panic!("it must");
        });
        let child = child.stderr(Stdio::null()).start().expect("starts");
        assert_eq!(child.join_timeout(LONG).expect("waits"), Some(1));
        let error = mutex.lock().expect_err("its owner panicked");
        drop(error.abandoned().expect("held").repaired());
        drop(mutex.lock().expect("repaired"));
    });
}

#[test]
fn a_reentrant_lock_survives_its_owner_however_deep() {
    clean(|| {
        let (mutex, step) = (
            ReentrantMutex::new(0_u32).expect("memory"),
            RawValue::new(0_u32).expect("memory"),
        );
        let owner = start((mutex.clone(), step.clone()), |(mutex, step)| {
            let _one = mutex.lock().expect("free");
            let _two = mutex.try_lock().expect("its own");
            let _three = mutex.lock_timeout(Duration::ZERO).expect("its own");
            step.store(1);
            std::thread::sleep(LONG);
        });
        reached(&step, 1);
        assert!(mutex.try_lock().expect_err("taken").is_busy());
        assert!(mutex.lock_timeout(SHORT).expect_err("taken").is_busy());
        owner.kill();
        let guard = mutex
            .lock()
            .expect_err("its owner died")
            .abandoned()
            .expect("held")
            .repaired();
        let again = mutex.lock().expect("repaired");
        drop((again, guard));
        let child = start(mutex.clone(), |mutex| drop(mutex.try_lock().expect("free again")));
        assert_eq!(child.ends(), 0);
    });
}

#[test]
fn nobody_waits_for_a_stopped_owner_beyond_the_deadline() {
    clean(|| {
        let (mutex, step) = (
            Mutex::new([0_u64; 2]).expect("memory"),
            RawValue::new(0_u32).expect("memory"),
        );
        let owner = start((mutex.clone(), step.clone()), holder);
        reached(&step, 1);
        owner.stop();
        let started = Instant::now();
        assert!(mutex.try_lock().expect_err("taken").is_busy());
        assert!(mutex.lock_timeout(Duration::ZERO).expect_err("taken").is_busy());
        assert!(mutex.lock_timeout(SHORT).expect_err("taken").is_busy());
        assert!(started.elapsed() >= SHORT && started.elapsed() < LONG / 2);
        // Who waits for a century, or for ever, gets it when the owner dies, stopped as it is.
        for long in [CENTURY, Duration::MAX] {
            let waiter = start((mutex.clone(), step.clone(), long), |(mutex, step, long)| {
                step.store(2);
                drop(
                    mutex
                        .lock_timeout(long)
                        .expect_err("its owner died")
                        .abandoned()
                        .expect("held"),
                );
            });
            reached(&step, 2);
            step.store(0);
            owner.kill();
            assert_eq!(waiter.ends(), 0);
        }
    });
}

#[test]
fn a_thread_that_locks_again_is_told() {
    clean(|| {
        let mutex = Mutex::new(0_u8).expect("memory");
        let guard = mutex.lock().expect("free");
        assert!(matches!(mutex.lock(), Err(LockError::Deadlock)));
        assert!(matches!(mutex.lock_timeout(CENTURY), Err(LockError::Deadlock)));
        assert!(matches!(mutex.try_lock(), Err(LockError::Deadlock)));
        drop(guard);
        drop(mutex.lock().expect("free"));
        // Another thread of this process waits as another process does.
        let guard = mutex.lock().expect("free");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| mutex.lock_timeout(SHORT).is_err_and(|error| error.is_busy()));
            assert!(other.join().expect("it does not panic"));
        });
        drop(guard);
    });
}

/// The C library's list of what a thread holds leads into memory whose guard was forgotten and whose mutex was dropped.
#[test]
fn a_forgotten_guard_leaves_no_hole() {
    clean(|| {
        let child = start((), |()| {
            for round in 0..100_u64 {
                let forgotten = Mutex::new([round; 1000]).expect("memory");
                std::mem::forget(forgotten.lock().expect("free"));
                drop(forgotten);
                let next = Mutex::new(round).expect("memory");
                assert_eq!(*next.lock().expect("free"), round);
            }
        });
        assert_eq!(child.ends(), 0);
    });
}
