//! What happens to a task when it, or its worker, does not end well: the texts that the user reads, and what runs again.

use par_dist::{ChunkPlan, ClusterPool, Options, Plan, Shutdown, Sum, TaskError};
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// Ends as it is told.
#[par_dist::task]
fn end(how: String) -> u64 {
    match &how[..] {
        "panics" => panic!("the {how} of a task"),
        "aborts" => std::process::abort(),
        "exits" => std::process::exit(3),
        // More than any machine has.
        "allocates" => Vec::<u64>::with_capacity(1 << 58).capacity() as u64,
        "recurses" => deep(0),
        _ => 7,
    }
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "a stack that overflows is the point")]
fn deep(level: u64) -> u64 {
    // Touched, so that the frame is needed.
    let frame = std::hint::black_box([level; 512]);
    deep(level + 1).wrapping_add(frame[level as usize % 512])
}

#[par_dist::task]
fn sum(bytes: Vec<u8>) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

#[par_dist::task]
fn bytes(count: u64) -> Vec<u8> {
    (0..count).map(|at| at as u8).collect()
}

#[par_dist::task]
fn twice(x: u64) -> u64 {
    2 * x
}

/// Notes that it was begun, in one line of a file, and waits at the gate if it is the item for that.
fn begin(folder: &str, item: u64) -> u64 {
    let mut marks = OpenOptions::new()
        .append(true)
        .create(true)
        .open(Path::new(folder).join("marks"))
        .expect("marks");
    marks
        .write_all(format!("{item} {}\n", std::process::id()).as_bytes())
        .expect("write");
    while item == GATE && !Path::new(folder).join("open").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    2 * item
}

const GATE: u64 = 30;

#[par_dist::task]
fn once(folder: String, item: u64) -> u64 {
    begin(&folder, item)
}

#[par_dist::task(idempotent)]
fn again(folder: String, item: u64) -> u64 {
    begin(&folder, item)
}

/// Items and processes of the tasks that were begun, in order.
fn begun(folder: &Path) -> Vec<(u64, u32)> {
    let text = std::fs::read_to_string(folder.join("marks")).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let (item, pid) = line.split_once(' ').expect("two numbers");
        (item.parse().expect("an item"), pid.parse().expect("a pid"))
    });
    lines.collect()
}

/// Waits until the item at the gate was begun, kills its process and opens the gate for who comes next.
fn kill_at_the_gate(folder: &Path) -> u32 {
    let end = Instant::now() + Duration::from_secs(30);
    let pid = loop {
        if let Some((_, pid)) = begun(folder).into_iter().find(|(item, _)| *item == GATE) {
            break pid;
        }
        assert!(Instant::now() < end, "nobody came to the gate");
        std::thread::sleep(Duration::from_millis(1));
    };
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()));
    std::fs::write(folder.join("open"), "").expect("open");
    pid
}

/// A text without its numbers of processes.
fn unnumbered(text: &str) -> String {
    let Some((before, after)) = text.split_once("worker process ") else {
        return text.to_owned();
    };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}worker process N{rest}")
}

#[test]
fn every_bad_end_is_told_and_the_pool_goes_on() {
    let pool = ClusterPool::new(1).expect("pool");
    let lost =
        |how: &str| format!("task was lost after 1 attempt(s) (it may have run): worker process N {how}");
    let ends = [
        ("aborts", lost("was killed by signal 6 (SIGABRT: it aborted)")),
        ("exits", lost("exited with code 3")),
        ("allocates", lost("was killed by signal 6 (SIGABRT: it aborted)")),
        (
            "recurses",
            lost("was killed by signal 11 (SIGSEGV: a stack that overflowed, or a bad access)"),
        ),
    ];
    for (how, expected) in ends {
        let error = pool
            .submit::<end>(how.to_owned())
            .expect("submit")
            .wait()
            .expect_err(how);
        assert_eq!(unnumbered(&error.to_string()), expected, "a task that {how}");
        assert_eq!(
            pool.submit::<end>("well".to_owned()).expect("submit").wait(),
            Ok(7)
        );
    }
    let error = pool
        .submit::<end>("panics".to_owned())
        .expect("submit")
        .wait()
        .expect_err("panics")
        .to_string();
    assert!(
        error.starts_with("task panicked: the panics of a task (at ") && error.contains("worker_faults.rs:"),
        "{error}"
    );
}

#[test]
fn a_map_names_the_item_that_ended_its_worker() {
    let pool = ClusterPool::new(2)
        .expect("pool")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let items = ["well", "exits", "well"].map(str::to_owned);
    let error = pool.map::<end>(items.clone()).expect_err("exits").to_string();
    assert_eq!(
        unnumbered(&error),
        "item 1: task was lost after 1 attempt(s) (it may have run): worker process N exited with code 3"
    );
    let outcomes = pool.map_outcomes::<end>(items).expect("a map");
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(7), &Ok(7)));
}

#[test]
fn past_the_budget_the_last_death_is_told() {
    let pool = ClusterPool::builder()
        .workers(1)
        .restarts(0)
        .build()
        .expect("pool");
    // Lost, or already Broken: the pool breaks with its worker.
    let first = pool.submit::<end>("exits".to_owned()).expect("submit");
    let first = first.wait().expect_err("exits").to_string();
    assert!(first.ends_with("exited with code 3"), "{first}");
    let end = Instant::now() + Duration::from_secs(30);
    let broken = loop {
        match pool.submit::<twice>(1).map(|handle| handle.wait()) {
            Err(error @ TaskError::Broken(_)) | Ok(Err(error @ TaskError::Broken(_))) => {
                break error.to_string();
            }
            other => assert!(Instant::now() < end, "{other:?}"),
        }
    };
    assert_eq!(
        unnumbered(&broken),
        "pool is broken: 0 restart(s) are used up; the last worker: worker process N exited with code 3"
    );
}

#[test]
fn sigkill_in_a_map_of_idempotent_tasks_costs_only_time() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().display().to_string();
    let pool = ClusterPool::new(2)
        .expect("pool")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let (outcomes, killed) = std::thread::scope(|scope| {
        let map = scope.spawn(|| pool.map::<again>((0..100).map(|item| (path.clone(), item))));
        let killed = kill_at_the_gate(folder.path());
        (map.join().expect("no panic"), killed)
    });
    assert_eq!(outcomes, Ok((0..100).map(|item| 2 * item).collect::<Vec<_>>()));
    let begun = begun(folder.path());
    let at_the_gate: Vec<u32> = begun
        .iter()
        .filter(|(item, _)| *item == GATE)
        .map(|(_, pid)| *pid)
        .collect();
    assert_eq!(
        at_the_gate.len(),
        2,
        "begun by the killed process and by another one"
    );
    assert!(at_the_gate[0] == killed && at_the_gate[1] != killed);
    // Whatever was not begun was begun once, whoever had it before.
    assert_eq!(begun.len(), 101);
}

#[test]
fn sigkill_in_a_map_loses_what_had_begun_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().display().to_string();
    let pool = ClusterPool::new(2)
        .expect("pool")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let (outcomes, killed) = std::thread::scope(|scope| {
        let map = scope.spawn(|| pool.map_outcomes::<once>((0..100).map(|item| (path.clone(), item))));
        let killed = kill_at_the_gate(folder.path());
        (map.join().expect("no panic").expect("a map"), killed)
    });
    for (item, outcome) in (0..).zip(outcomes) {
        match outcome {
            Err(error) if item == GATE => assert_eq!(
                error.to_string(),
                format!(
                    "task was lost after 1 attempt(s) (it may have run): worker process {killed} was killed by signal 9 (SIGKILL: by hand, or by the system for want of memory)"
                )
            ),
            outcome => assert_eq!(outcome, Ok(2 * item)),
        }
    }
    let items: Vec<u64> = begun(folder.path()).into_iter().map(|(item, _)| item).collect();
    assert_eq!(items.len(), 100, "begun once each");
    assert_eq!(items.into_iter().collect::<HashSet<_>>().len(), 100);
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(20)));
    assert_eq!((report.ran, report.detached), (99, 0));
}

#[test]
fn panics_of_callbacks_and_observers_leave_nobody_waiting() {
    let pool = ClusterPool::new(1).expect("pool");
    let folder = tempfile::tempdir().expect("folder");
    let gate = (folder.path().display().to_string(), GATE);
    let handle = pool.submit::<once>(gate).expect("submit");
    handle.on_done(|| panic!("a callback"));
    std::fs::write(folder.path().join("open"), "").expect("open");
    assert_eq!(handle.wait(), Ok(2 * GATE));
    assert_eq!(pool.submit::<twice>(1).expect("submit").wait(), Ok(2));

    struct Bad;
    impl par_dist::Observer for Bad {
        fn event(&self, event: &par_dist::Event) {
            if matches!(event, par_dist::Event::Finished { .. }) {
                panic!("an observer");
            }
        }
    }
    pool.observer(std::sync::Arc::new(Bad));
    assert_eq!(pool.map::<twice>(0..10).expect("a map")[9], 18);
}

#[test]
fn a_hundred_mebibytes_go_there_and_back() {
    let pool = ClusterPool::new(1).expect("pool");
    let expected: Vec<u8> = (0..100 * MIB).map(|at| at as u8).collect();
    let back = pool.submit::<bytes>(100 * MIB as u64).expect("submit").wait();
    assert!(back.is_ok_and(|back| back == expected), "other bytes came back");
    let total = expected.iter().map(|byte| u64::from(*byte)).sum();
    assert_eq!(pool.submit::<sum>(expected).expect("submit").wait(), Ok(total));
    // Shared with both workers of a pool, it crosses once.
    assert_eq!(pool.map_reduce::<twice, _>(0..10, Sum), Ok(90));
}

#[test]
fn what_nothing_can_be_done_with_is_refused_at_once() {
    let refused = |workers: usize, options: Options| {
        ClusterPool::builder()
            .workers(workers)
            .options(options)
            .build()
            .map(drop)
            .expect_err("refused")
            .to_string()
    };
    let options = Options::default;
    assert_eq!(refused(0, options()), "a pool needs at least 1 worker, got 0");
    assert_eq!(
        refused(
            1,
            Options {
                prefetch: 0,
                ..options()
            }
        ),
        "bad option prefetch: must be at least 1, got 0"
    );
    assert_eq!(
        refused(
            1,
            Options {
                published: 0,
                ..options()
            }
        ),
        "bad option published: must be at least 1, got 0"
    );
    assert_eq!(
        refused(
            1,
            Options {
                lease: Duration::from_millis(5),
                ..options()
            }
        ),
        "bad option lease: must be at least 100 ms, got 5 ms"
    );
    let worker = par_dist::Worker::new("/nowhere/jobs.db").concurrency(0).start();
    assert_eq!(
        worker.map(drop).expect_err("refused").to_string(),
        "bad option concurrency: must be at least 1, got 0"
    );
}

#[test]
fn nothing_and_without_end_are_good_inputs_and_a_chunk_of_nothing_is_not() {
    let pool = ClusterPool::new(2).expect("pool");
    assert_eq!(pool.map::<twice>([]), Ok(vec![]));
    assert_eq!(pool.map_reduce::<twice, _>([], Sum), Ok(0));
    assert_eq!(pool.for_each::<twice>([]), Ok(()));
    assert_eq!(pool.map_unordered::<twice, _>([]).expect("a stream").count(), 0);
    let endless = pool.map_unordered::<twice, _>(0..).expect("a stream");
    assert_eq!(
        endless
            .take(2000)
            .filter(|(item, twice)| *twice == Ok(2 * item))
            .count(),
        2000
    );
    // An endless fold ends with its first failure.
    let how = |item: u64| if item < 5000 { "well" } else { "exits" }.to_owned();
    let error = pool.map_reduce::<end, _>((0..).map(how), Sum).expect_err("exits");
    // A death takes the whole message along, which may have begun a few items before.
    assert!(
        error.index <= 5000 && error.to_string().contains("exited with code 3"),
        "{error}"
    );
    let zero = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(0)));
    assert_eq!(
        zero.map::<twice>(0..3).expect_err("refused").to_string(),
        "item 0: task was rejected: the chunk size of the plan must be at least 1, got 0"
    );
}
