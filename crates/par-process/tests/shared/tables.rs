//! Semaphores, condition variables, events and barriers: rules, deaths, stops and deadlines.

use crate::clean::{LONG, clean, decoded, encoded, reached, start, until};
use par_process::sync::{Barrier, BoundedSemaphore, Condvar, Event, LockError, Mutex, Semaphore, SyncError};
use par_process::{Process, RawArray, RawValue, SharedError};
use std::process::Stdio;
use std::time::{Duration, Instant};

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const SHORT: Duration = Duration::from_millis(30);

fn step() -> RawValue<u32> {
    RawValue::new(0).expect("memory")
}

/// A number of processes that count themselves.
fn count(array: &RawArray<u32>) -> u32 {
    array.as_atomics()[0].load(std::sync::atomic::Ordering::SeqCst)
}

fn add(array: &RawArray<u32>) -> u32 {
    array.as_atomics()[0].fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1
}

#[test]
fn permits_bound_how_many_are_inside() {
    clean(|| {
        let semaphore = Semaphore::new(2).expect("memory");
        let (inside, most) = (
            Mutex::new(0_u32).expect("memory"),
            Mutex::new(0_u32).expect("memory"),
        );
        let children: Vec<_> = (0..4)
            .map(|_| {
                start(
                    (semaphore.clone(), inside.clone(), most.clone()),
                    |(semaphore, inside, most)| {
                        for _ in 0..500 {
                            let permit = semaphore.acquire().expect("room");
                            let now = {
                                let mut inside = inside.lock().expect("nobody dies");
                                *inside += 1;
                                *inside
                            };
                            {
                                let mut most = most.lock().expect("nobody dies");
                                *most = now.max(*most);
                            }
                            *inside.lock().expect("nobody dies") -= 1;
                            drop(permit);
                        }
                    },
                )
            })
            .collect();
        for child in &children {
            assert_eq!(child.ends(), 0);
        }
        assert_eq!(semaphore.available().expect("whole"), 2);
        assert!(*most.lock().expect("nobody died") <= 2);
    });
}

#[test]
fn a_dead_holders_permits_come_back_and_spent_ones_do_not() {
    clean(|| {
        let (semaphore, step) = (Semaphore::new(3).expect("memory"), step());
        let holder = start((semaphore.clone(), step.clone()), |(semaphore, step)| {
            semaphore.acquire().expect("free").spend();
            let _permits = (
                semaphore.acquire().expect("free"),
                semaphore.acquire().expect("free"),
            );
            step.store(1);
            std::thread::sleep(LONG);
        });
        reached(&step, 1);
        assert_eq!(semaphore.available().expect("whole"), 0);
        assert!(matches!(semaphore.try_acquire(), Err(SyncError::TimedOut)));
        let waiter = start((semaphore.clone(), step.clone()), |(semaphore, step)| {
            step.store(2);
            drop(semaphore.acquire_timeout(LONG).expect("its holder died"));
        });
        reached(&step, 2);
        // A stopped holder keeps them.
        holder.stop();
        let started = Instant::now();
        assert!(matches!(
            semaphore.acquire_timeout(SHORT),
            Err(SyncError::TimedOut)
        ));
        assert!(started.elapsed() >= SHORT && started.elapsed() < LONG / 2);
        holder.kill();
        assert_eq!(waiter.ends(), 0);
        let _both = (
            semaphore.try_acquire().expect("free"),
            semaphore.try_acquire().expect("free"),
        );
        assert!(semaphore.try_acquire().is_err());
        semaphore.release(1).expect("no bound");
        drop(semaphore.acquire_timeout(CENTURY).expect("free"));
    });
}

#[test]
fn too_many_permits_or_holders_are_an_error() {
    clean(|| {
        let bounded = BoundedSemaphore::new(2).expect("memory");
        let over = bounded.release(1).expect_err("none is spent");
        assert_eq!(
            over.to_string(),
            "1 permits given back would make more than the 2 there are"
        );
        bounded.acquire().expect("free").spend();
        bounded.release(2).expect_err("one is spent");
        bounded.release(1).expect("one is spent");
        let semaphore = Semaphore::new(u64::MAX).expect("memory");
        semaphore.release(1).expect_err("more than can be counted");
        let narrow = Semaphore::with_places(5, 1).expect("memory");
        let permit = narrow.acquire().expect("free");
        let child = start(narrow.clone(), |narrow: Semaphore| {
            assert!(matches!(narrow.acquire(), Err(SyncError::Full(1))));
        });
        assert_eq!(child.ends(), 0);
        drop(permit);
        Semaphore::with_places(1, usize::MAX).expect_err("too many");
        decoded::<Semaphore>(&encoded(&bounded)).expect_err("another type");
    });
}

#[test]
fn a_notification_is_not_lost_with_a_dead_waiter() {
    clean(|| {
        let (mutex, changed) = (
            Mutex::new(0_u32).expect("memory"),
            Condvar::new().expect("memory"),
        );
        let here = RawArray::zeroed(1).expect("memory");
        let waiter = || {
            start(
                (mutex.clone(), changed.clone(), here.clone()),
                |(mutex, changed, here)| {
                    let guard = mutex.lock().expect("nobody dies with it");
                    add(&here);
                    let mut guard = changed
                        .wait_while(guard, |ready| *ready == 0)
                        .expect("nobody dies with it");
                    *guard -= 1;
                },
            )
        };
        let all_wait = |number| {
            until(&|| "they come".to_owned(), || count(&here) == number);
            // Whoever counted itself has the mutex until it waits.
            drop(mutex.lock().expect("nobody dies with it"));
        };
        let first = waiter();
        all_wait(1);
        let second = waiter();
        all_wait(2);
        // The first waits longest: it is the one that is notified, stopped, and then killed.
        first.stop();
        *mutex.lock().expect("nobody died with it") = 1;
        assert!(changed.notify_one());
        first.kill();
        assert_eq!(second.ends(), 0);
        assert_eq!(*mutex.lock().expect("nobody died with it"), 0);
        assert!(!changed.notify_one());
    });
}

#[test]
fn as_many_are_woken_as_are_notified() {
    clean(|| {
        let (mutex, changed) = (
            Mutex::new(0_u32).expect("memory"),
            Condvar::new().expect("memory"),
        );
        let (here, gone) = (
            RawArray::zeroed(1).expect("memory"),
            RawArray::zeroed(1).expect("memory"),
        );
        let children: Vec<_> = (0..4)
            .map(|_| {
                let all = (mutex.clone(), changed.clone(), here.clone(), gone.clone());
                start(all, |(mutex, changed, here, gone)| {
                    let guard = mutex.lock().expect("nobody dies");
                    add(&here);
                    drop(changed.wait(guard).expect("nobody dies"));
                    add(&gone);
                })
            })
            .collect();
        until(&|| "all wait".to_owned(), || count(&here) == 4);
        drop(mutex.lock().expect("nobody dies"));
        assert_eq!(changed.notify(0), 0);
        assert_eq!(changed.notify(3), 3);
        until(&|| "three go".to_owned(), || count(&gone) == 3);
        // Whoever was woken is not in the table any more.
        assert_eq!(changed.notify_all(), 1);
        for child in &children {
            assert_eq!(child.ends(), 0);
        }
    });
}

#[test]
fn waits_for_a_condition_keep_their_deadlines() {
    clean(|| {
        let (mutex, changed, step) = (
            Mutex::new(0_u32).expect("memory"),
            Condvar::new().expect("memory"),
            step(),
        );
        for timeout in [Duration::ZERO, SHORT] {
            let started = Instant::now();
            let (guard, notified) = changed
                .wait_timeout(mutex.lock().expect("free"), timeout)
                .expect("free");
            assert!(!notified && started.elapsed() >= timeout && started.elapsed() < LONG / 2);
            let (guard, holds) = changed
                .wait_timeout_while(guard, timeout, |_| true)
                .expect("free");
            assert!(!holds);
            assert!(
                changed
                    .wait_timeout_while(guard, CENTURY, |_| false)
                    .expect("free")
                    .1
            );
        }
        // One that is stopped with the mutex in hand keeps nobody.
        let owner = start(
            (mutex.clone(), changed.clone(), step.clone()),
            |(mutex, changed, step)| {
                step.store(1);
                while !changed.notify_one() {
                    std::thread::yield_now();
                }
                reached(&step, 2);
                let _guard = mutex.lock().expect("given back");
                step.store(3);
                std::thread::sleep(LONG);
            },
        );
        reached(&step, 1);
        let guard = mutex.lock().expect("free");
        let (guard, notified) = changed.wait_timeout(guard, LONG).expect("nobody has it");
        assert!(notified);
        drop(guard);
        step.store(2);
        reached(&step, 3);
        owner.stop();
        assert!(mutex.lock_timeout(SHORT).expect_err("taken").is_busy());
        let narrow = Condvar::with_places(0).expect("memory");
        let other = Mutex::new(0_u8).expect("memory");
        let full = narrow.wait(other.lock().expect("free")).expect_err("no place");
        assert!(full.to_string().starts_with("all 0 places"), "{full}");
        drop(other.try_lock().expect("not held after an error"));
    });
}

#[test]
fn events_wake_all_also_by_a_pulse() {
    clean(|| {
        let (event, here) = (
            Event::new().expect("memory"),
            RawArray::zeroed(1).expect("memory"),
        );
        assert!(!event.wait_timeout(Duration::ZERO));
        assert!(!event.wait_timeout(SHORT));
        let children: Vec<_> = (0..3)
            .map(|_| {
                start((event.clone(), here.clone()), |(event, here)| {
                    add(&here);
                    assert!(event.wait_timeout(CENTURY));
                })
            })
            .collect();
        until(&|| "they come".to_owned(), || count(&here) == 3);
        children[0].kill();
        // Until all have gone, as one may only be about to wait.
        until(&|| "all are woken".to_owned(), || {
            event.set();
            event.clear();
            par_process::active_children().is_empty()
        });
        assert!(!event.is_set());
        event.set();
        event.set();
        event.wait();
        assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
    });
}

#[test]
fn parties_go_on_together_round_after_round() {
    clean(|| {
        let barrier = Barrier::new(3).expect("memory");
        let (actions, places) = (
            RawArray::zeroed(1).expect("memory"),
            RawArray::<u32>::zeroed(3).expect("memory"),
        );
        let party = |(barrier, actions, places): (Barrier, RawArray<u32>, RawArray<u32>)| {
            for round in 1..=200 {
                let action = || {
                    add(&actions);
                };
                let place = barrier.wait_with(None, action).expect("whole");
                assert!(count(&actions) >= round);
                places.as_atomics()[place].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        let children: Vec<_> = (0..3)
            .map(|_| start((barrier.clone(), actions.clone(), places.clone()), party))
            .collect();
        for child in &children {
            assert_eq!(child.ends(), 0);
        }
        assert_eq!(count(&actions), 200);
        assert_eq!(places.to_vec(), [200; 3]);
        assert_eq!(
            (barrier.parties(), barrier.waiting(), barrier.is_broken()),
            (3, 0, false)
        );
    });
}

/// Waits at a barrier, and ends with 0 if it breaks.
fn breaks(barrier: Barrier) {
    assert!(matches!(barrier.wait(), Err(SyncError::Broken)));
}

#[test]
fn a_barrier_breaks_by_pythons_rules() {
    clean(|| {
        let barrier = Barrier::new(3).expect("memory");
        let one_waits = || {
            let child = start(barrier.clone(), breaks);
            until(&|| "it waits".to_owned(), || barrier.waiting() == 1);
            child
        };
        // A time that is over.
        let child = one_waits();
        assert!(matches!(
            barrier.wait_timeout(Duration::ZERO),
            Err(SyncError::TimedOut)
        ));
        assert_eq!(child.ends(), 0);
        assert!(barrier.is_broken());
        assert!(matches!(barrier.wait(), Err(SyncError::Broken)));
        barrier.reset().expect("whole");
        assert!(!barrier.is_broken());
        // An abort, and a reset.
        let child = one_waits();
        barrier.abort().expect("whole");
        assert_eq!(child.ends(), 0);
        assert!(matches!(barrier.wait_timeout(CENTURY), Err(SyncError::Broken)));
        barrier.reset().expect("whole");
        let child = one_waits();
        barrier.reset().expect("whole");
        assert_eq!(child.ends(), 0);
        assert!(!barrier.is_broken());
        // A party that dies while it waits, seen by another.
        let dying = one_waits();
        let other = start(barrier.clone(), breaks);
        until(&|| "both wait".to_owned(), || barrier.waiting() == 2);
        dying.kill();
        assert_eq!(other.ends(), 0);
        assert!(barrier.is_broken());
        barrier.reset().expect("whole");
        // An action that panics.
        let pair = Barrier::new(2).expect("memory");
        let other = start(pair.clone(), breaks);
        until(&|| "it waits".to_owned(), || pair.waiting() == 1);
        let panics = Process::of_fn(pair.clone(), |pair: Barrier| {
            let _ = pair.wait_with(None, || panic!("it must"));
        });
        let panics = panics.stderr(Stdio::null()).start().expect("starts");
        assert_eq!(panics.join_timeout(LONG).expect("waits"), Some(1));
        assert_eq!(other.ends(), 0);
        assert!(pair.is_broken());
        assert!(matches!(Barrier::new(0), Err(SharedError::Layout { .. })));
        Barrier::new(usize::MAX).expect_err("too many");
    });
}

#[test]
fn an_action_holds_the_next_round_and_breaks_with_its_actor() {
    clean(|| {
        let (pair, step) = (Barrier::new(2).expect("memory"), step());
        let waits = start(pair.clone(), breaks);
        until(&|| "it waits".to_owned(), || pair.waiting() == 1);
        let acts = start((pair.clone(), step.clone()), |(pair, step)| {
            let _ = pair.wait_with(None, || {
                step.store(1);
                std::thread::sleep(LONG);
            });
        });
        reached(&step, 1);
        // Of the next round; it hears of the death of the actor as well.
        let next = start(pair.clone(), breaks);
        acts.stop();
        acts.kill();
        assert_eq!((waits.ends(), next.ends()), (0, 0));
        assert!(pair.is_broken());
        pair.reset().expect("whole");
        // A deadline is kept also while a stopped actor acts.
        step.store(0);
        let acts = start((pair.clone(), step.clone()), |(pair, step)| {
            // Before the time of the other is over.
            while pair.waiting() == 0 {
                std::thread::yield_now();
            }
            let _ = pair.wait_with(None, || {
                step.store(1);
                std::thread::sleep(LONG);
            });
        });
        let waits = start(
            (pair.clone(), step.clone()),
            |(pair, step): (Barrier, RawValue<u32>)| {
                let timed_out = |timeout| matches!(pair.wait_timeout(timeout), Err(SyncError::TimedOut));
                assert!(timed_out(Duration::from_secs(2)));
                assert_eq!(step.load(), 1, "nobody acted");
            },
        );
        reached(&step, 1);
        acts.stop();
        assert_eq!(waits.ends(), 0);
    });
}

/// A bounded buffer: what is in it, how many were put and taken, and the sum of what was taken.
type Buffer = (Mutex<[u64; 4]>, Condvar, Condvar);

const ROOM: u64 = 3;
const ITEMS: u64 = 2_000;

#[test]
fn producers_and_consumers_lose_nothing() {
    clean(|| {
        let buffer: Buffer = (
            Mutex::new([0; 4]).expect("memory"),
            Condvar::new().expect("memory"),
            Condvar::new().expect("memory"),
        );
        let producer = |(mutex, filled, emptied): Buffer| {
            for _ in 0..ITEMS {
                let guard = mutex.lock().expect("nobody dies");
                let mut guard = emptied
                    .wait_while(guard, |[inside, ..]| *inside == ROOM)
                    .expect("nobody dies");
                guard[0] += 1;
                guard[1] += 1;
                drop(guard);
                filled.notify_one();
            }
        };
        let consumer = |(mutex, filled, emptied): Buffer| {
            for _ in 0..ITEMS {
                let guard = mutex.lock().expect("nobody dies");
                let mut guard = filled
                    .wait_while(guard, |[inside, ..]| *inside == 0)
                    .expect("nobody dies");
                guard[0] -= 1;
                guard[2] += 1;
                drop(guard);
                emptied.notify_one();
            }
        };
        let children = [
            start(buffer.clone(), producer),
            start(buffer.clone(), consumer),
            start(buffer.clone(), producer),
            start(buffer.clone(), consumer),
        ];
        for child in &children {
            assert_eq!(child.ends(), 0);
        }
        assert_eq!(
            *buffer.0.lock().expect("nobody died"),
            [0, 2 * ITEMS, 2 * ITEMS, 0]
        );
    });
}

/// Processes are killed at any time, with everything in hand or nothing, and those that are left go on.
#[test]
fn kills_at_any_time_stop_nobody() {
    clean(|| {
        type All = (Mutex<[u64; 2]>, Semaphore, RawArray<u32>);
        let all: All = (
            Mutex::new([0; 2]).expect("memory"),
            Semaphore::new(1).expect("memory"),
            RawArray::zeroed(1).expect("memory"),
        );
        let work = |(mutex, semaphore, here): All| {
            add(&here);
            loop {
                let _permit = semaphore.acquire().expect("places are given back");
                let guard = mutex.lock().or_else(|error| match error {
                    LockError::Abandoned(mut abandoned) => {
                        abandoned[1] = abandoned[0];
                        Ok(abandoned.repaired())
                    }
                    error => Err(error),
                });
                let mut guard = guard.expect("only deaths");
                assert_eq!(guard[0], guard[1]);
                guard[0] += 1;
                guard[1] += 1;
            }
        };
        for round in 0..30_u64 {
            let (one, other) = (start(all.clone(), work), start(all.clone(), work));
            // Memory on its way to one that dies before it has it is kept for ten minutes.
            let here = 2 * (round as u32 + 1);
            until(&|| "both have come".to_owned(), || count(&all.2) == here);
            std::thread::sleep(Duration::from_micros(round * 211 % 3_000));
            one.kill();
            // The other goes on, whatever the first had.
            let before = all
                .0
                .lock_timeout(LONG)
                .map_or_else(|error| error.abandoned().expect("held")[0], |guard| guard[0]);
            until(&|| format!("round {round}: it goes on"), || {
                all.0.try_lock().is_ok_and(|guard| guard[0] > before)
            });
            other.kill();
        }
        drop(all.1.acquire_timeout(LONG).expect("the dead have none"));
    });
}
