//! The laws of CSP channels: over threads and light tasks, all four kinds, with and without a buffer. Nothing is lost or doubled under
//! retirement, poison and alternation; networks end.

use par_sync::csp::{
    self, Alternation, Any, CspBarrier, Lights, One, Reader, Stop, WriteError, Writer, any2any,
    any2any_buffered, one2one, one2one_buffered, parallel,
};
use par_sync::{Mutex, Thread};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs `run` in a thread of its own, so that what hangs fails.
fn in_time<R: Send + 'static>(what: &str, run: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = Thread::new(run).daemon(true).start().expect("a thread");
    match thread.join_timeout(Duration::from_secs(60)) {
        Ok(ended) => ended.unwrap_or_else(|error| panic!("{what}: {error}")),
        Err(_) => panic!("it hangs: {what}"),
    }
}

#[test]
fn writers_and_readers_meet() {
    in_time("a rendezvous", || {
        let (mut out, mut into) = one2one();
        assert_eq!(out.try_write(1).expect("open"), Some(1), "nobody reads");
        assert_eq!(
            out.write_timeout(1, Duration::from_millis(5)).expect("open"),
            Some(1)
        );
        assert_eq!(into.try_read().expect("open"), None);
        assert_eq!(into.read_timeout(Duration::from_millis(5)).expect("open"), None);
        parallel(|network| {
            network.spawn("writer", move || {
                for number in 0..1000 {
                    out.write(number)?;
                }
                Ok(())
            });
            for number in 0..1000 {
                assert_eq!(into.read().expect("not yet"), number);
            }
            assert!(!into.read().unwrap_err().is_poison(), "the writer has retired");
        });
    });
}

#[test]
fn a_buffer_keeps_what_the_retired_have_written() {
    let (mut out, mut into) = one2one_buffered(3);
    for number in 0..3 {
        out.write(number).expect("room");
    }
    assert_eq!(out.try_write(3).expect("open"), Some(3));
    drop(out);
    assert_eq!(
        (0..3)
            .map(|_| into.read().expect("it is there"))
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(!into.read().unwrap_err().is_poison());
    let (mut out, into) = one2one_buffered(3);
    out.write(1).expect("room");
    drop(into);
    let error = out.write(2).unwrap_err();
    assert_eq!((error.stop.is_poison(), error.into_inner()), (false, 2));
}

/// What was written and what was read, by threads, until everybody has heard of the end.
fn storm<W: Clone + Send, R: Clone + Send>(
    writer: W,
    reader: R,
    write: impl Fn(&mut W, u32) -> bool + Sync,
    read: impl Fn(&mut R) -> Option<u32> + Sync,
    stop: impl FnOnce(W, R),
    enough: usize,
) -> (Vec<u32>, Vec<u32>) {
    let (written, got) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    par_sync::scope(|scope| {
        for number in 0..3u32 {
            let (mut writer, written, write) = (writer.clone(), &written, &write);
            scope.spawn(move || {
                for item in 0.. {
                    if !write(&mut writer, item * 4 + number) {
                        return;
                    }
                    written.lock().push(item * 4 + number);
                }
            });
            let (mut reader, got, read) = (reader.clone(), &got, &read);
            scope.spawn(move || {
                while let Some(item) = read(&mut reader) {
                    got.lock().push(item);
                }
            });
        }
        while got.lock().len() < enough {
            std::thread::yield_now();
        }
        stop(writer, reader);
    });
    let (mut written, mut got) = (written.into_inner(), got.into_inner());
    written.sort_unstable();
    got.sort_unstable();
    (written, got)
}

type Ends = (Writer<u32, Any>, Reader<u32, Any>);

#[test]
fn nothing_is_lost_or_doubled_when_a_channel_is_poisoned() {
    for room in [0, 1, 7] {
        let (written, got) = in_time("a storm", move || {
            let (writer, reader): Ends = any2any_buffered(room);
            storm(
                writer,
                reader,
                |out, item| out.write(item).is_ok(),
                |into| into.read().ok(),
                |writer, _reader| writer.poison(),
                3_000,
            )
        });
        let mut lost = written.clone();
        lost.retain(|item| got.binary_search(item).is_err());
        // Poison may find what lies in the buffer, and nothing else.
        assert!(lost.len() <= room, "{} lost, room {room}", lost.len());
        assert!(got.windows(2).all(|pair| pair[0] != pair[1]), "doubled");
        assert!(
            got.iter().all(|item| written.binary_search(item).is_ok()),
            "nobody wrote that"
        );
    }
}

#[test]
fn nothing_is_lost_when_writers_retire() {
    for room in [0, 5] {
        in_time("retirement", move || {
            let (writer, reader): Ends = any2any_buffered(room);
            let got = Mutex::new(Vec::new());
            parallel(|network| {
                for number in 0..4u32 {
                    let mut out = writer.clone();
                    network.spawn("writer", move || {
                        for item in 0..500 {
                            out.write(item * 4 + number)?;
                        }
                        Ok(())
                    });
                    let (mut into, got) = (reader.clone(), &got);
                    network.spawn("reader", move || -> Result<(), Stop> {
                        loop {
                            let item = into.read()?;
                            got.lock().push(item);
                        }
                    });
                }
                drop((writer, reader));
            });
            let mut got = got.into_inner();
            got.sort_unstable();
            assert!(got.into_iter().eq(0..2_000));
        });
    }
}

/// Alternations on both sides of the same two channels: each value is read once, and nobody waits for ever.
#[test]
fn alternations_meet_alternations() {
    in_time("alternations", || {
        const ITEMS: u32 = 4_000;
        let (left, from_left): Ends = any2any();
        let (right, from_right): Ends = any2any();
        let got = Mutex::new(Vec::new());
        parallel(|network| {
            for number in 0..2u32 {
                let (mut left, mut right) = (left.clone(), right.clone());
                network.spawn("writer", move || {
                    for item in 0..ITEMS {
                        let value = item * 2 + number;
                        Alternation::new()
                            .write(&mut left, value, |written| written)
                            .write(&mut right, value, |written| written)
                            .wait()?;
                    }
                    Ok(())
                });
                let (mut from_left, mut from_right, got) = (from_left.clone(), from_right.clone(), &got);
                network.spawn("reader", move || -> Result<(), Stop> {
                    loop {
                        let value = Alternation::new()
                            .read(&mut from_left, |read| read)
                            .read(&mut from_right, |read| read)
                            .wait()?;
                        got.lock().push(value);
                    }
                });
            }
            drop((left, right, from_left, from_right));
        });
        let mut got = got.into_inner();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..2 * ITEMS));
    });
}

#[test]
fn poison_reaches_who_waits_in_an_alternation() {
    in_time("poison", || {
        let (left, mut from_left) = one2one::<u32>();
        let (_right, mut from_right) = one2one::<u32>();
        parallel(|network| {
            let chooser = network.spawn("chooser", move || {
                Alternation::new()
                    .read(&mut from_left, |read| read.map(|_| ()))
                    .read(&mut from_right, |read| read.map(|_| ()))
                    .wait()
            });
            left.poison();
            assert!(chooser.join().expect("no panic").unwrap_err().is_poison());
        });
    });
}

#[test]
fn a_fair_alternation_serves_all_and_a_prioritised_one_the_first() {
    let (mut one, mut from_one) = one2one_buffered(400);
    let (mut two, mut from_two) = one2one_buffered(400);
    for _ in 0..400 {
        one.write(1).expect("room");
        two.write(2).expect("room");
    }
    let mut ones = 0;
    for _ in 0..200 {
        let got = Alternation::new()
            .read(&mut from_one, |read| read.expect("there"))
            .read(&mut from_two, |read| read.expect("there"));
        ones += usize::from(got.wait() == 1);
    }
    assert_eq!(ones, 100, "in turns");
    for _ in 0..50 {
        let got = Alternation::new()
            .prioritised()
            .read(&mut from_two, |read| read.expect("there"))
            .read(&mut from_one, |read| read.expect("there"));
        assert_eq!(got.wait(), 2);
    }
}

#[test]
fn times_and_skips_are_guards() {
    in_time("guards", || {
        let (mut out, mut into) = one2one::<u32>();
        let late = Alternation::new()
            .read(&mut into, |_| "read")
            .write(&mut out, 1, |_| "written")
            .after(Duration::from_millis(5), || "late")
            .after(Duration::MAX, || "never");
        assert_eq!(late.wait(), "late", "one process is not two");
        let skipped = Alternation::new().skip(|| "skipped").read(&mut into, |_| "read");
        assert_eq!(skipped.wait(), "skipped");
        let (mut out, mut into) = one2one_buffered(1);
        out.write(1).expect("room");
        let read = Alternation::new()
            .skip(|| 0)
            .read(&mut into, |read| read.expect("there"));
        assert_eq!(read.wait(), 1, "a skip comes last");
    });
}

/// A pipeline, a tree and a ring: a poison anywhere ends them all.
#[test]
fn networks_end_by_poison() {
    in_time("a pipeline", || {
        let (mut first, mut last) = one2one::<u64>();
        parallel(|network| {
            for _ in 0..20 {
                let (mut out, next) = one2one();
                let mut into = std::mem::replace(&mut last, next);
                network.spawn("stage", move || -> Result<(), Stop> {
                    loop {
                        out.write(into.read()? + 1)?;
                    }
                });
            }
            for number in 0..100 {
                first.write(number).expect("open");
                assert_eq!(last.read().expect("open"), number + 20);
            }
            last.poison();
            // It travels against the stream.
            while first.write(0).is_ok() {}
        });
    });
    in_time("a ring", || {
        let (start, mut into) = one2one::<u64>();
        let mut start = Some(start);
        let turns = Arc::new(AtomicUsize::new(0));
        parallel(|network| {
            for number in 0..8 {
                let (out, next) = one2one();
                let mut out = if number == 7 {
                    start.take().expect("once")
                } else {
                    out
                };
                let (mut into, turns) = (std::mem::replace(&mut into, next), Arc::clone(&turns));
                network.spawn("node", move || -> Result<(), Stop> {
                    if number == 0 {
                        out.write(0)?;
                    }
                    loop {
                        let token = into.read()?;
                        turns.fetch_add(1, Ordering::Relaxed);
                        if token == 500 {
                            into.poison();
                            out.poison();
                            return Ok(());
                        }
                        out.write(token + 1)?;
                    }
                });
            }
        });
        assert_eq!(turns.load(Ordering::Relaxed), 501);
    });
}

/// Who deals with the word of the end goes on, and retires in the end.
#[test]
fn a_word_that_is_dropped_is_no_poison() {
    let (bad, mut into) = one2one::<u32>();
    let (mut out, mut good) = one2one_buffered::<u32>(1);
    bad.poison();
    let process = move || {
        drop(into.read().unwrap_err());
        out.write(1).expect("open");
        Ok(())
    };
    parallel(|network| drop(network.spawn("forgives", process)));
    assert_eq!(good.read().expect("there"), 1);
    assert!(!good.read().unwrap_err().is_poison());
}

#[test]
fn a_panic_poisons_and_is_carried() {
    let (out, mut into) = one2one::<u32>();
    parallel(|network| {
        let broken = network.spawn("broken", move || -> Result<(), Stop> {
            let _out = out;
            panic!("in a process")
        });
        assert!(into.read().unwrap_err().is_poison());
        assert!(broken.join().unwrap_err().to_string().contains("in a process"));
    });
    let (out, mut into) = one2one::<u32>();
    let mut lights = Lights::new();
    lights.spawn("broken", async move {
        let _out = out;
        panic!("in a light task")
    });
    let told = Rc::new(RefCell::new(None));
    let tell = Rc::clone(&told);
    lights.spawn("other", async move {
        *tell.borrow_mut() = into.read_async().await.err().map(|stop| stop.is_poison());
        Ok(())
    });
    let error = lights.run().unwrap_err();
    assert!(
        error.to_string().contains("process broken ended badly"),
        "{error}"
    );
    assert_eq!(*told.borrow(), Some(true));
}

#[test]
fn a_hundred_thousand_light_tasks() {
    in_time("a chain", || {
        const TASKS: u32 = 100_000;
        let mut lights = Lights::new();
        let (mut first, mut into) = one2one::<u32>();
        for _ in 0..TASKS {
            let (mut out, next) = one2one();
            let mut from = std::mem::replace(&mut into, next);
            lights.spawn("link", async move {
                let number = from.read_async().await?;
                out.write_async(number + 1).await?;
                Ok(())
            });
        }
        let end = Rc::new(RefCell::new(0));
        let told = Rc::clone(&end);
        lights.spawn("first", async move { Ok(first.write_async(0).await?) });
        lights.spawn("last", async move {
            *told.borrow_mut() = into.read_async().await?;
            Ok(())
        });
        lights.run().expect("no panic");
        assert_eq!(*end.borrow(), TASKS);
    });
}

/// Light tasks and threads at the same channels, with alternations and times.
#[test]
fn light_tasks_and_threads_meet() {
    in_time("both kinds", || {
        let (out, from): Ends = any2any();
        let (back, mut answers): Ends = any2any();
        let threads = Thread::new(move || {
            let mut out = out;
            let mut sum = 0;
            for number in 0..2_000 {
                out.write(number).expect("open");
                sum += answers.read().expect("open");
            }
            sum
        });
        let threads = threads.start().expect("a thread");
        let mut lights = Lights::new();
        for _ in 0..3 {
            let (mut from, mut back) = (from.clone(), back.clone());
            lights.spawn("doubles", async move {
                loop {
                    let number = Alternation::new()
                        .read(&mut from, |read| read)
                        .after(Duration::from_secs(60), || Ok(0))
                        .wait_async()
                        .await?;
                    back.write_async(number * 2).await?;
                }
            });
        }
        drop((from, back));
        lights.run().expect("no panic");
        assert_eq!(threads.join().expect("no panic"), 1_999 * 2_000);
    });
}

#[test]
fn a_light_task_sees_the_end_of_a_time() {
    let (_out, mut into) = one2one::<u32>();
    let mut lights = Lights::new();
    let start = Instant::now();
    lights.spawn("late", async move {
        let got = Alternation::new()
            .read(&mut into, |_| false)
            .after(Duration::from_millis(20), || true)
            .wait_async()
            .await;
        assert!(got);
        Ok(())
    });
    lights.run().expect("no panic");
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_future_that_is_dropped_reads_nothing_and_loses_nothing() {
    let (mut out, mut into) = one2one::<u32>();
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    for number in 0..10 {
        let mut reading = Box::pin(into.read_async());
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        // It is given the value, and goes without having taken it.
        assert_eq!(out.try_write(number).expect("open"), None);
        drop(reading);
        assert_eq!(
            into.try_read().expect("open"),
            Some(number),
            "it goes to the next"
        );
    }
    {
        let mut writing = Box::pin(out.write_async(5));
        assert!(writing.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(into.try_read().expect("open"), None, "nobody writes any more");
}

#[test]
fn barriers_lose_and_win_places() {
    in_time("a barrier", || {
        let barrier = CspBarrier::new();
        let rounds = AtomicUsize::new(0);
        parallel(|network| {
            for leaves_after in [10, 20, 30] {
                let (mut place, rounds) = (barrier.clone(), &rounds);
                network.spawn("party", move || {
                    for _ in 0..leaves_after {
                        place.sync();
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                });
            }
            drop(barrier);
        });
        assert_eq!(rounds.load(Ordering::Relaxed), 60);
        let mut lights = Lights::new();
        let barrier = CspBarrier::new();
        for _ in 0..5 {
            let mut place = barrier.clone();
            lights.spawn("party", async move {
                for _ in 0..100 {
                    place.sync_async().await;
                }
                Ok(())
            });
        }
        drop(barrier);
        lights.run().expect("no panic");
    });
}

#[test]
fn a_trace_tells_what_happened_in_order() {
    use csp::trace::{What, start, stop, write_chrome};
    start();
    let (mut out, mut into) = one2one();
    let channel = out.channel();
    parallel(|network| {
        network.spawn("traced writer", move || {
            out.write(1)?;
            out.poison();
            Ok(())
        });
        network.spawn("traced reader", move || -> Result<(), Stop> {
            loop {
                into.read()?;
            }
        });
    });
    let events = stop();
    let of = |name: &str| -> Vec<What> {
        let own = events
            .iter()
            .filter(|event| event.process == name && event.channel.is_none_or(|own| own == channel));
        own.map(|event| event.what)
            .filter(|what| !matches!(what, What::BlockOnRead | What::BlockOnWrite))
            .collect()
    };
    assert_eq!(
        of("traced writer"),
        [What::Start, What::DoneWrite, What::Poison, What::Quit]
    );
    assert_eq!(of("traced reader"), [What::Start, What::DoneRead, What::Quit]);
    let mut chrome = Vec::new();
    // Other tests run meanwhile.
    let own: Vec<_> = events
        .iter()
        .filter(|event| event.process.starts_with("traced"))
        .cloned()
        .collect();
    write_chrome(&own, &mut chrome).expect("memory");
    let spans: Vec<serde_json::Value> = serde_json::from_slice(&chrome).expect("JSON");
    let count = |phase: &str| spans.iter().filter(|span| span["ph"] == phase).count();
    assert!(count("B") >= 2);
    assert_eq!(count("B"), count("E"), "a span for each wait and each process");
}

/// The only end of its side goes to one process.
#[test]
fn ends_tell_their_channel() {
    let (out, into): (Writer<u8, One>, Reader<u8, One>) = one2one();
    assert_eq!(out.channel(), into.channel());
    let text = WriteError {
        stop: {
            drop(out);
            let mut into = into;
            into.read().unwrap_err()
        },
        value: 1,
    };
    assert_eq!(text.to_string(), "the other side of the channel has retired");
}
