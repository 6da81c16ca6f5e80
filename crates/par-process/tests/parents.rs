//! Programs that die, each in its way, and what is left of their pools, processes, managers and queues: nothing.

mod common;

use common::{PATIENCE, alone, is_stopped, lives, named_by, signal, until};
use par_process::manager::{self, Manager};
use par_process::sync::Mutex;
use par_process::{Process, ProcessPool, Queue, role};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Instant;

/// Tells its process through the manager, and goes on until it is ended.
#[par_process::task]
fn stay(pids: manager::Queue<u32>) {
    pids.put(&std::process::id()).expect("open");
    std::thread::sleep(PATIENCE * 2);
}

/// Holds a lock meanwhile.
fn hold((pids, lock): (Queue<u32>, Mutex<u32>)) {
    let _guard = lock.lock().expect("free");
    pids.put(std::process::id()).expect("open");
    std::thread::sleep(PATIENCE * 2);
}

/// Waits at an empty queue meanwhile.
fn get((pids, empty): (Queue<u32>, Queue<u32>)) {
    pids.put(std::process::id()).expect("open");
    let _ = empty.get();
}

#[allow(unconditional_recursion, reason = "it is to overflow the stack")]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    deeper(depth + 1) + frame[(depth % 512) as usize]
}

role!("test-program", program);

/// Has everything that there is, tells the processes of it, and ends as it is told to.
fn program() -> i32 {
    let pids = Queue::new(10).expect("memory");
    let lock = Mutex::new(0).expect("memory");
    let _published = lock
        .publish(&format!("test-parents-{}", std::process::id()))
        .expect("free");
    let manager = Manager::start().expect("starts");
    let busy = manager.queue::<u32>(2).expect("made");
    let pool = ProcessPool::new(2).expect("starts");
    let running = [1, 2].map(|_| pool.submit::<stay>(busy.clone()).expect("open"));
    let empty = Queue::<u32>::new(1).expect("memory");
    let daemon = |process: par_process::ProcessBuilder| process.daemon(true).start().expect("starts");
    let holder = daemon(Process::of_fn((pids.clone(), lock.clone()), hold));
    let getter = daemon(Process::of_fn((pids.clone(), empty.clone()), get));
    let mut all = vec![manager.process().expect("its own").pid()];
    all.extend((0..2).map(|_| pids.get_timeout(PATIENCE).expect("it tells")));
    all.extend((0..2).map(|_| busy.get_timeout(PATIENCE).expect("it tells")));
    assert!(all.contains(&holder.pid()) && all.contains(&getter.pid()));
    let all: Vec<String> = all.iter().map(u32::to_string).collect();
    println!("{}", all.join(" "));
    let mut how = String::new();
    std::io::stdin().read_line(&mut how).expect("the test says how");
    match how.trim() {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "overflow" => {
            std::hint::black_box(deeper(1));
        }
        // More than any address space has.
        "memory" => drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 62))),
        // It is killed.
        _ => std::thread::sleep(PATIENCE * 2),
    }
    drop(running);
    1
}

/// A program that is killed if the test fails, with the processes that belong to it.
struct Program(Child, Vec<u32>);

impl Program {
    fn start() -> Self {
        let mut child = role::command("test-program")
            .expect("registered")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("numbers");
        let pids = line.split_whitespace().filter_map(|pid| pid.parse().ok());
        let program = Program(child, pids.collect());
        assert_eq!(program.1.len(), 5, "{line:?}");
        assert!(!named_by(program.0.id()).is_empty(), "it has published something");
        program
    }

    fn tell(&mut self, how: &str) {
        let stdin = self.0.stdin.as_mut().expect("piped");
        writeln!(stdin, "{how}").expect("it reads");
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "it never ends");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// After its end.
    #[track_caller]
    fn leaves_nothing(&self) {
        until("all its processes are gone", || {
            !self.1.iter().any(|pid| lives(*pid))
        });
        until("nothing has its name", || {
            named_by(self.0.id()).is_empty() && self.1.iter().all(|pid| named_by(*pid).is_empty())
        });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends a program in that way, all of its processes going on or stopped.
fn dies(how: &str, expected: &str) {
    for stopped in [false, true] {
        let mut program = Program::start();
        if stopped {
            for pid in &program.1 {
                signal(*pid, Signal::STOP);
                until("it is stopped", || is_stopped(*pid));
            }
        }
        match how {
            "kill" => program.0.kill().expect("it lives"),
            "stop" => {
                signal(program.0.id(), Signal::STOP);
                until("it is stopped", || is_stopped(program.0.id()));
                // As long as it may go on, so may they.
                assert!(program.1.iter().all(|pid| lives(*pid)));
                program.0.kill().expect("it lives");
            }
            how => program.tell(how),
        }
        let status = program.ended().to_string();
        assert!(status.starts_with(expected), "{how}: {status}");
        program.leaves_nothing();
    }
}

#[test]
fn one_that_is_killed_leaves_nothing() {
    alone(|| dies("kill", "signal: 9"));
}

#[test]
fn one_that_is_stopped_and_killed_leaves_nothing() {
    alone(|| dies("stop", "signal: 9"));
}

#[test]
fn one_that_aborts_leaves_nothing() {
    alone(|| dies("abort", "signal: 6"));
}

#[test]
fn one_that_exits_leaves_nothing() {
    alone(|| dies("exit", "exit status: 3"));
}

#[test]
fn one_whose_stack_overflows_leaves_nothing() {
    // This program runs before the standard library has a word for it.
    alone(|| dies("overflow", "signal: 11"));
}

#[test]
fn one_that_runs_out_of_memory_leaves_nothing() {
    alone(|| dies("memory", "signal: 6"));
}
