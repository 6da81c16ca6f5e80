//! Each lock in both ways: for a scope, by a guard, and by explicit calls. A guard goes back also when its thread panics.

use par_sync::{Condvar, Mutex, RawMutex, RawReentrantMutex, ReentrantMutex, Semaphore};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (lock, rlock, semaphore) = (Mutex::new(()), ReentrantMutex::new(()), Semaphore::new(1));
    let condition = Condvar::new();
    {
        let _guard = lock.lock();
        println!("lock acquired for a scope");
    }
    {
        let _guard = rlock.lock();
        println!("rlock acquired for a scope");
    }
    {
        let mut guard = lock.lock();
        condition.wait_for(&mut guard, |()| true);
        println!("condition acquired for a scope");
    }
    {
        let _permit = semaphore.acquire();
        println!("semaphore acquired for a scope");
    }

    let (raw, reentrant) = (RawMutex::new(), RawReentrantMutex::new());
    raw.acquire();
    println!("lock acquired by a call");
    raw.release()?;
    reentrant.acquire();
    println!("rlock acquired by a call");
    reentrant.release()?;
    let guard = lock.lock();
    println!("condition acquired by a call");
    condition.notify_all();
    drop(guard);
    semaphore.acquire().spend();
    println!("semaphore acquired by a call");
    semaphore.release(1)?;

    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let broke = catch_unwind(AssertUnwindSafe(|| {
        let (_guard, _again, _permit) = (lock.lock(), rlock.lock(), semaphore.acquire());
        panic!("with all of them");
    }));
    std::panic::set_hook(quiet);
    let free = !lock.is_locked() && !rlock.is_locked() && semaphore.available() == 1;
    println!("after a panic all are free: {}", broke.is_err() && free);
    Ok(())
}
