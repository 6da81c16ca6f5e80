//! Brokers that cannot be used, or cannot any more: folders, disks and files that refuse. What the user reads is asserted.

use par_dist::{ClusterPool, Options, StartError, TaskError, Worker};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[par_dist::task]
fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

#[par_dist::task]
fn zeros(count: u64) -> Vec<u8> {
    vec![0; count as usize]
}

/// Fills a file until there is no more room; how many bytes went in.
#[par_dist::task]
fn fill(path: String) -> u64 {
    fill_up(Path::new(&path))
}

fn fill_up(path: &Path) -> u64 {
    let file = fs::File::create(path).expect("create");
    let mut at = 0;
    for piece in [1 << 16, 512, 1] {
        while let Ok(count @ 1..) = file.write_at(&vec![1; piece], at) {
            at += count as u64;
        }
    }
    at
}

fn options(broker: &Path) -> Options {
    Options {
        broker: Some(broker.into()),
        ..Options::default()
    }
}

fn started(options: Options) -> Result<ClusterPool, StartError> {
    ClusterPool::builder().workers(1).options(options).build()
}

/// What a pool says that cannot start, which must be what a worker says.
fn refusal(broker: &Path) -> String {
    let pool = started(options(broker))
        .map(drop)
        .expect_err("no pool")
        .to_string();
    let worker = Worker::new(broker)
        .start()
        .map(drop)
        .expect_err("no worker")
        .to_string();
    assert_eq!(pool, worker);
    pool
}

/// A broker file that nobody uses, made by a pool that is gone.
fn made(folder: &Path) -> PathBuf {
    let path = folder.join("jobs.db");
    let pool = started(options(&path)).expect("pool");
    assert_eq!(pool.submit::<length>(vec![1; 10]).expect("submit").wait(), Ok(10));
    path
}

#[test]
fn folders_that_refuse_are_named_with_the_reason() {
    // Refuses root as well.
    let path = Path::new("/sys/kernel/jobs.db");
    let text = refusal(path);
    assert!(
        text == "cannot open the broker /sys/kernel/jobs.db: Permission denied (os error 13)"
            || text == "cannot open the broker /sys/kernel/jobs.db: Read-only file system (os error 30)",
        "{text}"
    );

    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().display();
    assert_eq!(
        refusal(folder.path()),
        format!("cannot open the broker {path}: Is a directory (os error 21)")
    );

    fs::write(folder.path().join("jobs.db.peers"), "a file in the way").expect("write");
    assert_eq!(
        refusal(&folder.path().join("jobs.db")),
        format!(
            "cannot open the broker {path}/jobs.db: the folder of its peers, {path}/jobs.db.peers: Not a directory (os error 20)"
        )
    );
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let path = made(folder.path());
    // The number that SQLite keeps for its users stands at byte 60 of a file, highest byte first.
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    file.write_all_at(&99u32.to_be_bytes(), 60).expect("write");
    let before = fs::read(&path).expect("read");
    assert_eq!(
        refusal(&path),
        format!(
            "the broker {} has schema version 99, this program knows versions up to 1",
            path.display()
        )
    );
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[test]
fn a_damaged_file_is_told_at_the_start_and_in_use() {
    let folder = tempfile::tempdir().expect("folder");
    let path = made(folder.path());
    let damage = || {
        // All but the first page, which holds the header.
        for name in ["jobs.db", "jobs.db-wal"] {
            let Ok(file) = OpenOptions::new().write(true).open(folder.path().join(name)) else {
                continue;
            };
            let length = file.metadata().expect("metadata").len();
            let noise: Vec<u8> = (0..length.saturating_sub(4096))
                .map(|at| (at * 37) as u8 | 1)
                .collect();
            file.write_all_at(&noise, 4096).expect("write");
        }
    };
    damage();
    assert_eq!(
        refusal(&path),
        format!(
            "the broker {} failed: database disk image is malformed",
            path.display()
        )
    );

    fs::remove_file(&path).expect("remove");
    let path = made(folder.path());
    let pool = started(options(&path)).expect("pool");
    assert_eq!(pool.submit::<length>(vec![1; 10]).expect("submit").wait(), Ok(10));
    damage();
    // Every wait ends, now or when the pool has given up.
    let broken = loop {
        match pool.submit::<length>(vec![1; 10]).map(|handle| handle.wait()) {
            Err(TaskError::Broken(reason)) | Ok(Err(TaskError::Broken(reason))) => break reason,
            // The worker noticed first; others take its place until the pool gives up.
            _ => {}
        }
    };
    assert!(
        broken.contains("database disk image is malformed") || broken.contains("restart(s) are used up"),
        "{broken}"
    );
}

#[test]
fn what_has_no_room_under_the_limit_is_refused_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("jobs.db");
    let pool = started(Options {
        max_bytes: Some(1 << 20),
        ..options(&path)
    })
    .expect("pool");
    let full = format!(
        "the broker {} has no room: database or disk is full",
        path.display()
    );
    let outcome = |handle: Result<_, TaskError>| handle.map(|handle: par_dist::Handle<u64>| handle.wait());
    assert_eq!(
        outcome(pool.submit::<length>(vec![0; 4 << 20])),
        Ok(Err(TaskError::Rejected(full.clone())))
    );
    assert_eq!(
        pool.submit::<zeros>(4 << 20).expect("submit").wait(),
        Err(TaskError::Rejected(format!("its reply did not fit: {full}")))
    );
    // In a map, the one large item fails, with its index, and those beside it do not.
    let items = [10, 4 << 20, 10].map(|bytes| vec![0; bytes]);
    let single = pool.with_plan(par_dist::Plan::default().chunk(par_dist::ChunkPlan::Fixed(1)));
    let outcomes = single.map_outcomes::<length>(items).expect("a map");
    assert_eq!(outcomes, [Ok(10), Err(TaskError::Rejected(full)), Ok(10)]);
    assert_eq!(outcome(pool.submit::<length>(vec![0; 1000])), Ok(Ok(1000)));
}

/// A small disk of its own, gone with the value; none where the system lets nobody mount.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "none"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk { folder }),
            Ok(output) => {
                println!(
                    "{test}: not asked, no disk could be mounted: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                println!("{test}: not asked, there is no mount: {error}");
                None
            }
        }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a worker that ends may still have its files open.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_tasks_and_takes_them_again_once_there_is_room() {
    let Some(disk) = Disk::mount("a full disk refuses tasks") else {
        return;
    };
    let path = disk.join("jobs.db");
    let pool = started(options(&path)).expect("pool");
    assert_eq!(
        pool.submit::<length>(vec![0; 1000]).expect("submit").wait(),
        Ok(1000)
    );
    let ballast = disk.join("ballast");
    fill_up(&ballast);
    let refused = pool.submit::<length>(vec![0; 300_000]).expect("submit").wait();
    assert_eq!(
        refused.expect_err("refused").to_string(),
        format!(
            "task was rejected: the broker {} has no room: database or disk is full",
            path.display()
        )
    );
    fs::remove_file(&ballast).expect("remove");
    assert_eq!(
        pool.submit::<length>(vec![0; 300_000]).expect("submit").wait(),
        Ok(300_000)
    );
}

#[test]
fn a_disk_that_stays_full_ends_every_wait_after_a_lease() {
    let Some(disk) = Disk::mount("a disk that stays full") else {
        return;
    };
    let path = disk.join("jobs.db");
    let pool = ClusterPool::builder()
        .workers(1)
        .restarts(0)
        .options(Options {
            lease: Duration::from_millis(500),
            ..options(&path)
        })
        .build()
        .expect("pool");
    let ballast = disk.join("ballast");
    let waits = pool
        .submit::<fill>(ballast.display().to_string())
        .expect("submit");
    let end = Instant::now() + Duration::from_secs(20);
    let told = loop {
        match pool.submit::<length>(vec![0; 1000]).map(|handle| handle.wait()) {
            Err(TaskError::Broken(reason)) | Ok(Err(TaskError::Broken(reason))) => break reason,
            _ => assert!(Instant::now() < end, "the pool goes on without a disk"),
        }
    };
    assert!(
        told == format!(
            "the broker {} has no room: database or disk is full",
            path.display()
        ) || told.starts_with("0 restart(s) are used up; the last worker: "),
        "{told}"
    );
    assert!(
        waits.wait_timeout(Duration::from_secs(20)).is_ok(),
        "a wait without an end"
    );
}
