//! Channels and alternations under every interleaving that loom tries, with three preemptions at most.

use super::{Alternation, Reader, Stop, Writer, one2one, one2one_buffered};
use loom::thread;
use std::time::Duration;

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

#[test]
fn who_writes_and_who_reads_meet() {
    for room in [0, 1] {
        model(move || {
            let (mut out, mut into): (Writer<u32>, Reader<u32>) = one2one_buffered(room);
            let writer = thread::spawn(move || out.write(1).is_ok() && out.write(2).is_ok());
            assert_eq!((into.read().ok(), into.read().ok()), (Some(1), Some(2)));
            assert!(writer.join().expect("no panic"));
            assert!(!into.read().expect_err("it has retired").is_poison());
        });
    }
}

/// Each wants to write to the other or to read from it: exactly one of both happens.
#[test]
fn alternations_that_meet_agree() {
    model(|| {
        let (mut there, mut from_there) = one2one();
        let (mut back, mut from_back) = one2one();
        let other = thread::spawn(move || {
            Alternation::new()
                .prioritised()
                .read(&mut from_there, |read: Result<u32, Stop>| read.ok())
                .write(&mut back, 2u32, |written| written.err().map(|_| 0))
                .wait()
        });
        let here = Alternation::new()
            .prioritised()
            .write(&mut there, 1, |written| written.err().map(|_| 0))
            .read(&mut from_back, |read| read.ok())
            .wait();
        let there = other.join().expect("no panic");
        assert!(
            matches!((here, there), (None, Some(1)) | (Some(2), None)),
            "{here:?} {there:?}"
        );
    });
}

#[test]
fn a_poison_reaches_who_waits_and_who_comes() {
    model(|| {
        let (out, mut into): (Writer<u32>, Reader<u32>) = one2one();
        let reader = thread::spawn(move || into.read().expect_err("nobody writes").is_poison());
        out.poison();
        assert!(reader.join().expect("no panic"));
    });
}

/// A choice between what lies in a buffer and a writer that comes: what is not taken stays.
#[test]
fn a_choice_takes_one_and_leaves_the_other() {
    model(|| {
        let (mut left, mut from_left) = one2one_buffered::<u32>(1);
        let (mut right, mut from_right) = one2one::<u32>();
        left.write(1).expect("room");
        let writer = thread::spawn(move || right.write(2).is_ok());
        let got = Alternation::new()
            .prioritised()
            .read(&mut from_right, |read| read.ok())
            .read(&mut from_left, |read| read.ok())
            .wait();
        drop(from_right);
        let left = from_left.try_read().expect("not poisoned");
        let written = writer.join().expect("no panic");
        assert!(
            matches!(
                (got, left, written),
                (Some(1), None, false) | (Some(2), Some(1), true)
            ),
            "{got:?} {left:?} {written}"
        );
    });
}

/// A value whose reader gives up at the same moment is read, or comes back.
#[test]
fn what_is_not_read_in_time_comes_back() {
    model(|| {
        let (mut out, mut into): (Writer<u32>, Reader<u32>) = one2one();
        let writer = thread::spawn(move || out.write_timeout(7, Duration::ZERO));
        let read = into.read_timeout(Duration::ZERO);
        let written = writer.join().expect("no panic");
        match (read, written) {
            (Ok(Some(7)), Ok(None)) | (Ok(None), Ok(Some(7))) => {}
            // Each gave up, and its end with that.
            (Err(stop), Ok(Some(7))) => assert!(!stop.is_poison()),
            other => panic!("{other:?}"),
        }
    });
}
