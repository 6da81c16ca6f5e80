//! Real ranks: this program starts itself under mpiexec, once for each test and number of ranks, and judges what comes out.
//!
//! As a test it is its own harness: `cargo test -p par-mpi --features mpi --test ranks -- NAME` runs the tests whose names contain NAME.

mod launch;
mod programs;

use launch::{Ended, Launch, Ranks};
use std::process::ExitCode;
use std::time::Duration;

/// A test: its name, and what panics where it fails.
type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("laws_at_2_ranks", || laws(2)),
    ("laws_at_3_ranks", || laws(3)),
    ("laws_at_4_ranks", || laws(4)),
    ("messages_and_collectives", messages),
    ("a_pool_in_one_line", pool),
    ("one_rank_alone_works_with_a_thread", alone),
    ("mpi_starts_once", twice),
    ("a_panic_ends_all", panics),
    ("a_panic_inside_a_task_is_its_outcome", task_panics),
    ("a_killed_rank_ends_all", killed),
    ("a_rank_that_exits_ends_all", exits),
    ("another_program_is_refused", other_program),
];

fn main() -> ExitCode {
    if let Ok(program) = std::env::var(launch::PROGRAM) {
        return programs::run(&program);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut parts, mut skipped) = (Vec::new(), Vec::new());
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--skip" => skipped.extend(words.next()),
            // Options of other harnesses that have a value of their own.
            "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(words.next()),
            option if option.starts_with('-') => {}
            part => parts.push(part),
        }
    }
    let wanted = |name: &str| {
        (parts.is_empty() || parts.iter().any(|part| name.contains(part)))
            && !skipped.iter().any(|part| name.contains(part))
    };
    let chosen: Vec<&Test> = TESTS.iter().filter(|(name, _)| wanted(name)).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        let ended = par_mpi::catch(test);
        println!("test {name} ... {}", if ended.is_ok() { "ok" } else { "FAILED" });
        if let Err(error) = ended {
            println!("{error}");
            failed.push(*name);
        }
    }
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = chosen.len() - failed.len();
    // As libtest says it, so that these are counted like all others.
    println!(
        "\ntest result: {result}. {passed} passed; {} failed; 0 ignored",
        failed.len()
    );
    ExitCode::from(if failed.is_empty() { 0 } else { 101 })
}

fn laws(ranks: usize) {
    let ended = Launch::new("laws", ranks)
        .deadline(Duration::from_secs(400))
        .run();
    // What holds in a weaker form is of interest.
    ended
        .err
        .lines()
        .filter(|line| line.starts_with("law "))
        .for_each(|line| println!("{line}"));
    ended.assert_ok();
    assert_eq!(
        ended.out.matches("holds").count(),
        14,
        "laws that hold:\n{}",
        ended.out
    );
}

fn messages() {
    for ranks in [1, 2, 5] {
        let ended = Launch::new("messages", ranks).run();
        ended.assert_ok();
        assert_eq!(ended.out.matches("all good").count(), ranks, "{}", ended.out);
    }
}

fn pool() {
    for ranks in [2, 4] {
        let ended = Launch::new("pool", ranks).run();
        ended.assert_ok();
        assert_eq!(ended.out.trim(), format!("332833500 on {}", ranks - 1));
    }
}

fn alone() {
    for launch in [Launch::new("pool", 1), Launch::alone("pool")] {
        let ended = launch.run();
        ended.assert_ok();
        assert_eq!(ended.out.trim(), "332833500 on 1");
    }
}

fn twice() {
    let ended = Launch::new("twice", 2).run();
    ended.assert_ok();
    assert_eq!(
        ended.out.matches("MPI can be started once in a program").count(),
        2,
        "{}",
        ended.out
    );
}

/// How long after its reason the end of all ranks may come. It takes less than a second on a machine that is not busy.
const SOON: Duration = Duration::from_secs(10);

#[track_caller]
fn ended_soon(ended: &Ended, what: &str) {
    let (ranks, launcher) = ended
        .since_event()
        .unwrap_or_else(|| panic!("nothing happened\n{ended}"));
    println!(
        "{what}: no rank was left {} ms later, the launcher ended after {} ms",
        ranks.as_millis(),
        launcher.as_millis()
    );
    assert!(
        launcher < SOON,
        "{what}: the launcher ended {launcher:?} later\n{ended}"
    );
    assert!(
        ended.code != Some(0),
        "{what}: the launcher says that all went well\n{ended}"
    );
    assert!(!ended.out.contains("went on"), "{ended}");
}

fn panics() {
    let ended = Launch::new("panics", 4).run();
    ended_soon(&ended, "a panic on rank 2");
    let told = ended.err.contains("par-mpi: rank 2 of 4: it panicked at ")
        && ended.err.contains("programs.rs:")
        && ended.err.contains(": rank two fell over; all ranks end");
    assert!(told, "{ended}");
}

fn task_panics() {
    let ended = Launch::new("task_panics", 3).run();
    ended.assert_ok();
    assert!(ended.out.contains("task panicked: no 7 here (at "), "{ended}");
    assert!(!ended.err.contains("all ranks end"), "{ended}");
}

fn killed() {
    let ended = Launch::new("killed", 4).run();
    ended_soon(&ended, "SIGKILL of rank 2");
    assert!(ended.err.contains(": rank 2 (process "), "{ended}");
    assert!(ended.err.contains(") has died; all ranks end"), "{ended}");
}

fn exits() {
    for ranks in [2, 4] {
        let ended = Launch::new("exits", ranks).run();
        ended_soon(&ended, "exit(3) of rank 1, inside a task");
        let told =
            format!("par-mpi: rank 1 of {ranks}: it exits before its program has ended; all ranks end");
        assert!(ended.err.contains(&told), "{ended}");
    }
}

fn other_program() {
    let ended = Launch::new("pool", 3).one_other().run();
    assert_ne!(ended.code, Some(0), "{ended}");
    assert!(ended.out.is_empty(), "{ended}");
    assert!(
        ended
            .err
            .contains("rank 2 runs another program than rank 0 (build 0x"),
        "{ended}"
    );
    let Ranks { left } = ended.ranks();
    assert_eq!(left, 0, "ranks that are left");
}
