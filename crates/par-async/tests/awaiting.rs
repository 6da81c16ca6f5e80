//! Handles of other pools are awaited without a thread each.

use par_async::{Handle, task};
use par_process::ProcessPool;
use par_sync::ThreadPool;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const HANDLES: u64 = 10_000;

/// Ends once the file is there; the tasks behind it wait for their turn.
#[task]
fn after(file: String, x: u64) -> u64 {
    let end = Instant::now() + Duration::from_secs(60);
    while !Path::new(&file).exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    x
}

/// Threads of this process.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok())
        .expect("a number")
}

/// Awaits all handles at once on this thread.
fn await_all(handles: Vec<Handle<u64>>, gate: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let before = threads();
    let sum = runtime.expect("starts").block_on(async {
        let mut set = JoinSet::new();
        for handle in handles {
            set.spawn(handle);
        }
        // Each is polled in its turn, this one again after all of them.
        tokio::task::yield_now().await;
        let meanwhile = threads();
        std::fs::write(gate, "").expect("writes");
        assert!(
            meanwhile <= before,
            "{meanwhile} threads while {HANDLES} handles are awaited, {before} before"
        );
        let mut sum = 0;
        while let Some(outcome) = set.join_next().await {
            sum += outcome.expect("no panic").expect("a value");
            assert!(threads() <= before, "a wait took a thread");
        }
        sum
    });
    assert_eq!(sum, HANDLES * (HANDLES - 1) / 2);
}

#[test]
fn ten_thousand_handles_of_threads_and_of_processes_take_no_thread() {
    let queue = usize::try_from(HANDLES).expect("small");
    let folder = std::env::temp_dir().join(format!("par-awaiting-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let gates = [folder.join("threads"), folder.join("processes")];
    let file = |at: usize| gates[at].display().to_string();
    let outcome = std::panic::catch_unwind(|| {
        let pool = ThreadPool::builder()
            .workers(2)
            .queue(queue)
            .build()
            .expect("starts");
        let submit = |x| pool.submit::<after>((file(0), x)).expect("open");
        await_all((0..HANDLES).map(submit).collect(), &gates[0]);
        drop(pool);

        let pool = ProcessPool::builder()
            .workers(2)
            .queue(queue)
            .build()
            .expect("starts");
        let submit = |x| pool.submit::<after>((file(1), x)).expect("open");
        await_all((0..HANDLES).map(submit).collect(), &gates[1]);
    });
    // Also where it failed: whoever waits for a gate goes on after a while by itself.
    std::fs::remove_dir_all(&folder).expect("it was made above");
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
