//! Workers of another program, which share the names of their tasks with the test's; and pools that wait for them.

use par_dist::{BrokerUrl, ClusterPool, Options, TaskError};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[par_dist::task(name = "tests.square")]
pub(crate) fn square(x: u64) -> u64 {
    x * x
}

#[par_dist::task(name = "tests.process")]
pub(crate) fn process(_x: u64) -> u32 {
    std::process::id()
}

#[par_dist::task(name = "tests.nap", idempotent)]
pub(crate) fn nap(ms: u64) -> u32 {
    // Parameters are part of a signature, by name too; what the task does is the worker's affair.
    u32::try_from(ms).unwrap_or(0)
}

#[par_dist::task(name = "tests.endless")]
pub(crate) fn endless(mark: String) -> Result<(), TaskError> {
    Err(TaskError::Rejected(format!("{mark}: not here")))
}

/// A program that is killed when the test ends.
pub(crate) struct Program {
    child: Child,
    /// What it says first.
    pub(crate) banner: String,
}

impl Program {
    /// A worker.
    pub(crate) fn worker(broker: &str, concurrency: usize) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_par-dist-other-worker"))
            .args([broker, &concurrency.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the other program starts");
        let mut banner = String::new();
        let stderr = child.stderr.take().expect("piped");
        BufReader::new(stderr).read_line(&mut banner).expect("a banner");
        assert!(banner.contains("knows"), "{banner}");
        Program { child, banner }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With so many workers of its own; with none it waits for those of others.
pub(crate) fn pool(broker: impl Into<BrokerUrl>, workers: usize) -> ClusterPool {
    pool_with(
        workers,
        Options {
            broker: Some(broker.into()),
            ..Options::default()
        },
    )
}

pub(crate) fn pool_with(workers: usize, options: Options) -> ClusterPool {
    let options = Options {
        local_workers: workers > 0,
        ..options
    };
    ClusterPool::builder()
        .workers(workers.max(1))
        .options(options)
        .build()
        .expect("a pool")
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
