//! A semaphore that says that something was made, and one that is a lock.

use par_sync::{BoundedSemaphore, Mutex, Semaphore, scope};
use std::sync::atomic::{AtomicU32, Ordering};

fn main() {
    let made = Semaphore::new(0);
    let item = AtomicU32::new(0);
    for round in 1..=5 {
        scope(|scope| {
            scope.spawn(|| {
                made.acquire().spend();
                println!("consumed {}", item.load(Ordering::Relaxed));
            });
            scope.spawn(|| {
                item.store(round * 7, Ordering::Relaxed);
                println!("produced {}", round * 7);
                made.release(1).expect("room for one");
            });
        });
    }

    let (one, most) = (BoundedSemaphore::new(1), Mutex::new((0, 0)));
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let _permit = one.acquire();
                    let (inside, most) = &mut *most.lock();
                    *inside += 1;
                    *most = (*most).max(*inside);
                    *inside -= 1;
                }
            });
        }
    });
    println!("at most {} inside", most.lock().1);
    match one.release(1) {
        Err(error) => println!("refused: {error}"),
        Ok(()) => println!("not refused"),
    }
    // A semaphore that starts below zero is no program: `Semaphore::new(-1)` does not compile.
}
