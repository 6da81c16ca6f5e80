//! Submitter and worker are different programs that meet at a broker: tasks are found by name and signature.

#[path = "support/programs.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod programs;

use par_dist::{ChunkPlan, Plan, Shutdown, TaskError};
use programs::{Program, endless, nap, pool, process, square, until};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[par_dist::task(name = "tests.label")]
fn label(text: String, count: u64) -> String {
    text.repeat(count as usize)
}

#[par_dist::task(name = "tests.only_here")]
fn only_here(x: u64) -> u64 {
    x
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

#[test]
fn another_program_runs_the_tasks_by_name() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0);
    let program = Program::worker(text(&broker), 2);
    assert!(
        program.banner.contains("queue \"default\", 2 at a time, knows")
            && program.banner.contains("tests.only_on_the_worker"),
        "{}",
        program.banner
    );
    assert_eq!(
        pool.map::<square>(0..100).expect("map"),
        (0..100).map(|x| x * x).collect::<Vec<_>>()
    );
    assert_eq!(
        pool.submit::<process>(0).expect("submit").wait(),
        Ok(program.id())
    );
    until("the pool sees the worker", || {
        pool.engine().workers_by_hand() == 2
    });
    assert_eq!(pool.workers(), 2);
}

#[test]
fn a_name_that_the_worker_does_not_know_is_told_with_those_it_knows() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0);
    let _program = Program::worker(text(&broker), 1);
    let error = pool
        .submit::<only_here>(1)
        .expect("submit")
        .wait()
        .expect_err("unknown")
        .to_string();
    // What stands between may be long: tests of the laws are linked too.
    let start = "task was rejected: no task is named \"tests.only_here\" in this program; it knows ";
    let end = "; if the task lives in another crate, link that crate with par_core::link!(crate_name)";
    assert!(error.starts_with(start) && error.ends_with(end), "{error}");
}

#[test]
fn a_signature_that_differs_is_told_with_both() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0);
    let _program = Program::worker(text(&broker), 1);
    let error = pool
        .submit::<label>(("x".to_owned(), 2))
        .expect("submit")
        .wait()
        .expect_err("differs")
        .to_string();
    assert!(
        error.starts_with("task was rejected: task \"tests.label\" has another signature on the worker:"),
        "{error}"
    );
    assert!(
        error.contains("count: u64") && error.contains("count: u32"),
        "{error}"
    );
}

#[test]
fn workers_outlive_a_pool_and_two_pools_on_one_file_share_them() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let program = Program::worker(text(&broker), 1);
    let (one, two) = (pool(&broker, 0), pool(&broker, 0));
    std::thread::scope(|scope| {
        for pool in [&one, &two] {
            scope.spawn(|| {
                let pool = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
                assert_eq!(
                    pool.map::<square>(0..300).expect("map"),
                    (0..300).map(|x| x * x).collect::<Vec<_>>()
                );
            });
        }
    });
    assert_eq!(
        one.shutdown(Shutdown::Drain, Some(Duration::from_secs(10))).ran,
        300
    );
    assert_eq!(two.submit::<process>(0).expect("submit").wait(), Ok(program.id()));
    let late = pool(&broker, 0);
    assert_eq!(
        late.submit::<process>(0).expect("submit").wait(),
        Ok(program.id())
    );
}

#[test]
fn a_worker_that_is_killed_in_a_map_loses_nothing_of_an_idempotent_one() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0).with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let mut victim = Program::worker(text(&broker), 1);
    let seen = std::thread::scope(|scope| {
        let map = scope.spawn(|| pool.map::<nap>(std::iter::repeat_n(5, 60)).expect("map"));
        // Dies in the middle: it has begun, and the other one starts after its death.
        until("the victim works", || pool.engine().workers_by_hand() == 1);
        std::thread::sleep(Duration::from_millis(30));
        victim.kill();
        let heir = Program::worker(text(&broker), 1);
        let seen: HashSet<u32> = map.join().expect("no panic").into_iter().collect();
        assert!(seen.contains(&heir.id()));
        seen
    });
    assert!(!seen.contains(&std::process::id()));
}

#[test]
fn a_task_that_had_begun_on_a_killed_worker_is_lost_and_says_why() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0);
    let mut victim = Program::worker(text(&broker), 1);
    let mark = folder.path().join("mark");
    let handle = pool
        .submit::<endless>(mark.display().to_string())
        .expect("submit");
    until("it has begun", || mark.exists());
    victim.kill();
    let error = handle.wait().expect_err("lost").to_string();
    assert_eq!(
        error,
        format!(
            "task was lost after 1 attempt(s) (it may have run): worker process {} ended",
            victim.id()
        )
    );
}

#[test]
fn cancelling_reaches_a_task_on_another_program() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0);
    let _program = Program::worker(text(&broker), 1);
    let mark = folder.path().join("mark");
    let handle = pool
        .submit::<endless>(mark.display().to_string())
        .expect("submit");
    until("it has begun", || mark.exists());
    let pending = pool.submit::<process>(0).expect("submit");
    assert!(!handle.cancel());
    assert_eq!(handle.wait(), Err(TaskError::Cancelled));
    assert!(pending.wait().is_ok(), "its worker is free again");
}

#[test]
fn a_pool_that_is_shut_down_past_its_deadline_tells_of_workers_that_it_cannot_end() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0);
    let program = Program::worker(text(&broker), 1);
    // Stopped, so that it does not see its token either.
    let mark = folder.path().join("mark");
    let handle = pool
        .submit::<endless>(mark.display().to_string())
        .expect("submit");
    until("it has begun", || mark.exists());
    let signal = |name: &str| {
        let status = Command::new("kill")
            .arg(name)
            .arg(program.id().to_string())
            .status()
            .expect("kill");
        assert!(status.success());
    };
    signal("-STOP");
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_millis(100)));
    signal("-CONT");
    assert_eq!((report.ran, report.lost, report.detached), (0, 1, 1));
    assert_eq!(
        handle.wait().expect_err("lost").to_string(),
        "task was lost after 1 attempt(s) (it may have run): its pool was shut down while a worker had it"
    );
}

#[test]
fn a_worker_that_stands_still_past_its_lease_loses_its_messages() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let pool = pool(&broker, 0);
    let program = Program::worker(text(&broker), 1);
    let mark = folder.path().join("mark");
    let handle = pool
        .submit::<endless>(mark.display().to_string())
        .expect("submit");
    until("it has begun", || mark.exists());
    let pid = program.id();
    assert!(
        Command::new("kill")
            .args(["-STOP", &pid.to_string()])
            .status()
            .expect("kill")
            .success()
    );
    assert_eq!(
        handle.wait().expect_err("lost").to_string(),
        format!(
            "task was lost after 1 attempt(s) (it may have run): worker process {pid} gave no sign of life for 5000 ms"
        )
    );
}
