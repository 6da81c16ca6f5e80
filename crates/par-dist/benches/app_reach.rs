//! How far one broker of an app goes, on a file and on the servers that are installed: longer and longer bodies, more and more queues, and more and
//! more programs that are connected.
//!
//! `cargo bench -p par-dist --features full --bench app_reach [-- --quick] [RabbitMQ]`

#[path = "../tests/support/brokers.rs"]
mod brokers;

use par_dist::app::{App, RunningWorker};
use par_dist::task;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);

#[task(name = "reach.length")]
fn length(text: String) -> u64 {
    text.len() as u64
}

fn app(broker: &str) -> App {
    let app = App::builder("test").broker(broker).task::<length>();
    app.build().expect("an app")
}

/// From the first call to the last value, a second; the calls go to one of these queues after the other, so many at a time.
fn rate(app: &App, queues: &[String], text: &str, count: usize, together: usize) -> f64 {
    let start = Instant::now();
    let mut sent = Vec::new();
    for from in (0..count).step_by(together) {
        let calls = (from..count.min(from + together)).map(|number| {
            let call = app.call::<length>(text.to_owned());
            call.queue(&queues[number % queues.len()])
        });
        sent.extend(app.send_all(calls).expect("sent"));
    }
    for result in &sent {
        assert_eq!(result.get(PATIENCE).expect("a value"), text.len() as u64);
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn bodies(broker: &str, longest: u32) {
    let app = app(broker);
    let worker = app.worker().concurrency(2).start().expect("starts");
    let queue = ["celery".to_owned()];
    for power in (10..=longest).step_by(5) {
        let bytes = 1 << power;
        let count = ((64 << 20) / bytes).clamp(4, 4000);
        let rate = rate(
            &app,
            &queue,
            &"x".repeat(bytes),
            count,
            ((16 << 20) / bytes).clamp(1, 500),
        );
        println!(
            "  bodies of {} KiB: {rate:.0} tasks a second, {:.0} MiB",
            bytes >> 10,
            rate * bytes as f64 / f64::from(1 << 20)
        );
    }
    worker.stop();
}

fn queues(broker: &str, numbers: &[usize], count: usize) {
    for number in numbers {
        let app = app(broker);
        let names: Vec<String> = (0..*number)
            .map(|queue| format!("reach-{number}-{queue}"))
            .collect();
        let start = Instant::now();
        let worker = app.worker().concurrency(2).prefetch(64);
        let worker = worker
            .queues(names.iter().map(String::as_str))
            .start()
            .expect("starts");
        rate(&app, &names[number - 1..], "text", 1, 1);
        let made = start.elapsed();
        let rate = rate(&app, &names, "text", count, 500);
        println!(
            "  {number} queue(s) and one worker of all: the last one serves after {} ms, {rate:.0} tasks a second",
            made.as_millis()
        );
        worker.stop();
    }
}

fn programs(broker: &str, numbers: &[usize], count: usize) {
    let sends = app(broker);
    let mut workers: Vec<RunningWorker> = Vec::new();
    for number in numbers {
        let start = Instant::now();
        let before = workers.len();
        while workers.len() < *number {
            let worker = app(broker).worker().concurrency(1).prefetch(4);
            workers.push(worker.start().expect("starts"));
        }
        let connected = start.elapsed().as_secs_f64() * 1000.0 / (number - before) as f64;
        let rate = rate(&sends, &["celery".to_owned()], "text", count, 500);
        println!("  {number} connected worker(s), {connected:.1} ms for each: {rate:.0} tasks a second");
    }
    workers.into_iter().for_each(RunningWorker::stop);
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (longest, numbers, count): (u32, &[usize], usize) = if quick {
        (20, &[1, 10], 500)
    } else {
        (25, &[1, 10, 100, 1000], 10_000)
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jobs.db").display().to_string();
    brokers::on_each(|server| {
        let broker = server.unwrap_or(&file);
        bodies(broker, longest);
        queues(broker, numbers, count);
        programs(broker, &numbers[..numbers.len() - 1], count);
    });
}
