//! Ten tasks that only compute: one after the other, on a pool of five threads, on a pool of five processes.
//!
//! The recipe of the book on `concurrent.futures`. In its terms: an executor is a pool, `submit` gives a future (here a `Handle`),
//! `as_completed` waits for whichever is done next, `executor.map` keeps the order, and leaving the `with` block is `shutdown`.
//!
//! `cargo run --release -p par-async --example r4_futures`

use par_async::engine::Engine;
use par_async::{Pool, Shutdown, as_completed, block_on, task};
use par_process::ProcessPool;
use par_sync::ThreadPool;
use std::time::Instant;

const NUMBERS: std::ops::RangeInclusive<u64> = 1..=10;
const WORKERS: usize = 5;

/// Counts to ten million, and returns the last number times the item.
#[task]
fn evaluate(item: u64) -> u64 {
    let mut last = 0;
    for i in 0..10_000_000u64 {
        // Hidden from the optimiser, which would know the end of the loop.
        last = std::hint::black_box(i) + 1;
    }
    last * item
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let serial: Vec<u64> = NUMBERS.map(evaluate).collect();
    report("serial", &serial, start);

    let start = Instant::now();
    let threads = on_pool(&ThreadPool::new(WORKERS)?)?;
    report("threads", &threads, start);

    let start = Instant::now();
    let processes = on_pool(&ProcessPool::new(WORKERS)?)?;
    report("processes", &processes, start);

    if threads != serial || processes != serial {
        return Err("the three ways do not agree".into());
    }
    Ok(())
}

/// Half of the items by `submit` and `as_completed`, the others by `map`; then the pool ends.
fn on_pool<E: Engine>(pool: &Pool<E>) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
    let (first, rest): (Vec<u64>, Vec<u64>) = NUMBERS.partition(|item| *item <= 5);
    let handles = first.iter().map(|item| pool.submit::<evaluate>(*item));
    let mut done = as_completed(handles.collect::<Result<Vec<_>, _>>()?);
    let mapped = pool.map::<evaluate>(rest)?;
    let mut values = vec![0; first.len()];
    block_on(async {
        while let Some((place, outcome)) = done.next().await {
            values[place] = outcome?;
        }
        Ok::<(), par_async::TaskError>(())
    })?;
    values.extend(mapped);
    pool.shutdown(Shutdown::Drain, None);
    Ok(values)
}

fn report(way: &str, values: &[u64], start: Instant) {
    println!("{way}: {values:?} in {:.3} s", start.elapsed().as_secs_f64());
}
