//! Locks and their like where things go wrong: panics, deaths, deadlines, crowds.

use par_sync::{
    Barrier, BarrierError, BoundedSemaphore, Condvar, Event, LockError, Mutex, NotOwner, OverRelease,
    RawMutex, RawReentrantMutex, ReentrantMutex, RwLock, Semaphore,
};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn settle(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        thread::yield_now();
    }
}

/// Panics in `f`, which holds something meanwhile.
fn panics(f: impl FnOnce()) {
    catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
}

#[test]
fn a_panic_gives_back_what_the_thread_had() {
    let mutex = Mutex::new(1);
    panics(|| {
        let mut guard = mutex.lock();
        *guard = 2;
        panic!("with the lock");
    });
    assert_eq!(*mutex.try_lock().expect("free"), 2);

    let reentrant = ReentrantMutex::new(());
    panics(|| {
        let (_one, _two) = (reentrant.lock(), reentrant.lock());
        panic!("with the lock, twice");
    });
    assert!(!reentrant.is_locked());

    let shared = RwLock::new(());
    panics(|| {
        let _read = shared.read();
        panic!("reading");
    });
    panics(|| {
        let _write = shared.write();
        panic!("writing");
    });
    assert!(!shared.is_locked());

    let semaphore = BoundedSemaphore::new(1);
    panics(|| {
        let _permit = semaphore.acquire();
        panic!("with the permit");
    });
    assert_eq!(semaphore.available(), 1);

    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    panics(|| {
        let mut guard = mutex.lock();
        condvar.wait_for(&mut guard, |_| panic!("in the predicate"));
    });
    assert!(!mutex.is_locked());
}

#[test]
fn a_mutex_says_who_cannot_have_it_and_when() {
    let mutex = Mutex::new(5);
    let guard = mutex.lock();
    assert!(mutex.is_locked());
    assert_eq!(mutex.try_lock().unwrap_err(), LockError::Busy);
    assert!(mutex.lock_timeout(Duration::ZERO).unwrap_err().is_busy());
    assert!(
        mutex
            .lock_timeout(Duration::from_millis(5))
            .unwrap_err()
            .is_busy()
    );
    drop(guard);
    assert_eq!(*mutex.lock_timeout(CENTURY).expect("free"), 5);
    assert_eq!(*mutex.lock_checked().expect("free"), 5);
    assert_eq!(mutex.into_inner(), 5);
}

#[test]
fn a_bump_lets_the_next_one_in() {
    let mutex = Mutex::new(0);
    thread::scope(|scope| {
        let mut guard = mutex.lock();
        let other = scope.spawn(|| *mutex.lock() = 1);
        settle("the other waits, and then has its turn", || {
            par_sync::MutexGuard::bump(&mut guard);
            *guard == 1
        });
        drop(guard);
        other.join().expect("no panic");
    });
}

#[test]
fn a_reentrant_mutex_counts_its_guards() {
    let mutex = ReentrantMutex::new(Cell::new(0));
    let one = mutex.lock();
    let two = mutex.try_lock().expect("mine");
    two.set(one.get() + 1);
    assert_eq!((mutex.depth(), mutex.is_owned()), (2, true));
    thread::scope(|scope| {
        let other = scope.spawn(|| (mutex.try_lock().is_err(), mutex.depth(), mutex.is_owned()));
        assert_eq!(other.join().expect("no panic"), (true, 0, false));
    });
    // In any order.
    drop(one);
    assert!(mutex.is_locked());
    drop(two);
    assert_eq!((mutex.is_locked(), mutex.depth()), (false, 0));
}

#[test]
fn readers_are_many_and_writers_alone() {
    let lock = RwLock::new(0);
    let (one, two) = (lock.read(), lock.try_read().expect("nobody writes"));
    assert!(lock.try_write().unwrap_err().is_busy());
    assert!(
        lock.write_timeout(Duration::from_millis(5))
            .unwrap_err()
            .is_busy()
    );
    drop((one, two));
    let write = lock.write_timeout(CENTURY).expect("free");
    assert!(lock.read_timeout(Duration::ZERO).unwrap_err().is_busy());
    drop(write);
    assert_eq!(*lock.read_checked().expect("free"), 0);
    *lock.write_checked().expect("free") = 1;
    assert_eq!(lock.into_inner(), 1);
}

#[test]
fn raw_locks_are_given_back_by_their_owner_only() {
    let lock = RawMutex::new();
    assert_eq!(lock.release(), Err(NotOwner::Free));
    lock.acquire();
    assert_eq!(lock.try_acquire(), Err(LockError::Busy));
    assert_eq!(lock.acquire_timeout(Duration::ZERO), Err(LockError::Busy));
    thread::scope(|scope| {
        let other = scope.spawn(|| (lock.release(), lock.acquire_timeout(Duration::from_millis(5))));
        let seen = other.join().expect("no panic");
        assert_eq!(seen, (Err(NotOwner::Another), Err(LockError::Busy)));
        let next = scope.spawn(|| {
            lock.acquire();
            lock.release()
        });
        lock.release().expect("mine");
        assert_eq!(next.join().expect("no panic"), Ok(()));
    });
    assert!(!lock.is_locked());

    let again = RawReentrantMutex::new();
    (0..3).for_each(|_| again.acquire());
    assert_eq!(again.depth(), 3);
    (0..3).for_each(|_| again.release().expect("mine"));
    assert_eq!(again.release(), Err(NotOwner::Free));
    assert_eq!(
        again.release().unwrap_err().to_string(),
        "the lock was given back, and nobody had it"
    );
}

/// A raw lock whose owner died is nobody's but the dead thread's: the others are told that it is busy, and do not hang.
#[test]
fn a_raw_lock_of_a_dead_thread_stays_taken() {
    let lock = RawMutex::new();
    thread::scope(|scope| scope.spawn(|| lock.acquire()).join().expect("no panic"));
    assert_eq!(
        lock.acquire_timeout(Duration::from_millis(5)),
        Err(LockError::Busy)
    );
    assert_eq!(lock.release(), Err(NotOwner::Another));
}

#[test]
fn permits_go_by_the_order_of_arrival() {
    let semaphore = Semaphore::new(0);
    let served = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..20 {
            let (semaphore, served) = (&semaphore, &served);
            scope.spawn(move || {
                semaphore.acquire().spend();
                served.lock().push(number);
            });
            settle("it waits", || semaphore.waiting() == number + 1);
        }
        for number in 0..20 {
            semaphore.release(1).expect("room");
            settle("it was served", || served.lock().len() == number + 1);
        }
    });
    assert_eq!(served.into_inner(), (0..20).collect::<Vec<_>>());
}

#[test]
fn who_gives_up_is_skipped() {
    let semaphore = Semaphore::new(0);
    thread::scope(|scope| {
        let first = scope.spawn(|| semaphore.acquire_timeout(Duration::from_millis(20)).is_err());
        settle("it waits, or did", || {
            semaphore.waiting() == 1 || first.is_finished()
        });
        let second = scope.spawn(|| semaphore.acquire().spend());
        assert!(first.join().expect("no panic"), "nobody gave a permit");
        settle("one waits", || semaphore.waiting() == 1);
        semaphore.release(1).expect("room");
        second.join().expect("no panic");
    });
    assert_eq!(semaphore.available(), 0);
    assert!(semaphore.acquire_timeout(Duration::ZERO).is_err());
}

#[test]
fn what_is_given_back_too_often_is_an_error_that_changes_nothing() {
    let semaphore = BoundedSemaphore::new(2);
    semaphore.acquire().spend();
    assert_eq!(
        semaphore.release(2),
        Err(OverRelease {
            given: 2,
            free: 1,
            bound: 2
        })
    );
    assert_eq!(semaphore.available(), 1);
    semaphore.release(1).expect("it was taken");
    assert!(semaphore.release(1).is_err());
    let open = Semaphore::new(usize::MAX);
    assert!(open.release(1).is_err());
    assert_eq!(open.available(), usize::MAX);
}

/// A notification for nobody is for nobody who comes later.
#[test]
fn a_notification_without_waiters_is_gone() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    assert!(!condvar.notify_one());
    assert_eq!((condvar.notify(5), condvar.notify_all()), (0, 0));
    let mut guard = mutex.lock();
    let woken = condvar.wait_timeout(&mut guard, Duration::from_millis(5));
    assert!(!woken.expect("no detector"));
    let so = condvar.wait_for_timeout(&mut guard, Duration::ZERO, |()| true);
    assert!(so.expect("no detector"), "what is so needs no time");
}

#[test]
fn nobody_wakes_by_itself() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut guard = mutex.lock();
                *guard += 1;
                let woken = condvar.wait_timeout(&mut guard, Duration::from_millis(100));
                assert!(!woken.expect("no detector"), "nobody notified");
            });
        }
    });
    assert_eq!(*mutex.lock(), 8);
}

#[test]
fn a_thread_that_dies_in_a_condition_takes_nobody_with_it() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        let dies = scope.spawn(|| {
            let mut guard = mutex.lock();
            *guard += 1;
            condvar.wait(&mut guard);
            panic!("woken, and gone");
        });
        settle("it waits", || *mutex.lock() == 1);
        let lives = scope.spawn(|| {
            let mut guard = mutex.lock();
            *guard += 1;
            condvar.wait(&mut guard);
        });
        settle("both wait", || *mutex.lock() == 2);
        assert_eq!(condvar.notify_all(), 2);
        assert!(dies.join().is_err());
        lives.join().expect("no panic");
    });
    assert!(!mutex.is_locked());
}

#[test]
fn an_event_is_seen_by_all_and_kept_by_none() {
    let event = Event::new();
    assert!(!event.wait_timeout(Duration::ZERO).expect("no detector"));
    assert!(!event.wait_timeout(Duration::from_millis(5)).expect("no detector"));
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| event.wait_timeout(CENTURY).expect("no detector")))
            .collect();
        event.set();
        assert!(waiters.into_iter().all(|waiter| waiter.join().expect("no panic")));
    });
    event.set();
    event.wait();
    event.clear();
    assert!(!event.is_set());
}

#[test]
fn a_barrier_needs_a_party() {
    let error = Barrier::new(0).unwrap_err();
    assert_eq!(error.to_string(), "a barrier needs at least one party, got 0");
    assert_eq!(Barrier::new(1).expect("one").wait(), Ok(0));
}

#[test]
fn a_party_that_gives_up_breaks_it_for_all() {
    let barrier = Barrier::new(3).expect("parties");
    thread::scope(|scope| {
        let patient = scope.spawn(|| barrier.wait());
        settle("it waits", || barrier.waiting() == 1);
        assert_eq!(
            barrier.wait_timeout(Duration::from_millis(5)),
            Err(BarrierError::TimedOut)
        );
        assert_eq!(patient.join().expect("no panic"), Err(BarrierError::Broken));
    });
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    barrier.reset();
    assert!(!barrier.is_broken());
    let short = Barrier::new(2)
        .expect("parties")
        .timeout(Duration::from_millis(5));
    assert_eq!(short.wait(), Err(BarrierError::TimedOut));
}

#[test]
fn a_reset_sends_away_who_waits_and_begins_anew() {
    let barrier = Barrier::new(2).expect("parties");
    thread::scope(|scope| {
        let early = scope.spawn(|| barrier.wait());
        settle("it waits", || barrier.waiting() == 1);
        barrier.reset();
        assert_eq!(early.join().expect("no panic"), Err(BarrierError::Broken));
        let one = scope.spawn(|| barrier.wait().is_ok());
        assert!(barrier.wait().is_ok());
        assert!(one.join().expect("no panic"));
    });
}

#[test]
fn a_panic_in_the_action_is_its_runners_and_breaks_the_barrier() {
    let barrier = Barrier::with_action(2, || panic!("in the action")).expect("parties");
    thread::scope(|scope| {
        let first = scope.spawn(|| barrier.wait());
        settle("it waits", || barrier.waiting() == 1);
        panics(|| drop(barrier.wait()));
        assert_eq!(first.join().expect("no panic"), Err(BarrierError::Broken));
    });
    assert!(barrier.is_broken());
}

/// The action may use its own barrier: nothing is locked while it runs.
#[test]
fn an_action_may_abort_its_own_barrier() {
    let slot: Arc<Mutex<Option<Arc<Barrier>>>> = Arc::default();
    let held = Arc::clone(&slot);
    let barrier = Barrier::with_action(2, move || {
        let barrier = held.lock().clone().expect("put there below");
        assert_eq!(barrier.parties(), 2);
        barrier.abort();
    });
    let barrier = Arc::new(barrier.expect("parties"));
    *slot.lock() = Some(Arc::clone(&barrier));
    thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait());
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
        assert_eq!(other.join().expect("no panic"), Err(BarrierError::Broken));
    });
    slot.lock().take();
}

/// Who comes while the action runs belongs to the next round, and its deadline holds.
#[test]
fn who_comes_during_an_action_waits_for_the_next_round() {
    let (inside, leave) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (tell, wait) = (Arc::clone(&inside), Arc::clone(&leave));
    let barrier = Barrier::with_action(2, move || {
        tell.set();
        wait.wait();
    });
    let barrier = barrier.expect("parties");
    thread::scope(|scope| {
        let pair = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
        inside.wait();
        assert_eq!(
            barrier.wait_timeout(Duration::from_millis(5)),
            Err(BarrierError::TimedOut)
        );
        leave.set();
        let mut places = pair.map(|party| party.join().expect("no panic").expect("their round was complete"));
        places.sort_unstable();
        assert_eq!(places, [0, 1]);
    });
    assert!(barrier.is_broken());
}

#[test]
fn a_barrier_holds_in_a_long_storm() {
    const PARTIES: usize = 5;
    const ROUNDS: usize = 2_000;
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let barrier = Barrier::with_action(PARTIES, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let barrier = barrier.expect("parties");
    let places: Vec<AtomicUsize> = (0..PARTIES).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..PARTIES {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let place = barrier.wait().expect("nobody gives up");
                    places[place].fetch_add(1, Ordering::Relaxed);
                    assert!(ran.load(Ordering::Relaxed) > round, "before the action");
                }
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), ROUNDS);
    assert!(places.iter().all(|place| place.load(Ordering::Relaxed) == ROUNDS));
}

/// Aborts and resets from outside, at any moment: every wait ends, and what is left is whole.
#[test]
fn a_barrier_outlives_aborts_and_resets_at_any_moment() {
    let barrier = Barrier::new(3).expect("parties");
    let over = Event::new();
    let met = AtomicUsize::new(0);
    thread::scope(|scope| {
        let parties: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !over.is_set() {
                        if barrier.wait_timeout(Duration::from_millis(50)).is_ok() {
                            met.fetch_add(1, Ordering::Relaxed);
                        } else {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for turn in 0..2_000 {
            if turn % 3 == 0 {
                barrier.abort();
            }
            barrier.reset();
            thread::yield_now();
        }
        settle("they meet in the end", || {
            barrier.reset();
            let before = met.load(Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
            met.load(Ordering::Relaxed) > before
        });
        over.set();
        barrier.abort();
        parties
            .into_iter()
            .for_each(|party| party.join().expect("no panic"));
    });
    barrier.reset();
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
}

#[test]
fn thousands_of_threads_wait_and_go_on() {
    const CROWD: usize = 2_000;
    let (gate, barrier) = (Event::new(), Barrier::new(CROWD).expect("parties"));
    let (permits, inside) = (Semaphore::new(3), AtomicUsize::new(0));
    let total = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..CROWD {
            let crowd = thread::Builder::new().stack_size(64 << 10);
            let work = || {
                gate.wait();
                barrier.wait().expect("all come");
                let _permit = permits.acquire();
                assert!(
                    inside.fetch_add(1, Ordering::SeqCst) < 3,
                    "more than there are permits"
                );
                *total.lock() += 1;
                inside.fetch_sub(1, Ordering::SeqCst);
            };
            crowd.spawn_scoped(scope, work).expect("a thread");
        }
        gate.set();
    });
    assert_eq!((total.into_inner(), permits.available()), (CROWD, 3));
}

/// Without the features nothing is added: a lock is as large as the one it stands on, and so is its guard.
#[cfg(not(any(feature = "deadlock", feature = "statistics")))]
#[test]
fn what_is_not_watched_takes_no_room() {
    use std::mem::size_of;
    assert_eq!(size_of::<Mutex<u8>>(), size_of::<parking_lot::Mutex<u8>>());
    assert_eq!(size_of::<RwLock<u64>>(), size_of::<parking_lot::RwLock<u64>>());
    assert_eq!(
        size_of::<par_sync::MutexGuard<'_, u8>>(),
        size_of::<parking_lot::MutexGuard<'_, u8>>()
    );
    assert_eq!(size_of::<Condvar>(), size_of::<parking_lot::Condvar>());
}
