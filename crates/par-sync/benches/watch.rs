//! What the detector of deadlocks costs: a lock and a queue with it switched off and on. Compiled in with `--features deadlock`; without, the
//! bench of locks is the floor.
//!
//! Prints medians in nanoseconds.

use par_sync::{Mutex, Queue};
use std::time::Instant;

const STEPS: u32 = 100_000;

fn median(run: impl Fn()) -> f64 {
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() / f64::from(STEPS) * 1e9
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(title: &str) {
    let (outer, inner, queue) = (Mutex::new(0u64), Mutex::new(0u64), Queue::new(64));
    let lock = median(|| (0..STEPS).for_each(|_| *outer.lock() += 1));
    let nested = median(|| {
        for _ in 0..STEPS {
            let _outer = outer.lock();
            *inner.lock() += 1;
        }
    });
    let item = median(|| {
        for number in 0..STEPS {
            queue.put(number).expect("open");
            queue.get().expect("open");
        }
    });
    println!("{title}: a lock {lock:.1}, two nested {nested:.1}, an item of a queue {item:.1} ns");
}

fn main() {
    measure(if cfg!(feature = "deadlock") {
        "compiled in, off"
    } else {
        "not compiled in"
    });
    #[cfg(feature = "deadlock")]
    {
        par_sync::deadlock::enable();
        measure("on");
    }
}
