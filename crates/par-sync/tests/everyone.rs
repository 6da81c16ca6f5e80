//! A program all of whose threads wait for what nobody can do any more. It has no other threads than its own, so not those of a test
//! harness.

fn main() {
    #[cfg(feature = "deadlock")]
    everyone();
}

/// Waits until the main thread waits for another.
#[cfg(feature = "deadlock")]
fn is_joined() {
    settle("the main thread waits", || {
        par_sync::deadlock::snapshot().contains("\"MainThread\" waits for thread")
    });
}

#[cfg(feature = "deadlock")]
fn everyone() {
    use par_sync::csp::{self, Alternation, CspBarrier, Lights};
    use par_sync::{Barrier, Condvar, Event, Mutex, Queue, Select, Semaphore, Thread, deadlock};
    use std::sync::Arc;
    use std::time::Duration;

    deadlock::enable();
    let report = |work: Box<dyn FnOnce() + Send>| {
        // The other thread of the program waits for this one first, so it is this one's wait that nobody can end.
        let thread = Thread::new(move || {
            is_joined();
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        });
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
    let alone = Thread::new(move || {
        is_joined();
        barrier.wait()
    })
    .start()
    .expect("a thread")
    .join()
    .expect("no panic");
    assert!(
        matches!(alone, Err(par_sync::BarrierError::Deadlock(_))),
        "{alone:?}"
    );

    report(Box::new(|| {
        let queue = Queue::new(1);
        queue.put(0).expect("open");
        queue.put(1).expect("never");
    }));
    report(Box::new(|| {
        let queue = Queue::new(1);
        queue.put(0).expect("open");
        queue.join();
    }));
    let text = report(Box::new(|| {
        let (queue, event) = (Queue::<u8>::new(1), Event::new());
        Select::new().get(&queue, drop).event(&event, || ()).wait();
    }));
    assert!(text.contains("waits for select made at"), "{text}");
    let text = report(Box::new(|| {
        let (mut writer, _reader) = csp::one2one();
        writer.write(1).expect("never");
    }));
    assert!(text.contains("waits for channel made at"), "{text}");
    report(Box::new(|| {
        let (_writer, mut reader) = csp::one2one::<u8>();
        reader.read().expect("never");
    }));
    report(Box::new(|| {
        let (_writer, mut reader) = csp::one2one::<u8>();
        Alternation::new().read(&mut reader, drop).wait();
    }));
    report(Box::new(|| {
        let mut place = CspBarrier::new();
        let _other = place.clone();
        place.sync();
    }));
    let text = report(Box::new(|| {
        let (mut writer, mut reader) = csp::one2one::<u8>();
        let mut network = Lights::new();
        network.spawn("reads and never writes", async move {
            writer.write_async(reader.read_async().await?).await?;
            Ok(())
        });
        let _ = network.run();
    }));
    assert!(
        text.contains("waits for network of light processes made at"),
        "{text}"
    );

    nobody_is_alarmed();

    // The last that could have gone on ends.
    let told = Arc::new(Queue::new(0));
    let tell = Arc::clone(&told);
    deadlock::on_deadlock(Some(Box::new(move |report| {
        // Somebody goes on after all, and the program ends.
        tell.put(report.to_owned()).expect("open");
    })));
    let mutex = Arc::new(Mutex::named("kept", ()));
    let waits = {
        let (mutex, told) = (Arc::clone(&mutex), Arc::clone(&told));
        std::thread::spawn(move || {
            let _kept = mutex.lock();
            told.get().expect("the report")
        })
    };
    settle("it waits", || deadlock::snapshot().contains("waits for queue"));
    let (known, is_known) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        drop(Mutex::new(()).lock());
        known.send(()).expect("it listens");
        settle("the first waits", || {
            deadlock::snapshot().contains("waits for mutex \"kept\"")
        });
    });
    is_known.recv().expect("the detector knows it");
    drop(mutex.lock());
    thread.join().expect("no panic");
    let text = waits.join().expect("no panic");
    assert!(
        text.starts_with("deadlock: every thread of the program waits"),
        "{text}"
    );
    deadlock::on_deadlock(None);

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

    // But who is not known may never act, and all who are wait.
    let (warns, warned) = std::sync::mpsc::channel();
    deadlock::on_warning(Some(Box::new(move |warning| {
        warns.send(warning.to_owned()).expect("it listens");
    })));
    let queue = Arc::new(Queue::<u8>::new(1));
    let puts = Arc::clone(&queue);
    let helper = std::thread::spawn(move || {
        // It waits in a way that the detector does not know.
        let warning = warned.recv().expect("a warning");
        puts.put(1).expect("open");
        warning
    });
    assert_eq!(queue.get(), Ok(1));
    let warning = helper.join().expect("no panic");
    assert!(warning.starts_with("every thread that is known"), "{warning}");
    deadlock::on_warning(None);
}

#[cfg(feature = "deadlock")]
fn settle(what: &str, done: impl Fn() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < until, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Two threads that wait for each other all the time, and never in vain: what one wants comes between its look and its sleep.
#[cfg(feature = "deadlock")]
fn nobody_is_alarmed() {
    use par_sync::{Barrier, Condvar, Event, Mutex, Queue, Semaphore, Thread, csp, deadlock};
    use std::sync::Arc;

    deadlock::on_deadlock(Some(Box::new(|report| panic!("a false alarm: {report}"))));
    let pair = |one: Box<dyn FnOnce() + Send>, other: Box<dyn FnOnce()>| {
        let thread = Thread::new(one).start().expect("a thread");
        other();
        thread.join().expect("no panic");
    };
    const ROUNDS: usize = 3_000;
    let barrier = Arc::new(Barrier::new(2).expect("parties"));
    let meets =
        |barrier: Arc<Barrier>| move || (0..ROUNDS).for_each(|_| _ = barrier.wait().expect("two come"));
    pair(Box::new(meets(Arc::clone(&barrier))), Box::new(meets(barrier)));

    let events = Arc::new([Event::new(), Event::new()]);
    let nods = |events: Arc<[Event; 2]>, me: usize| {
        move || {
            for _ in 0..ROUNDS {
                if me == 0 {
                    events[0].set();
                }
                events[1 - me].wait();
                events[1 - me].clear();
                if me == 1 {
                    events[1].set();
                }
            }
        }
    };
    pair(Box::new(nods(Arc::clone(&events), 0)), Box::new(nods(events, 1)));

    let permits = Arc::new([Semaphore::new(0), Semaphore::new(0)]);
    let passes = |permits: Arc<[Semaphore; 2]>, me: usize| {
        move || {
            for _ in 0..ROUNDS {
                permits[me].release(1).expect("room");
                permits[1 - me].acquire().spend();
            }
        }
    };
    pair(
        Box::new(passes(Arc::clone(&permits), 0)),
        Box::new(passes(permits, 1)),
    );

    let queues = Arc::new([Queue::new(1), Queue::new(1)]);
    let throws = |queues: Arc<[Queue<usize>; 2]>, me: usize| {
        move || {
            for round in 0..ROUNDS {
                queues[me].put(round).expect("open");
                assert_eq!(queues[1 - me].get(), Ok(round));
            }
        }
    };
    pair(
        Box::new(throws(Arc::clone(&queues), 0)),
        Box::new(throws(queues, 1)),
    );

    // One sleeps at a condition while the other waits for its lock to wake it.
    let turn = Arc::new((Mutex::new(0), Condvar::new()));
    let turns = |turn: Arc<(Mutex<usize>, Condvar)>, me: usize| {
        move || {
            for _ in 0..ROUNDS {
                let mut next = turn.0.lock();
                turn.1.wait_for(&mut next, |next| *next % 2 == me);
                *next += 1;
                turn.1.notify_all();
            }
        }
    };
    pair(Box::new(turns(Arc::clone(&turn), 0)), Box::new(turns(turn, 1)));

    let (mut there, mut hears) = csp::one2one();
    let (mut answers, mut back) = csp::one2one();
    pair(
        Box::new(move || {
            for _ in 0..ROUNDS {
                let value: usize = hears.read().expect("open");
                answers.write(value).expect("open");
            }
        }),
        Box::new(move || {
            for round in 0..ROUNDS {
                there.write(round).expect("open");
                assert_eq!(back.read().expect("open"), round);
            }
        }),
    );
    deadlock::on_deadlock(None);
}
