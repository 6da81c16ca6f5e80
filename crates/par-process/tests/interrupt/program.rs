//! The programs that are interrupted, and what tests hear of them.

use crate::common::{PATIENCE, until};
use par_process::engine::Refused;
use par_process::{ProcessPool, Shutdown, TaskError, on_interrupt, role};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The environment variable that names the file for which the tasks of a program wait.
const GATE: &str = "PAR_TEST_GATE";

/// Says that it has begun and where, and runs until the gate is there.
#[par_process::task]
fn gated(gate: String, number: u32) -> u32 {
    println!("began {number} {}", std::process::id());
    until("the gate opens", || Path::new(&gate).exists());
    number
}

#[par_process::task]
fn nothing(_x: ()) {}

fn report(outcome: Result<u32, TaskError>) -> String {
    match outcome {
        Ok(value) => format!("value {value}"),
        Err(TaskError::Cancelled) => "cancelled".to_owned(),
        Err(TaskError::Lost { .. }) => "lost".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

fn gate() -> String {
    std::env::var(GATE).expect("the test names one")
}

/// Submits two tasks to a pool of one worker, says what comes of them and of the interrupts, and that the program goes on.
pub(crate) fn interrupted(first: Shutdown) -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    let interrupt = on_interrupt(&pool, first).expect("nobody else does");
    assert!(on_interrupt(&pool, first).is_err(), "one at a time");
    let tasks = [1, 2].map(|number| pool.submit::<gated>((gate(), number)).expect("open"));
    std::thread::scope(|scope| {
        for (number, task) in (1..).zip(tasks) {
            scope.spawn(move || println!("task {number}: {}", report(task.wait())));
        }
        until("an interrupt", || interrupt.count() > 0);
        println!("interrupted");
        until("it is refused", || {
            pool.try_submit::<nothing>(())
                .is_err_and(|refused| refused.reason == Refused::Closed)
        });
        println!("refused");
    });
    println!("interrupts {}", interrupt.count());
    0
}

role!("test-drains", drains);
fn drains() -> i32 {
    interrupted(Shutdown::Drain)
}

role!("test-cancels", cancels);
fn cancels() -> i32 {
    interrupted(Shutdown::CancelPending)
}

role!("test-stuck", stuck);
/// Has an interrupt handler, and a main thread that never looks.
fn stuck() -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    let _interrupt = on_interrupt(&pool, Shutdown::Drain).expect("nobody else does");
    println!("ready");
    std::thread::sleep(PATIENCE * 2);
    0
}

/// Gives the interrupt its default action back: who started the tests in the background of a shell may have it ignored.
fn heed_interrupts() {
    // SAFETY: the default action runs no code of this program.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
}

role!("test-restored", restored);
/// Lets go of interrupts again.
fn restored() -> i32 {
    heed_interrupts();
    let pool = ProcessPool::new(1).expect("starts");
    drop(on_interrupt(&pool, Shutdown::Drain).expect("nobody else does"));
    drop(on_interrupt(&pool, Shutdown::Drain).expect("nobody else does any more"));
    println!("ready");
    std::thread::sleep(PATIENCE * 2);
    0
}

role!("test-plain", plain);
/// Has a pool that works, and knows nothing of interrupts.
pub(crate) fn plain() -> i32 {
    heed_interrupts();
    let pool = ProcessPool::new(1).expect("starts");
    let task = pool.submit::<gated>((gate(), 1)).expect("open");
    println!("{}", report(task.wait()));
    0
}

/// A program that runs, and is killed if the test fails.
pub(crate) struct Program {
    pub(crate) child: Child,
    lines: Receiver<String>,
    /// What was said and not yet asked for.
    said: Vec<String>,
    gate: tempfile::TempDir,
}

impl Program {
    /// In a process group of its own.
    pub(crate) fn in_a_group(role: &str) -> Self {
        let mut command = role::command(role).expect("registered");
        command.process_group(0).stdout(Stdio::piped());
        Self::start(command, |child| {
            Box::new(child.stdout.take().expect("piped")) as Box<dyn Read + Send>
        })
    }

    /// `output` tells where that says something.
    pub(crate) fn start(
        mut command: Command,
        output: impl FnOnce(&mut Child) -> Box<dyn Read + Send>,
    ) -> Self {
        let gate = tempfile::tempdir().expect("a folder");
        let mut child = command
            .env(GATE, gate.path().join("open"))
            .spawn()
            .expect("starts");
        drop(command);
        let output = BufReader::new(output(&mut child));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            // A terminal without a program is an error, and the end as well.
            for line in output.lines().map_while(Result::ok) {
                // A terminal shows what was pressed, and ends lines in two characters.
                let line = line.trim_end().trim_start_matches("^C").to_owned();
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Program {
            child,
            lines,
            said: Vec::new(),
            gate,
        }
    }

    /// Lets the tasks end that have begun.
    pub(crate) fn open(&self) {
        std::fs::write(self.gate.path().join("open"), "").expect("a folder");
    }

    /// Waits until the program says something that begins so; the rest of that line.
    #[track_caller]
    pub(crate) fn hear(&mut self, start: &str) -> String {
        loop {
            if let Some(at) = self.said.iter().position(|line| line.starts_with(start)) {
                return self.said.remove(at).split_off(start.len());
            }
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("it never says {start:?}, but {:?}", self.said),
            }
        }
    }

    /// Waits until a task has begun; the process that runs it.
    #[track_caller]
    pub(crate) fn began(&mut self, number: u32) -> u32 {
        let pid = self.hear(&format!("began {number} "));
        pid.parse().expect("a number of a process")
    }

    /// Waits for the end; what the program said that nobody asked for goes to whoever asks how.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        let mut status = None;
        let end = std::time::Instant::now() + PATIENCE;
        while status.is_none() {
            assert!(
                std::time::Instant::now() < end,
                "it never ends; it said {:?}",
                self.said
            );
            status = self.child.try_wait().expect("a child");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.said.extend(self.lines.iter());
        (status.expect("it has ended"), std::mem::take(&mut self.said))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
