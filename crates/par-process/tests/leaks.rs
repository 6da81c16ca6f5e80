//! Pools, channels and managers that come and go leave no file, no thread and no process behind. The only test of its program: it counts what the process has.

use par_process::manager::Manager;
use par_process::{Pipe, Process, ProcessPool, Queue, Receiver, Shutdown};
use std::time::{Duration, Instant};

#[par_process::task]
fn square(x: u64) -> u64 {
    x * x
}

#[par_process::task]
fn die(_x: u64) {
    std::process::abort();
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("a folder of the system").count()
}

fn children() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("a folder of the system");
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}

fn round(how: Shutdown) {
    let pool = ProcessPool::new(2).expect("starts");
    assert_eq!(pool.map::<square>(0..100).map(|squares| squares.len()), Ok(100));
    assert!(pool.submit::<die>(0).expect("open").wait().is_err());
    assert_eq!(pool.submit::<square>(3).expect("open").wait(), Ok(9));
    pool.shutdown(how, None);
}

/// Channels and a manager, whose other sides are killed in their middle.
fn channels() {
    let (receiver, sender) = Pipe::one_way().expect("a pipe");
    let queue = Queue::new(1).expect("memory");
    let manager = Manager::start().expect("starts");
    let lock = manager.lock().expect("made");
    let other = Process::of_fn(
        (receiver, queue.clone(), lock.clone()),
        |(receiver, queue, lock): (Receiver, Queue<u8>, _)| {
            let lock: par_process::manager::Lock = lock;
            let _guard = lock.lock().expect("the manager lives");
            receiver.recv::<u8>().expect("comes");
            while queue.put(1).is_ok() {}
        },
    );
    let other = other.start().expect("starts");
    sender.send(1u8).expect("sent");
    queue.get().expect("comes");
    assert!(lock.is_locked().expect("the manager lives"));
    other.kill().expect("signals");
    other.join().expect("ends");
    drop(lock.lock().expect("it is free again"));
    assert!(sender.send(vec![0u8; 1 << 20]).is_err());
}

#[test]
fn nothing_is_left() {
    // What is made once, such as clocks, is there after the first round.
    round(Shutdown::Drain);
    channels();
    par_process::active_children();
    let (files, threads) = (count("/proc/self/fd"), count("/proc/self/task"));
    for how in [Shutdown::Drain, Shutdown::CancelPending, Shutdown::Kill] {
        for _ in 0..5 {
            round(how);
        }
        channels();
    }
    let end = Instant::now() + Duration::from_secs(20);
    let now = || {
        // Forgets those that have ended.
        par_process::active_children();
        (count("/proc/self/fd"), count("/proc/self/task"), children())
    };
    while now() != (files, threads, 0) {
        assert!(
            Instant::now() < end,
            "files, threads and children: {:?}, and {:?} before",
            now(),
            (files, threads, 0)
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
