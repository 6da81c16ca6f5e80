//! Threads: names, results, panics, locals, timers, scopes.

use par_sync::{Event, JoinError, Local, Mutex, Queue, Run, Thread, Timer, scope, wait_at_exit};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

#[test]
fn a_thread_knows_itself_and_is_known() {
    let (leave, seen) = (Arc::new(Event::new()), Arc::new(Queue::new(0)));
    let (leaves, sees) = (Arc::clone(&leave), Arc::clone(&seen));
    let thread = Thread::new(move || {
        let me = Thread::current();
        sees.put((me.name().to_owned(), me.ident(), me.native_id(), me.is_daemon()))
            .expect("open");
        leaves.wait();
    });
    let thread = thread.name("worker").daemon(true).start().expect("a thread");
    let (name, ident, native, daemon) = seen.get().expect("one");
    assert_eq!(
        (name.as_str(), ident, daemon),
        ("worker", thread.thread().ident(), true)
    );
    assert!(native.is_some() && native == thread.thread().native_id());
    assert!(thread.is_alive() && Thread::enumerate().contains(thread.thread()));
    assert!(Thread::enumerate().contains(&Thread::main()));
    assert!(Thread::enumerate().contains(&Thread::current()));
    leave.set();
    let info = thread.thread().clone();
    thread.join().expect("no panic");
    assert!(!info.is_alive() && !Thread::enumerate().contains(&info));
}

#[test]
fn default_names_tell_what_runs() {
    struct Counter<T>(T);
    impl<T: Send + 'static> Run for Counter<T> {
        type Output = String;
        fn run(self) -> String {
            Thread::current().name().to_owned()
        }
    }
    let number = |name: &str, prefix: &str| name.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
    let one = Thread::of(Counter(vec![1]))
        .start()
        .expect("a thread")
        .join()
        .expect("no panic");
    assert!(number(&one, "Counter-").is_some(), "{one}");
    let two = Thread::new(|| Thread::current().name().to_owned());
    let two = two.start().expect("a thread").join().expect("no panic");
    assert!(number(&two, "Thread-").is_some(), "{two}");
    let foreign = std::thread::spawn(|| Thread::current().name().to_owned());
    let foreign = foreign.join().expect("no panic");
    assert!(number(&foreign, "Dummy-").is_some(), "{foreign}");
}

#[test]
fn a_thread_is_a_daemon_if_the_one_that_starts_it_is() {
    let inner = || {
        Thread::new(|| Thread::current().is_daemon())
            .start()
            .expect("a thread")
            .join()
            .expect("no panic")
    };
    let daemon = Thread::new(inner).daemon(true).start().expect("a thread");
    assert!(daemon.join().expect("no panic"));
    let other = Thread::new(inner).daemon(false).start().expect("a thread");
    assert!(!other.join().expect("no panic"));
}

#[test]
fn what_the_system_refuses_is_an_error() {
    let error = Thread::new(|| ()).name("a\0b").start().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a thread's name must not hold a NUL byte, got \"a\\0b\""
    );
    let before = Thread::active_count();
    let error = Thread::new(|| ()).name("too big").stack_size(1 << 60).start();
    assert!(error.is_err());
    settle("it is not known", || {
        Thread::enumerate()
            .iter()
            .all(|thread| thread.name() != "too big")
    });
    assert!(before > 0);
}

#[test]
fn a_panic_is_the_joiners() {
    let thread = Thread::new(|| panic!("number {}", 5))
        .name("breaks")
        .start()
        .expect("a thread");
    match thread.join() {
        Err(JoinError::Panicked { name, panic }) => {
            assert_eq!((name.as_str(), panic.message.as_str()), ("breaks", "number 5"));
            assert!(panic.location.is_some_and(|at| at.contains("threads.rs")));
        }
        other => panic!("{other:?}"),
    }
}

/// One test for all of the hook, as there is one for the program.
#[test]
fn a_panic_that_nobody_joins_goes_to_the_hook() {
    let told: Arc<Queue<(String, String)>> = Arc::new(Queue::new(0));
    let tell = Arc::clone(&told);
    Thread::on_panic(Some(Box::new(move |thread, panic| {
        // Threads of other tests may be among them.
        if thread.name().starts_with("hooked") {
            tell.put((thread.name().to_owned(), panic.message.clone()))
                .expect("open");
            assert!(panic.message != "twice", "the hook panics");
        }
    })));
    let gate = Arc::new(Event::new());
    for (name, message) in [("hooked-1", "early"), ("hooked-2", "twice")] {
        let wait = Arc::clone(&gate);
        let thread = Thread::new(move || {
            wait.wait();
            panic!("{message}");
        });
        drop(thread.name(name).start().expect("a thread"));
    }
    gate.set();
    let late = Thread::new(|| panic!("late"))
        .name("hooked-3")
        .start()
        .expect("a thread");
    settle("it has ended", || !late.is_alive());
    drop(late);
    let mut all: Vec<_> = (0..3)
        .map(|_| told.get_timeout(PATIENCE).expect("three"))
        .collect();
    all.sort();
    let expected = [("hooked-1", "early"), ("hooked-2", "twice"), ("hooked-3", "late")];
    assert!(
        all.iter().map(|(a, b)| (a.as_str(), b.as_str())).eq(expected),
        "{all:?}"
    );
    let joined = Thread::new(|| panic!("joined"))
        .name("hooked-4")
        .start()
        .expect("a thread");
    assert!(joined.join().is_err());
    assert!(told.is_empty(), "who joins is told, and nobody else");
    Thread::on_panic(None);
}

#[test]
fn a_join_has_deadlines() {
    let gate = Arc::new(Event::new());
    let wait = Arc::clone(&gate);
    let thread = Thread::new(move || {
        wait.wait();
        7
    });
    let thread = thread.start().expect("a thread");
    let thread = thread.join_timeout(Duration::ZERO).expect_err("it runs");
    let thread = thread
        .join_timeout(Duration::from_millis(5))
        .expect_err("it runs");
    gate.set();
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    assert_eq!(thread.join_timeout(century).expect("it ends"), Ok(7));
}

#[test]
fn nobody_waits_for_itself() {
    let slot = Arc::new(Queue::new(1));
    let mine = Arc::clone(&slot);
    let thread = Thread::new(move || {
        let me: par_sync::JoinHandle<()> = mine.get().expect("one");
        let told = match me.join_timeout(Duration::from_secs(3600)) {
            Ok(Err(JoinError::Itself(name))) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, "narcissus");
        mine.task_done().expect("got");
    });
    slot.put(thread.name("narcissus").start().expect("a thread"))
        .expect("room");
    assert!(slot.join_timeout(PATIENCE), "it hangs");
}

#[test]
fn locals_are_a_threads_own_and_go_with_it() {
    struct Counted(Arc<AtomicUsize>, u32);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let live = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&live);
    let local = Local::new(move || {
        made.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(&made), 0)
    });
    let local = Arc::new(local);
    local.with(|mine| mine.1 = 1);
    let theirs = Arc::clone(&local);
    let other = Thread::new(move || {
        theirs.with(|mine| mine.1 += 10);
        theirs.with(|mine| mine.1)
    });
    assert_eq!(other.start().expect("a thread").join().expect("no panic"), 10);
    settle("that of the thread is gone", || live.load(Ordering::SeqCst) == 1);
    assert_eq!(local.with(|mine| mine.1), 1);
    // And with the object, while its threads live.
    let (gate, used) = (Event::new(), Event::new());
    std::thread::scope(|scope| {
        let theirs = Arc::clone(&local);
        let (gate, used) = (&gate, &used);
        scope.spawn(move || {
            theirs.with(|mine| mine.1 = 5);
            drop(theirs);
            used.set();
            gate.wait();
        });
        used.wait();
        drop(local);
        assert_eq!(live.load(Ordering::SeqCst), 0, "it outlives its object");
        gate.set();
    });
}

#[test]
fn a_local_within_itself_is_a_panic_and_leaves_the_value() {
    let local = Local::new(|| Cell::new(3));
    let nested = catch_unwind(AssertUnwindSafe(|| {
        local.with(|_| local.with(|value| value.get()))
    }));
    assert!(nested.is_err());
    assert_eq!(local.with(|value| value.get()), 3);
    let fails = Local::new(|| -> u32 { panic!("while it is made") });
    for _ in 0..2 {
        let made = catch_unwind(AssertUnwindSafe(|| fails.with(|value| *value)));
        let text = *made.expect_err("it panics").downcast::<&str>().expect("a text");
        assert_eq!(text, "while it is made");
    }
}

#[test]
fn a_local_whose_destructor_panics_ends_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    static BOMBS: Local<Option<Bomb>> = Local::new(|| None);
    static AFTER: Local<Vec<u8>> = Local::new(Vec::new);
    let thread = Thread::new(|| {
        BOMBS.with(|bomb| *bomb = Some(Bomb));
        AFTER.with(|bytes| bytes.push(1));
        5
    });
    assert_eq!(thread.start().expect("a thread").join(), Ok(5));
}

#[test]
fn timers_ring_once_or_not_at_all() {
    let rings = Arc::new(AtomicUsize::new(0));
    let ring = |rings: &Arc<AtomicUsize>| {
        let rings = Arc::clone(rings);
        move || {
            rings.fetch_add(1, Ordering::SeqCst);
        }
    };
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    let never = Timer::start(century, ring(&rings)).expect("a thread");
    assert!(never.is_alive());
    assert!(never.cancel() && !never.cancel());
    never.join().expect("its thread ends at once");
    let at_once = Timer::start(Duration::ZERO, ring(&rings)).expect("a thread");
    at_once.join().expect("no panic");
    assert_eq!(rings.load(Ordering::SeqCst), 1);
    // Whoever is first decides, and there is no third way.
    for _ in 0..200 {
        let before = rings.load(Ordering::SeqCst);
        let timer = Timer::start(Duration::from_micros(50), ring(&rings)).expect("a thread");
        std::thread::yield_now();
        let cancelled = timer.cancel();
        timer.join().expect("no panic");
        let rang = rings.load(Ordering::SeqCst) - before;
        assert_eq!(rang, usize::from(!cancelled));
    }
}

#[test]
fn a_scope_ends_with_its_threads_and_carries_the_first_panic() {
    let total = Mutex::new(0);
    scope(|scope| {
        for number in 0..10 {
            let total = &total;
            scope.spawn(move || *total.lock() += number);
        }
    });
    assert_eq!(total.into_inner(), 45);
    let ended = AtomicUsize::new(0);
    let carried = catch_unwind(AssertUnwindSafe(|| {
        scope(|scope| {
            drop(scope.spawn(|| panic!("the first")));
            scope.spawn(|| ended.fetch_add(1, Ordering::SeqCst));
        });
    }));
    let text = *carried
        .expect_err("it is carried")
        .downcast::<&str>()
        .expect("a text");
    assert_eq!((text, ended.load(Ordering::SeqCst)), ("the first", 1));
    // Who joins has it, and the scope returns.
    let joined = scope(|scope| scope.spawn(|| -> u32 { panic!("joined") }).join());
    assert!(matches!(joined, Err(JoinError::Panicked { panic, .. }) if panic.message == "joined"));
    // A body that panics waits for them as well.
    let gate = Event::new();
    let body = catch_unwind(AssertUnwindSafe(|| {
        scope(|scope| {
            scope.spawn(|| {
                gate.wait();
                ended.fetch_add(1, Ordering::SeqCst)
            });
            gate.set();
            panic!("in the body");
        })
    }));
    assert!(body.is_err());
    assert_eq!(ended.load(Ordering::SeqCst), 2);
}

#[test]
fn whoever_waits_at_the_end_waits_for_those_that_are_no_daemons() {
    let (gate, done) = (Arc::new(Event::new()), Arc::new(AtomicUsize::new(0)));
    let (wait, ends) = (Arc::clone(&gate), Arc::clone(&done));
    let forever = Arc::new(Event::new());
    let stays = Arc::clone(&forever);
    let daemon = Thread::new(move || stays.wait())
        .daemon(true)
        .start()
        .expect("a thread");
    let thread = Thread::new(move || {
        wait.wait();
        ends.fetch_add(1, Ordering::SeqCst);
    });
    drop(thread.start().expect("a thread"));
    gate.set();
    drop(wait_at_exit());
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert!(daemon.is_alive());
    forever.set();
    daemon.join().expect("no panic");
}

#[test]
fn thousands_of_threads_come_and_go() {
    let threads: Vec<_> = (0..2_000)
        .map(|number| {
            Thread::new(move || number)
                .stack_size(64 << 10)
                .start()
                .expect("a thread")
        })
        .collect();
    let total: u64 = threads
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .sum();
    assert_eq!(total, 1_999 * 1_000);
}
