//! How workers of an app fare at scale, on a file and on the servers that are installed: until they are ready, and what they take while they wait;
//! 100 000 tasks while a worker is killed every second; 100 000 tasks that wait for their times.
//!
//! `cargo bench -p par-dist --features full --bench app_scale [-- --quick | --whole] [RabbitMQ]`; `--whole` watches all of the
//! tasks that wait, and not only those of the first half minute

#[path = "../tests/support/rabbit.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod rabbit;
#[path = "../tests/support/redis.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod redis;
#[path = "../tests/support/storm.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod storm;

use par_dist::task;
use std::time::{Duration, Instant};
use storm::{Place, Worker, late};

#[task(name = "test.due")]
fn due(log: String, due_millis: i64) -> Result<(), std::io::Error> {
    let _ = (log, due_millis);
    Ok(())
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
    let app = par_dist::app::App::builder("test")
        .broker(&place.broker)
        .task::<due>();
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
    let mut late: Vec<i64> = place
        .log()
        .iter()
        .filter_map(|line| line.strip_prefix("due ")?.parse().ok())
        .collect();
    late.sort_unstable();
    drop(worker);
    app.purge("celery").expect("purged");
    let at = |share: f64| {
        late.get((late.len() as f64 * share) as usize)
            .map_or(0.0, |micros| *micros as f64 / 1000.0)
    };
    println!(
        "  {count} tasks that wait (sent in {:.1} s), one every {} ms: the worker takes {memory:.1} MiB; of the first {} began {:.1} ms after their times at the median, {:.1} at 99 %, {:.1} at most",
        sent.as_secs_f64(),
        SPREAD / count,
        late.len(),
        at(0.5),
        at(0.99),
        at(0.999_999)
    );
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let whole = std::env::args().any(|argument| argument == "--whole");
    let (count, watched) = match (quick, whole) {
        (true, _) => (5000, 2),
        (false, true) => (100_000, 1000),
        (false, false) => (100_000, 30),
    };
    let redis = redis::Redis::start();
    let rabbit = rabbit::Rabbit::start();
    let mut places = vec![("a file", None)];
    match &redis {
        Ok(redis) => places.push(("Redis", Some(redis.url()))),
        Err(error) => println!("not on Redis: {error}"),
    }
    match &rabbit {
        Ok(rabbit) => places.push(("RabbitMQ", Some(rabbit.url()))),
        Err(error) => println!("not on RabbitMQ: {error}"),
    }
    let only = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    places.retain(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only.as_str())));
    for (name, server) in places {
        println!("on {name}:");
        ready(server.as_deref());
        kills(server.as_deref(), count);
        waiting(server.as_deref(), count, Duration::from_secs(watched));
    }
}
