//! Workers that come and go in peace: after a number of tasks, when they grow too large, and when the pool changes its size.

use par_process::{
    ChunkPlan, Event, Mapping, Observer, Options, Plan, ProcessPool, Shutdown, StartError, TaskError,
    with_local,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn with(workers: usize, options: Options) -> ProcessPool {
    let builder = ProcessPool::builder().workers(workers).restarts(0);
    builder.options(options).build().expect("starts")
}

#[par_process::task]
fn pid(_x: u64) -> u32 {
    std::process::id()
}

/// Keeps the reasons for which workers went away.
#[derive(Default)]
struct Gone(Mutex<Vec<String>>);

impl Observer for Gone {
    fn event(&self, event: &Event) {
        if let Event::WorkerLost { reason, .. } = event {
            self.0.lock().expect("no panic").push(reason.clone());
        }
    }
}

fn counts(pids: &[u32]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for pid in pids {
        *counts.entry(*pid).or_default() += 1;
    }
    counts
}

#[test]
fn a_worker_is_replaced_after_its_number_of_tasks() {
    for (workers, chunk) in [(1, 1), (1, 7), (3, 1), (3, 4)] {
        let pool = with(
            workers,
            Options {
                tasks_per_worker: Some(10),
                ..Options::default()
            },
        );
        let gone = Arc::new(Gone::default());
        pool.observer(gone.clone());
        let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(chunk)));
        let pids = plan.map::<pid>(0..200).expect("a map");
        let counts = counts(&pids);
        assert!(counts.values().all(|count| *count <= 10), "{counts:?}");
        assert!(counts.len() >= 20, "{counts:?}");
        let gone = gone.0.lock().expect("no panic").clone();
        assert!(gone.len() >= 20 - workers, "{gone:?}");
        assert!(
            gone.iter()
                .all(|why| why
                    .ends_with("has left: it has run 10 task(s), its number (option tasks_per_worker)")),
            "{gone:?}"
        );
    }
}

#[par_process::task]
fn sum_below(count: u64) -> Result<u64, TaskError> {
    let pool = par_process::current().ok_or_else(|| TaskError::failed("no pool"))?;
    let children: Vec<_> = (0..count)
        .map(|x| pool.submit::<below>(x))
        .collect::<Result<_, _>>()?;
    let mut sum = 0;
    for child in children {
        // A wait with a deadline runs nothing here: each child needs a place on a worker.
        sum += child
            .wait_timeout(PATIENCE)
            .map_err(|_| TaskError::failed("a child never ended"))??;
    }
    Ok(sum)
}

#[par_process::task]
fn below(x: u64) -> u64 {
    x
}

#[test]
fn a_task_that_waits_for_others_does_not_wait_for_its_replacement() {
    let pool = with(
        1,
        Options {
            tasks_per_worker: Some(1),
            ..Options::default()
        },
    );
    for _ in 0..3 {
        assert_eq!(pool.submit::<sum_below>(5).expect("open").wait(), Ok(10));
    }
}

/// Leaves a file behind when it is dropped.
struct Farewell(PathBuf);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Long enough that a worker which is killed does not get there.
        std::thread::sleep(Duration::from_millis(50));
        let _ = std::fs::write(&self.0, "farewell");
    }
}

#[par_process::task]
fn keep(folder: PathBuf) -> u32 {
    let pid = std::process::id();
    with_local(|| Farewell(folder.join(pid.to_string())), |_| pid)
}

fn farewells(folder: &Path) -> BTreeSet<u32> {
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    files
        .filter_map(|file| file.file_name().to_str()?.parse().ok())
        .collect()
}

#[test]
fn what_workers_keep_is_dropped_when_they_leave_and_when_their_pool_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = with(
        2,
        Options {
            tasks_per_worker: Some(2),
            ..Options::default()
        },
    );
    let pids = pool
        .map::<keep>((0..7).map(|_| folder.path().to_owned()))
        .expect("a map");
    let kept: BTreeSet<u32> = pids.into_iter().collect();
    pool.shutdown(Shutdown::Drain, None);
    assert_eq!(farewells(folder.path()), kept);
}

/// What this worker keeps from one task to the next.
#[par_process::task]
fn grow(mebibytes: usize) -> u32 {
    with_local(Vec::new, |all: &mut Vec<u8>| {
        all.extend(vec![1u8; mebibytes << 20])
    });
    std::process::id()
}

/// Takes memory, and with it in hand waits for its end where there is to be one.
#[par_process::task]
fn hoard(mebibytes: usize, killed: bool) -> u32 {
    let all = std::hint::black_box(vec![1u8; mebibytes << 20]);
    if killed {
        std::thread::sleep(PATIENCE);
    }
    drop(all);
    std::process::id()
}

const MIB: u64 = 1 << 20;

#[test]
fn a_worker_that_has_grown_is_replaced_after_its_task() {
    let pool = with(
        1,
        Options {
            memory: Some(64 * MIB),
            ..Options::default()
        },
    );
    let gone = Arc::new(Gone::default());
    pool.observer(gone.clone());
    let first = pool.submit::<grow>(1).expect("open").wait().expect("small");
    assert_eq!(pool.submit::<grow>(1).expect("open").wait(), Ok(first));
    let many = pool.map::<grow>([12; 20]).expect("nothing is lost");
    let counts = counts(&many);
    assert!(counts.len() >= 3, "{counts:?}");
    let gone = gone.0.lock().expect("no panic").clone();
    assert!(
        !gone.is_empty()
            && gone.iter().all(|why| why
                .ends_with("after a task its memory was over the limit of 67108864 bytes (option memory)")),
        "{gone:?}"
    );
}

#[test]
fn a_task_that_takes_too_much_memory_is_killed_and_nothing_else_suffers() {
    let pool = with(
        1,
        Options {
            memory: Some(64 * MIB),
            ..Options::default()
        },
    );
    for _ in 0..2 {
        let hoarded = pool.submit::<hoard>((400, true)).expect("open");
        let next = pool.submit::<pid>(0).expect("open");
        match hoarded.wait() {
            Err(TaskError::Lost { reason, .. }) => assert!(
                reason.ends_with(
                    "was killed: its memory was over twice the limit of 67108864 bytes (option memory)"
                ),
                "{reason}"
            ),
            other => panic!("{other:?}"),
        }
        assert!(next.wait().is_ok());
        assert!(pool.submit::<hoard>((8, false)).expect("open").wait().is_ok());
    }
}

#[test]
fn an_allocation_beyond_the_address_space_fails_on_the_spot() {
    let pool = ProcessPool::builder()
        .workers(1)
        .options(Options {
            address_space: Some(1024 * MIB),
            ..Options::default()
        })
        .build()
        .expect("starts");
    match pool.submit::<grow>(2000).expect("open").wait() {
        Err(TaskError::Lost { reason, .. }) => {
            assert!(
                reason.contains("was killed by signal 6 (SIGABRT: abort, or out of memory)"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(pool.submit::<grow>(20).expect("open").wait().is_ok());
}

#[par_process::task]
fn slow(x: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(2));
    x
}

#[test]
fn a_pool_grows_and_shrinks_while_it_works() {
    let pool = with(1, Options::default());
    let working = pool.clone();
    let expected: Vec<u64> = (0..400).collect();
    let maps = std::thread::spawn(move || {
        for mapping in [
            Mapping::Dynamic,
            Mapping::StaticBlock,
            Mapping::Cyclic,
            Mapping::Stealing,
        ] {
            let plan = working.with_plan(Plan::default().chunk(ChunkPlan::Fixed(3)).mapping(mapping));
            assert_eq!(plan.map::<slow>(0..400), Ok(expected.clone()), "{mapping:?}");
        }
    });
    let mut sizes = [3, 1, 4, 2, 20, 1].into_iter().cycle();
    while !maps.is_finished() {
        let size = sizes.next().expect("it repeats");
        pool.resize(size).expect("it changes");
        assert_eq!(pool.workers(), size);
    }
    maps.join().expect("every map is whole");
    assert!(pool.info().capabilities.elastic);
}

#[test]
fn more_workers_work_and_fewer_stay() {
    let gone = Arc::new(Gone::default());
    let pool = with(1, Options::default());
    pool.observer(gone.clone());
    pool.resize(3).expect("it grows");
    let pids: BTreeSet<u32> = pool.map::<pid>(0..3).expect("a map").into_iter().collect();
    assert!(!pids.is_empty());
    let plan = pool.with_plan(
        Plan::default()
            .mapping(Mapping::Cyclic)
            .chunk(ChunkPlan::Fixed(1)),
    );
    let pids: BTreeSet<u32> = plan.map::<pid>(0..30).expect("a map").into_iter().collect();
    assert_eq!(pids.len(), 3, "a cyclic mapping reaches all of them");
    pool.resize(1).expect("it shrinks");
    until("two have left", || gone.0.lock().expect("no panic").len() == 2);
    assert!(
        gone.0
            .lock()
            .expect("no panic")
            .iter()
            .all(|why| why.ends_with("has left: the pool was made smaller"))
    );
    until("they have ended", || {
        pids.iter()
            .filter(|pid| Path::new(&format!("/proc/{pid}")).exists())
            .count()
            == 1
    });
    let pids: BTreeSet<u32> = plan.map::<pid>(0..30).expect("a map").into_iter().collect();
    assert_eq!(pids.len(), 1);
}

#[par_process::task]
fn refuse_all_but_the_first(folder: PathBuf) -> Result<(), String> {
    match std::fs::create_dir(folder.join("first")) {
        Ok(()) => Ok(()),
        Err(_) => Err("only one licence".to_owned()),
    }
}

#[test]
fn a_size_that_cannot_be_is_refused_and_the_pool_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = ProcessPool::builder()
        .workers(1)
        .initializer::<refuse_all_but_the_first>(folder.path().to_owned())
        .build()
        .expect("starts");
    assert!(matches!(pool.resize(0), Err(StartError::Workers(0))));
    assert_eq!(
        pool.resize(1 << 20).expect_err("too many").to_string(),
        "bad option workers: at most 65536, got 1048576"
    );
    let refused = pool.resize(2).expect_err("its initialiser fails").to_string();
    assert!(refused.contains("only one licence"), "{refused}");
    assert_eq!(pool.workers(), 1);
    assert!(pool.submit::<pid>(0).expect("open").wait().is_ok());
    pool.shutdown(Shutdown::Drain, None);
    assert_eq!(
        pool.resize(2).expect_err("too late").to_string(),
        "the pool is at its end"
    );
}
