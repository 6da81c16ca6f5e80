//! The cluster engine on its embedded broker: tiny tasks through one file, and what a long queue costs.
//!
//! `cargo bench -p par-dist [tasks|queue]`. Medians and ratios, everything side by side in one run.

use par_dist::probe::Probe;
use par_dist::{ChunkPlan, ClusterPool, Options, Plan};
use std::hint::black_box;
use std::time::{Duration, Instant};

type Error = Box<dyn std::error::Error>;

#[par_dist::task]
fn step(x: u64) -> u64 {
    x.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Tasks a second from submit to result with two local workers, each task a message of its own unless a chunk is named.
fn tasks() -> Result<(), Error> {
    const TASKS: u64 = 20_000;
    const ROUNDS: usize = 7;
    let folder = tempfile::tempdir()?;
    let durable = Options {
        broker: Some(folder.path().join("jobs.db").into()),
        ..Options::default()
    };
    println!("tiny tasks a second through one file, 2 local workers (median of {ROUNDS} x {TASKS})");
    for (file, options) in [
        ("temporary file", Options::default()),
        ("file of its own", durable),
    ] {
        let pool = ClusterPool::builder()
            .workers(2)
            .queue(TASKS as usize)
            .options(options)
            .build()?;
        let single = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
        let run = |what: &str, round: &dyn Fn() -> Result<(), Error>| -> Result<(), Error> {
            round()?;
            let mut times = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                let start = Instant::now();
                round()?;
                times.push(start.elapsed());
            }
            let rate = TASKS as f64 / median(&mut times).as_secs_f64();
            println!(
                "  {file:<16} {what:<26} {rate:>9.0} /s  {:.2} x the target of 10k/s",
                rate / 1e4
            );
            Ok(())
        };
        run("submit each, wait each", &|| {
            let handles = (0..TASKS)
                .map(|x| pool.submit::<step>(x))
                .collect::<Result<Vec<_>, _>>()?;
            for handle in handles {
                black_box(handle.wait()?);
            }
            Ok(())
        })?;
        run("map, a task a message", &|| {
            black_box(single.map::<step>(0..TASKS)?);
            Ok(())
        })?;
        run("map, automatic chunks", &|| {
            black_box(pool.map::<step>(0..TASKS)?);
            Ok(())
        })?;
        let mut times: Vec<Duration> = (0..500)
            .map(|x| {
                let start = Instant::now();
                pool.submit::<step>(x)?.wait()?;
                Ok(start.elapsed())
            })
            .collect::<Result<_, Error>>()?;
        let p50 = median(&mut times);
        println!(
            "  {file:<16} one task there and back    {p50:>9.1?} p50, {:.1?} p99",
            times[495]
        );
    }
    Ok(())
}

/// One operation on a broker.
struct Operation {
    name: &'static str,
    /// Makes it, with what it needs before and after, on that job; how long it took alone.
    run: fn(&Probe, u64) -> Result<Duration, Error>,
}

fn timed<R>(call: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let result = call();
    (start.elapsed(), result)
}

/// The whole way of `messages` at once, of which `step` is timed: 0 submit, 1 lease, 2 settle, 3 collect.
fn way(probe: &Probe, job: u64, messages: usize, step: usize) -> Result<Duration, Error> {
    let (submit, done) = timed(|| probe.submit(job, messages));
    done?;
    let (lease, leased) = timed(|| probe.lease(messages));
    let leased = leased?;
    assert_eq!(leased.len(), messages);
    let (settle, done) = timed(|| probe.settle(&leased));
    done?;
    let (collect, count) = timed(|| probe.collect());
    assert_eq!(count?, messages);
    Ok([submit, lease, settle, collect][step])
}

fn cancel(probe: &Probe, job: u64, messages: usize) -> Result<Duration, Error> {
    probe.submit(job, messages)?;
    let (time, taken) = timed(|| probe.cancel(job));
    assert_eq!(taken?, messages);
    Ok(time)
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "submit 1",
        run: |p, job| way(p, job, 1, 0),
    },
    Operation {
        name: "lease 1",
        run: |p, job| way(p, job, 1, 1),
    },
    Operation {
        name: "settle 1",
        run: |p, job| way(p, job, 1, 2),
    },
    Operation {
        name: "collect 1",
        run: |p, job| way(p, job, 1, 3),
    },
    Operation {
        name: "cancel 1",
        run: |p, job| cancel(p, job, 1),
    },
    Operation {
        name: "submit 100",
        run: |p, job| way(p, job, 100, 0),
    },
    Operation {
        name: "lease 100",
        run: |p, job| way(p, job, 100, 1),
    },
    Operation {
        name: "settle 100",
        run: |p, job| way(p, job, 100, 2),
    },
    Operation {
        name: "collect 100",
        run: |p, job| way(p, job, 100, 3),
    },
    Operation {
        name: "cancel 100",
        run: |p, job| cancel(p, job, 100),
    },
    Operation {
        name: "count",
        run: |p, _| {
            let (time, count) = timed(|| p.count());
            black_box(count?);
            Ok(time)
        },
    },
];

/// Every operation on an empty queue, on one of ten thousand messages and on one of a million, by turns.
///
/// One message costs the same on all of them. A batch of a hundred does not: on the empty queue it stays within one page of each
/// index, and where the trees have grown beyond that it rewrites about three times as many pages. SQLite alone, with one
/// table and no index, shows a factor of 1.4 there.
fn queue() -> Result<(), Error> {
    const WAITING: [usize; 3] = [0, 10_000, 1_000_000];
    const ROUNDS: u64 = 400;
    let folder = tempfile::tempdir()?;
    let mut probes = Vec::new();
    for waiting in WAITING {
        let probe = Probe::join(&folder.path().join(format!("{waiting}.db")), 1000)?;
        let start = Instant::now();
        // Leases come from the front of the queue and submits go to its end, so the number stays.
        for job in 0..waiting / 1000 {
            probe.submit(u64::MAX - job as u64, 1000)?;
        }
        let took = start.elapsed();
        println!("{waiting} waiting messages were published in {took:.1?}, 1000 a transaction");
        probes.push(probe);
    }
    println!(
        "medians of {ROUNDS}, by turns: {WAITING:?} waiting; 1e6 over 0 (target: at most 1.2), 1e6 over 1e4"
    );
    for (index, operation) in OPERATIONS.iter().enumerate() {
        let mut times = WAITING.map(|_| Vec::new());
        for round in 0..ROUNDS {
            // A job of its own, for what others published still waits.
            let job = (index as u64) << 32 | round;
            for (probe, times) in probes.iter().zip(&mut times) {
                times.push((operation.run)(probe, job)?);
            }
        }
        let [none, some, many] = times.map(|mut times| median(&mut times));
        let ratio = |than: Duration| many.as_secs_f64() / than.as_secs_f64();
        println!(
            "  {:<12} {none:>10.1?} {some:>10.1?} {many:>10.1?}  {:.2}  {:.2}",
            operation.name,
            ratio(none),
            ratio(some)
        );
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let all = wanted.is_empty();
    if all || wanted.iter().any(|name| name == "tasks") {
        tasks()?;
    }
    if all || wanted.iter().any(|name| name == "queue") {
        queue()?;
    }
    Ok(())
}
