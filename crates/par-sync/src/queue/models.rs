//! The queue under every interleaving that loom tries.

use super::*;
use loom::sync::Arc;
use loom::thread;

/// Three threads with two locks each have more interleavings than can be tried: all with as many preemptions.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

#[test]
fn what_is_put_is_got_once() {
    model(|| {
        let queue = Arc::new(Queue::new(1));
        let putter = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.put(1).expect("not shut down");
                queue.put(2).expect("not shut down");
            })
        };
        assert_eq!((queue.get(), queue.get()), (Ok(1), Ok(2)));
        putter.join().expect("there was room");
        assert_eq!(queue.try_get(), Err(GetError::Empty));
    });
}

#[test]
fn two_getters_share_two_items() {
    model(|| {
        let queue = Arc::new(Queue::new(0));
        let getters: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.get().expect("one each"))
            })
            .collect();
        queue.put(1).expect("not shut down");
        queue.put(2).expect("not shut down");
        let got: i32 = getters
            .into_iter()
            .map(|getter| getter.join().expect("it got one"))
            .sum();
        assert_eq!(got, 3);
    });
}

#[test]
fn two_putters_share_the_room() {
    model(|| {
        let queue = Arc::new(Queue::new(1));
        let putters: Vec<_> = (1..=2)
            .map(|item| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.put(item).expect("not shut down"))
            })
            .collect();
        assert_eq!(queue.get().expect("one") + queue.get().expect("the other"), 3);
        putters
            .into_iter()
            .for_each(|putter| putter.join().expect("there was room"));
        assert_eq!((queue.len(), queue.unfinished()), (0, 2));
    });
}

#[test]
fn all_hear_of_a_shutdown_and_nothing_is_lost() {
    model(|| {
        let queue = Arc::new(Queue::new(1));
        let putter = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || usize::from(queue.put(1).is_ok()) + usize::from(queue.put(2).is_ok()))
        };
        let shutter = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.shutdown())
        };
        let got = queue.iter().count();
        shutter.join().expect("it never waits");
        assert_eq!(got, putter.join().expect("it heard of it"));
    });
}

#[test]
fn a_join_waits_for_the_last_word() {
    model(|| {
        let queue = Arc::new(Queue::new(0));
        queue.put(1).expect("not shut down");
        let worker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.get().expect("there is one");
                queue.task_done().expect("it was put");
            })
        };
        queue.join();
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
        worker.join().expect("no panic");
    });
}

/// Who gives up has no item, or the item, and nobody else has it or it is still there.
#[test]
fn what_comes_with_the_end_of_the_time_is_not_lost() {
    model(|| {
        let queue = Arc::new(Queue::new(1));
        let putter = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let second = || queue.put_until(2, Until::passed()).is_ok();
                usize::from(queue.put(1).is_ok()) + usize::from(second())
            })
        };
        let got = usize::from(queue.get_until(Until::passed()).is_ok());
        let put = putter.join().expect("no panic");
        assert_eq!(got + queue.len(), put);
    });
}
