//! Tasks that are polled by whoever awaits them: in their turn, in their runtime, not for ever and not without bottom.

use par_async::{AsyncPool, OnRuntime, TaskError, task};
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// What does not happen within this counts as never happening.
const PATIENCE: Duration = Duration::from_secs(30);

fn single_thread() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("starts")
}

async fn in_time<F: Future>(future: F) -> F::Output {
    let limit = tokio::time::timeout(PATIENCE, future);
    limit.await.expect("it never ended")
}

static BEGAN: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[task]
async fn begins(tag: u64) -> u64 {
    BEGAN.lock().expect("no panic").push(tag);
    tag
}

#[test]
fn what_is_awaited_begins_before_what_is_not() {
    single_thread().block_on(in_time(async {
        let pool = AsyncPool::current(1).expect("starts");
        let mut handles: Vec<_> = (0..4)
            .map(|tag| pool.submit::<begins>(tag).expect("open"))
            .collect();
        // The last in the line, then the first of the rest.
        assert_eq!(handles.pop().expect("four").await, Ok(3));
        assert_eq!(handles.remove(0).await, Ok(0));
        for handle in handles {
            handle.await.expect("a value");
        }
    }));
    assert_eq!(*BEGAN.lock().expect("no panic"), [3, 0, 1, 2]);
}

#[task]
async fn needs_a_timer(x: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(1)).await;
    x
}

#[test]
fn awaiting_in_another_runtime_begins_nothing_there() {
    let home = single_thread();
    let pool = home.block_on(async { AsyncPool::current(1).expect("starts") });
    // One that has no timer: a task that was polled in here would panic.
    let bare = Builder::new_current_thread().build().expect("starts");
    let handle = pool.submit::<needs_a_timer>(5).expect("open");
    let waiter = std::thread::spawn(move || bare.block_on(handle));
    let value = home.block_on(in_time(async {
        while !waiter.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waiter.join().expect("no panic")
    }));
    assert_eq!(value, Ok(5));
}

#[task]
async fn ready(x: u64) -> u64 {
    x
}

#[task]
async fn panics(x: u64) -> u64 {
    assert_eq!(x, 0, "not nothing");
    x
}

#[test]
fn a_task_that_only_awaits_what_is_ready_lets_others_go_on() {
    single_thread().block_on(in_time(async {
        let pool = AsyncPool::current(1).expect("starts");
        static SEEN: AtomicBool = AtomicBool::new(false);
        let sibling = tokio::spawn(async { SEEN.store(true, Ordering::Relaxed) });
        let mut rounds = 0u64;
        while !SEEN.load(Ordering::Relaxed) {
            assert!(rounds < 10_000, "the other task was never polled");
            assert_eq!(pool.submit::<ready>(rounds).expect("open").await, Ok(rounds));
            rounds += 1;
        }
        sibling.await.expect("no panic");
        let error = pool.submit::<panics>(1).expect("open").await;
        assert!(matches!(error, Err(TaskError::Panicked(_))), "{error:?}");
    }));
}

#[task]
async fn deep(levels: u64) -> Result<u64, TaskError> {
    if levels == 0 {
        return Ok(0);
    }
    let pool = par_async::current().expect("inside a task");
    Ok(pool.submit::<deep>(levels - 1)?.await? + 1)
}

#[test]
fn tasks_that_await_each_other_need_no_deep_stack() {
    const LEVELS: u64 = 20_000;
    for runtime in [
        single_thread(),
        Builder::new_multi_thread().enable_all().build().expect("starts"),
    ] {
        let value = runtime.block_on(in_time(async {
            let pool = AsyncPool::current(1).expect("starts");
            pool.submit::<deep>(LEVELS).expect("open").await
        }));
        assert_eq!(value, Ok(LEVELS));
    }
}
