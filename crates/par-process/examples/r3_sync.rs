//! A barrier of two and a lock between four processes, and the other locks and their like.
//!
//! Two processes wait for each other at a barrier before they tell the time; two others do not. The lock keeps the lines apart.

use par_process::sync::{Barrier, Condvar, Event, Mutex, ReentrantMutex, Semaphore};
use par_process::{Process, current_process};
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn tell(line: &Mutex<u32>) {
    let mut lines = line.lock().expect("nobody dies with it");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    println!("{} at {} ms", current_process().name(), now.as_millis());
    *lines += 1;
}

fn with_barrier((barrier, line, late): (Barrier, Mutex<u32>, bool)) {
    if late {
        std::thread::sleep(Duration::from_millis(300));
    }
    barrier.wait().expect("both come");
    tell(&line);
}

fn without_barrier(line: Mutex<u32>) {
    tell(&line);
}

/// Counts down under a lock that it takes again, once the event lets it.
fn count_down((go, left, changed): (Event, ReentrantMutex<u32>, Condvar), room: &Semaphore) {
    go.wait();
    let _room = room.acquire().expect("it comes free");
    let outer = left.lock().expect("nobody dies with it");
    let inner = left.lock().expect("it is its own");
    inner.set(outer.get() - 1);
    drop((inner, outer));
    changed.notify_all();
}

fn main() -> Result<(), Box<dyn Error>> {
    let (barrier, line) = (Barrier::new(2)?, Mutex::new(0_u32)?);
    let four = [
        Process::of_fn((barrier.clone(), line.clone(), false), with_barrier).name("p1 - with barrier"),
        Process::of_fn((barrier.clone(), line.clone(), true), with_barrier).name("p2 - with barrier"),
        Process::of_fn(line.clone(), without_barrier).name("p3 - without barrier"),
        Process::of_fn(line.clone(), without_barrier).name("p4 - without barrier"),
    ];
    let four = four
        .into_iter()
        .map(|process| process.start())
        .collect::<Result<Vec<_>, _>>()?;
    for process in &four {
        assert_eq!(process.join()?, 0);
    }
    println!("{} lines", *line.lock()?);

    let (go, left, changed) = (Event::new()?, ReentrantMutex::new(3_u32)?, Condvar::new()?);
    let (room, done) = (Semaphore::new(1)?, Mutex::new(0_u32)?);
    let workers = (0..3).map(|_| {
        let all = (
            (go.clone(), left.clone(), changed.clone()),
            room.clone(),
            done.clone(),
        );
        Process::of_fn(all, |(all, room, done)| {
            let changed = all.2.clone();
            count_down(all, &room);
            *done.lock().expect("nobody dies with it") += 1;
            changed.notify_all();
        })
        .start()
    });
    let workers = workers.collect::<Result<Vec<_>, _>>()?;
    go.set();
    let guard = changed.wait_while(done.lock()?, |done| *done < 3)?;
    println!("{} done, {} left", *guard, left.lock()?.get());
    drop(guard);
    for worker in &workers {
        assert_eq!(worker.join()?, 0);
    }
    println!("{} permit free", room.available()?);
    Ok(())
}
