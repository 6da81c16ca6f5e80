//! A program all of whose threads wait for what nobody can do any more. It has no other threads than its own, so not those of a test
//! harness.

fn main() {
    #[cfg(feature = "deadlock")]
    everyone();
}

#[cfg(feature = "deadlock")]
fn everyone() {
    use par_sync::{Barrier, Condvar, Event, Mutex, Queue, Semaphore, Thread, deadlock};
    use std::sync::Arc;
    use std::time::Duration;

    deadlock::enable();
    let report = |work: Box<dyn FnOnce() + Send>| {
        // The other thread of the program waits for this one, which waits for nobody.
        let thread = Thread::new(move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
        let end = thread.start().expect("a thread").join().expect("it is caught");
        let panic = end.expect_err("it would wait for ever");
        let text = panic.downcast::<String>().expect("a report");
        assert!(
            text.starts_with("deadlock: every thread of the program waits"),
            "{text}"
        );
        text
    };
    let text = report(Box::new(|| {
        Queue::<u8>::named("empty", 1).get().expect("never");
    }));
    assert!(
        text.contains("waits for queue \"empty\" at") && text.contains("tests/everyone.rs:"),
        "{text}"
    );
    report(Box::new(|| Event::new().wait()));
    report(Box::new(|| drop(Semaphore::new(0).acquire())));
    report(Box::new(|| {
        let mutex = Mutex::new(());
        Condvar::new().wait(&mut mutex.lock());
    }));
    let barrier = Barrier::new(2).expect("parties");
    let alone = Thread::new(move || barrier.wait())
        .start()
        .expect("a thread")
        .join()
        .expect("no panic");
    assert!(
        matches!(alone, Err(par_sync::BarrierError::Deadlock(_))),
        "{alone:?}"
    );

    // Two queues, each waiting for the other: whoever is last is told, and the other goes on when it gives way.
    let queues = Arc::new([Queue::<u8>::named("there", 1), Queue::named("back", 1)]);
    let other = Arc::clone(&queues);
    let thread = Thread::new(move || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            other[0].get().map(|item| other[1].put(item))
        }))
        .is_err()
        .then(|| other[1].shutdown())
    });
    let thread = thread.start().expect("a thread");
    let here = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queues[1].get()));
    if here.is_err() {
        queues[0].shutdown();
    }
    let there = thread.join().expect("no panic");
    assert!(here.is_err() || there.is_some(), "nobody was told");

    // Somebody who will act is not everybody.
    let event = Arc::new(Event::new());
    let later = Arc::clone(&event);
    let acts = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        later.set();
    });
    event.wait();
    acts.join().expect("no panic");
}
