//! Several pools on one broker file, in one process and in two; and what is left of a pool that is killed.

use par_dist::{ChunkPlan, ClusterPool, Options, Plan, Shutdown};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[par_dist::task(name = "tests.square")]
fn square(x: u64) -> u64 {
    x * x
}

#[par_dist::task(name = "tests.process")]
fn process(_x: u64) -> u32 {
    // For the other program, whose tasks these workers run as well.
    std::process::id()
}

/// Another program with a pool, killed when the test ends.
struct Program {
    child: Child,
    /// The processes of its workers.
    workers: Vec<u32>,
}

impl Program {
    fn start(workers: usize, broker: Option<&Path>, temporary: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_par-dist-other-pool"))
            .arg(workers.to_string())
            .args(broker)
            .env("TMPDIR", temporary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the other program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let workers = line.split_whitespace().map(|pid| pid.parse().expect("a pid"));
        let workers = workers.collect();
        Program { child, workers }
    }

    /// Ends its standard input, and with that the program.
    fn finish(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().expect("wait").success()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn lives(pid: u32) -> bool {
    // A process that has ended and waits to be reaped does not count.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

fn pool(broker: &Path) -> ClusterPool {
    let options = Options {
        broker: Some(broker.into()),
        ..Options::default()
    };
    ClusterPool::builder()
        .workers(1)
        .options(options)
        .build()
        .expect("a pool")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)))
}

#[test]
fn two_pools_with_workers_of_their_own_share_a_file() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let (one, two) = (pool(&broker), pool(&broker));
    until("each sees the other's worker", || {
        one.workers() == 2 && two.workers() == 2
    });
    let all = |pool: &ClusterPool| {
        assert_eq!(
            pool.map::<square>(0..500),
            Ok((0..500).map(|x| x * x).collect::<Vec<_>>())
        );
    };
    std::thread::scope(|scope| {
        for pool in [&one, &two] {
            scope.spawn(|| all(pool));
        }
    });
    // One leaves in peace, and the other goes on with its own worker.
    let report = one.shutdown(Shutdown::Drain, Some(Duration::from_secs(20)));
    assert_eq!((report.ran, report.lost, report.detached), (500, 0, 0));
    all(&two);
    drop((one, two));
    assert_eq!(names(folder.path()), ["jobs.db"], "what the pools left");
}

#[test]
fn two_processes_share_a_file_and_one_outlives_the_other() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = folder.path().join("jobs.db");
    let ours = pool(&broker);
    let all = || {
        assert_eq!(
            ours.map::<square>(0..500),
            Ok((0..500).map(|x| x * x).collect::<Vec<_>>())
        );
    };
    // Both at once: the program maps as soon as it starts.
    let program = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| Program::start(1, Some(&broker), folder.path()));
        all();
        theirs.join().expect("no panic")
    });
    until("its worker is seen", || ours.engine().workers_by_hand() == 1);
    assert!(program.finish(), "the other program failed");
    until("its worker is gone", || ours.engine().workers_by_hand() == 0);
    all();

    // And killed, while it has a worker.
    let mut program = Program::start(1, Some(&broker), folder.path());
    program.child.kill().expect("kill");
    until("it is buried", || ours.engine().workers_by_hand() == 0);
    all();
    assert_eq!(ours.engine().waiting().expect("a broker"), 0);
}

#[test]
fn a_killed_pool_leaves_no_process_and_no_file() {
    let folder = tempfile::tempdir().expect("folder");
    let mut program = Program::start(3, None, folder.path());
    assert_eq!(program.workers.len(), 3);
    assert_eq!(names(folder.path()).len(), 1, "a temporary broker");
    // One of them sees nothing before it goes on.
    let stop = Command::new("kill")
        .args(["-STOP", &program.workers[0].to_string()])
        .status();
    assert!(stop.is_ok_and(|status| status.success()));
    program.child.kill().expect("kill");
    until("its workers end", || {
        !program.workers.iter().any(|pid| lives(*pid))
    });
    until("its folder is removed", || names(folder.path()).is_empty());
}

#[test]
fn a_group_that_is_killed_leaves_no_process_and_no_file() {
    let folder = tempfile::tempdir().expect("folder");
    let program = Program::start(2, None, folder.path());
    let group = format!("-{}", program.child.id());
    let kill = Command::new("kill").args(["-KILL", "--", &group]).status();
    assert!(kill.is_ok_and(|status| status.success()));
    until("its workers end", || {
        !program.workers.iter().any(|pid| lives(*pid))
    });
    until("its folder is removed", || names(folder.path()).is_empty());
}

#[test]
fn a_pool_in_peace_leaves_no_process_and_no_file() {
    let folder = tempfile::tempdir().expect("folder");
    let program = Program::start(2, None, folder.path());
    let workers = program.workers.clone();
    assert!(program.finish());
    assert!(!workers.into_iter().any(lives), "a worker outlives its pool");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_temporary_broker_without_a_place_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let nowhere = folder.path().join("nowhere");
    let output = Command::new(env!("CARGO_BIN_EXE_par-dist-other-pool"))
        .arg("1")
        .env("TMPDIR", &nowhere)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stderr);
    let place = format!("{}/par-dist-", nowhere.display());
    assert!(
        text.contains("cannot make a folder for the broker") && text.contains(&place),
        "{text}"
    );
    assert!(!output.status.success());
}
