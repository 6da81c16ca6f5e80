//! A worker of an app in a process of its own, for the tests: `par-dist-app-worker BROKER LOG [QUEUE...]` runs until it is killed, or until
//! its standard input ends; then it stops in peace. Each task leaves a line in the log when it begins and when it ends. With `DIE_AT` it dies at
//! its third task: `before` it runs, while it is `running`, or `after` its result is kept and before it is acknowledged.

use par_dist::app::{App, AppBuilder, Hooks, State, TaskContext, TaskOptions};
use par_dist::task;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Writes a line, whole, as one call appends it.
fn note(log: &str, line: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(log)?;
    file.write_all(format!("{line}\n").as_bytes())
}

#[task(name = "test.early")]
fn early(log: String, number: u64, millis: u64) -> Result<u64, std::io::Error> {
    work(&log, number, millis)
}

#[task(name = "test.late")]
fn late(log: String, number: u64, millis: u64) -> Result<u64, std::io::Error> {
    work(&log, number, millis)
}

/// How many microseconds after its time it began.
#[task(name = "test.due")]
fn due(log: String, due_millis: i64) -> Result<(), std::io::Error> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let due = Duration::from_millis(due_millis.unsigned_abs());
    let after = now.as_micros() as i64 - due.as_micros() as i64;
    note(&log, &format!("due {after}"))
}

/// The third time at the place where this process is to die, it does.
fn passes(place: &str) {
    static TIMES: AtomicU32 = AtomicU32::new(0);
    if std::env::var("DIE_AT").is_ok_and(|at| at == place) && TIMES.fetch_add(1, Ordering::SeqCst) == 2 {
        std::process::abort();
    }
}

struct Deaths;

impl Hooks for Deaths {
    fn before(&self, _: &TaskContext) {
        passes("before");
    }
    fn after(&self, _: &TaskContext, _: &State, _: &serde_json::Value) {
        passes("after");
    }
}

fn work(log: &str, number: u64, millis: u64) -> Result<u64, std::io::Error> {
    note(log, &format!("begin {number}"))?;
    passes("running");
    // This is the work.
    std::thread::sleep(Duration::from_millis(millis));
    note(log, &format!("end {number}"))?;
    Ok(number)
}

fn tasks(app: AppBuilder) -> AppBuilder {
    let late_options = TaskOptions {
        acks_late: true,
        ..TaskOptions::default()
    };
    app.task::<early>().task::<due>().task_with::<late>(late_options)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [broker, log, queues @ ..] = arguments.as_slice() else {
        return Err("usage: par-dist-app-worker BROKER LOG [QUEUE...]".into());
    };
    let app = tasks(App::builder("test").broker(broker))
        .hooks(Deaths)
        .environment()
        .build()?;
    let mut worker = app.worker().concurrency(2);
    if !queues.is_empty() {
        worker = worker.queues(queues.iter().map(String::as_str));
    }
    let worker = worker.start()?;
    note(log, "ready")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    worker.stop();
    Ok(())
}
