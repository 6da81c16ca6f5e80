//! Queues beside crossbeam-channel: threads that put and threads that get, on one machine in one run.
//!
//! Prints medians of a million items and ratios. Rounds of all candidates alternate, so that whatever else the machine does meets
//! them alike. Where `python3` is there, CPython's `queue.Queue` is beside them.

use par_sync::Queue;
use std::process::Command;
use std::thread;
use std::time::Instant;

const ITEMS: u64 = 400_000;
const ROUNDS: usize = 11;

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() / ITEMS as f64 * 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ours(threads: u64, capacity: usize, account: bool) {
    let queue = Queue::new(capacity);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..ITEMS / threads).for_each(|item| queue.put(item).expect("open")));
            scope.spawn(|| {
                for _ in 0..ITEMS / threads {
                    queue.get().expect("open");
                    if account {
                        queue.task_done().expect("got");
                    }
                }
            });
        }
        if account {
            queue.join();
        }
    });
}

fn theirs(threads: u64, capacity: usize) {
    let (sender, receiver) = match capacity {
        0 => crossbeam_channel::unbounded(),
        capacity => crossbeam_channel::bounded(capacity),
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..ITEMS / threads).for_each(|item| sender.send(item).expect("open")));
            scope.spawn(|| {
                for _ in 0..ITEMS / threads {
                    receiver.recv().expect("open");
                }
            });
        }
    });
}

/// Nanoseconds an item of CPython's.
fn cpython(threads: u64, capacity: usize) -> Option<f64> {
    let script = format!(
        "import queue, threading, time\n\
         q = queue.Queue({capacity})\n\
         n = 40000 // {threads}\n\
         ts = [threading.Thread(target=lambda: [q.put(i) for i in range(n)]) for _ in range({threads})]\n\
         ts += [threading.Thread(target=lambda: [q.get() for i in range(n)]) for _ in range({threads})]\n\
         s = time.perf_counter()\n\
         [t.start() for t in ts]; [t.join() for t in ts]\n\
         print((time.perf_counter() - s) / (n * {threads}) * 1e9)"
    );
    let output = Command::new("python3").args(["-c", &script]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn main() {
    println!("nanoseconds an item, medians of {ROUNDS}; ratios to crossbeam-channel");
    for threads in [1, 4] {
        for capacity in [1, 64, 1024, 0] {
            let (mut plain, mut joined, mut floor) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                plain.push(timed(|| ours(threads, capacity, false)));
                floor.push(timed(|| theirs(threads, capacity)));
                joined.push(timed(|| ours(threads, capacity, true)));
            }
            let (plain, joined, floor) = (median(plain), median(joined), median(floor));
            let room = if capacity == 0 {
                "unbounded".to_owned()
            } else {
                capacity.to_string()
            };
            print!(
                "{threads}:{threads}, {room:>9}: queue {plain:6.0}, crossbeam {floor:6.0} ({:.2}), with task_done {joined:6.0} ({:.2})",
                plain / floor,
                joined / floor
            );
            match cpython(threads, capacity) {
                Some(python) => println!(", CPython {python:.0}"),
                None => println!(),
            }
        }
    }
}
