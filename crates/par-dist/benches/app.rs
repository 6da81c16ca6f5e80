//! The task queue on its file: durable enqueues one by one and in groups, the whole life of a task, and how much a million waiting tasks cost.
//!
//! Prints rates and ratios of medians. The floor is SQLite itself: one insert a transaction, with the same pragmas.

use par_dist::app::App;
use par_dist::task;
use std::path::Path;
use std::time::{Duration, Instant};

#[task(name = "bench.add")]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn app(path: &Path) -> App {
    let broker = path.to_str().expect("utf-8");
    App::builder("bench")
        .broker(broker)
        .task::<add>()
        .build()
        .expect("an app")
}

/// How many a second, the median of some rounds.
fn rate(rounds: usize, count: usize, mut round: impl FnMut()) -> f64 {
    let mut rates: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            round();
            count as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rounds / 2]
}

fn floor(folder: &Path) -> f64 {
    let db = rusqlite::Connection::open(folder.join("floor.db")).expect("a file");
    db.pragma_update(None, "journal_mode", "WAL").expect("a mode");
    db.pragma_update(None, "synchronous", "FULL").expect("a mode");
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
        .expect("a table");
    let mut insert = db
        .prepare("INSERT INTO t (body) VALUES (?)")
        .expect("a statement");
    rate(5, 500, || {
        for _ in 0..500 {
            insert.execute([&[0u8; 700][..]]).expect("written");
        }
    })
}

fn enqueue(app: &App) -> f64 {
    rate(5, 500, || {
        for number in 0..500 {
            app.delay::<add>((number, 1)).expect("sent");
        }
    })
}

fn enqueue_groups(app: &App) -> f64 {
    rate(5, 5000, || {
        for group in 0..10 {
            let calls = (0..500).map(|number| app.call::<add>((number, group)));
            app.send_all(calls).expect("sent");
        }
    })
}

/// From a full queue: sent in groups, run by two threads, with or without results.
fn drain(app: &App, results: bool) -> f64 {
    const COUNT: usize = 2000;
    let mut rates: Vec<f64> = (0..3)
        .map(|_| {
            app.purge("celery").expect("purged");
            let calls = (0..COUNT as u64).map(|number| {
                let call = app.call::<add>((number, 1));
                if results { call } else { call.ignore_result() }
            });
            app.send_all(calls).expect("sent");
            let start = Instant::now();
            let worker = app.worker().concurrency(2).prefetch(64).start().expect("starts");
            while worker.ended() < COUNT as u64 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let took = start.elapsed();
            worker.stop();
            COUNT as f64 / took.as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[1]
}

/// One task after the other, each from its call to its value.
fn round_trip(app: &App) -> Duration {
    let worker = app.worker().concurrency(1).start().expect("starts");
    let mut times: Vec<Duration> = (0..300)
        .map(|number| {
            let start = Instant::now();
            let sent = app.delay::<add>((number, 1)).expect("sent");
            sent.get(Duration::from_secs(60)).expect("a value");
            start.elapsed()
        })
        .collect();
    worker.stop();
    times.sort();
    times[150]
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let floor = floor(folder.path());
    println!("SQLite alone, one insert a transaction: {floor:.0} a second");
    let app = app(&folder.path().join("jobs.db"));
    let alone = enqueue(&app);
    println!(
        "enqueues one by one: {alone:.0} a second, {:.2} of that",
        alone / floor
    );
    println!("enqueues in groups of 500: {:.0} a second", enqueue_groups(&app));
    println!(
        "drained by two threads, with results: {:.0} a second",
        drain(&app, true)
    );
    println!(
        "drained by two threads, without: {:.0} a second",
        drain(&app, false)
    );
    app.purge("celery").expect("purged");
    println!(
        "from a call to its value, p50: {} us",
        round_trip(&app).as_micros()
    );
    let waiting = if std::env::args().any(|argument| argument == "--quick") {
        20_000
    } else {
        1_000_000
    };
    for group in 0..waiting / 10_000 {
        app.send_all((0..10_000).map(|number| app.call::<add>((number, group)).queue("other")))
            .expect("sent");
    }
    println!("with {waiting} tasks waiting:");
    println!("  enqueues one by one: {:.2} of before", enqueue(&app) / alone);
    app.purge("celery").expect("purged");
    println!(
        "  from a call to its value, p50: {} us",
        round_trip(&app).as_micros()
    );
}
