//! What the tests of channels and managers share: patience, and that nothing of a test is left.
#![allow(dead_code, reason = "each test program uses some of it")]

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().expect("a number of a process")).expect("not 0");
    kill_process(pid, signal).expect("it lives");
}

/// Whether a process is there, and no zombie.
pub(crate) fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

/// Whether every thread of a process is stopped.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    threads.flatten().all(|thread| {
        fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().unwrap_or_default().starts_with(" T"))
    })
}

fn files() -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("a folder of the system")
        .count()
}

fn children() -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("a folder of the system");
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}

/// The sockets with a name that a process has made for us.
pub(crate) fn named_by(pid: u32) -> Vec<String> {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let own = [format!("@par-process-{pid}-"), format!("/{pid}-")];
    sockets
        .split_whitespace()
        .filter(|word| word.starts_with("@par-process"))
        .filter(|word| own.iter().any(|own| word.contains(own)) || word.ends_with(&format!("-{pid}")))
        .map(str::to_owned)
        .collect()
}

/// What of ours anybody could find in the system: shared memory with a name, files, and sockets with a name.
fn named() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["/dev/shm", "/tmp"] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| name.contains("par-process")),
        );
    }
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let own = format!("@par-process-{}-", std::process::id());
    found.extend(
        sockets
            .split_whitespace()
            .filter(|word| word.starts_with(&own))
            .map(str::to_owned),
    );
    found
}

/// Runs a test and asserts that no process, file, socket or segment of it is left. For programs whose tests run one at a time; see
/// [`alone`].
pub(crate) fn leaves_nothing(test: impl FnOnce()) {
    // What is made once, such as the thread that starts processes, is there after the first.
    par_process::Process::of_fn((), |()| ())
        .start()
        .expect("starts")
        .join()
        .expect("ends");
    let now = || {
        // Forgets those that have ended.
        par_process::active_children();
        (files(), children(), named())
    };
    let before = now();
    test();
    let end = Instant::now() + PATIENCE;
    // What another test left to be closed may be gone since.
    let is_left = |(files, children, names): &(usize, usize, BTreeSet<String>)| {
        *files > before.0 || *children > before.1 || !names.is_subset(&before.2)
    };
    while is_left(&now()) {
        assert!(
            Instant::now() < end,
            "files, children and names: {:?}, and {before:?} before",
            now()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One test of this program at a time, with nothing left after it.
pub(crate) fn alone(test: impl FnOnce()) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A test that failed says so itself.
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    leaves_nothing(test);
}
