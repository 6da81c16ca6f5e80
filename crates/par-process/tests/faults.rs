//! What goes wrong with workers and with what they are given, and what is said about it.

mod common;

use common::{PATIENCE, alone, signal, until};
use par_process::{
    ChunkPlan, Event, MapError, Observer, Options, Plan, ProcessPool, Shared, StartError, TaskError, role,
};
use rustix::process::{Signal, kill_process};
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::process::Stdio;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[par_process::task]
fn worker_pid(_x: u32) -> u32 {
    std::process::id()
}

#[par_process::task(idempotent)]
fn slow_square(x: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(300));
    x * x
}

/// Sends what happens to workers.
struct Watch(Mutex<Sender<Event>>);

impl Observer for Watch {
    fn event(&self, event: &Event) {
        if let Event::WorkerUp { .. } | Event::WorkerLost { .. } = event {
            // The test may have ended.
            let _ = self.0.lock().expect("no panic").send(event.clone());
        }
    }
}

#[test]
fn a_map_survives_workers_that_are_killed_in_its_middle() {
    alone(|| {
        let pool = ProcessPool::new(2).expect("starts");
        let (tell, told) = channel();
        pool.observer(Arc::new(Watch(Mutex::new(tell))));
        let first = pool
            .submit::<worker_pid>(0)
            .expect("open")
            .wait()
            .expect("a number");
        let killer = std::thread::spawn(move || {
            let mut victim = first;
            for _ in 0..3 {
                signal(victim, Signal::KILL);
                let mut reasons = Vec::new();
                loop {
                    match told.recv_timeout(PATIENCE).expect("news of the workers") {
                        Event::WorkerLost { reason, .. } => reasons.push(reason),
                        Event::WorkerUp { pid: Some(pid), .. } => {
                            victim = pid;
                            break;
                        }
                        _ => {}
                    }
                }
                assert_eq!(reasons.len(), 1, "{reasons:?}");
                assert!(
                    reasons[0].contains("was killed by signal 9 (SIGKILL"),
                    "{reasons:?}"
                );
            }
        });
        let expected: Vec<u64> = (0..5_000).map(|x| x * x).collect();
        let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(7)));
        let mut rounds = 0;
        while !killer.is_finished() || rounds == 0 {
            assert_eq!(plan.map::<slow_square>(0..5_000), Ok(expected.clone()));
            rounds += 1;
        }
        killer.join().expect("every death was told");
    });
}

#[allow(unconditional_recursion, reason = "it is to overflow the stack")]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    deeper(depth + 1) + frame[(depth % 512) as usize]
}

#[par_process::task]
fn end(how: String) -> Vec<u8> {
    match how.as_str() {
        "panic" => panic!("out of {how}"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        // More than any address space has: the allocator gives up, and with it the process.
        "memory" => Vec::with_capacity(1 << 62),
        "overflow" => vec![deeper(1) as u8],
        "thread" => {
            let inner = std::thread::spawn(|| panic!("in a thread of its own"));
            vec![u8::from(inner.join().is_err())]
        }
        other => vec![other.len() as u8],
    }
}

#[test]
fn each_way_to_end_has_its_text() {
    alone(|| {
        let pool = ProcessPool::new(1).expect("starts");
        let ended = |how: &str| pool.submit::<end>(how.to_owned()).expect("open").wait();
        let lost = |how: &str, expected: &str| match ended(how) {
            Err(TaskError::Lost {
                attempts: 1,
                maybe_ran: true,
                reason,
            }) => {
                assert!(reason.starts_with("worker 0 (process "), "{reason}");
                assert!(reason.contains(expected), "{how}: {reason}");
            }
            other => panic!("{how}: {other:?}"),
        };
        let text = ended("panic").expect_err("it panics").to_string();
        assert!(
            text.contains("task panicked: out of panic (at ") && text.contains("faults.rs:"),
            "{text}"
        );
        lost("abort", "was killed by signal 6 (SIGABRT");
        lost("exit", "exited with code 3");
        lost("overflow", "was killed by signal 11 (SIGSEGV: a stack overflow");
        lost(
            "memory",
            "was killed by signal 6 (SIGABRT: abort, or out of memory)",
        );
        assert_eq!(ended("thread"), Ok(vec![1]), "only the thread ends");
        assert_eq!(ended("fine"), Ok(vec![4]), "and the pool has healed each time");
    });
}

#[par_process::task]
fn bytes(count: u64) -> Vec<u8> {
    vec![7; count as usize]
}

#[par_process::task]
fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

#[test]
fn a_hundred_mebibytes_cross_both_ways() {
    alone(|| {
        const MANY: u64 = 100 << 20;
        let pool = ProcessPool::new(1).expect("starts");
        let back = pool
            .submit::<bytes>(MANY)
            .expect("open")
            .wait()
            .expect("they come back");
        assert!(back.len() as u64 == MANY && back.iter().all(|byte| *byte == 7));
        assert_eq!(pool.submit::<length>(back).expect("open").wait(), Ok(MANY));
    });
}

#[test]
fn what_is_longer_than_allowed_is_refused_and_nothing_else_suffers() {
    alone(|| {
        let options = Options {
            longest: 10_000,
            ..Options::default()
        };
        let pool = ProcessPool::builder()
            .workers(1)
            .options(options)
            .build()
            .expect("starts");
        let there = pool.submit::<length>(vec![0; 20_000]).expect("open").wait();
        assert_eq!(
            there.expect_err("too long").to_string(),
            "task could not cross the wire: inputs of 20003 bytes in one request, at most 10000 are taken (option longest)"
        );
        let back = pool.submit::<bytes>(20_000).expect("open").wait();
        assert_eq!(
            back.expect_err("too long").to_string(),
            "task could not cross the wire: outputs of 20005 bytes in one request, at most 10000 are taken (option longest)"
        );
        let share = pool.share(vec![0u8; 20_000]).expect("it encodes");
        let shared = pool.submit::<shared_length>(share).expect("open").wait();
        assert_eq!(
            shared.expect_err("too long").to_string(),
            "task could not cross the wire: a shared value of 20003 bytes in one request, at most 10000 are taken (option longest)"
        );
        assert_eq!(pool.submit::<length>(vec![0; 100]).expect("open").wait(), Ok(100));
    });
}

#[par_process::task]
fn shared_length(share: Shared<Vec<u8>>) -> u64 {
    share.len() as u64
}

/// Writes bytes into every socket that this worker has, which no task should.
#[par_process::task]
fn lie(bytes: Vec<u8>) {
    for entry in std::fs::read_dir("/proc/self/fd")
        .expect("a list of files")
        .flatten()
    {
        let is_socket =
            std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        if let (true, Some(Ok(number))) = (is_socket, entry.file_name().to_str().map(str::parse)) {
            // SAFETY: the sockets of a worker are open as long as it lives.
            let socket = unsafe { BorrowedFd::borrow_raw(number) };
            // The one that the pool only writes to takes it as well.
            let _ = rustix::io::write(socket, &bytes);
        }
    }
    std::thread::sleep(PATIENCE);
}

#[test]
fn a_worker_that_lies_is_replaced() {
    alone(|| {
        let pool = ProcessPool::new(1).expect("starts");
        let mut header = b"PA\x01\x12".to_vec();
        header.extend((1u64 << 60).to_le_bytes());
        for (bytes, expected) in [
            (
                header,
                "a frame of 1152921504606846976 bytes is claimed, 1074790400 are allowed",
            ),
            (
                b"not a frame at all".to_vec(),
                "not a frame: it begins with [6e, 6f]",
            ),
            (
                b"PA\x01\xee\0\0\0\0\0\0\0\0".to_vec(),
                "a frame of the unknown kind 238",
            ),
            (
                b"PA\x01\x12\x03\0\0\0\0\0\0\0abc".to_vec(),
                "a frame ends within a field",
            ),
            (
                b"PA\x02\x12\0\0\0\0\0\0\0\0".to_vec(),
                "protocol version 2, this program speaks version 1",
            ),
        ] {
            match pool.submit::<lie>(bytes).expect("open").wait() {
                Err(TaskError::Lost { reason, .. }) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(pool.submit::<length>(vec![0; 5]).expect("open").wait(), Ok(5));
        }
    });
}

#[test]
fn a_worker_started_by_hand_says_what_is_missing() {
    alone(|| {
        for (stdin, expected) in [
            (Stdio::null(), "its standard input is not the socket of a pool: "),
            (Stdio::piped(), "its standard input is not the socket of a pool: "),
        ] {
            let output = role::command("par-process-worker")
                .expect("registered")
                .stdin(stdin)
                .stderr(Stdio::piped())
                .output()
                .expect("starts");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(
                text.contains("this copy of the program is a worker, and cannot work")
                    && text.contains(expected),
                "{text}"
            );
        }
    });
}

#[par_process::task]
fn refuse(_x: u32) -> Result<(), String> {
    Err("no licence on this machine".to_owned())
}

#[test]
fn what_a_pool_cannot_start_with_is_named() {
    alone(|| {
        let text = |result: Result<ProcessPool, StartError>| result.expect_err("it cannot start").to_string();
        let with = |options: Options| text(ProcessPool::builder().options(options).build());
        assert_eq!(text(ProcessPool::new(0)), "a pool needs at least 1 worker, got 0");
        assert_eq!(
            text(ProcessPool::builder().queue(0).build()),
            "bad option queue: at least 1 job must fit, got 0"
        );
        assert_eq!(
            with(Options {
                longest: 3,
                ..Options::default()
            }),
            "bad option longest: at least 1024 bytes, got 3"
        );
        assert_eq!(
            with(Options {
                tasks_per_worker: Some(0),
                ..Options::default()
            }),
            "bad option tasks_per_worker: at least 1 task, got 0"
        );
        assert_eq!(
            with(Options {
                memory: Some(0),
                ..Options::default()
            }),
            "bad option memory: at least 1 byte, got 0"
        );
        assert_eq!(
            text(ProcessPool::new(1 << 20)),
            "bad option workers: at most 65536, got 1048576"
        );
        let failed = text(ProcessPool::builder().workers(1).initializer::<refuse>(0).build());
        assert!(
            failed.starts_with("the initialiser failed on worker 0: task failed: no licence on this machine"),
            "{failed}"
        );
        let pool = ProcessPool::new(1).expect("starts");
        assert_eq!(pool.map::<length>(Vec::new()), Ok(Vec::new()));
        let zero = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(0)));
        let error: MapError = zero.map::<length>([vec![1]]).expect_err("a chunk of 0");
        assert_eq!(
            error.to_string(),
            "item 0: task was rejected: the chunk size of the plan must be at least 1, got 0"
        );
    });
}

#[test]
fn past_its_budget_a_pool_says_why_it_is_broken() {
    alone(|| {
        let pool = ProcessPool::builder()
            .workers(1)
            .restarts(1)
            .build()
            .expect("starts");
        for _ in 0..2 {
            assert!(
                pool.submit::<end>("exit".to_owned())
                    .expect("open")
                    .wait()
                    .is_err()
            );
        }
        let error = pool
            .submit::<length>(vec![1])
            .map(|_| ())
            .expect_err("it is broken")
            .to_string();
        assert!(
            error.starts_with("pool is broken: worker 0 (process ")
                && error.ends_with("exited with code 3; 1 restart(s) were used up"),
            "{error}"
        );
    });
}

/// Memory of a process that is in use, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn a_shared_value_that_is_dropped_leaves_the_workers() {
    alone(|| {
        const KIB: u64 = 64 << 10;
        let pool = ProcessPool::new(1).expect("starts");
        let pid = pool
            .submit::<worker_pid>(0)
            .expect("open")
            .wait()
            .expect("a number");
        let before = resident(pid);
        let shared = pool.share(vec![1u8; (KIB << 10) as usize]).expect("it encodes");
        for _ in 0..3 {
            assert_eq!(
                pool.submit::<shared_length>(shared.clone()).expect("open").wait(),
                Ok(KIB << 10)
            );
        }
        assert!(resident(pid) >= before + KIB / 2, "the worker has it");
        drop(shared);
        until("the worker gives its memory back", || {
            resident(pid) < before + KIB / 2
        });
    });
}

/// Shares a value with the tasks that it submits.
#[par_process::task]
fn share_below(count: u64) -> Result<u64, TaskError> {
    let pool = par_process::current().ok_or_else(|| TaskError::failed("no pool inside a task"))?;
    let table = pool.share(vec![3u8; count as usize])?;
    let children = (0..6)
        .map(|_| pool.submit::<shared_length>(table.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    // A wait with a deadline runs nothing here: the children cross to other places.
    let mut sum = 0;
    for child in children {
        match child.wait_timeout(PATIENCE) {
            Ok(outcome) => sum += outcome?,
            Err(_) => return Err(TaskError::failed("a child never ended")),
        }
    }
    Ok(sum)
}

#[test]
fn a_task_shares_a_value_with_its_children_elsewhere() {
    alone(|| {
        for workers in [1, 2] {
            let pool = ProcessPool::new(workers).expect("starts");
            for _ in 0..3 {
                assert_eq!(pool.submit::<share_below>(1000).expect("open").wait(), Ok(6000));
            }
        }
    });
}

#[par_process::task]
fn print(text: String) {
    // Not `println!`, which the test harness captures in threads of its own.
    let _ = writeln!(std::io::stdout(), "{text}");
}

par_process::role!("test-printer", printer);

fn printer() -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    pool.submit::<print>("from a worker".to_owned())
        .expect("open")
        .wait()
        .expect("printed");
    0
}

#[test]
fn what_workers_print_comes_out() {
    alone(|| {
        let output = role::command("test-printer")
            .expect("registered")
            .output()
            .expect("starts");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "from a worker\n");
    });
}

/// Kills its worker one time in fifty.
#[par_process::task]
fn kill_sometimes(x: u64) -> u64 {
    if x % 50 == 13 {
        // As from outside: nothing is told, nothing is flushed.
        let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    }
    x + 1
}

#[test]
fn ten_thousand_tasks_of_which_one_in_fifty_kills_its_worker() {
    alone(|| {
        let pool = ProcessPool::builder()
            .workers(2)
            .restarts(1000)
            .build()
            .expect("starts");
        let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
        let outcomes = plan.map_outcomes::<kill_sometimes>(0..10_000).expect("a plan");
        let mut lost = 0;
        for (x, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(next) => assert_eq!(next, x + 1),
                Err(TaskError::Lost { .. }) if x % 50 == 13 => lost += 1,
                Err(other) => panic!("item {x}: {other}"),
            }
        }
        assert_eq!(lost, 200);
        assert_eq!(pool.map::<length>([vec![1]]), Ok(vec![1]));
    });
}
