//! What only the thread engine has to show beyond the laws: nesting, joins, substitutes, resizing, mappings, shutdown.

use par_sync::par_core::Event;
use par_sync::{ChunkPlan, Mapping, Observer, Plan, Shutdown, Sum, TaskError, ThreadOptions, ThreadPool};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

#[par_sync::task]
fn square(x: u64) -> u64 {
    x * x
}

#[par_sync::task]
fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let pool = par_sync::current().expect("inside a task");
    let one = pool.submit::<fib>(n - 1).expect("open");
    let two = pool.submit::<fib>(n - 2).expect("open");
    one.wait().expect("no failure") + two.wait().expect("no failure")
}

#[par_sync::task]
fn nested_sum(n: u64) -> u64 {
    let pool = par_sync::current().expect("inside a task");
    pool.map::<square>(0..n).expect("map").into_iter().sum()
}

/// Waits with a deadline for a child that only another thread can run.
#[par_sync::task]
fn patient(depth: u32) -> u32 {
    if depth == 0 {
        return 0;
    }
    let pool = par_sync::current().expect("inside a task");
    let child = pool.submit::<patient>(depth - 1).expect("open");
    match child.wait_timeout(Duration::from_secs(20)) {
        Ok(outcome) => outcome.expect("no failure") + 1,
        Err(_) => u32::MAX / 2,
    }
}

#[par_sync::task]
fn spin_until_cancelled(limit_ms: u64) -> Result<u64, TaskError> {
    let end = Instant::now() + Duration::from_millis(limit_ms);
    while Instant::now() < end {
        par_sync::check_cancelled()?;
        std::thread::yield_now();
    }
    Ok(limit_ms)
}

fn pool(workers: usize) -> ThreadPool {
    ThreadPool::new(workers).expect("starts")
}

fn both_modes(workers: usize) -> [ThreadPool; 2] {
    [false, true].map(|encode| {
        let options = ThreadOptions {
            encode,
            ..ThreadOptions::default()
        };
        ThreadPool::builder()
            .workers(workers)
            .options(options)
            .build()
            .expect("starts")
    })
}

#[test]
fn maps_and_folds_give_what_a_loop_gives() {
    for workers in [1, 3] {
        for pool in both_modes(workers) {
            let squares: Vec<u64> = (0..10_000).map(|x| x * x).collect();
            assert_eq!(pool.map::<square>(0..10_000).expect("map"), squares);
            assert_eq!(pool.map_fn(0..10_000u64, |x| x * x).expect("map_fn"), squares);
            assert_eq!(
                pool.map_reduce::<square, _>(0..10_000, Sum).expect("sum"),
                squares.iter().sum::<u64>()
            );
            assert_eq!(pool.submit::<square>(7).expect("open").wait(), Ok(49));
            let ordered = pool.map_ordered::<square, _>(0..1000).expect("plan");
            assert_eq!(
                ordered.map(|(_, y)| y.expect("ok")).collect::<Vec<_>>(),
                squares[..1000]
            );
        }
    }
}

#[test]
fn tasks_submit_to_their_own_pool_and_wait() {
    for workers in [1, 3] {
        for pool in both_modes(workers) {
            assert_eq!(pool.submit::<fib>(14).expect("open").wait(), Ok(377));
            let sums = pool.map::<nested_sum>([10, 100, 1000]).expect("map");
            assert_eq!(sums, [285, 328_350, 332_833_500]);
        }
    }
}

#[test]
fn a_wait_with_a_deadline_at_one_worker_is_served_by_substitutes() {
    for workers in [1, 3] {
        assert_eq!(pool(workers).submit::<patient>(6).expect("open").wait(), Ok(6));
    }
}

#[test]
fn joins_nest_from_inside_and_outside() {
    fn fib(pool: &ThreadPool, n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let (a, b) = pool.join_with(|| fib(pool, n - 1), || fib(pool, n - 2));
        a + b
    }
    for workers in [1, 2, 4] {
        let pool = pool(workers);
        assert_eq!(fib(&pool, 20), 6765);
        let inside = Mutex::new(0);
        pool.scope_with(|scope| scope.spawn(|| *inside.lock().expect("free") = fib(&pool, 18)))
            .expect("no panic");
        assert_eq!(inside.into_inner().expect("free"), 2584);
        pool.shutdown(Shutdown::Drain, None);
        assert_eq!(fib(&pool, 10), 55, "a closed pool still joins, on the caller");
    }
}

#[test]
fn a_panic_in_a_half_comes_back_after_both_have_ended() {
    let pool = pool(2);
    for bad in [0, 1] {
        let ended = AtomicUsize::new(0);
        let started = Barrier::new(2);
        let half = |which: usize| {
            started.wait();
            if which == bad {
                panic!("half {which}");
            }
            std::thread::sleep(Duration::from_millis(20));
            ended.fetch_add(1, Ordering::SeqCst);
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.join_with(|| half(0), || half(1))
        }));
        let panic = caught.expect_err("one half panicked");
        assert_eq!(
            panic.downcast_ref::<String>().expect("a text"),
            &format!("half {bad}")
        );
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_panic_in_a_stolen_half_of_a_task_keeps_its_place() {
    #[par_sync::task]
    fn forks(_: ()) {
        // Only the pool of the test has the join; the task finds it here.
        let pool = POOL.get().expect("set");
        let started = Barrier::new(2);
        pool.join_with(
            || started.wait(),
            || {
                started.wait();
                panic!("stolen half")
            },
        );
    }
    static POOL: std::sync::OnceLock<ThreadPool> = std::sync::OnceLock::new();
    let pool = POOL.get_or_init(|| ThreadPool::new(2).expect("starts"));
    let error = pool
        .submit::<forks>(())
        .expect("open")
        .wait()
        .expect_err("panicked");
    let TaskError::Panicked(panic) = error else {
        unreachable!("{error}")
    };
    assert_eq!(panic.message, "stolen half");
    assert!(
        panic
            .location
            .as_deref()
            .is_some_and(|at| at.contains("engine.rs:")),
        "{panic}"
    );
    pool.shutdown(Shutdown::Drain, None);
}

#[test]
fn borrowing_forms_reach_the_callers_memory() {
    for workers in [1, 3] {
        let pool = pool(workers);
        let words = ["a", "bb", "ccc"].repeat(100);
        assert_eq!(
            pool.map_slice(&words, |word| word.len()).expect("ok"),
            [1, 2, 3].repeat(100)
        );
        let mut numbers: Vec<u64> = (0..10_000).collect();
        pool.for_each_mut(&mut numbers, |n| *n *= 2).expect("ok");
        assert_eq!(numbers[9_999], 19_998);
        pool.for_each_chunk_mut(&mut numbers, 7, |chunk, part| part.fill(chunk as u64))
            .expect("ok");
        assert_eq!((numbers[6], numbers[7], numbers[9_999]), (0, 1, 1428));
        let error = pool
            .for_each_chunk_mut(&mut numbers, 0, |_, _| ())
            .expect_err("zero");
        assert_eq!(
            error.to_string(),
            "item 0: task was rejected: the chunk size must be at least 1, got 0"
        );
        let error = pool
            .map_slice(&numbers, |n| assert!(*n < 500, "too large"))
            .expect_err("panics");
        assert_eq!(error.index, 3500);
        let floats: Vec<f64> = (1..20_000).map(|i| 1.0 / f64::from(i)).collect();
        let expected = par_core::fold::reduce(&Sum, floats.iter().copied());
        assert_eq!(
            pool.reduce_slice(&floats, Sum).expect("ok").to_bits(),
            expected.to_bits()
        );
        assert!(pool.map_slice::<u8, u8>(&[], |x| *x).expect("ok").is_empty());
    }
}
use par_sync::par_core;

#[test]
fn a_borrowing_scope_waits_for_its_children_also_when_it_unwinds() {
    let pool = pool(2);
    let ended = AtomicUsize::new(0);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.scope_with(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(5));
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
            panic!("the body");
        })
    }));
    assert!(unwound.is_err());
    assert_eq!(ended.load(Ordering::SeqCst), 10);
    let error = pool
        .scope_with(|scope| scope.spawn(|| panic!("a child")))
        .expect_err("a child panicked");
    assert!(error.to_string().contains("a child"), "{error}");
}

#[test]
fn a_full_queue_hands_the_input_back() {
    let pool = ThreadPool::builder().workers(1).queue(2).build().expect("starts");
    let gate = Gate::close(&pool);
    let waiting = [1, 2].map(|x| pool.try_submit::<square>(x).expect("room for two"));
    let refused = pool.try_submit::<square>(3).expect_err("full");
    assert_eq!(
        (refused.input, refused.to_string()),
        (3, "the queue of the pool is full".to_owned())
    );
    // A cancelled job makes room, without waiting for a worker.
    assert!(waiting[0].cancel());
    let third = pool.try_submit::<square>(3).expect("room again");
    // A submit waits for room and gets it.
    let fourth = std::thread::scope(|threads| {
        let fourth = threads.spawn(|| pool.submit::<square>(4).expect("open"));
        gate.open();
        fourth.join().expect("no panic")
    });
    let [first, second] = waiting;
    assert_eq!(first.wait(), Err(TaskError::Cancelled));
    assert_eq!(
        [second, third, fourth].map(par_sync::Handle::wait),
        [Ok(4), Ok(9), Ok(16)]
    );
}

/// Keeps one worker busy until it is opened.
struct Gate(mpsc::Sender<()>, par_sync::Handle<()>);

static GATES: Mutex<Vec<mpsc::Receiver<()>>> = Mutex::new(Vec::new());
static ENTERED: Mutex<Vec<mpsc::Sender<()>>> = Mutex::new(Vec::new());
static ONE_GATE: Mutex<()> = Mutex::new(());

#[par_sync::task]
fn pass_gate(_: ()) {
    let gate = GATES.lock().expect("free").pop().expect("a gate");
    ENTERED
        .lock()
        .expect("free")
        .pop()
        .expect("somebody")
        .send(())
        .expect("somebody waits");
    let _ = gate.recv_timeout(Duration::from_secs(30));
}

impl Gate {
    /// Returns once a worker stands before the gate.
    fn close(pool: &ThreadPool) -> Gate {
        let _one = ONE_GATE.lock().expect("free");
        let (open, gate) = mpsc::channel();
        let (enter, entered) = mpsc::channel();
        GATES.lock().expect("free").push(gate);
        ENTERED.lock().expect("free").push(enter);
        let handle = pool.submit::<pass_gate>(()).expect("open");
        entered
            .recv_timeout(Duration::from_secs(30))
            .expect("a worker comes");
        Gate(open, handle)
    }

    fn open(self) {
        self.0.send(()).expect("the worker waits");
        self.1.wait().expect("passes");
    }
}

#[test]
fn endless_input_is_read_a_bounded_number_ahead() {
    for pool in both_modes(2) {
        let read = AtomicUsize::new(0);
        let endless = || (0u64..).inspect(|_| _ = read.fetch_add(1, Ordering::Relaxed));
        let mut ordered = pool.map_ordered::<square, _>(endless()).expect("plan");
        assert_eq!(ordered.nth(2000), Some((2000, Ok(4_000_000))));
        drop(ordered);
        let mut unordered = pool.map_unordered::<square, _>(endless()).expect("plan");
        assert!(unordered.nth(2000).is_some());
        drop(unordered);
        assert!(read.load(Ordering::Relaxed) <= 2 * (2001 + 8192), "{read:?}");
    }
}

#[par_sync::task]
fn fails_on_two(seen: u64) -> Result<(), String> {
    if par_sync::worker_index() == Some(2) {
        Err(format!("no room at {seen}"))
    } else {
        Ok(())
    }
}

#[par_sync::task]
fn prepare(start: u64) {
    par_sync::with_local(|| start, |_| ());
}

#[par_sync::task]
fn count_up(_: u64) -> (u64, u64) {
    let index = par_sync::worker_index().expect("on a worker") as u64;
    (
        index,
        par_sync::with_local(|| 0u64, |count| std::mem::replace(count, *count + 1)),
    )
}

#[test]
fn initialisers_run_on_each_worker_and_may_refuse() {
    let error = ThreadPool::builder()
        .workers(3)
        .initializer::<fails_on_two>(9)
        .build()
        .expect_err("one fails");
    let expected = "the initialiser failed on worker 2: task failed: no room at 9 [alloc::string::String]";
    assert_eq!(error.to_string(), expected);
    let pool = ThreadPool::builder()
        .workers(3)
        .initializer::<prepare>(1000)
        .build()
        .expect("starts");
    let mut next = [1000; 3];
    let mut seen = pool.map::<count_up>(0..300).expect("map");
    seen.sort_unstable();
    for (index, count) in seen {
        assert_eq!(count, next[index as usize], "worker {index} has its own state");
        next[index as usize] += 1;
    }
}

#[test]
fn deadlines_hold_for_those_who_wait() {
    let pool = pool(1);
    let hasty = pool.with_plan(Plan::default().timeout(Duration::from_millis(30)));
    let gate = Gate::close(&pool);
    let error = hasty
        .submit::<square>(3)
        .expect("open")
        .wait()
        .expect_err("nobody ran it");
    assert_eq!(error.to_string(), "task passed its deadline of 30 ms");
    gate.open();
    let running = hasty.submit::<spin_until_cancelled>(20_000).expect("open");
    assert_eq!(running.wait(), Err(TaskError::TimedOut { limit_ms: 30 }));
}

#[derive(Default)]
struct Seen(Mutex<Vec<(usize, std::ops::Range<usize>)>>, AtomicUsize);

impl Observer for Seen {
    fn event(&self, event: &Event) {
        match event {
            Event::Started {
                parts,
                worker: Some(worker),
                ..
            } => self.0.lock().expect("free").push((*worker, parts.clone())),
            Event::WorkerUp { .. } => _ = self.1.fetch_add(1, Ordering::SeqCst),
            _ => {}
        }
    }
}

#[test]
fn static_mappings_give_each_worker_its_share() {
    let pool = pool(3);
    for (mapping, chunk, owner) in [
        (Mapping::StaticBlock, 10, (|part| part / 30) as fn(usize) -> usize),
        (Mapping::Cyclic, 1, |part| part % 3),
    ] {
        let seen = Arc::new(Seen::default());
        pool.observer(seen.clone());
        let plan = Plan::default().mapping(mapping).chunk(ChunkPlan::Fixed(chunk));
        pool.with_plan(plan).map::<square>(0..90).expect("map");
        let seen = seen.0.lock().expect("free").clone();
        assert_eq!(seen.iter().map(|(_, parts)| parts.len()).sum::<usize>(), 90);
        for (worker, parts) in seen {
            assert!(
                parts.clone().all(|part| owner(part) == worker),
                "{mapping:?}: worker {worker} ran {parts:?}"
            );
        }
    }
}

#[test]
fn pools_grow_and_shrink_while_they_run() {
    let pool = pool(1);
    let seen = Arc::new(Seen::default());
    pool.observer(seen.clone());
    pool.resize(4).expect("grows");
    assert_eq!((pool.workers(), seen.1.load(Ordering::SeqCst)), (4, 3));
    let meet = Barrier::new(4);
    pool.scope_with(|scope| {
        for _ in 0..4 {
            scope.spawn(|| _ = meet.wait());
        }
    })
    .expect("four at once");
    let before = pool.with_plan(Plan::default().mapping(Mapping::StaticBlock));
    let sums = std::thread::scope(|threads| {
        let sums = threads.spawn(|| before.map::<nested_sum>(0..400).expect("map"));
        for workers in [1, 3, 2, 4, 1] {
            pool.resize(workers).expect("changes");
        }
        sums.join().expect("no panic")
    });
    assert_eq!(sums.len(), 400);
    assert_eq!(before.map::<square>(0..100).expect("map").len(), 100);
    assert_eq!(
        pool.resize(0).expect_err("none").to_string(),
        "a pool needs at least 1 worker, got 0"
    );
}

#[test]
fn shutdown_tells_the_truth() {
    let pool = pool(1);
    pool.map::<square>(0..10).expect("open");
    let gate = Gate::close(&pool);
    let waiting: Vec<_> = (0..5).map(|x| pool.submit::<square>(x).expect("room")).collect();
    // The worker stands before the gate and cannot be ended.
    let report = pool.shutdown(Shutdown::CancelPending, Some(Duration::from_millis(20)));
    assert_eq!(
        (report.ran, report.cancelled, report.lost, report.detached),
        (10, 5, 0, 1)
    );
    for handle in waiting {
        assert_eq!(handle.wait(), Err(TaskError::Cancelled));
    }
    let refused = pool.try_submit::<square>(4).expect_err("closed");
    assert_eq!(refused.to_string(), "the pool is shut down");
    // Who waits for it is told at once; its thread ends when it comes back.
    assert_eq!(gate.1.wait(), Err(TaskError::Cancelled));
    gate.0.send(()).expect("the worker waits");
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(20)));
    assert_eq!((report.ran, report.cancelled, report.detached), (11, 0, 0));
}

#[test]
fn drain_runs_everything_and_tokens_end_what_runs() {
    let pool1 = pool(2);
    let handles: Vec<_> = (0..50)
        .map(|_| pool1.submit::<nested_sum>(10).expect("room"))
        .collect();
    pool1.shutdown(Shutdown::Drain, None);
    assert!(handles.into_iter().all(|handle| handle.wait() == Ok(285)));

    let pool2 = pool(1);
    let running = pool2.submit::<spin_until_cancelled>(20_000).expect("open");
    while running.state() == par_sync::TaskState::Pending {
        std::thread::yield_now();
    }
    let report = pool2.shutdown(Shutdown::CancelPending, Some(Duration::from_secs(10)));
    assert_eq!(report.detached, 0);
    assert_eq!(running.wait(), Err(TaskError::Cancelled));
}

#[test]
fn the_last_pool_may_be_dropped_on_its_own_worker() {
    let pool = pool(2);
    let (done, ended) = mpsc::channel();
    let (give, given) = mpsc::channel::<ThreadPool>();
    let given = Mutex::new(given);
    let handle = pool.submit::<square>(5).expect("open");
    let gate = Gate::close(&pool);
    handle.on_done(|| ());
    gate.1.on_done(move || {
        let pool = given.lock().expect("free").recv().expect("the pool");
        drop(pool);
        done.send(par_sync::worker_index()).expect("the test waits");
    });
    give.send(pool).expect("the worker waits");
    gate.0.send(()).expect("the worker waits");
    let index = ended.recv_timeout(Duration::from_secs(20)).expect("no deadlock");
    assert!(index.is_some(), "it was dropped on a worker");
    assert_eq!(handle.wait(), Ok(25));
}

#[test]
fn no_thread_outlives_its_pool() {
    let before = named("outlive");
    assert_eq!(before, 0);
    let options = ThreadOptions {
        name: "outlive".to_owned(),
        ..ThreadOptions::default()
    };
    let pool = ThreadPool::builder()
        .workers(3)
        .options(options)
        .build()
        .expect("starts");
    assert_eq!(pool.submit::<patient>(3).expect("open").wait(), Ok(3));
    assert!(named("outlive") >= 3);
    drop(pool);
    assert_eq!(named("outlive"), 0);
}

/// Threads of this process whose name begins so.
fn named(name: &str) -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.starts_with(name)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn workers_keep_to_their_cores() {
    let allowed = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("proc(5)");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.expect("it is there").trim().to_owned()
    };
    let mine = allowed();
    let first: usize = mine
        .split([',', '-'])
        .next()
        .and_then(|core| core.parse().ok())
        .expect("a core");
    let with = |cores: Vec<usize>| {
        let options = ThreadOptions {
            cores,
            ..ThreadOptions::default()
        };
        ThreadPool::builder().workers(3).options(options).build()
    };
    let pool = with(vec![first]).expect("starts");
    let handles: Vec<_> = (0..6)
        .map(|_| {
            pool.submit_fn((), |()| {
                std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default()
            })
        })
        .collect();
    for handle in handles {
        let status = handle.expect("open").wait().expect("a text");
        assert!(
            status
                .lines()
                .any(|line| line.trim() == format!("Cpus_allowed_list:\t{first}")),
            "{status}"
        );
    }
    assert_eq!(allowed(), mine, "the caller is free");
    let error = with(vec![first, 1_000_000])
        .expect_err("no such core")
        .to_string();
    assert!(
        error.contains("core 1000000 is not one of those that this program may use"),
        "{error}"
    );
}

#[test]
fn workers_count_what_they_do() {
    let pool = pool(2);
    for handle in (0..50).map(|x| pool.submit::<square>(x)).collect::<Vec<_>>() {
        handle.expect("open").on_done(|| ());
    }
    let ran = || {
        pool.engine()
            .statistics()
            .iter()
            .map(|worker| worker.ran)
            .sum::<u64>()
    };
    let until = Instant::now() + Duration::from_secs(20);
    while ran() < 50 {
        assert!(Instant::now() < until, "{:?}", pool.engine().statistics());
        std::thread::yield_now();
    }
    assert_eq!((pool.engine().statistics().len(), ran()), (2, 50));
    assert_eq!(pool.engine().waiting(), 0);
    let gate = Gate::close(&pool);
    let other = Gate::close(&pool);
    let queued: Vec<_> = (0..3).map(|x| pool.submit::<square>(x).expect("open")).collect();
    assert_eq!(pool.engine().waiting(), 3);
    drop((gate, other, queued));
}
