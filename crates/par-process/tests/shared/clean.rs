//! What each test must leave behind: nothing.

use par_process::{Process, RawValue, par_core::wire};
use std::fs;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Long enough for a machine under load; nothing waits so long where all is right.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What this process has of us: files and mappings of shared memory, sockets in the name of dead processes, files in /dev/shm, children.
fn ours() -> [usize; 5] {
    let links = fs::read_dir("/proc/self/fd").expect("a folder of the system");
    let files = links
        .flatten()
        .filter_map(|link| fs::read_link(link.path()).ok())
        .filter(|target| target.to_string_lossy().contains("memfd:par-process"))
        .count();
    let maps = fs::read_to_string("/proc/self/maps").expect("a file of the system");
    let maps = maps
        .lines()
        .filter(|line| line.contains("memfd:par-process"))
        .count();
    let sockets = fs::read_to_string("/proc/net/unix").expect("a file of the system");
    let sockets = sockets
        .lines()
        .filter_map(|line| line.rsplit_once("@par-process/")?.1.split_once("/p/"))
        .filter_map(|(_, address)| address.split_once('-'))
        .filter(|(pid, _)| !fs::exists(format!("/proc/{pid}")).expect("a folder of the system"))
        .count();
    let shm = fs::read_dir("/dev/shm").map_or(0, |files| {
        files
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().contains("par-process"))
            .count()
    });
    let threads = fs::read_dir("/proc/self/task").expect("a folder of the system");
    let children = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum();
    [files, maps, sockets, shm, children]
}

/// Runs a test alone, and then sees to it that nothing of it is left.
pub(crate) fn clean(test: impl FnOnce()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ours();
    assert_eq!(before, [0; 5], "a test before this one left something");
    test();
    until(&|| format!("nothing is left: {:?}", ours()), || ours() == before);
}

/// Waits for something to be so.
pub(crate) fn until(what: &dyn Fn() -> String, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "not within {LONG:?}: {}", what());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a step has been reached that another process tells of.
pub(crate) fn reached(step: &RawValue<u32>, number: u32) {
    until(&|| format!("step {number}, at {}", step.load()), || {
        step.load() >= number
    });
}

/// A daemon: whatever becomes of the test, it does not stay.
pub(crate) fn start<I: par_process::Data>(input: I, function: fn(I)) -> Killed {
    let process = Process::of_fn(input, function)
        .daemon(true)
        .start()
        .expect("starts");
    Killed(process)
}

/// A process that is killed when the test is over, however that ends.
pub(crate) struct Killed(Process);

impl Killed {
    pub(crate) fn ends(&self) -> i32 {
        self.0.join_timeout(LONG).expect("waits").expect("it ends")
    }

    pub(crate) fn kill(&self) {
        self.0.kill().expect("signals");
        assert_eq!(self.ends(), -9);
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.0.pid().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Stops it; it has stopped when this returns.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.0.pid());
        until(&|| "it stops".to_owned(), || {
            let stat = fs::read_to_string(&stat).expect("it lives");
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        });
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.join();
    }
}

/// What a value looks like on its way.
pub(crate) fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    wire::to_bytes(value).expect("encodes")
}

pub(crate) fn decoded<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    wire::from_bytes(bytes).map_err(|error| error.to_string())
}
