//! What a second reading of the pool found: each of these failed before it was mended.

use par_process::{ProcessPool, Shutdown, TaskError, role};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::os::fd::BorrowedFd;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[par_process::task]
fn square(x: u64) -> u64 {
    x * x
}

#[par_process::task]
fn end(code: i32) {
    std::process::exit(code);
}

#[par_process::task]
fn doze(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

/// Runs `run` in a thread of its own, so that what hangs fails.
fn in_time<R: Send + 'static>(what: &str, run: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        // The test may have given up.
        let _ = tell.send(run());
    });
    told.recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("never: {what}"))
}

/// A value that panics while it is written or read.
#[derive(Debug, Clone, PartialEq)]
struct Touchy(u8);

const ON_WRITING: u8 = 1;
const ON_READING: u8 = 2;

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != ON_WRITING, "it does not want to be written");
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = u8::deserialize(deserializer)?;
        assert!(kind != ON_READING, "it does not want to be read");
        Ok(Touchy(kind))
    }
}

#[par_process::task]
fn take(value: Touchy) -> u8 {
    value.0
}

#[par_process::task]
fn make(kind: u8) -> Touchy {
    Touchy(kind)
}

#[test]
fn a_panic_of_a_serialiser_is_the_failure_of_its_task() {
    in_time("all of them end, and the pool", || {
        let pool = ProcessPool::new(1).expect("starts");
        let text = |error: Option<TaskError>| error.expect("it panics").to_string();
        for _ in 0..2 {
            let there = text(
                pool.submit::<take>(Touchy(ON_WRITING))
                    .expect("open")
                    .wait()
                    .err(),
            );
            assert!(there.contains("it does not want to be written"), "{there}");
            let back = text(pool.submit::<make>(ON_READING).expect("open").wait().err());
            assert!(back.contains("it does not want to be read"), "{back}");
            let mapped = pool.map::<make>([0, ON_READING, 0]).expect_err("one panics");
            assert_eq!(mapped.index, 1, "{mapped}");
            assert_eq!(pool.submit::<take>(Touchy(0)).expect("open").wait(), Ok(0));
        }
        pool.shutdown(Shutdown::Drain, None);
    });
}

/// Writes bytes into every socket that this worker has, which no task should.
#[par_process::task]
fn lie(bytes: Vec<u8>) {
    for number in 3..32 {
        let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
        if link.is_ok_and(|to| to.to_string_lossy().starts_with("socket:")) {
            // SAFETY: the sockets of a worker are open as long as it lives.
            let socket = unsafe { BorrowedFd::borrow_raw(number) };
            // The one that the pool only writes to takes it as well.
            let _ = rustix::io::write(socket, &bytes);
        }
    }
    std::thread::sleep(PATIENCE);
}

#[test]
fn a_reply_before_nonsense_leaves_nothing_held() {
    in_time("the pool drains", || {
        let pool = ProcessPool::new(1).expect("starts");
        // The reply to the first request, in time 0, of one byte; then the start of another.
        let mut replies = 1u64.to_le_bytes().to_vec();
        replies.extend([0; 9]);
        replies.extend(1u64.to_le_bytes());
        replies.push(0);
        replies.extend(b"nonsense");
        let mut frame = b"PA\x01\x12".to_vec();
        frame.extend((replies.len() as u64).to_le_bytes());
        frame.extend(replies);
        assert!(pool.submit::<lie>(frame).expect("open").wait().is_err());
        assert_eq!(pool.submit::<square>(3).expect("open").wait(), Ok(9));
        pool.shutdown(Shutdown::Drain, None);
    });
}

/// Leaves a process behind that holds what this one has open, and ends. That one ends when the pool lets go of the socket.
#[par_process::task]
fn fork_and_end(code: i32) {
    // SAFETY: the child only reads from its standard input, the socket of the pool, into its own memory, and ends: by functions
    // that may be called after a fork.
    unsafe {
        if libc::fork() == 0 {
            let mut byte = 0u8;
            while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
            libc::_exit(0);
        }
    }
    std::process::exit(code);
}

#[test]
fn a_death_is_seen_while_others_hold_the_socket() {
    in_time("the death is told", || {
        let pool = ProcessPool::new(1).expect("starts");
        let lost = pool.submit::<fork_and_end>(5).expect("open").wait();
        match lost {
            Err(TaskError::Lost { reason, .. }) => {
                assert!(reason.ends_with("exited with code 5"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.submit::<square>(3).expect("open").wait(), Ok(9));
    });
}

role!("test-broken", broken);

/// Has a pool that is broken, and prints how much processor time that takes in half a second, in ticks of the system.
fn broken() -> i32 {
    let pool = ProcessPool::builder()
        .workers(2)
        .restarts(0)
        .build()
        .expect("starts");
    assert!(pool.submit::<end>(3).expect("open").wait().is_err());
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    println!("{}", ticks() - before);
    0
}

/// Processor time of this process, in ticks of the system.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a file of the system");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum()
}

fn printed_by(role: &str) -> u64 {
    let output = role::command(role)
        .expect("registered")
        .stderr(Stdio::inherit())
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{role} printed {text:?}"))
}

#[test]
fn a_broken_pool_takes_no_time() {
    // It took all 50.
    let ticks = printed_by("test-broken");
    assert!(ticks <= 5, "{ticks} ticks of 10 ms in half a second");
}

role!("test-long-wait", long_wait);

/// Waits for a task for long, and prints how often the pool's own thread woke meanwhile.
fn long_wait() -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    assert_eq!(pool.submit::<doze>(1).expect("open").wait(), Ok(1));
    let before = wakes();
    let start = Instant::now();
    assert_eq!(pool.submit::<doze>(500).expect("open").wait(), Ok(500));
    assert!(start.elapsed() >= Duration::from_millis(500));
    println!("{}", wakes() - before);
    0
}

/// How often the pool's own thread has gone to sleep.
fn wakes() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("a list of threads");
    let status = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok())
        .find(|status| status.lines().any(|line| line == "Name:\tpar-process"))
        .expect("the pool's own thread");
    let line = status
        .lines()
        .find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .expect("a number")
}

#[test]
fn nobody_wakes_while_somebody_waits_for_long() {
    // It woke once a millisecond.
    let wakes = printed_by("test-long-wait");
    assert!(wakes < 50, "{wakes} times in half a second");
}

role!("test-few-files", few_files);

/// Has a worker die while no file can be opened, for long enough that a pool that tries without a pause is through with its
/// budget; then gives the files back. Prints the square of 3.
fn few_files() -> i32 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let pool = ProcessPool::builder()
        .workers(1)
        .restarts(16)
        .build()
        .expect("starts");
    let before = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(3),
        ..before
    };
    setrlimit(Resource::Nofile, few).expect("lower is allowed");
    assert!(pool.submit::<end>(3).expect("open").wait().is_err());
    std::thread::sleep(Duration::from_millis(50));
    setrlimit(Resource::Nofile, before).expect("as before");
    let squared = pool.submit::<square>(3).expect("not broken").wait();
    println!("{}", squared.expect("the pool has healed"));
    0
}

#[test]
fn a_shortage_of_files_is_outlived() {
    assert_eq!(printed_by("test-few-files"), 9);
}
