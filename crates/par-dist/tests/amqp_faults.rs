//! RabbitMQ is killed, restarted and stopped in the middle of 50 000 tasks: none is lost, only idempotent ones run twice, and the work
//! goes on within ten seconds. A server for each test.

#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;

use par_dist::{ChunkPlan, ClusterPool, Options, Plan, Shutdown, TaskError};
use rabbit::Rabbit;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Tasks of each of the two kinds.
const TASKS: u64 = 25_000;
/// A line of the record of a process: kind, item, end of line.
const LINE: usize = 8;
/// How soon the work goes on once the server takes connections again.
const GOES_ON: Duration = Duration::from_secs(10);

/// Notes that a task has run, in a file of this process.
fn note(folder: &str, kind: char, item: u64) {
    let path = Path::new(folder).join(std::process::id().to_string());
    let mut record = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .expect("a record");
    record
        .write_all(format!("{kind}{item:06}\n").as_bytes())
        .expect("write");
}

#[par_dist::task]
fn once(folder: String, item: u64) -> u64 {
    note(&folder, 'o', item);
    item
}

#[par_dist::task(idempotent)]
fn again(folder: String, item: u64) -> u64 {
    note(&folder, 'a', item);
    item
}

/// How many tasks have run.
fn ran(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("folder");
    let bytes: u64 = entries
        .map(|entry| entry.expect("entry").metadata().expect("metadata").len())
        .sum();
    bytes as usize / LINE
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How often each item of a kind was run.
fn runs(folder: &Path, kind: char) -> Vec<usize> {
    let mut runs = vec![0; TASKS as usize];
    for entry in fs::read_dir(folder).expect("folder") {
        let text = fs::read_to_string(entry.expect("entry").path()).expect("a record");
        for line in text.lines().filter(|line| line.starts_with(kind)) {
            runs[line[1..].parse::<usize>().expect("an item")] += 1;
        }
    }
    runs
}

/// Ends the program, and with it the server, when something hangs: a map has no deadline.
struct Watch {
    done: std::sync::mpsc::Sender<()>,
}

impl Watch {
    fn start() -> Self {
        let (done, told) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if told.recv_timeout(Duration::from_secs(240)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                eprintln!("a test hangs");
                std::process::abort();
            }
        });
        Watch { done }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may have ended the program's wait already.
        let _ = self.done.send(());
    }
}

/// Runs all tasks with a fault in their middle; the fault returns when the server takes connections again.
fn survive(fault: impl FnOnce(&mut Rabbit)) {
    let _watch = Watch::start();
    let mut server = Rabbit::start().expect("a server");
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().display().to_string();
    let options = Options {
        // So that a connection that is stopped, not closed, is given up soon.
        broker: Some(format!("{}?heartbeat=2", server.url()).into()),
        ..Options::default()
    };
    let pool = ClusterPool::builder()
        .workers(2)
        .options(options)
        .build()
        .expect("a pool")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    std::thread::scope(|scope| {
        let one = scope.spawn(|| pool.map_outcomes::<once>((0..TASKS).map(|item| (path.clone(), item))));
        let two = scope.spawn(|| pool.map_outcomes::<again>((0..TASKS).map(|item| (path.clone(), item))));
        until("a third has run", Duration::from_secs(120), || {
            ran(folder.path()) > TASKS as usize * 2 / 3
        });
        fault(&mut server);
        let ready = Instant::now();
        let before = ran(folder.path());
        assert!(before < 2 * TASKS as usize, "everything had run before the fault");
        until("it goes on", GOES_ON, || ran(folder.path()) > before);
        eprintln!(
            "{before} tasks had run, and {:.1?} after the server was ready it went on",
            ready.elapsed()
        );
        for map in [one, two] {
            let outcomes = map.join().expect("no panic").expect("a map");
            let wrong: Vec<_> = (0..)
                .zip(outcomes)
                .filter(|(item, outcome)| *outcome != Ok(*item))
                .take(5)
                .collect();
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    });
    let wrong: Vec<_> = (0..)
        .zip(runs(folder.path(), 'o'))
        .filter(|(_, runs)| *runs != 1)
        .collect();
    assert!(wrong.is_empty(), "not run once: {wrong:?}");
    let wrong: Vec<_> = (0..)
        .zip(runs(folder.path(), 'a'))
        .filter(|(_, runs)| *runs == 0)
        .collect();
    assert!(wrong.is_empty(), "not run: {wrong:?}");
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(20)));
    assert_eq!(
        (report.ran, report.cancelled, report.lost, report.detached),
        (2 * TASKS, 0, 0, 0)
    );
}

#[test]
fn killed() {
    survive(|server| {
        server.kill().expect("kill");
        server.start_again().expect("start");
    });
}

#[test]
fn restarted() {
    survive(|server| {
        server.stop().expect("stop");
        server.start_again().expect("start");
    });
}

#[test]
fn stopped_for_longer_than_its_heartbeat() {
    survive(|server| {
        server.freeze().expect("stop");
        // Its connections are given up after twice the heartbeat: that long, and a little.
        std::thread::sleep(Duration::from_secs(7));
        server.thaw().expect("go on");
    });
}

#[test]
fn a_server_that_stays_away_ends_every_wait() {
    let mut server = Rabbit::start().expect("a server");
    let options = Options {
        broker: Some(server.url().into()),
        local_workers: false,
        outage: Duration::from_secs(1),
        ..Options::default()
    };
    let pool = ClusterPool::builder()
        .workers(1)
        .options(options)
        .build()
        .expect("a pool");
    let folder = tempfile::tempdir().expect("folder");
    let waits = pool
        .submit::<once>((folder.path().display().to_string(), 1))
        .expect("submit");
    server.kill().expect("kill");
    let ended = waits
        .wait_timeout(Duration::from_secs(60))
        .map_err(|_| "a wait without an end");
    match ended.expect("an end") {
        Err(TaskError::Broken(reason)) => assert!(
            reason.starts_with(&format!(
                "the broker {} failed: it was out of reach for 1 s: ",
                server.url()
            )),
            "{reason}"
        ),
        other => panic!("{other:?}"),
    }
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(5)));
    assert_eq!((report.ran, report.detached), (0, 0));
}
