//! Pools and workers in programs of their own that meet at a RabbitMQ: who comes, who goes, who is killed, and what is left.

#[path = "support/programs.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod programs;
#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;

use par_dist::{ChunkPlan, ClusterPool, Plan, Shutdown, TaskError};
use programs::{Program, endless, nap, process, square, until};
use rabbit::Rabbit;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

fn pool(url: &str) -> ClusterPool {
    programs::pool(url, 0).with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)))
}

/// A server for each: they count its queues, and work on the default one.
fn server() -> Rabbit {
    Rabbit::start().expect("a server")
}

#[test]
fn programs_meet_by_url_and_the_dead_lose_what_they_had_begun() {
    let server = server();
    let url = server.url();
    let folder = tempfile::tempdir().expect("folder");
    let one = pool(&url);
    let mut victim = Program::worker(&url, 1);
    until("the pool sees the worker", || one.engine().workers_by_hand() == 1);
    let squares: Vec<u64> = (0..300).map(|x| x * x).collect();
    assert_eq!(one.map::<square>(0..300).expect("a map"), squares);

    // Two pools share it, and it outlives one of them.
    let two = pool(&url);
    std::thread::scope(|scope| {
        for pool in [&one, &two] {
            scope.spawn(|| assert_eq!(pool.map::<square>(0..300).expect("a map"), squares));
        }
    });
    assert_eq!(
        two.shutdown(Shutdown::Drain, Some(Duration::from_secs(10))).ran,
        300
    );
    drop(two);
    assert_eq!(one.submit::<process>(0).expect("submit").wait(), Ok(victim.id()));

    // A cancel reaches it.
    let mark = folder.path().join("mark");
    let endless_at = |pool: &ClusterPool, name: &str| {
        let mark = folder.path().join(name);
        let handle = pool
            .submit::<endless>(mark.display().to_string())
            .expect("submit");
        until("it has begun", || mark.exists());
        handle
    };
    let handle = endless_at(&one, "cancelled");
    assert!(!handle.cancel());
    assert_eq!(handle.wait(), Err(TaskError::Cancelled));

    // Killed, it loses what it had begun, and nothing else.
    let begun = endless_at(&one, "mark");
    let behind: Vec<_> = (0..50)
        .map(|x| one.submit::<square>(x).expect("submit"))
        .collect();
    let pid = victim.id();
    victim.kill();
    assert_eq!(
        begun.wait().expect_err("lost").to_string(),
        format!("task was lost after 1 attempt(s) (it may have run): worker process {pid} ended")
    );
    assert!(mark.exists());
    let _heir = Program::worker(&url, 1);
    for (x, handle) in (0..).zip(behind) {
        assert_eq!(handle.wait(), Ok(x * x));
    }
}

#[test]
fn a_killed_worker_costs_a_map_of_idempotent_tasks_only_time() {
    let server = server();
    let url = server.url();
    let pool = pool(&url);
    let mut victim = Program::worker(&url, 1);
    std::thread::scope(|scope| {
        let map = scope.spawn(|| pool.map::<nap>(std::iter::repeat_n(5, 60)).expect("a map"));
        until("the victim works", || pool.engine().workers_by_hand() == 1);
        victim.kill();
        let heir = Program::worker(&url, 1);
        let seen = map.join().expect("no panic");
        assert_eq!(seen.len(), 60);
        assert!(seen.contains(&heir.id()));
    });
}

#[test]
fn a_worker_that_stands_still_past_its_lease_loses_its_messages() {
    let server = server();
    let url = server.url();
    let folder = tempfile::tempdir().expect("folder");
    let pool = pool(&url);
    let program = Program::worker(&url, 1);
    let mark = folder.path().join("mark");
    let handle = pool
        .submit::<endless>(mark.display().to_string())
        .expect("submit");
    until("it has begun", || mark.exists());
    program.signal("-STOP");
    assert_eq!(
        handle.wait().expect_err("lost").to_string(),
        format!(
            "task was lost after 1 attempt(s) (it may have run): worker process {} gave no sign of life for 5000 ms",
            program.id()
        )
    );
    // When it goes on, it finds that it was buried, and ends.
    program.signal("-CONT");
    let mut program = program;
    until("it ends", || program.has_ended());
}

#[test]
fn a_killed_pool_leaves_no_process_and_no_queue_of_its_own() {
    let server = server();
    let url = server.url();
    let ours = pool(&url);
    let mut program = Command::new(env!("CARGO_BIN_EXE_par-dist-other-pool"))
        .args(["2", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the other program starts");
    let mut line = String::new();
    let stdout = program.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let workers: Vec<u32> = line
        .split_whitespace()
        .map(|pid| pid.parse().expect("a pid"))
        .collect();
    assert_eq!(workers.len(), 2, "{line}");
    let mailboxes = || server.queues("par.peer.").expect("queues").len();
    assert_eq!(mailboxes(), 4, "of two pools and two workers");
    program.kill().expect("kill");
    program.wait().expect("wait");
    let lives = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    };
    until("its workers end", || !workers.iter().any(lives));
    until("they are buried", || ours.engine().workers_by_hand() == 0);
    until("their queues are deleted", || mailboxes() == 1);
    drop(ours);
    assert_eq!(mailboxes(), 0);
}
