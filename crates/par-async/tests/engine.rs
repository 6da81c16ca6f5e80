//! What the async engine promises beyond the laws: tokio inside tasks, waits that would block, ends inside async code.

use par_async::{
    AsyncOptions, AsyncPool, Event, Handle, Level, Observer, OnRuntime, Plan, Shutdown, StartError, Sum,
    TaskError, gather, task,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

/// What does not happen within this counts as never happening.
const PATIENCE: Duration = Duration::from_secs(30);

#[task]
fn double(x: u64) -> u64 {
    2 * x
}

#[task]
async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

fn threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("starts")
}

fn single_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starts")
}

/// Both kinds of runtime that a user may have.
fn runtimes() -> [Runtime; 2] {
    [threads(), single_thread()]
}

#[track_caller]
fn ended<O: 'static>(handle: Handle<O>) -> Result<O, TaskError> {
    handle.wait_timeout(PATIENCE).expect("it never ended")
}

/// Fails where a future takes too long, instead of hanging.
async fn in_time<F: Future>(future: F) -> F::Output {
    let limit = tokio::time::timeout(PATIENCE, future);
    limit.await.expect("it never ended")
}

/// Whether it holds before the patience is over.
fn until(holds: impl Fn() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn naps_of_one_thread_overlap() {
    let pool = AsyncPool::new(1).expect("starts");
    let start = Instant::now();
    let naps = pool.map::<nap>((0..2_000).map(|_| 50)).expect("a map");
    assert_eq!(naps.len(), 2_000);
    // One after the other they take 100 s.
    assert!(start.elapsed() < PATIENCE, "they took {:?}", start.elapsed());
    let handles: Vec<_> = (0..2_000)
        .map(|_| pool.submit::<nap>(50).expect("open"))
        .collect();
    assert!(
        par_async::block_on(gather(handles))
            .into_iter()
            .all(|nap| nap == Ok(50))
    );
}

#[task]
async fn fetch(port: u16) -> Result<String, std::io::Error> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"ping").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// As `fetch`, from a task that is not async: the runtime is there for it as well.
#[task]
fn fetch_blocking(port: u16) -> Result<String, std::io::Error> {
    tokio::runtime::Handle::current().block_on(fetch(port))
}

#[test]
fn sockets_of_tokio_work_in_tasks() {
    let pool = AsyncPool::new(1).expect("starts");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).expect("four bytes");
            stream.write_all(b"pong").expect("sent");
        }
    });
    assert_eq!(
        ended(pool.submit::<fetch>(port).expect("open")),
        Ok("pong".to_owned())
    );
    let blocking = pool.submit::<fetch_blocking>(port).expect("open");
    assert_eq!(ended(blocking), Ok("pong".to_owned()));
    server.join().expect("no panic");
}

// --- waits that would block ---

#[track_caller]
fn refused<O: std::fmt::Debug>(outcome: Result<O, impl std::fmt::Display>) {
    let text = outcome.expect_err("it would block async code").to_string();
    assert!(text.contains(".await") && text.contains("map_async"), "{text}");
}

#[test]
fn a_blocking_wait_in_the_users_async_code_is_an_error_that_says_what_to_do() {
    let pool = AsyncPool::new(1).expect("starts");
    for runtime in runtimes() {
        let (in_main, in_task) = (pool.clone(), pool.clone());
        runtime.block_on(async move {
            refused(in_main.submit::<nap>(200).expect("open").wait());
            refused(in_main.map::<nap>([200]));
            refused(in_main.map_reduce::<nap, _>([200], Sum));
            refused(in_main.scope(|scope| scope.submit::<nap>(200)?.wait()));
            let mut stream = in_main.map_unordered::<nap, _>([200]).expect("a stream");
            refused(stream.next().expect("an outcome").1);
            assert_eq!(stream.next(), None);
            drop(stream);
            let spawned = tokio::spawn(async move {
                refused(in_task.submit::<nap>(200).expect("open").wait());
            });
            spawned.await.expect("no panic");
        });
    }
}

#[test]
fn a_blocking_wait_beside_async_code_is_none_of_that() {
    let pool = AsyncPool::new(1).expect("starts");
    let runtime = threads();
    let wait = |pool: AsyncPool| move || pool.submit::<nap>(20).expect("open").wait();
    assert_eq!(wait(pool.clone())(), Ok(20), "on a thread of one's own");
    {
        let _entered = runtime.enter();
        assert_eq!(wait(pool.clone())(), Ok(20), "where a handle was entered");
    }
    runtime.block_on(async {
        let blocking = tokio::task::spawn_blocking(wait(pool.clone()));
        assert_eq!(blocking.await.expect("no panic"), Ok(20), "in spawn_blocking");
        let in_place = wait(pool.clone());
        let in_place = tokio::spawn(async move { tokio::task::block_in_place(in_place) });
        assert_eq!(in_place.await.expect("no panic"), Ok(20), "in block_in_place");
    });
}

#[test]
fn the_awaited_forms_do_what_the_blocking_ones_do() {
    for runtime in runtimes() {
        runtime.block_on(in_time(async {
            let pool = AsyncPool::current(2).expect("starts");
            let squares = pool.map_async::<double>(0..1_000).await.expect("a map");
            assert_eq!(squares, (0..1_000).map(double).collect::<Vec<_>>());
            let naps = pool.map_async::<nap>([3, 1, 2]).await.expect("a map");
            assert_eq!(naps, [3, 1, 2]);
            let sum = pool.map_reduce_async::<double, _>(0..100, Sum).await;
            assert_eq!(sum, Ok(9_900));
            assert_eq!(pool.for_each_async::<nap>([1, 2]).await, Ok(()));
            let handle = pool.submit_async::<nap>(4).await.expect("open");
            assert_eq!(handle.await, Ok(4));
            let report = pool.shutdown_async(Shutdown::Drain, Some(PATIENCE)).await;
            assert_eq!(
                (report.ran, report.detached),
                (1_000 + 3 + 100 + 2 + 1, 0),
                "{report:?}"
            );
        }));
    }
}

#[test]
fn a_submit_that_is_awaited_waits_for_room() {
    let options = AsyncOptions {
        in_flight: 1,
        ..AsyncOptions::default()
    };
    let builder = AsyncPool::builder().workers(1).queue(1).options(options);
    let pool = builder.build().expect("starts");
    single_thread().block_on(in_time(async {
        let mut handles = Vec::new();
        for _ in 0..20 {
            handles.push(pool.submit_async::<nap>(2).await.expect("open"));
        }
        assert!(gather(handles).await.into_iter().all(|nap| nap == Ok(2)));
        // The form that does not wait says that it would have to, and what to do.
        let mut refusals = (0..20).filter_map(|_| pool.submit::<nap>(50).err());
        let text = refusals.next().expect("a queue of 1 is full").to_string();
        assert!(text.contains(".await"), "{text}");
    }));
}

// --- how tasks run ---

#[task]
async fn looks_around(tag: u64) -> Result<(), String> {
    for _ in 0..3 {
        par_async::worker_index().ok_or("no worker")?;
        par_async::current().ok_or("no pool")?;
        par_async::log(Level::Info, format_args!("line of {tag}"));
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Observer for Lines {
    fn event(&self, event: &Event) {
        if let Event::Log { text, .. } = event {
            self.0.lock().expect("no panic").push(text.clone());
        }
    }
}

#[test]
fn each_poll_knows_its_pool_and_nothing_stays_between_polls() {
    single_thread().block_on(in_time(async {
        let pool = AsyncPool::current(1).expect("starts");
        let lines = Arc::new(Lines::default());
        pool.observer(lines.clone());
        let handles: Vec<_> = (0..3)
            .map(|tag| pool.submit::<looks_around>(tag).expect("open"))
            .collect();
        for mut handle in handles {
            std::future::poll_fn(|cx| {
                assert!(
                    par_async::current().is_none(),
                    "of a task that ran on this thread"
                );
                assert!(par_async::worker_index().is_none());
                std::pin::Pin::new(&mut handle).poll(cx)
            })
            .await
            .expect("it found all");
        }
        let mut seen = lines.0.lock().expect("no panic").clone();
        seen.sort_unstable();
        let expected: Vec<_> = (0..9).map(|line| format!("line of {}", line / 3)).collect();
        assert_eq!(seen, expected);
    }));
}

#[task]
async fn panics_later(x: u64) -> u64 {
    tokio::task::yield_now().await;
    assert!(x != 7, "no {x} here");
    x
}

#[test]
fn a_panic_after_an_await_is_told_with_its_place() {
    let pool = AsyncPool::new(1).expect("starts");
    match ended(pool.submit::<panics_later>(7).expect("open")) {
        Err(TaskError::Panicked(panic)) => {
            assert_eq!(panic.message, "no 7 here");
            assert!(panic.location.expect("known").contains("engine.rs"));
        }
        other => panic!("it ended as {other:?}"),
    }
    let failed = pool.map::<panics_later>(0..100).expect_err("one panics");
    assert_eq!(failed.index, 7, "{failed}");
}

#[task]
async fn waits_for_children(count: u64) -> Result<u64, TaskError> {
    let pool = par_async::current().expect("inside a task");
    let mut sum = 0;
    for x in 0..count {
        let (awake, asleep) = (pool.submit::<double>(x)?, pool.submit::<nap>(1)?);
        sum += awake.await? + asleep.await?;
    }
    Ok(sum
        + pool
            .map_reduce_async::<nap, _>([1, 2], Sum)
            .await
            .map_err(|e| e.error)?)
}

#[test]
fn tasks_await_children_beyond_every_bound() {
    let options = AsyncOptions {
        in_flight: 1,
        ..AsyncOptions::default()
    };
    let builder = AsyncPool::builder().workers(1).queue(1).options(options);
    let pool = builder.build().expect("starts");
    for _ in 0..3 {
        let parent = pool.submit::<waits_for_children>(10).expect("open");
        assert_eq!(ended(parent), Ok(90 + 10 + 3));
    }
}

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[task]
async fn counted(_x: u64) {
    let now = UNDER_WAY.fetch_add(1, Ordering::SeqCst) + 1;
    MOST.fetch_max(now, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1)).await;
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
}

#[test]
fn no_more_than_in_flight_are_under_way() {
    let start = |in_flight| {
        let options = AsyncOptions {
            in_flight,
            ..AsyncOptions::default()
        };
        AsyncPool::builder().workers(2).options(options).build()
    };
    let pool = start(8).expect("starts");
    pool.for_each::<counted>(0..200).expect("all run");
    let of_map = MOST.swap(0, Ordering::SeqCst);
    let handles: Vec<_> = (0..200)
        .map(|x| pool.submit::<counted>(x).expect("open"))
        .collect();
    assert!(
        par_async::block_on(gather(handles))
            .into_iter()
            .all(|end| end == Ok(()))
    );
    let of_submits = MOST.load(Ordering::SeqCst);
    assert!((2..=8).contains(&of_map), "{of_map} parts of a map at a time");
    assert!((2..=8).contains(&of_submits), "{of_submits} tasks at a time");
    let error = start(0).map(|pool| pool.info()).expect_err("nothing could run");
    assert_eq!(
        error.to_string(),
        "bad option in_flight: at least 1 async task must be under way, got 0"
    );
}

// --- ends ---

static HELD: AtomicUsize = AtomicUsize::new(0);

/// Says how many futures of a test are there.
struct Held(&'static AtomicUsize);

impl Held {
    fn new(count: &'static AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Held(count)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[task]
async fn holds(_x: u64) {
    let _held = Held::new(&HELD);
    std::future::pending::<()>().await;
}

#[test]
fn cancel_and_deadline_and_shutdown_drop_what_waits_for_ever() {
    let pool = AsyncPool::new(1).expect("starts");
    let held = |count| until(|| HELD.load(Ordering::SeqCst) == count);
    let handle = pool.submit::<holds>(0).expect("open");
    assert!(held(1), "it never began");
    assert!(!handle.cancel(), "it had begun");
    assert_eq!(ended(handle), Err(TaskError::Cancelled));
    assert!(held(0), "cancelled, and its future is still there");

    let hurried = pool.with_plan(Plan::default().timeout(Duration::from_millis(30)));
    let late = TaskError::TimedOut { limit_ms: 30 };
    assert_eq!(
        ended(hurried.submit::<holds>(0).expect("open")),
        Err(late.clone())
    );
    assert_eq!(hurried.map::<holds>(0..20).expect_err("late").error, late);
    assert!(held(0), "late, and a future is still there");

    let handles: Vec<_> = (0..20).map(|x| pool.submit::<holds>(x).expect("open")).collect();
    assert!(held(20), "they never began");
    let report = pool.shutdown(Shutdown::CancelPending, Some(PATIENCE));
    assert!(report.cancelled >= 20 + 2 && report.detached == 0, "{report:?}");
    assert!(held(0), "the pool is gone, and a future is still there");
    assert!(
        handles
            .into_iter()
            .all(|handle| ended(handle) == Err(TaskError::Cancelled))
    );
}

#[task]
async fn fails_or_waits(x: u64) -> Result<(), String> {
    if x == 3 {
        tokio::task::yield_now().await;
        return Err("three".to_owned());
    }
    if x > 3 {
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[test]
fn a_map_that_failed_does_not_wait_for_what_comes_after_the_failure() {
    let pool = AsyncPool::new(1).expect("starts");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(pool.map::<fails_or_waits>(0..50)));
    let failed = told
        .recv_timeout(PATIENCE)
        .expect("it hangs")
        .expect_err("three fails");
    assert_eq!(failed.index, 3, "{failed}");
}

static DONE: AtomicUsize = AtomicUsize::new(0);

#[task]
async fn done_late(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    DONE.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_pool_that_is_dropped_in_async_code_drains_behind_it() {
    for (turn, runtime) in runtimes().into_iter().enumerate() {
        runtime.block_on(in_time(async {
            let (own, users) = (AsyncPool::new(1), AsyncPool::current(1));
            for pool in [own.expect("starts"), users.expect("starts")] {
                for _ in 0..5 {
                    drop(pool.submit::<done_late>(20).expect("open"));
                }
                drop(pool);
            }
            while DONE.load(Ordering::SeqCst) < 10 * (turn + 1) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // The runtime itself lives on.
            assert_eq!(tokio::spawn(nap(1)).await.expect("no panic"), 1);
        }));
    }
}

#[task]
async fn shuts_its_pool_down(_x: u64) -> bool {
    let pool = par_async::current().expect("inside a task");
    pool.shutdown(Shutdown::CancelPending, None);
    pool.submit::<double>(1).is_err()
}

#[test]
fn a_task_may_shut_its_own_pool_down() {
    let pool = AsyncPool::new(1).expect("starts");
    assert_eq!(
        ended(pool.submit::<shuts_its_pool_down>(0).expect("open")),
        Ok(true)
    );
    let report = pool.shutdown(Shutdown::Drain, Some(PATIENCE));
    assert_eq!(report.detached, 0, "{report:?}");
}

static NOTIFIED: Notify = Notify::const_new();

#[task]
async fn waits_for_notice(x: u64) -> u64 {
    NOTIFIED.notified().await;
    x
}

#[test]
fn a_runtime_that_ends_under_its_pool_ends_its_tasks() {
    for many in [false, true] {
        let runtime = threads();
        let pool = AsyncPool::on(runtime.handle().clone(), 1).expect("starts");
        let single = pool.submit::<waits_for_notice>(1).expect("open");
        let (tell, told) = mpsc::channel();
        if many {
            let mapping = pool.clone();
            std::thread::spawn(move || tell.send(mapping.map::<waits_for_notice>(0..100)));
            assert!(until(|| pool.engine().in_flight() == 2), "the map never began");
        }
        runtime.shutdown_timeout(PATIENCE);
        let outcome = ended(single);
        assert!(matches!(outcome, Err(TaskError::Lost { .. })), "{outcome:?}");
        if many {
            let outcome = told.recv_timeout(PATIENCE).expect("the map hangs");
            let error = outcome.expect_err("its runtime is gone").error;
            assert!(matches!(error, TaskError::Lost { .. }), "{error}");
        }
        let error = pool
            .submit::<nap>(1)
            .expect_err("nobody would run it")
            .to_string();
        assert!(error.contains("has ended"), "{error}");
        assert_eq!(
            ended(pool.submit::<double>(4).expect("open")),
            Ok(8),
            "the crew goes on"
        );
        assert_eq!(pool.shutdown(Shutdown::Drain, Some(PATIENCE)).detached, 0);
    }
}

#[test]
fn outside_a_runtime_there_is_no_current_one() {
    let error = AsyncPool::current(1)
        .map(|pool| pool.info())
        .expect_err("no runtime here");
    assert!(matches!(error, StartError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("AsyncPool::new"), "{error}");
}
