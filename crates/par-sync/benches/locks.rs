//! Locks beside what they are built on: parking_lot, the barrier of the standard library, a bare condition.
//!
//! Prints medians and ratios. Rounds of all candidates alternate, so that whatever else the machine does meets them alike. Where
//! `python3` is there, CPython's threading is beside them.

use par_sync::{Barrier, Condvar, Event, Mutex, ReentrantMutex, RwLock, Semaphore};
use std::hint::black_box;
use std::process::Command;
use std::thread;
use std::time::Instant;

const ROUNDS: usize = 21;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds a turn.
fn timed(turns: u32, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() / f64::from(turns) * 1e9
}

fn compare(name: &str, turns: u32, ours: impl Fn(), theirs: impl Fn()) {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        here.push(timed(turns, &ours));
        there.push(timed(turns, &theirs));
    }
    let (here, there) = (median(here), median(there));
    println!(
        "{name:<44} {here:9.1} ns, theirs {there:9.1} ns, ratio {:.2}",
        here / there
    );
}

/// A pair that wakes each other in turns.
fn ping_pong(turns: u32, wait: impl Fn(usize) + Sync, wake: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..turns {
                wait(0);
                wake(1);
            }
        });
        for _ in 0..turns {
            wake(0);
            wait(1);
        }
    });
}

fn rounds(parties: usize, turns: u32, wait: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..parties {
            scope.spawn(|| (0..turns).for_each(|_| wait()));
        }
        (0..turns).for_each(|_| wait());
    });
}

fn python(name: &str, setup: &str, work: &str) {
    let script = format!(
        "import threading, timeit\n{setup}\nprint(min(timeit.repeat(lambda: {work}, number=20000, repeat=5)) / 20000 * 1e9)"
    );
    let output = Command::new("python3").args(["-c", &script]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match text.unwrap_or_default().parse::<f64>() {
        Ok(nanos) => println!("CPython, {name:<35} {nanos:9.1} ns"),
        Err(_) => println!("CPython, {name}: no python3 here"),
    }
}

fn main() {
    const FREE: u32 = 1_000_000;
    let (ours, theirs) = (Mutex::new(0u64), parking_lot::Mutex::new(0u64));
    compare(
        "Mutex, free; parking_lot's",
        FREE,
        || (0..FREE).for_each(|_| *black_box(&ours).lock() += 1),
        || (0..FREE).for_each(|_| *black_box(&theirs).lock() += 1),
    );
    let (ours, theirs) = (ReentrantMutex::new(()), parking_lot::ReentrantMutex::new(()));
    compare(
        "ReentrantMutex, free; parking_lot's",
        FREE,
        || (0..FREE).for_each(|_| drop(black_box(&ours).lock())),
        || (0..FREE).for_each(|_| drop(black_box(&theirs).lock())),
    );
    let (ours, theirs) = (RwLock::new(0u64), parking_lot::RwLock::new(0u64));
    compare(
        "RwLock, free, to read; parking_lot's",
        FREE,
        || {
            for _ in 0..FREE {
                black_box(*black_box(&ours).read());
            }
        },
        || {
            for _ in 0..FREE {
                black_box(*black_box(&theirs).read());
            }
        },
    );
    let (ours, theirs) = (Semaphore::new(1), parking_lot::Mutex::new(()));
    compare(
        "Semaphore, free; parking_lot's Mutex",
        FREE,
        || (0..FREE).for_each(|_| drop(black_box(&ours).acquire())),
        || (0..FREE).for_each(|_| drop(black_box(&theirs).lock())),
    );
    const BUSY: u32 = 400_000;
    let (ours, theirs) = (Mutex::new(0u64), parking_lot::Mutex::new(0u64));
    compare(
        "Mutex, four threads; parking_lot's",
        BUSY,
        || rounds(4, BUSY / 4, || *ours.lock() += 1),
        || rounds(4, BUSY / 4, || *theirs.lock() += 1),
    );
    for parties in [2, 8] {
        const TURNS: u32 = 2_000;
        let (ours, theirs) = (
            Barrier::new(parties).expect("parties"),
            std::sync::Barrier::new(parties),
        );
        compare(
            &format!("Barrier, {parties} threads; std's"),
            TURNS,
            || {
                rounds(parties, TURNS, || {
                    ours.wait().expect("nobody gives up");
                });
            },
            || {
                rounds(parties, TURNS, || {
                    theirs.wait();
                });
            },
        );
    }
    const TURNS: u32 = 5_000;
    let events = [Event::new(), Event::new()];
    let bare = [0, 1].map(|_| (parking_lot::Mutex::new(false), parking_lot::Condvar::new()));
    compare(
        "Event, there and back; a bare condition",
        TURNS,
        || {
            let wait = |at: usize| {
                events[at].wait();
                events[at].clear();
            };
            ping_pong(TURNS, wait, |at| events[at].set());
        },
        || {
            let wait = |at: usize| {
                let mut flag = bare[at].0.lock();
                while !*flag {
                    bare[at].1.wait(&mut flag);
                }
                *flag = false;
            };
            let wake = |at: usize| {
                *bare[at].0.lock() = true;
                bare[at].1.notify_one();
            };
            ping_pong(TURNS, wait, wake);
        },
    );
    let ours = [0, 1].map(|_| (Mutex::new(false), Condvar::new()));
    compare(
        "Condvar, there and back; parking_lot's",
        TURNS,
        || {
            let wait = |at: usize| {
                let mut flag = ours[at].0.lock();
                ours[at].1.wait_for(&mut flag, |flag| *flag);
                *flag = false;
            };
            let wake = |at: usize| {
                *ours[at].0.lock() = true;
                ours[at].1.notify_one();
            };
            ping_pong(TURNS, wait, wake);
        },
        || {
            let wait = |at: usize| {
                let mut flag = bare[at].0.lock();
                while !*flag {
                    bare[at].1.wait(&mut flag);
                }
                *flag = false;
            };
            let wake = |at: usize| {
                *bare[at].0.lock() = true;
                bare[at].1.notify_one();
            };
            ping_pong(TURNS, wait, wake);
        },
    );
    python("Lock, free", "l = threading.Lock()", "(l.acquire(), l.release())");
    python(
        "RLock, free",
        "l = threading.RLock()",
        "(l.acquire(), l.release())",
    );
    python(
        "Semaphore, free",
        "l = threading.Semaphore(1)",
        "(l.acquire(), l.release())",
    );
    python(
        "Event, set and clear",
        "l = threading.Event()",
        "(l.set(), l.wait(), l.clear())",
    );
}
