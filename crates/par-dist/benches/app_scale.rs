//! How workers of an app fare at scale, on a file and on the servers that are installed: rates; until they are ready, and what they take while they
//! wait; 100 000 tasks while a worker is killed every second; 100 000 tasks that wait for their times.
//!
//! `cargo bench -p par-dist --features full --bench app_scale [-- --quick | --whole] [RabbitMQ]`; `--whole` watches all of the
//! tasks that wait, and not only those of the first half minute

#[path = "../tests/support/brokers.rs"]
mod brokers;
#[path = "../tests/support/storm.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod storm;

use par_dist::app::App;
use par_dist::task;
use std::time::{Duration, Instant};
use storm::{Place, Worker, late};

#[task(name = "test.due")]
fn due(log: String, due_millis: i64) -> Result<(), std::io::Error> {
    let _ = (log, due_millis);
    Ok(())
}

#[task(name = "scale.add")]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// Tasks that are sent together, and then run by two threads of a worker, without results and with them; and the way there and back of single ones.
fn rates(server: Option<&str>, count: u64) {
    let place = Place::on(server);
    let app = || {
        let app = App::builder("test").broker(&place.broker).task::<add>();
        app.build().expect("an app")
    };
    let (sends, works) = (app(), app());
    let worker = || {
        let worker = works.worker().concurrency(2).prefetch(128);
        worker.start().expect("starts")
    };
    let rate = |start: Instant| count as f64 / start.elapsed().as_secs_f64();
    let mut rates = Vec::new();
    for results in [false, true] {
        sends.purge("celery").expect("purged");
        let start = Instant::now();
        let calls = (0..count).map(|number| {
            let call = sends.call::<add>((number, 1));
            if results { call } else { call.ignore_result() }
        });
        let sent = sends.send_all(calls).expect("sent");
        if !results {
            rates.push(rate(start));
        }
        let start = Instant::now();
        let worker = worker();
        until("all have run", Duration::from_secs(300), || {
            worker.ended() >= count
        });
        rates.push(rate(start));
        worker.stop();
        if let Some(last) = sent.last().filter(|_| results) {
            assert_eq!(last.get(storm::PATIENCE).expect("a value"), count);
        }
    }
    let worker = worker();
    let mut ways: Vec<Duration> = (0..1000)
        .map(|number| {
            let start = Instant::now();
            let sent = sends.delay::<add>((number, 1)).expect("sent");
            sent.get(storm::PATIENCE).expect("a value");
            start.elapsed()
        })
        .collect();
    worker.stop();
    ways.sort();
    println!(
        "  {:.0} a second sent together, {:.0} run, {:.0} with their results; from a call to its value {:.2} ms at the median",
        rates[0],
        rates[1],
        rates[2],
        ways[ways.len() / 2].as_secs_f64() * 1000.0
    );
}

/// Resident memory of a process, in MiB.
fn memory(worker: &Worker) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.0.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0.0);
    kib / 1024.0
}

fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ready(server: Option<&str>) {
    let mut times = Vec::new();
    let mut idle = 0.0;
    for _ in 0..5 {
        let place = Place::on(server);
        let start = Instant::now();
        let worker = place.worker();
        until("ready", Duration::from_secs(60), || place.log.exists());
        times.push(start.elapsed());
        // What it sets up after that.
        std::thread::sleep(Duration::from_millis(500));
        idle = memory(&worker);
        worker.stop();
    }
    times.sort();
    println!(
        "  ready {} ms after its process was started, {idle:.1} MiB while it waits",
        times[2].as_millis()
    );
}

/// Every second one of three workers is killed.
fn kills(server: Option<&str>, count: u64) {
    let place = Place::on(server);
    let (app, log) = (place.app(), Place::text(&place.log));
    app.purge("celery").expect("purged");
    for from in (0..count).step_by(5000) {
        let calls =
            (from..from + 5000).map(|number| app.call::<late>((log.clone(), number, 0)).ignore_result());
        app.send_all(calls).expect("sent");
    }
    let start = Instant::now();
    let mut workers: Vec<Worker> = (0..3).map(|_| place.worker()).collect();
    let (mut kills, mut last) = (0, Instant::now());
    let ended = || place.runs().values().filter(|(_, ended)| *ended > 0).count() as u64;
    while ended() < count && start.elapsed() < Duration::from_secs(300) {
        if last.elapsed() >= Duration::from_secs(1) {
            let at = kills % workers.len();
            workers[at].kill();
            workers[at] = place.worker();
            (kills, last) = (kills + 1, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let took = start.elapsed();
    workers.into_iter().for_each(Worker::stop);
    let runs = place.runs();
    let verdict = storm::check(count, &runs, true);
    let twice = runs.values().filter(|(begun, _)| *begun > 1).count();
    println!(
        "  {count} tasks in {:.1} s while {kills} workers were killed, one a second: {}; {twice} were begun more than once",
        took.as_secs_f64(),
        verdict.map_or_else(|lost| lost, |()| "none is lost".to_owned())
    );
}

/// So many tasks that are to run evenly over 1000 s; the first of them are watched.
fn waiting(server: Option<&str>, count: u64, watched: Duration) {
    const SPREAD: u64 = 1_000_000;
    let place = Place::on(server);
    let app = App::builder("test").broker(&place.broker).task::<due>();
    let (app, log) = (app.build().expect("an app"), Place::text(&place.log));
    app.purge("celery").expect("purged");
    let worker = place.worker();
    until("ready", Duration::from_secs(60), || place.log.exists());
    let begin = std::time::UNIX_EPOCH.elapsed().unwrap_or_default()
        + Duration::from_secs(if server.is_some() { 60 } else { 20 });
    let start = Instant::now();
    for from in (0..count).step_by(5000) {
        let calls = (from..(from + 5000).min(count)).map(|number| {
            let at = begin.as_millis() as i64 + (number * SPREAD / count) as i64;
            let eta = jiff::Timestamp::from_millisecond(at).expect("a time");
            app.call::<due>((log.clone(), at)).eta(eta).ignore_result()
        });
        app.send_all(calls).expect("sent");
    }
    let sent = start.elapsed();
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    assert!(now() < begin, "sent too late to tell: it took {sent:?}");
    until("watched", 2 * watched + Duration::from_secs(600), || {
        now() > begin + watched
    });
    let memory = memory(&worker);
    let begun = || -> Vec<i64> {
        let log = place.log();
        let due = log
            .iter()
            .filter_map(|line| line.strip_prefix("due ")?.parse().ok());
        due.collect()
    };
    if watched.as_millis() >= u128::from(SPREAD) {
        until("all have begun", Duration::from_secs(60), || {
            begun().len() as u64 >= count
        });
    }
    let mut late = begun();
    late.sort_unstable();
    drop(worker);
    app.purge("celery").expect("purged");
    let at = |share: f64| {
        late.get((late.len() as f64 * share) as usize)
            .map_or(0.0, |micros| *micros as f64 / 1000.0)
    };
    println!(
        "  {count} tasks that wait (sent in {:.1} s), one every {} ms: the worker takes {memory:.1} MiB; of the first {} began {:.1} ms after their times at the median, {:.1} at 99 %, {:.1} at most, {} later than 50 ms",
        sent.as_secs_f64(),
        SPREAD / count,
        late.len(),
        at(0.5),
        at(0.99),
        at(0.999_999),
        late.len() - late.partition_point(|micros| *micros <= 50_000)
    );
    if let Some(earliest) = late.first().filter(|micros| **micros < 0) {
        println!("  one began {earliest} us before its time");
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let whole = std::env::args().any(|argument| argument == "--whole");
    let (count, watched) = match (quick, whole) {
        (true, _) => (5000, 2),
        (false, true) => (100_000, 1000),
        (false, false) => (100_000, 30),
    };
    brokers::on_each(|server| {
        rates(server, count / 5);
        ready(server);
        kills(server, count);
        waiting(server, count, Duration::from_secs(watched));
    });
}
