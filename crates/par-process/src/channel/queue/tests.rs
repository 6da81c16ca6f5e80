//! Queues: order, bounds, deadlines, and processes that die or stop at each point of a put, a get and a finish.

use super::region::Region;
use super::*;
use crate::Process;
use crate::failpoint::{How, arm};
use proptest::prelude::*;
use std::collections::VecDeque;

const PATIENCE: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_millis(50);

/// What a victim does: the queue, the point at which something happens to it, how often it passes before, and what happens.
type Order = (JoinableQueue<(u32, u32)>, String, u32, How);

fn puts((queue, point, passes, how): Order) {
    arm(&point, passes, how);
    for number in 0..20 {
        queue.put((1, number)).expect("open");
    }
}

fn gets((queue, point, passes, how): Order) {
    arm(&point, passes, how);
    for _ in 0..20 {
        queue.get().expect("open");
        queue.task_done().expect("one a get");
    }
}

fn start(order: Order, run: fn(Order)) -> Process {
    // Should a test fail, nobody waits for a process that is stopped.
    Process::of_fn(order, run).daemon(true).start().expect("starts")
}

fn killed(child: &Process) {
    assert_eq!(child.join_timeout(PATIENCE).expect("waits"), Some(-9));
}

fn drain(queue: &Queue<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut items = Vec::new();
    while let Ok(item) = queue.try_get() {
        items.push(item);
    }
    items
}

#[test]
fn a_death_in_a_put_leaves_the_item_whole_or_not_at_all() {
    for (point, there) in [
        ("queue.put.locked", 5),
        ("queue.put.written", 5),
        ("queue.put.woken", 5),
        ("queue.put.counted", 6),
    ] {
        let queue = JoinableQueue::new(100).expect("memory");
        queue.put((0, 0)).expect("open");
        let victim = start((queue.clone(), point.to_owned(), 5, How::Kill), puts);
        killed(&victim);
        // Nobody is blocked, before the dead one's items and after.
        queue.put_timeout((0, 1), PATIENCE).expect("open");
        let mut expected = vec![(0, 0)];
        expected.extend((0..there).map(|number| (1, number)));
        expected.push((0, 1));
        assert_eq!(queue.len(), expected.len(), "{point}");
        assert_eq!(queue.unfinished(), expected.len(), "{point}");
        assert_eq!(drain(&queue), expected, "{point}");
    }
}

#[test]
fn a_death_in_a_get_takes_its_own_item_along_or_leaves_it() {
    for (point, next) in [
        ("queue.get.locked", 5),
        ("queue.get.read", 5),
        ("queue.get.woken", 5),
        ("queue.get.counted", 6),
    ] {
        let queue = JoinableQueue::new(100).expect("memory");
        for number in 0..10 {
            queue.put((0, number)).expect("open");
        }
        let victim = start((queue.clone(), point.to_owned(), 5, How::Kill), gets);
        killed(&victim);
        let expected: Vec<_> = (next..10).map(|number| (0, number)).collect();
        assert_eq!(queue.len(), expected.len(), "{point}");
        assert_eq!(drain(&queue), expected, "{point}");
        assert_eq!(queue.unfinished(), 5, "{point}");
        queue.put_timeout((0, 10), PATIENCE).expect("open");
        assert_eq!(queue.get_timeout(PATIENCE).expect("an item"), (0, 10));
    }
}

#[test]
fn a_death_in_a_finish_lets_others_finish_and_wait() {
    for (point, left) in [
        ("queue.done.locked", 5),
        ("queue.done.woken", 5),
        ("queue.done.counted", 4),
    ] {
        let queue = JoinableQueue::new(100).expect("memory");
        for number in 0..10 {
            queue.put((0, number)).expect("open");
        }
        let victim = start((queue.clone(), point.to_owned(), 5, How::Kill), gets);
        killed(&victim);
        assert_eq!(queue.unfinished(), left, "{point}");
        assert!(!queue.join_timeout(BRIEF).expect("waits"));
        let waits = queue.clone();
        let waiter = std::thread::spawn(move || waits.join_timeout(PATIENCE).expect("waits"));
        for _ in 0..left {
            queue.task_done().expect("unfinished");
        }
        assert!(waiter.join().expect("no panic"), "{point}");
        let error = queue.task_done().expect_err("all are done").to_string();
        assert_eq!(error, "task_done was called more often than items were put");
    }
}

/// Somebody sleeps on an empty queue; a putter dies at each point, the last before and after its item counts.
#[test]
fn a_sleeper_wakes_for_what_a_dead_putter_put() {
    for (point, there) in [
        ("queue.put.written", false),
        ("queue.put.woken", false),
        ("queue.put.counted", true),
    ] {
        let queue = JoinableQueue::new(100).expect("memory");
        let gets = queue.clone();
        let sleeper = std::thread::spawn(move || gets.get_timeout(PATIENCE).expect("an item"));
        until_marked(&queue.ring.region.header().put);
        let victim = start((queue.clone(), point.to_owned(), 0, How::Kill), puts);
        killed(&victim);
        if !there {
            queue.put((0, 7)).expect("open");
        }
        let expected = if there { (1, 0) } else { (0, 7) };
        assert_eq!(sleeper.join().expect("no panic"), expected, "{point}");
    }
}

#[test]
fn a_sleeper_wakes_for_the_room_that_a_dead_getter_made() {
    for (point, room) in [
        ("queue.get.read", false),
        ("queue.get.woken", false),
        ("queue.get.counted", true),
    ] {
        let queue = JoinableQueue::new(1).expect("memory");
        queue.put((0, 0)).expect("open");
        let puts = queue.clone();
        let sleeper = std::thread::spawn(move || puts.put_timeout((0, 1), PATIENCE).expect("room"));
        until_marked(&queue.ring.region.header().get);
        let victim = start((queue.clone(), point.to_owned(), 0, How::Kill), gets);
        killed(&victim);
        if !room {
            assert_eq!(queue.get_timeout(PATIENCE).expect("an item"), (0, 0));
        }
        sleeper.join().expect("no panic");
        assert_eq!(drain(&queue), [(0, 1)], "{point}");
    }
}

/// Of two that sleep, the one that is woken first may die: the other must be awake as well.
#[test]
fn a_death_between_waking_and_getting_leaves_no_sleeper_behind() {
    for point in ["queue.get.asleep", "queue.get.awake"] {
        let queue = JoinableQueue::new(100).expect("memory");
        let victim = start((queue.clone(), point.to_owned(), 0, How::Kill), gets);
        until_marked(&queue.ring.region.header().put);
        if point == "queue.get.asleep" {
            killed(&victim);
        }
        let gets = queue.clone();
        let sleeper = std::thread::spawn(move || gets.get_timeout(PATIENCE).expect("an item"));
        until_marked(&queue.ring.region.header().put);
        queue.put((0, 0)).expect("open");
        assert_eq!(sleeper.join().expect("no panic"), (0, 0), "{point}");
        killed(&victim);
    }
}

#[test]
fn deadlines_hold_while_a_process_is_stopped_within() {
    for (point, run) in [("queue.put.written", puts as fn(Order)), ("queue.get.read", gets)] {
        let queue = JoinableQueue::new(100).expect("memory");
        queue.put((0, 0)).expect("open");
        let victim = start((queue.clone(), point.to_owned(), 0, How::Stop), run);
        until_stopped(victim.pid());
        let started = Instant::now();
        // The side on which it stopped is taken, the other is free.
        if point.contains("put") {
            let late = queue.put_timeout((0, 1), BRIEF);
            assert!(matches!(late, Err(PutError::Full((0, 1)))), "{late:?}");
            assert_eq!(queue.get_timeout(BRIEF).expect("an item"), (0, 0));
        } else {
            let late = queue.get_timeout(BRIEF);
            assert!(matches!(late, Err(GetError::Empty)), "{late:?}");
            queue.put_timeout((0, 1), BRIEF).expect("room");
        }
        assert!(started.elapsed() < PATIENCE);
        victim.kill().expect("signals");
        killed(&victim);
        queue.put_timeout((0, 2), PATIENCE).expect("room");
        assert_eq!(drain(&queue).last(), Some(&(0, 2)));
    }
}

#[test]
fn a_closer_that_dies_has_closed_or_not() {
    let queue = JoinableQueue::<(u32, u32)>::new(1).expect("memory");
    let victim = Process::of_fn(queue.clone(), |queue: JoinableQueue<(u32, u32)>| {
        arm("queue.close.woken", 0, How::Kill);
        queue.close();
    });
    killed(&victim.start().expect("starts"));
    assert!(!queue.is_closed());
    queue.put_timeout((0, 0), PATIENCE).expect("open");
    queue.close();
}

#[test]
fn closing_wakes_who_waits() {
    let queue = Queue::<u8>::new(1).expect("memory");
    let gets = queue.clone();
    let getter = std::thread::spawn(move || gets.get());
    until_marked(&queue.ring.region.header().put);
    queue.close();
    assert!(matches!(getter.join().expect("no panic"), Err(GetError::Closed)));
    assert!(matches!(queue.put(1), Err(PutError::Closed(1))));
    let full = Queue::new(1).expect("memory");
    full.put(1u8).expect("open");
    let puts = full.clone();
    let putter = std::thread::spawn(move || puts.put(2));
    until_marked(&full.ring.region.header().get);
    full.close();
    assert!(matches!(
        putter.join().expect("no panic"),
        Err(PutError::Closed(2))
    ));
    assert_eq!(full.get().expect("what is left"), 1);
    assert!(matches!(full.try_get(), Err(GetError::Closed)));
    assert!(matches!(full.get_timeout(BRIEF), Err(GetError::Closed)));
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn until_marked(side: &region::Side) {
    until("somebody sleeps", || {
        side.sleepers.load(std::sync::atomic::Ordering::Relaxed) & 1 != 0
    });
}

fn until_stopped(pid: u32) {
    until("it is stopped", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().unwrap_or_default().starts_with(" T"))
    });
}

#[test]
fn bad_sizes_and_items_are_named() {
    let text = Queue::<u8>::new(0).expect_err("no room").to_string();
    assert_eq!(text, "capacity of a queue: 0, expected 1 to 1099511627776");
    let text = Queue::<u8>::with_bytes(1, usize::MAX)
        .expect_err("too much")
        .to_string();
    assert!(text.starts_with("bytes of a queue: "), "{text}");
    let queue = Queue::with_bytes(10, 100).expect("memory");
    let error = queue.put(vec![0u8; 100]).expect_err("too long");
    assert!(
        error
            .to_string()
            .contains("101 bytes is claimed, 100 are allowed"),
        "{error}"
    );
    assert_eq!(error.into_inner().len(), 100);
    let file = crate::Descriptor::from(std::fs::File::open("/dev/null").expect("a file"));
    let files = Queue::new(1).expect("memory");
    let error = files.put(file).expect_err("a file").to_string();
    assert!(
        error.contains("a Descriptor is an open file of this process"),
        "{error}"
    );
    let error = wire::to_bytes(&files).expect_err("a queue").to_string();
    assert!(
        error.contains("a Queue is an open file of this process"),
        "{error}"
    );
}

#[test]
fn other_files_are_no_queues() {
    let open = |file: std::fs::File| {
        Region::open(file.into())
            .map(|_| ())
            .expect_err("no queue")
            .to_string()
    };
    let file = tempfile::tempfile().expect("a file");
    file.set_len(1 << 20).expect("long enough");
    assert_eq!(open(file), "the file is not the memory of a queue");
    let queue = Region::create(3, 50).expect("memory");
    queue
        .header()
        .put
        .count
        .store(9, std::sync::atomic::Ordering::Relaxed);
    let again = Region::open(queue.as_fd().try_clone_to_owned().expect("files")).expect("a queue");
    assert_eq!((again.capacity(), again.bytes()), (3, 50));
    // A header that claims more than there is.
    let sealed = |words: [u64; 3]| {
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::ALLOW_SEALING).expect("memory");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        rustix::io::write(&file, &bytes).expect("written");
        rustix::fs::ftruncate(&file, 1 << 16).expect("long enough");
        rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SHRINK).expect("sealed");
        open(file.into())
    };
    for words in [
        [0x7061_725f_7175_6531, 1 << 60, 1],
        [0x7061_725f_7175_6531, 1, u64::MAX],
        [0x7061_725f_7175_6531, 0, 0],
        [7, 7, 7],
    ] {
        assert_eq!(sealed(words), "the file is not the memory of a queue");
    }
}

#[test]
fn a_spoilt_memory_is_an_error_and_no_crash() {
    let queue = Queue::<Vec<u8>>::with_bytes(4, 100).expect("memory");
    queue.put(vec![1; 10]).expect("open");
    let entry = queue.ring.region.entry(0);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    entry.length.store(u64::MAX, relaxed);
    assert!(matches!(queue.try_put(vec![1; 50]), Err(PutError::Full(_))));
    assert!(matches!(queue.try_get(), Err(GetError::Io(_))));
    queue.ring.region.header().put.count.store(3, relaxed);
    queue.ring.region.header().get.count.store(u64::MAX, relaxed);
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert_eq!(queue.len(), 0);
}

/// Whose item it is, which one, and bytes that tell both.
type Item = (u32, u32, Vec<u8>);

#[test]
fn many_putters_and_getters_see_every_item_once() {
    let queue = Queue::with_bytes(7, 2_000).expect("memory");
    let sums = Queue::new(10).expect("memory");
    let puts = |(queue, who): (Queue<Item>, u32)| {
        for number in 0..2_000 {
            queue
                .put((who, number, vec![who as u8; number as usize % 300]))
                .expect("open");
        }
    };
    let gets = |(queue, seen): (Queue<Item>, Queue<Vec<(u32, u32)>>)| {
        let mut mine = Vec::new();
        while let Ok((who, number, bytes)) = queue.get() {
            assert!(bytes.len() == number as usize % 300 && bytes.iter().all(|byte| *byte == who as u8));
            mine.push((who, number));
        }
        seen.put(mine).expect("open");
    };
    let putters: Vec<_> = (0..3)
        .map(|who| {
            Process::of_fn((queue.clone(), who), puts)
                .start()
                .expect("starts")
        })
        .collect();
    let getters: Vec<_> = (0..3)
        .map(|_| {
            Process::of_fn((queue.clone(), sums.clone()), gets)
                .start()
                .expect("starts")
        })
        .collect();
    for putter in putters {
        assert_eq!(putter.join().expect("ends"), 0);
    }
    queue.close();
    let mut all = Vec::new();
    for _ in &getters {
        let seen = sums.get_timeout(PATIENCE).expect("a list");
        for who in 0..3 {
            // In the order of its putter.
            assert!(seen.iter().filter(|item| item.0 == who).is_sorted());
        }
        all.extend(seen);
    }
    all.sort_unstable();
    let expected: Vec<_> = (0..3)
        .flat_map(|who| (0..2_000).map(move |number| (who, number)))
        .collect();
    assert!(all == expected, "{} items", all.len());
    for getter in getters {
        assert_eq!(getter.join().expect("ends"), 0);
    }
}

proptest! {
    /// Any sequence of puts and gets is that of a bounded list, for capacities and lengths around the ends of the memory.
    #[test]
    fn it_is_a_bounded_list(
        capacity in 1usize..6,
        bytes in 20usize..80,
        steps in proptest::collection::vec(proptest::option::of(0usize..40), 0..200),
    ) {
        let queue = Queue::<Vec<u8>>::with_bytes(capacity, bytes).expect("memory");
        let mut model = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Some(length) => {
                    let item = vec![number as u8; length];
                    match queue.try_put(item.clone()) {
                        Ok(()) => model.push_back(item),
                        Err(PutError::Full(back)) => {
                            prop_assert_eq!(&back, &item);
                            // Whatever fits into an empty queue is put into one.
                            prop_assert!(!model.is_empty());
                        }
                        Err(PutError::Encode(..)) => prop_assert!(length + 1 > bytes),
                        Err(other) => prop_assert!(false, "{:?}", other),
                    }
                }
                None => match queue.try_get() {
                    Ok(item) => prop_assert_eq!(Some(item), model.pop_front()),
                    Err(error) => {
                        prop_assert!(matches!(error, GetError::Empty));
                        prop_assert!(model.is_empty());
                    }
                },
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert!(model.len() <= capacity);
            prop_assert_eq!(queue.is_full(), model.len() == capacity);
        }
    }
}
