//! Law 10: a pool ends in three ways, in time, tells the truth about it, and leaves nobody behind.

use super::bench::{Bench, Check, can, submit};
use super::folder::Folder;
use super::tasks::{double, mark, slow_mark, stubborn};
use crate::engine::{Refused, Shutdown, ShutdownReport};
use crate::error::TaskError;
use crate::handle::Handle;
use crate::pool::AnyPool;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("Drain runs everything", drain),
    ("CancelPending starts nothing more", cancel_pending),
    ("Kill is over in time", kill),
    ("a deadline ends a Drain", drain_with_deadline),
    ("dropping a pool drains it", dropped),
    ("a pool that has ended refuses", refuses),
    ("no worker outlives its pool", nobody_left),
];

const BEHIND: u64 = 50;

/// All that was submitted, by how it ended.
fn total(report: ShutdownReport) -> u64 {
    report.ran + report.cancelled + report.lost
}

/// Shuts down in another thread, opens the gate once that is under way, and returns the report, and how many tasks went in
/// until the pool refused.
fn shut(bench: &Bench<AnyPool>, pool: &AnyPool, how: Shutdown, folder: &Folder) -> (ShutdownReport, u64) {
    let (tell, told) = mpsc::channel();
    let ending = pool.clone();
    let ender = thread::spawn(move || {
        // Nobody listens any more once the check has given up.
        let _ = tell.send(ending.shutdown(how, None));
    });
    let mut accepted = 0;
    bench.until("a pool that is ending refuses", || {
        match pool.try_submit::<double>(1) {
            Ok(_) => {
                accepted += 1;
                false
            }
            Err(refused) => refused.reason == Refused::Closed,
        }
    });
    folder.open();
    let report = told
        .recv_timeout(bench.patience())
        .unwrap_or_else(|_| panic!("{how:?} never ends"));
    ender.join().expect("no panic");
    (report, accepted)
}

/// Workers that are busy, and tasks behind them.
fn busy(bench: &Bench<AnyPool>, pool: &AnyPool, folder: &Folder) -> (Vec<Handle<u64>>, Vec<Handle<u64>>) {
    let gates = bench.occupy(pool, folder);
    (
        gates,
        (0..BEHIND)
            .map(|tag| submit::<mark>(pool, (folder.path(), tag)))
            .collect(),
    )
}

fn drain(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a shutdown finds everything done") {
        pool.map::<double>(0..10).expect("a map");
        assert_eq!(
            pool.shutdown(Shutdown::Drain, None),
            ShutdownReport {
                ran: 10,
                ..ShutdownReport::default()
            }
        );
        return;
    }
    let folder = Folder::new();
    let (gates, behind) = busy(bench, &pool, &folder);
    let (report, accepted) = shut(bench, &pool, Shutdown::Drain, &folder);
    let submitted = BEHIND + bench.workers() as u64 + accepted;
    for (tag, handle) in (0..).zip(behind) {
        assert_eq!(
            bench.ended(handle),
            Ok(tag),
            "a task that waited when the pool was drained"
        );
    }
    bench.release(&folder, gates);
    assert_eq!(
        report.ran, submitted,
        "parts that ran, of those submitted: {report:?}"
    );
    assert_eq!(
        (report.cancelled, report.lost, report.detached),
        (0, 0, 0),
        "{report:?}"
    );
    assert_eq!(folder.count("marks"), BEHIND as usize, "tasks that ran");
}

fn cancel_pending(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if can(&pool).inline {
        return;
    }
    let folder = Folder::new();
    let (gates, behind) = busy(bench, &pool, &folder);
    let (report, accepted) = shut(bench, &pool, Shutdown::CancelPending, &folder);
    let submitted = BEHIND + bench.workers() as u64 + accepted;
    let mut ran = 0;
    for handle in behind {
        match bench.ended(handle) {
            Ok(_) => ran += 1,
            Err(error) => assert_eq!(
                error,
                TaskError::Cancelled,
                "a task that waited when the pool was ended"
            ),
        }
    }
    for gate in gates {
        let outcome = bench.ended(gate);
        assert!(
            matches!(outcome, Ok(_) | Err(TaskError::Cancelled)),
            "a task that ran ended as {outcome:?}"
        );
    }
    assert_eq!(
        folder.count("marks"),
        ran,
        "tasks that started, and tasks that ended with a value"
    );
    assert_eq!(
        total(report),
        submitted,
        "parts in the report, and parts submitted: {report:?}"
    );
    assert!(
        report.cancelled >= BEHIND - ran as u64,
        "{report:?}, and {ran} of {BEHIND} pending tasks ran"
    );
    assert_eq!((report.lost, report.detached), (0, 0), "{report:?}");
}

/// Ends a pool whose workers never end by themselves.
fn end_stubborn(bench: &Bench<AnyPool>, how: Shutdown) {
    let pool = bench.pool();
    if bench.inline(&pool, "a shutdown never finds a task running") {
        return;
    }
    const LIMIT: Duration = Duration::from_millis(100);
    let folder = Folder::new();
    let workers = bench.workers();
    let running: Vec<_> = (0..workers as u64)
        .map(|tag| submit::<stubborn>(&pool, (folder.path(), tag)))
        .collect();
    bench.until("each worker begins a task", || folder.count("gates") == workers);
    let pending: Vec<_> = (0..5)
        .map(|tag| submit::<mark>(&pool, (folder.path(), tag)))
        .collect();
    let start = Instant::now();
    let report = pool.shutdown(how, Some(LIMIT));
    let took = start.elapsed();
    assert!(
        took < LIMIT + bench.patience() / 2,
        "{how:?} within {LIMIT:?} took {took:?}"
    );
    if can(&pool).kill {
        assert_eq!(
            (report.lost, report.detached),
            (workers as u64, 0),
            "tasks ended by force: {report:?}"
        );
    } else {
        bench.weaker(
            &pool,
            "a running task cannot be ended by force (capability kill), so its worker is told as detached",
        );
        assert_eq!(
            (report.lost, report.detached),
            (0, workers),
            "workers left behind: {report:?}"
        );
    }
    for handle in pending.into_iter().chain(running) {
        let outcome = bench.ended(handle);
        let told = matches!(outcome, Err(TaskError::Cancelled | TaskError::Lost { .. }));
        assert!(told, "after {how:?} with a deadline a task ended as {outcome:?}");
    }
    assert_eq!(folder.count("marks"), 0, "tasks that started after the end");
}

fn kill(bench: &Bench<AnyPool>) {
    end_stubborn(bench, Shutdown::Kill);
}

fn drain_with_deadline(bench: &Bench<AnyPool>) {
    end_stubborn(bench, Shutdown::Drain);
}

fn dropped(bench: &Bench<AnyPool>) {
    let folder = Folder::new();
    let pool = bench.pool();
    for tag in 0..20 {
        drop(submit::<slow_mark>(&pool, (folder.path(), tag)));
    }
    drop(pool);
    assert_eq!(
        folder.count("ended"),
        20,
        "tasks that had run when the pool was gone"
    );
}

fn refuses(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    pool.map::<double>(0..10).expect("a map");
    assert_eq!(pool.shutdown(Shutdown::Drain, Some(bench.patience())).ran, 10);
    let refused = pool.try_submit::<double>(4).expect_err("it is shut down");
    assert_eq!((refused.input, refused.reason), (4, Refused::Closed));
    assert_eq!(
        pool.submit::<double>(4).expect_err("it is shut down").to_string(),
        "task was rejected: the pool is shut down"
    );
    let failed = pool.map::<double>(0..10).expect_err("it is shut down");
    assert_eq!(
        failed.to_string(),
        "item 0: task was rejected: the pool is shut down"
    );
    // A second time is no harm.
    pool.shutdown(Shutdown::Kill, Some(bench.patience()));
}

/// Whether a worker, told by `4711/task/4712`, is still there. A process that has ended and waits for its parent to look is not.
pub(super) fn lives(seat: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{seat}/stat")) else {
        return false;
    };
    // The state stands after the name, which is in parentheses.
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X'))
}

fn nobody_left(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "the worker is the caller") {
        return;
    }
    for how in [Shutdown::Drain, Shutdown::CancelPending, Shutdown::Kill] {
        let pool = bench.pool();
        let folder = Folder::new();
        let gates = bench.occupy(&pool, &folder);
        let seats = folder.lines("seats");
        let own = format!("{}/", std::process::id());
        if can(&pool).processes {
            assert!(
                seats.iter().all(|seat| !seat.starts_with(&own)),
                "workers are other processes, and sit at {seats:?}"
            );
        }
        folder.open();
        gates.into_iter().for_each(|gate| drop(bench.ended(gate)));
        pool.shutdown(how, Some(bench.patience()));
        drop(pool);
        if std::path::Path::new("/proc/self/stat").exists() {
            bench.until("every worker is gone", || !seats.iter().any(|seat| lives(seat)));
        }
    }
}
