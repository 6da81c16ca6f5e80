//! The async engine beside bare tokio, in turns within one run: a task there and back, a thousand at once, a map of 1e5.
//!
//! Each line gives the medians of both and the median of their ratios, round by round. `cargo bench -p par-async`, with parts of names for some of them only: `cargo bench -p par-async -- "in flight"`.

use par_async::{AsyncOptions, AsyncPool, OnRuntime, task};
use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

#[task]
async fn step(x: u64) -> u64 {
    x + 1
}

/// As `step`, but not ready at its first poll.
#[task]
async fn yields(x: u64) -> u64 {
    tokio::task::yield_now().await;
    x + 1
}

/// Rounds of each measurement, and of its two sides in turns.
const ROUNDS: usize = 41;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs both sides in turns, `count` operations a time, and prints nanoseconds an operation.
fn compare(name: &str, count: u64, mut ours: impl FnMut() -> Duration, mut tokio: impl FnMut() -> Duration) {
    let mut wanted = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    if wanted.peek().is_some() && !wanted.any(|part| name.contains(&part)) {
        return;
    }
    let mut sides = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=ROUNDS {
        let (a, b) = if round % 2 == 0 {
            let a = ours();
            (a, tokio())
        } else {
            let b = tokio();
            (ours(), b)
        };
        if round > 0 {
            let each = |time: Duration| time.as_nanos() as f64 / count as f64;
            sides.0.push(each(a));
            sides.1.push(each(b));
            sides.2.push(each(a) / each(b));
        }
    }
    println!(
        "{name:<58} par {:>8.0} ns   tokio {:>8.0} ns   ratio {:.2}",
        median(sides.0),
        median(sides.1),
        median(sides.2)
    );
}

/// Times a future that runs as a task of the runtime, where `spawn` is at its fastest.
fn inside<F: Future<Output = Duration> + Send + 'static>(runtime: &Runtime, work: F) -> Duration {
    runtime
        .block_on(async { tokio::spawn(work).await })
        .expect("no panic")
}

async fn timed<F: Future<Output = ()>>(work: F) -> Duration {
    let start = Instant::now();
    work.await;
    start.elapsed()
}

async fn ours_one_by_one(pool: AsyncPool, count: u64) -> Duration {
    timed(async {
        for x in 0..count {
            let value = pool.submit::<step>(black_box(x)).expect("open").await;
            assert_eq!(value, Ok(x + 1));
        }
    })
    .await
}

async fn tokio_one_by_one(count: u64) -> Duration {
    timed(async {
        for x in 0..count {
            let value = tokio::spawn(step(black_box(x))).await.expect("no panic");
            assert_eq!(value, x + 1);
        }
    })
    .await
}

async fn ours_at_once(pool: AsyncPool, count: u64) -> Duration {
    timed(async {
        let handles: Vec<_> = (0..count)
            .map(|x| pool.submit::<step>(x).expect("open"))
            .collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await.expect("a value");
        }
        assert_eq!(sum, count * (count + 1) / 2);
    })
    .await
}

async fn tokio_at_once(count: u64) -> Duration {
    timed(async {
        let handles: Vec<_> = (0..count).map(|x| tokio::spawn(step(x))).collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await.expect("a value");
        }
        assert_eq!(sum, count * (count + 1) / 2);
    })
    .await
}

/// A map, or a set of spawned tasks, of 1e5.
const ITEMS: u64 = 100_000;

macro_rules! maps {
    ($runtime:expr, $pool:expr, $name:expr, $task:ident) => {
        compare(
            &$name,
            ITEMS,
            || {
                let pool = $pool.clone();
                inside($runtime, async move {
                    timed(async {
                        let values = pool.map_async::<$task>(0..ITEMS).await.expect("a map");
                        assert_eq!(values.len() as u64, ITEMS);
                    })
                    .await
                })
            },
            || {
                inside($runtime, async {
                    timed(async {
                        let mut set = JoinSet::new();
                        for x in 0..ITEMS {
                            set.spawn($task(x));
                        }
                        assert_eq!(set.join_all().await.len() as u64, ITEMS);
                    })
                    .await
                })
            },
        );
    };
}

fn all(name: &str, runtime: &Runtime) {
    let pool = AsyncPool::on(runtime.handle().clone(), 2).expect("starts");
    compare(
        &format!("{name}, one in flight"),
        2_000,
        || inside(runtime, ours_one_by_one(pool.clone(), 2_000)),
        || inside(runtime, tokio_one_by_one(2_000)),
    );
    compare(
        &format!("{name}, one in flight, from outside"),
        500,
        || runtime.block_on(ours_one_by_one(pool.clone(), 500)),
        || runtime.block_on(tokio_one_by_one(500)),
    );
    compare(
        &format!("{name}, 1000 in flight"),
        1_000,
        || inside(runtime, ours_at_once(pool.clone(), 1_000)),
        || inside(runtime, tokio_at_once(1_000)),
    );
    compare(
        &format!("{name}, 1000 in flight, from outside"),
        1_000,
        || runtime.block_on(ours_at_once(pool.clone(), 1_000)),
        || runtime.block_on(tokio_at_once(1_000)),
    );
    maps!(runtime, pool, format!("{name}, map of 1e5 beside JoinSet"), step);
    // As many at a time as a JoinSet has: all.
    let options = AsyncOptions {
        in_flight: ITEMS as usize,
        ..AsyncOptions::on(runtime.handle().clone())
    };
    let wide = AsyncPool::builder()
        .workers(2)
        .options(options)
        .build()
        .expect("starts");
    maps!(
        runtime,
        wide,
        format!("{name}, map of 1e5 that yield beside JoinSet"),
        yields
    );
    // The runtime is driven by who blocks on it: the pools end within it.
    runtime.block_on(async {
        pool.shutdown_async(par_async::Shutdown::Drain, None).await;
        wide.shutdown_async(par_async::Shutdown::Drain, None).await;
    });
}

fn main() {
    let threads = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("starts");
    all("2 threads", &threads);
    let single = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starts");
    all("1 thread", &single);
}
