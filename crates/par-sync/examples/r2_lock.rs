//! Two threads count up and down, 100000 times each: with a lock, and with loads and stores that know nothing of each other.

use par_sync::{Barrier, Mutex, scope};
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::yield_now;

const TIMES: usize = 100_000;

fn main() {
    let locked = Mutex::new(0i64);
    scope(|scope| {
        scope.spawn(|| (0..TIMES).for_each(|_| *locked.lock() += 1));
        scope.spawn(|| (0..TIMES).for_each(|_| *locked.lock() -= 1));
    });
    println!("with the lock: {}", locked.into_inner());

    // Rust has no data races outside of `unsafe`; but what is read may be old when it is written.
    let apart = AtomicI64::new(0);
    let start = Barrier::new(2).expect("at least one comes");
    let step = |by: i64| {
        start.wait().expect("both come");
        for time in 0..TIMES {
            let seen = apart.load(Ordering::Relaxed);
            // Also where both have one core: the other goes on in between.
            if time % 1000 == 0 {
                yield_now();
            }
            apart.store(black_box(seen) + by, Ordering::Relaxed);
        }
    };
    let mut result = 0;
    // Luck may have it right; not often.
    for _ in 0..100 {
        apart.store(0, Ordering::Relaxed);
        scope(|scope| {
            scope.spawn(|| step(1));
            scope.spawn(|| step(-1));
        });
        result = apart.load(Ordering::Relaxed);
        if result != 0 {
            break;
        }
    }
    println!("without: {result}");
}
