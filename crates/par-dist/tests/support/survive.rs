//! A server is killed, restarted and stopped in the middle of many tasks of a pool: none is lost, only idempotent ones run twice, and the work
//! goes on within ten seconds.

use par_dist::{ChunkPlan, ClusterPool, Options, Plan, Shutdown, TaskError};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

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
pub(crate) fn once(folder: String, item: u64) -> u64 {
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
fn runs(folder: &Path, kind: char, tasks: u64) -> Vec<usize> {
    let mut runs = vec![0; tasks as usize];
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

/// Runs so many tasks of each of the two kinds, with a fault in their middle; the fault returns when the server takes connections again.
pub(crate) fn survive(broker: &str, tasks: u64, fault: impl FnOnce()) {
    let _watch = Watch::start();
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().display().to_string();
    let options = Options {
        broker: Some(broker.into()),
        ..Options::default()
    };
    let pool = ClusterPool::builder()
        .workers(2)
        .options(options)
        .build()
        .expect("a pool")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    std::thread::scope(|scope| {
        let one = scope.spawn(|| pool.map_outcomes::<once>((0..tasks).map(|item| (path.clone(), item))));
        let two = scope.spawn(|| pool.map_outcomes::<again>((0..tasks).map(|item| (path.clone(), item))));
        until("a third has run", Duration::from_secs(120), || {
            ran(folder.path()) > tasks as usize * 2 / 3
        });
        fault();
        let ready = Instant::now();
        let before = ran(folder.path());
        assert!(before < 2 * tasks as usize, "everything had run before the fault");
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
        .zip(runs(folder.path(), 'o', tasks))
        .filter(|(_, runs)| *runs != 1)
        .collect();
    assert!(wrong.is_empty(), "not run once: {wrong:?}");
    let wrong: Vec<_> = (0..)
        .zip(runs(folder.path(), 'a', tasks))
        .filter(|(_, runs)| *runs == 0)
        .collect();
    assert!(wrong.is_empty(), "not run: {wrong:?}");
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(20)));
    assert_eq!(
        (report.ran, report.cancelled, report.lost, report.detached),
        (2 * tasks, 0, 0, 0)
    );
}

/// A pool on a server that goes away for longer than the pool waits: every wait ends, with this reason.
pub(crate) fn stays_away(broker: &str, kill: impl FnOnce()) -> String {
    let options = Options {
        broker: Some(broker.into()),
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
    kill();
    let ended = waits
        .wait_timeout(Duration::from_secs(60))
        .map_err(|_| "a wait without an end");
    let reason = match ended.expect("an end") {
        Err(TaskError::Broken(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(5)));
    assert_eq!((report.ran, report.detached), (0, 0));
    reason
}
