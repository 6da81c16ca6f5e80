//! The detector of deadlocks: what it finds, where it is silent, and how it tells.
#![cfg(feature = "deadlock")]

use par_sync::{
    Barrier, Condvar, Event, JoinError, LockError, Mutex, Queue, RawMutex, ReentrantMutex, RwLock, Thread,
    deadlock, scope,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn settle(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::yield_now();
    }
}

/// Until the detector has seen a thread wait for what is called so.
fn waits_for(name: &str) {
    settle(name, || {
        deadlock::snapshot().contains(&format!("waits for {name}"))
    });
}

#[test]
fn a_thread_does_not_wait_for_itself() {
    deadlock::enable();
    let mutex = Mutex::named("mine", ());
    let held = mutex.lock();
    let report = mutex.lock_checked().unwrap_err().to_string();
    assert!(
        report.starts_with("deadlock: a thread waits for what it holds:"),
        "{report}"
    );
    assert!(
        report.contains(r#"holds mutex "mine" since crates/par-sync/tests/deadlock.rs:"#),
        "{report}"
    );
    let late = mutex.lock_timeout(Duration::from_secs(3600)).unwrap_err();
    assert!(matches!(late, LockError::Deadlock(_)), "{late}");
    assert_eq!(mutex.try_lock().unwrap_err(), LockError::Busy);
    let panic = catch_unwind(AssertUnwindSafe(|| drop(mutex.lock()))).unwrap_err();
    assert!(
        panic
            .downcast_ref::<String>()
            .is_some_and(|text| text.contains("\"mine\""))
    );
    drop(held);
    drop(mutex.lock());

    let raw = RawMutex::new();
    raw.acquire();
    assert!(raw.acquire_checked().is_err());
    raw.release().expect("mine");
    let again = ReentrantMutex::new(());
    let (one, two) = (again.lock(), again.lock_checked().expect("it may"));
    drop((one, two));
    let shared = RwLock::named("shared", ());
    let read = shared.read();
    assert!(
        shared.write_checked().is_err(),
        "a reader that wants to write waits for itself"
    );
    drop(read);
    drop(shared.write());
}

#[test]
fn two_threads_and_two_locks_the_wrong_way_round() {
    deadlock::enable();
    let (left, right) = (Mutex::named("left", ()), Mutex::named("right", ()));
    let taken = Event::new();
    scope(|scope| {
        let held = right.lock();
        scope.spawn(|| {
            let _left = left.lock();
            taken.set();
            drop(right.lock());
        });
        taken.wait();
        waits_for(r#"mutex "right""#);
        let report = left.lock_checked().unwrap_err().to_string();
        assert!(
            report.starts_with("deadlock: 2 threads wait for each other:"),
            "{report}"
        );
        for part in [
            r#"holds mutex "left""#,
            r#"holds mutex "right""#,
            r#"waits for mutex "left""#,
            r#"waits for mutex "right""#,
        ] {
            assert!(report.contains(part), "{part} in {report}");
        }
        // Whoever is told gives way, and the other goes on.
        drop(held);
    });
    drop((left.lock(), right.lock()));
}

#[test]
fn rings_of_many_are_closed_by_the_last() {
    deadlock::enable();
    const RING: usize = 8;
    let locks: Vec<Mutex<()>> = (0..RING)
        .map(|number| Mutex::named(&format!("ring-{number}"), ()))
        .collect();
    let all_have_one = Barrier::new(RING).expect("parties");
    scope(|scope| {
        for number in 0..RING - 1 {
            let (locks, all_have_one) = (&locks, &all_have_one);
            scope.spawn(move || {
                let _mine = locks[number].lock();
                all_have_one.wait().expect("nobody gives up");
                drop(locks[number + 1].lock());
            });
        }
        let last = locks[RING - 1].lock();
        all_have_one.wait().expect("nobody gives up");
        (1..RING).for_each(|number| waits_for(&format!("mutex \"ring-{number}\"")));
        let report = locks[0].lock_checked().unwrap_err().to_string();
        assert!(report.starts_with("deadlock: 8 threads"), "{report}");
        drop(last);
    });
}

#[test]
fn a_join_of_a_thread_that_waits_for_my_lock() {
    deadlock::enable();
    let mutex = Arc::new(Mutex::named("joined", ()));
    let held = mutex.lock();
    let theirs = Arc::clone(&mutex);
    let thread = Thread::new(move || drop(theirs.lock()))
        .name("waits")
        .start()
        .expect("a thread");
    waits_for(r#"mutex "joined""#);
    match thread.join() {
        Err(JoinError::Deadlock(deadlock)) => {
            let report = deadlock.to_string();
            assert!(report.contains("waits for thread \"waits\""), "{report}");
        }
        other => panic!("{other:?}"),
    }
    drop(held);
}

#[test]
fn writers_and_readers_in_a_ring() {
    deadlock::enable();
    let (shared, other) = (RwLock::named("pages", ()), Mutex::named("index", ()));
    let taken = Event::new();
    scope(|scope| {
        let read = shared.read();
        scope.spawn(|| {
            let _other = other.lock();
            taken.set();
            drop(shared.write());
        });
        taken.wait();
        waits_for(r#"read-write lock "pages""#);
        assert!(other.lock_checked().is_err(), "the writer waits for this reader");
        drop(read);
    });
    // A reader in the middle: it waits for a writer that waits for me.
    let (shared, gate) = (RwLock::named("tables", ()), Mutex::named("gate", ()));
    let taken = Event::new();
    scope(|scope| {
        let mine = shared.read();
        scope.spawn(|| drop(shared.write()));
        waits_for(r#"read-write lock "tables""#);
        // A wait is known before it begins, and until then readers get in.
        settle("the writer is in the way", || shared.try_read().is_err());
        scope.spawn(|| {
            let _gate = gate.lock();
            taken.set();
            drop(shared.read());
        });
        taken.wait();
        settle("both wait", || {
            deadlock::snapshot()
                .matches(r#"waits for read-write lock "tables""#)
                .count()
                == 2
        });
        let report = gate.lock_checked().unwrap_err().to_string();
        assert!(report.starts_with("deadlock: 3 threads"), "{report}");
        drop(mine);
    });
}

/// Who waits for a time gives way by itself.
#[test]
fn a_cycle_that_ends_by_itself_is_none() {
    deadlock::enable();
    let (left, right) = (
        Mutex::named("patient-left", ()),
        Mutex::named("patient-right", ()),
    );
    let taken = Event::new();
    scope(|scope| {
        let held = right.lock();
        let patient = scope.spawn(|| {
            let _left = left.lock();
            taken.set();
            right.lock_timeout(Duration::from_millis(100)).map(drop)
        });
        taken.wait();
        settle("it waits, or did", || {
            deadlock::snapshot().contains("patient-right") || !patient.is_alive()
        });
        drop(left.lock_checked().expect("the other gives way"));
        drop(held);
        assert_eq!(patient.join().expect("no panic"), Err(LockError::Busy));
    });
}

#[test]
fn what_is_given_back_for_a_sleep_is_not_held() {
    deadlock::enable();
    let (mutex, condvar) = (Mutex::named("slept", false), Condvar::new());
    scope(|scope| {
        scope.spawn(|| {
            let mut guard = mutex.lock();
            condvar.wait_for(&mut guard, |ready| *ready);
        });
        waits_for("condition made at");
        *mutex.lock_checked().expect("it sleeps without the lock") = true;
        condvar.notify_all();
    });
}

/// Who sleeps at a condition goes on only with the lock of the condition, notified or not.
#[test]
fn a_condition_waits_for_its_lock_again() {
    deadlock::enable();
    let (slept, other) = (Mutex::named("again", ()), Mutex::named("kept", ()));
    let condvar = Condvar::named("meanwhile");
    let (woken, over) = (Event::new(), Event::new());
    scope(|scope| {
        scope.spawn(|| {
            let _kept = other.lock();
            let mut guard = slept.lock();
            // Also where its time would be over.
            let hour = Duration::from_secs(3600);
            assert_eq!(condvar.wait_timeout(&mut guard, hour), Ok(true));
            over.set();
        });
        waits_for(r#"condition "meanwhile""#);
        let held = slept.lock();
        condvar.notify_all();
        let report = other.lock_checked().unwrap_err().to_string();
        assert!(
            report.contains(r#"waits for condition "meanwhile" at"#)
                && report.contains(r#"and then for mutex "again""#),
            "{report}"
        );
        assert!(!over.is_set());
        woken.set();
        drop(held);
    });
    drop((slept.lock(), other.lock()));
}

#[test]
fn what_a_thread_that_ended_held_is_not_waited_for() {
    deadlock::enable();
    let lock = Arc::new(RawMutex::named("left behind"));
    let theirs = Arc::clone(&lock);
    let left = std::thread::Builder::new().name("careless".to_owned());
    left.spawn(move || theirs.acquire())
        .expect("a thread")
        .join()
        .expect("no panic");
    let report = lock.acquire_checked().unwrap_err().to_string();
    assert!(
        report.starts_with("deadlock: a thread has ended, and holds what is waited for:"),
        "{report}"
    );
    assert!(
        report.contains(r#"thread "careless" holds mutex "left behind" since"#),
        "{report}"
    );
}

/// As one test, as there is one hook.
#[test]
fn who_waited_before_is_told_of_by_the_hook() {
    deadlock::enable();
    let told: Arc<Queue<String>> = Arc::new(Queue::new(0));
    let tell = Arc::clone(&told);
    // Other tests have deadlocks as well.
    deadlock::on_deadlock(Some(Box::new(move |report| {
        if report.contains("hooked") {
            tell.put(report.to_owned()).expect("open");
        }
    })));
    let mutex = Mutex::named("hooked", ());
    let held = mutex.lock();
    let refused = mutex.lock_checked().unwrap_err().to_string();
    assert_eq!(told.get_timeout(PATIENCE), Ok(refused));
    drop(held);

    // A thread waits already when the owner ends. It waits for good, as it must, until the end of the program.
    let lock = Arc::new(RawMutex::named("hooked too"));
    let (taken, end) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let owner = {
        let (lock, taken, end) = (Arc::clone(&lock), Arc::clone(&taken), Arc::clone(&end));
        std::thread::spawn(move || {
            lock.acquire();
            taken.set();
            end.wait();
        })
    };
    taken.wait();
    std::thread::spawn(move || lock.acquire());
    waits_for(r#"mutex "hooked too""#);
    end.set();
    owner.join().expect("no panic");
    let report = told.get_timeout(PATIENCE).expect("it is told");
    assert!(report.contains("has ended"), "{report}");
    deadlock::on_deadlock(None);
}

#[test]
fn a_forgotten_guard_is_held_for_ever() {
    deadlock::enable();
    let mutex = Mutex::named("forgotten", ());
    std::mem::forget(mutex.lock());
    assert!(mutex.lock_checked().is_err());
}

/// Warnings, in one test, as there is one hook.
#[test]
fn orders_that_could_meet_are_warned_of_once() {
    deadlock::enable();
    let told: Arc<Queue<String>> = Arc::new(Queue::new(0));
    let tell = Arc::clone(&told);
    let own = Mutex::named("of the hook", ());
    deadlock::on_warning(Some(Box::new(move |warning| {
        drop(own.lock());
        // Other tests take locks in wrong orders as well.
        if warning.contains("ordered-") {
            tell.put(warning.to_owned()).expect("open");
            panic!("in the hook");
        }
    })));
    let [a, b, c, gate] = ["a", "b", "c", "gate"].map(|name| Mutex::named(&format!("ordered-{name}"), ()));
    for _ in 0..2 {
        let _a = a.lock();
        drop(b.lock());
    }
    assert!(told.is_empty());
    for _ in 0..3 {
        let _b = b.lock();
        drop(a.lock());
    }
    let warning = told.try_get().expect("one");
    assert!(
        warning.contains(r#"mutex "ordered-b""#) && warning.contains(r#"mutex "ordered-a""#),
        "{warning}"
    );
    assert_eq!(warning.matches("tests/deadlock.rs:").count(), 4, "{warning}");
    assert!(told.is_empty(), "once a pair");
    // Who has a lock does not wait for it.
    let [outer, inner] = ["outer", "inner"].map(|name| ReentrantMutex::named(&format!("ordered-{name}"), ()));
    let (one, two) = (outer.lock(), inner.lock());
    drop((outer.lock(), one, two));
    assert!(told.is_empty(), "{:?}", told.try_get());
    // Behind a gate they cannot meet; and who only tries does not wait.
    for pair in [[&b, &c], [&c, &b]] {
        let _gate = gate.lock();
        let _first = pair[0].lock();
        drop(pair[1].lock());
    }
    assert!(told.is_empty(), "{:?}", told.try_get());
    let _c = c.lock();
    drop(a.try_lock().expect("free"));
    drop(_c);
    let _a = a.lock();
    drop(c.try_lock().expect("free"));
    assert!(told.is_empty());
    deadlock::on_warning(None);
}

/// Philosophers who take their forks in one order eat, and nobody is alarmed; in their own order some day all have one fork.
#[test]
fn philosophers() {
    deadlock::enable();
    const TABLE: usize = 5;
    let dine = |in_order: bool| {
        let forks: Vec<Mutex<usize>> = (0..TABLE).map(|_| Mutex::new(0)).collect();
        let (meals, alarms) = (AtomicUsize::new(0), AtomicUsize::new(0));
        scope(|scope| {
            for seat in 0..TABLE {
                let (forks, meals, alarms) = (&forks, &meals, &alarms);
                scope.spawn(move || {
                    let (mut first, mut second) = (seat, (seat + 1) % TABLE);
                    if in_order && first > second {
                        std::mem::swap(&mut first, &mut second);
                    }
                    for _ in 0..if in_order { 2_000 } else { 100_000 } {
                        if !in_order && alarms.load(Ordering::Relaxed) > 0 {
                            return;
                        }
                        let Ok(one) = forks[first].lock_checked() else {
                            alarms.fetch_add(1, Ordering::Relaxed);
                            return;
                        };
                        if !in_order {
                            std::thread::yield_now();
                        }
                        match forks[second].lock_checked() {
                            Ok(mut other) => *other += 1,
                            Err(_) => _ = alarms.fetch_add(1, Ordering::Relaxed),
                        }
                        meals.fetch_add(1, Ordering::Relaxed);
                        drop(one);
                    }
                });
            }
        });
        (meals.into_inner(), alarms.into_inner())
    };
    deadlock::on_warning(Some(Box::new(|_| ())));
    assert_eq!(dine(true), (TABLE * 2_000, 0));
    let (_, alarms) = dine(false);
    assert!(alarms > 0, "they never met");
}

/// Many threads, many locks of all kinds, always in one order: nobody is alarmed.
#[test]
fn a_storm_in_order_raises_no_alarm() {
    deadlock::enable();
    let mutexes: Vec<Mutex<u32>> = (0..4).map(|_| Mutex::new(0)).collect();
    let shared: Vec<RwLock<u32>> = (0..4).map(|_| RwLock::new(0)).collect();
    let queue = Queue::new(2);
    scope(|scope| {
        for seed in 0..6u32 {
            let (mutexes, shared, queue) = (&mutexes, &shared, &queue);
            scope.spawn(move || {
                let mut random = seed.wrapping_mul(2_654_435_761) | 1;
                for _ in 0..3_000 {
                    random ^= random << 13;
                    random ^= random >> 17;
                    random ^= random << 5;
                    let at = (random % 3) as usize;
                    let read = (random & 8 == 0).then(|| shared[at].read_checked().expect("in order"));
                    let one = mutexes[at].lock_checked().expect("in order");
                    let mut two = mutexes[at + 1].lock_checked().expect("in order");
                    *two += *one;
                    drop((two, one, read));
                    if random & 16 == 0 {
                        *shared[at + 1].write_checked().expect("in order") += 1;
                    }
                    if seed % 2 == 0 {
                        queue.put(random).expect("open");
                    } else {
                        queue.get().expect("as many");
                    }
                }
            });
        }
    });
}

static OF_TASKS: LazyLock<Mutex<()>> = LazyLock::new(|| Mutex::named("of tasks", ()));
static TASK_HOLDS: Event = Event::new();
static TASK_GOES: Event = Event::new();

#[par_sync::task]
fn wants_a_lock(_: ()) -> u32 {
    drop(OF_TASKS.lock());
    7
}

#[par_sync::task]
fn has_the_lock(_: ()) -> u32 {
    let _held = OF_TASKS.lock();
    TASK_HOLDS.set();
    TASK_GOES.wait();
    8
}

/// A wait for a task is an edge like any other: to who runs the task.
#[test]
fn a_task_that_waits_for_my_lock_is_not_waited_for() {
    deadlock::enable();
    let pool = par_sync::ThreadPool::new(1).expect("starts");
    // A task that somebody else ends is waited for.
    let held = pool.submit::<has_the_lock>(()).expect("open");
    TASK_HOLDS.wait();
    scope(|scope| {
        let waits = scope.spawn(|| held.wait());
        waits_for("task \"deadlock::has_the_lock\"");
        TASK_GOES.set();
        assert_eq!(waits.join().expect("no panic"), Ok(8));
    });
    let held = OF_TASKS.lock();
    let handle = pool.submit::<wants_a_lock>(()).expect("open");
    waits_for(r#"mutex "of tasks""#);
    match handle.wait() {
        Err(par_sync::TaskError::Rejected(report)) => {
            assert!(
                report.starts_with("deadlock: 2 threads wait for each other:"),
                "{report}"
            );
            assert!(
                report.contains("waits for task \"deadlock::wants_a_lock\""),
                "{report}"
            );
        }
        other => panic!("{other:?}"),
    }
    drop(held);
}

/// Every pair of many locks, always in one order: the search for other orders takes no time to speak of.
#[test]
fn many_locks_in_one_order_cost_little() {
    deadlock::enable();
    let locks: Vec<Mutex<()>> = (0..60).map(|_| Mutex::new(())).collect();
    let start = Instant::now();
    for (at, first) in locks.iter().enumerate() {
        for second in &locks[at + 1..] {
            let _first = first.lock();
            drop(second.lock());
        }
    }
    assert!(start.elapsed() < PATIENCE);
}
