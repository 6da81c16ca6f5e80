//! Ctrl-C, as a terminal sends it: to the whole process group of a program that has a pool.

use par_process::{ProcessPool, Shutdown, TaskError, on_interrupt, role};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[par_process::task]
fn announce(millis: u64) -> u64 {
    println!("began {}", std::process::id());
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

fn report(outcome: Result<u64, TaskError>) -> String {
    match outcome {
        Ok(value) => format!("value {value}"),
        Err(TaskError::Cancelled) => "cancelled".to_owned(),
        Err(TaskError::Lost { .. }) => "lost".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

/// Submits two tasks to a pool of one worker, says how they ended, and that the program goes on.
fn interrupted(first: Shutdown, millis: u64) -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    let interrupt = on_interrupt(&pool, first).expect("nobody else does");
    assert!(on_interrupt(&pool, first).is_err(), "one at a time");
    let tasks = [millis, millis + 1].map(|millis| pool.submit::<announce>(millis).expect("open"));
    println!("submitted");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while interrupt.count() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            println!("interrupted");
        });
        for task in tasks {
            println!("{}", report(task.wait()));
        }
    });
    println!("refused {}", pool.submit::<announce>(0).is_err());
    println!("interrupts {}", interrupt.count());
    0
}

role!("test-drains", drains);
fn drains() -> i32 {
    interrupted(Shutdown::Drain, 400)
}

role!("test-cancels", cancels);
fn cancels() -> i32 {
    interrupted(Shutdown::CancelPending, 400)
}

role!("test-long", long);
fn long() -> i32 {
    interrupted(Shutdown::Drain, 60_000)
}

role!("test-stuck", stuck);
/// Has an interrupt handler, and a main thread that never looks.
fn stuck() -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    let _interrupt = on_interrupt(&pool, Shutdown::Drain).expect("nobody else does");
    println!("began 0");
    std::thread::sleep(PATIENCE * 2);
    0
}

role!("test-restored", restored);
/// Lets go of interrupts again.
fn restored() -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    drop(on_interrupt(&pool, Shutdown::Drain).expect("nobody else does"));
    drop(on_interrupt(&pool, Shutdown::Drain).expect("nobody else does any more"));
    println!("began 0");
    std::thread::sleep(PATIENCE * 2);
    0
}

/// A program in a process group of its own, which is killed if the test fails.
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    fn start(role: &str) -> Self {
        let mut child = role::command(role)
            .expect("registered")
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Program { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Waits until both tasks are submitted and one has begun; what that one said.
    fn began(&mut self) -> String {
        let lines = [self.line(), self.line()];
        assert!(lines.iter().any(|line| line == "submitted"), "{lines:?}");
        let began = lines.into_iter().find(|line| line.starts_with("began "));
        began.expect("the first of them has begun")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Presses Ctrl-C.
    fn interrupt(&self) {
        kill_process_group(self.pid(), Signal::INT).expect("it lives");
    }

    fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "it never ends");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_first_lets_everything_be_run_that_was_submitted() {
    let mut program = Program::start("test-drains");
    program.began();
    program.interrupt();
    let mut lines: Vec<String> = (0..6).map(|_| program.line()).collect();
    lines.retain(|line| !line.starts_with("began ") && line != "interrupted");
    assert_eq!(lines, ["value 400", "value 401", "refused true", "interrupts 1"]);
    assert_eq!(program.ended().code(), Some(0));
}

#[test]
fn the_first_cancels_what_has_not_begun_where_that_is_wanted() {
    let mut program = Program::start("test-cancels");
    program.began();
    program.interrupt();
    assert_eq!(program.line(), "interrupted");
    let lines: Vec<String> = (0..4).map(|_| program.line()).collect();
    assert_eq!(lines, ["value 400", "cancelled", "refused true", "interrupts 1"]);
    assert_eq!(program.ended().code(), Some(0));
}

#[test]
fn the_second_kills_what_runs() {
    let mut program = Program::start("test-long");
    let began = program.began();
    let worker = began.strip_prefix("began ").and_then(|pid| pid.parse().ok());
    let worker = Pid::from_raw(worker.expect("a number")).expect("not 0");
    program.interrupt();
    // Two at once would be one.
    assert_eq!(program.line(), "interrupted");
    rustix::process::test_kill_process(worker).expect("the worker does not hear the first");
    program.interrupt();
    let lines: Vec<String> = (0..4).map(|_| program.line()).collect();
    assert_eq!(lines, ["cancelled", "cancelled", "refused true", "interrupts 2"]);
    assert_eq!(program.ended().code(), Some(0));
    assert!(rustix::process::test_kill_process(worker).is_err(), "it is gone");
}

#[test]
fn the_third_ends_the_program() {
    let mut program = Program::start("test-stuck");
    assert_eq!(program.line(), "began 0");
    let end = Instant::now() + PATIENCE;
    // As often as somebody presses it; those that come at the same time count once.
    while program.child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < end, "it never ends");
        let _ = kill_process(program.pid(), Signal::INT);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(program.ended().signal(), Some(2));
}

#[test]
fn one_that_was_let_go_leaves_things_as_they_were() {
    let mut program = Program::start("test-restored");
    assert_eq!(program.line(), "began 0");
    program.interrupt();
    assert_eq!(program.ended().signal(), Some(2));
}
