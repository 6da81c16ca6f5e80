//! Locks in shared memory beside a robust lock of the C library called directly, and shared memory beside a plain copy.
//!
//! Prints medians and ratios. Rounds of all candidates alternate, so that whatever else the machine does meets them alike.
#![allow(unsafe_code)]

use par_process::sync::{Barrier, Event, Mutex, ReentrantMutex, Semaphore};
use par_process::{Process, SharedArray, SharedOptions};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Instant;

/// A round is shorter than the time that the system gives to one program.
const LOCKS: u32 = 20_000;
const SHARED_LOCKS: u32 = 200_000;
const LARGE: usize = 16 << 20;

/// What Python programmers would have from C: a robust mutex between processes, called with nothing around it.
struct Robust(Box<UnsafeCell<libc::pthread_mutex_t>>);

impl Robust {
    fn new() -> Self {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: zeroes are a value of this type of C; the lock stays in its box.
        let lock = Robust(Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() })));
        // SAFETY: the attributes are initialised first, and the lock stays where it is.
        unsafe {
            assert_eq!(libc::pthread_mutexattr_init(attributes.as_mut_ptr()), 0);
            let attributes = attributes.as_mut_ptr();
            assert_eq!(
                libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED),
                0
            );
            assert_eq!(
                libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST),
                0
            );
            assert_eq!(libc::pthread_mutex_init(lock.0.get(), attributes), 0);
        }
        lock
    }

    fn round(&self, value: &mut u64) {
        // SAFETY: a lock that was made by `new`.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.0.get()), 0);
            *value = black_box(*value + 1);
            assert_eq!(libc::pthread_mutex_unlock(self.0.get()), 0);
        }
    }
}

fn nanos(rounds: u32, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..rounds {
        run();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn uncontended() {
    let robust = Robust::new();
    let mutex = Mutex::new(0_u64).expect("memory");
    let reentrant = ReentrantMutex::new(0_u64).expect("memory");
    let semaphore = Semaphore::new(1).expect("memory");
    let (mut c, mut ours, mut again, mut permits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut value = 0;
    for _ in 0..301 {
        c.push(nanos(LOCKS, || robust.round(&mut value)));
        ours.push(nanos(LOCKS, || {
            let mut value = mutex.lock().expect("free");
            *value = black_box(*value + 1);
        }));
        again.push(nanos(LOCKS, || {
            let value = reentrant.lock().expect("free");
            value.set(black_box(value.get() + 1));
        }));
        permits.push(nanos(LOCKS / 4, || {
            drop(black_box(semaphore.acquire().expect("free")))
        }));
    }
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let middle = |values: &[f64]| median(values.to_vec());
    for (what, of) in [("minimum", &least as &dyn Fn(&[f64]) -> f64), ("median", &middle)] {
        let (c, ours, again) = (of(&c), of(&ours), of(&again));
        println!(
            "uncontended, {what}: a lock {ours:.1} ns, re-entrant {again:.1} ns, robust lock of C {c:.1} ns, ratios {:.2} and {:.2}",
            ours / c,
            again / c
        );
    }
    println!("a permit taken and given back: {:.1} ns", median(permits));
}

/// Two processes want the same lock all the time.
fn contended() {
    let (mutex, both) = (
        Mutex::new(0_u64).expect("memory"),
        Barrier::new(2).expect("memory"),
    );
    let add = |(mutex, both): (Mutex<u64>, Barrier)| {
        for _ in 0..7 {
            both.wait().expect("both come");
            for _ in 0..SHARED_LOCKS {
                *mutex.lock().expect("nobody dies") += 1;
            }
            both.wait().expect("both come");
        }
    };
    let child = Process::of_fn((mutex.clone(), both.clone()), add)
        .daemon(true)
        .start()
        .expect("starts");
    let mut times = Vec::new();
    for _ in 0..7 {
        both.wait().expect("both come");
        let start = Instant::now();
        for _ in 0..SHARED_LOCKS {
            *mutex.lock().expect("nobody dies") += 1;
        }
        both.wait().expect("both come");
        times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(2 * SHARED_LOCKS));
    }
    child.join().expect("waits");
    assert_eq!(*mutex.lock().expect("nobody died"), u64::from(14 * SHARED_LOCKS));
    println!("a lock between two processes, contended: {:.1} ns", median(times));
}

/// A value of 16 MiB goes to another process, which sees it in place, beside a copy into memory that is warm.
fn large(huge: bool) {
    let options = SharedOptions::new().huge_pages(huge);
    let array = SharedArray::<u8>::with(LARGE, options, |_| ()).expect("memory");
    let (full, seen) = (Event::new().expect("memory"), Event::new().expect("memory"));
    let look = |(array, full, seen): (SharedArray<u8>, Event, Event)| {
        for round in 0..40_u8 {
            full.wait();
            full.clear();
            {
                let array = array.lock().expect("nobody dies");
                assert_eq!((array[0], array[LARGE - 1]), (round, round));
            }
            seen.set();
        }
    };
    let child = Process::of_fn((array.clone(), full.clone(), seen.clone()), look);
    let child = child.daemon(true).start().expect("starts");
    let (mut source, mut target) = (vec![0_u8; LARGE], vec![1_u8; LARGE]);
    let (mut copies, mut writes, mut sends) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..40_u8 {
        source[0] = round;
        source[LARGE - 1] = round;
        let copy = nanos(1, || {
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
        });
        let start = Instant::now();
        array
            .lock()
            .expect("nobody dies")
            .copy_from_slice(black_box(&source));
        let write = start.elapsed().as_secs_f64() * 1e9;
        full.set();
        seen.wait();
        seen.clear();
        let send = start.elapsed().as_secs_f64() * 1e9;
        // The first rounds make everything warm.
        if round >= 10 {
            copies.push(copy);
            writes.push(write);
            sends.push(send);
        }
    }
    child.join().expect("waits");
    let pages = if huge { ", huge pages asked for" } else { "" };
    println!(
        "16 MiB to another process, in us{pages}: one copy, into the segment, until the other has answered"
    );
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min) / 1e3;
    let middle = |values: &[f64]| median(values.to_vec()) / 1e3;
    for (what, of) in [("minimum", &least as &dyn Fn(&[f64]) -> f64), ("median", &middle)] {
        let (copy, write, send) = (of(&copies), of(&writes), of(&sends));
        let (written, sent) = (write / copy, send / copy);
        println!("  {what}: {copy:.0}, {write:.0} (ratio {written:.2}), {send:.0} (ratio {sent:.2})");
    }
}

fn main() {
    uncontended();
    contended();
    large(false);
    large(true);
}
