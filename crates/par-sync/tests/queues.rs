//! Queues: against a model, in storms, and where things go wrong.

use par_sync::{
    Event, GetError, LifoQueue, Mutex, PriorityQueue, PutError, Queue, Select, TaskDoneError, csp,
};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn settle(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        thread::yield_now();
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Put(u8),
    Get,
    Done,
    Shutdown,
    ShutdownNow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4u8).prop_map(Step::Put),
        6 => Just(Step::Get),
        3 => Just(Step::Done),
        1 => Just(Step::Shutdown),
        1 => Just(Step::ShutdownNow),
    ];
    proptest::collection::vec(step, 0..60)
}

/// The rules of CPython's queue (3.13, for those of `shutdown`), on a list; `next` says which item leaves.
fn check<Q>(
    capacity: usize,
    steps: &[Step],
    queue: &Q,
    next: impl Fn(&[(u8, usize)]) -> usize,
) -> Result<(), TestCaseError>
where
    Q: Forms,
{
    let (mut items, mut unfinished, mut shut): (Vec<(u8, usize)>, usize, bool) = (Vec::new(), 0, false);
    let room = if capacity == 0 { usize::MAX } else { capacity };
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Put(value) => {
                let item = (value, number);
                let expected = if shut {
                    Err(PutError::ShutDown(item))
                } else if items.len() >= room {
                    Err(PutError::Full(item))
                } else {
                    items.push(item);
                    unfinished += 1;
                    Ok(())
                };
                prop_assert_eq!(queue.put(item), expected);
            }
            Step::Get => {
                let expected = if !items.is_empty() {
                    Ok(items.remove(next(&items)))
                } else if shut {
                    Err(GetError::ShutDown)
                } else {
                    Err(GetError::Empty)
                };
                prop_assert_eq!(queue.get(), expected);
            }
            Step::Done => {
                let expected = if unfinished == 0 {
                    Err(TaskDoneError)
                } else {
                    Ok(())
                };
                unfinished = unfinished.saturating_sub(1);
                prop_assert_eq!(queue.done(), expected);
            }
            Step::Shutdown => {
                shut = true;
                queue.shut();
            }
            Step::ShutdownNow => {
                shut = true;
                let left: Vec<_> =
                    std::iter::from_fn(|| (!items.is_empty()).then(|| items.remove(next(&items)))).collect();
                unfinished = unfinished.saturating_sub(left.len());
                prop_assert_eq!(queue.shut_now(), left);
            }
        }
        prop_assert_eq!(queue.seen(), (items.len(), items.len() >= room, unfinished, shut));
        prop_assert_eq!(queue.joined(), unfinished == 0);
    }
    Ok(())
}

/// Equal by their value alone, so that the order of equal ones shows.
#[derive(Debug, Clone, Copy)]
struct Ranked((u8, usize));

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.0.cmp(&other.0.0)
    }
}

/// What the model needs of each kind.
trait Forms {
    fn put(&self, item: (u8, usize)) -> Result<(), PutError<(u8, usize)>>;
    fn get(&self) -> Result<(u8, usize), GetError>;
    fn done(&self) -> Result<(), TaskDoneError>;
    fn shut(&self);
    fn shut_now(&self) -> Vec<(u8, usize)>;
    fn seen(&self) -> (usize, bool, usize, bool);
    fn joined(&self) -> bool;
}

macro_rules! forms {
    ($queue:ty, $into:expr, $from:expr) => {
        impl Forms for $queue {
            fn put(&self, item: (u8, usize)) -> Result<(), PutError<(u8, usize)>> {
                self.try_put($into(item)).map_err(|error| match error {
                    PutError::Full(item) => PutError::Full($from(item)),
                    PutError::ShutDown(item) => PutError::ShutDown($from(item)),
                    _ => unreachable!("there is no other"),
                })
            }
            fn get(&self) -> Result<(u8, usize), GetError> {
                self.try_get().map($from)
            }
            fn done(&self) -> Result<(), TaskDoneError> {
                self.task_done()
            }
            fn shut(&self) {
                self.shutdown();
            }
            fn shut_now(&self) -> Vec<(u8, usize)> {
                self.shutdown_now().into_iter().map($from).collect()
            }
            fn seen(&self) -> (usize, bool, usize, bool) {
                (
                    self.len(),
                    self.is_full(),
                    self.unfinished(),
                    self.is_shut_down(),
                )
            }
            fn joined(&self) -> bool {
                self.join_timeout(Duration::ZERO)
            }
        }
    };
}

forms!(Queue<(u8, usize)>, |item| item, |item| item);
forms!(LifoQueue<(u8, usize)>, |item| item, |item| item);
forms!(PriorityQueue<Ranked>, Ranked, |item: Ranked| item.0);

proptest! {
    #[test]
    fn queues_follow_the_model(capacity in 0..5usize, steps in steps()) {
        check(capacity, &steps, &Queue::new(capacity), |_| 0)?;
        check(capacity, &steps, &LifoQueue::new(capacity), |items| items.len() - 1)?;
        check(capacity, &steps, &PriorityQueue::new(capacity), |items| {
            (0..items.len()).min_by_key(|&at| items[at]).expect("not empty")
        })?;
    }
}

#[test]
fn deadlines_hold() {
    let queue = Queue::new(1);
    assert_eq!(queue.get_timeout(Duration::ZERO), Err(GetError::Empty));
    assert_eq!(queue.get_timeout(Duration::from_millis(5)), Err(GetError::Empty));
    queue.put_timeout(1, CENTURY).expect("room");
    assert_eq!(queue.put_timeout(2, Duration::ZERO), Err(PutError::Full(2)));
    let error = queue.put_timeout(2, Duration::from_millis(5)).unwrap_err();
    assert_eq!(
        (error.is_full(), error.to_string().as_str()),
        (true, "the queue is full")
    );
    assert_eq!(error.into_inner(), 2);
    assert!(!queue.join_timeout(Duration::from_millis(5)), "nobody is done");
    assert_eq!(queue.get_timeout(CENTURY), Ok(1));
    assert_eq!(
        (queue.capacity(), Queue::<u8>::new(0).capacity()),
        (Some(1), None)
    );
}

/// Every item is got once, in a storm of both sides that ends by a shutdown in its middle.
fn storm(capacity: usize, at_once: bool) {
    const THREADS: usize = 4;
    let queue = Queue::new(capacity);
    let got = Mutex::new(Vec::new());
    let put: usize = thread::scope(|scope| {
        let getters: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mine: Vec<(usize, usize)> = queue.iter().collect();
                    got.lock().extend(mine);
                })
            })
            .collect();
        let putters: Vec<_> = (0..THREADS)
            .map(|thread| {
                let queue = &queue;
                scope.spawn(move || {
                    let mut count = 0;
                    while queue.put((thread, count)).is_ok() {
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        settle("some are got", || queue.unfinished() > 20_000);
        if at_once {
            let left = queue.shutdown_now();
            got.lock().extend(left);
        } else {
            queue.shutdown();
        }
        let put = putters
            .into_iter()
            .map(|putter| putter.join().expect("no panic"))
            .sum();
        getters
            .into_iter()
            .for_each(|getter| getter.join().expect("no panic"));
        put
    });
    let mut got = got.into_inner();
    assert_eq!(got.len(), put, "lost or doubled");
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), put, "doubled");
    assert!(queue.is_empty());
}

#[test]
fn nothing_is_lost_or_doubled_in_a_storm_that_is_shut_down() {
    for capacity in [1, 7, 0] {
        storm(capacity, false);
        storm(capacity, true);
    }
}

#[test]
fn one_putters_items_keep_their_order() {
    let queue = Queue::new(3);
    thread::scope(|scope| {
        scope.spawn(|| (0..20_000).for_each(|item| queue.put(item).expect("open")));
        (0..20_000).for_each(|item| assert_eq!(queue.get(), Ok(item)));
    });
}

#[test]
fn a_shutdown_wakes_everyone() {
    let (full, empty) = (Queue::new(1), Queue::<u32>::new(1));
    full.put(1).expect("room");
    thread::scope(|scope| {
        let putters: Vec<_> = (0..10).map(|_| scope.spawn(|| full.put(2))).collect();
        let getters: Vec<_> = (0..10).map(|_| scope.spawn(|| empty.get())).collect();
        let joiner = scope.spawn(|| full.join_timeout(PATIENCE));
        assert_eq!(full.shutdown_now(), [1]);
        empty.shutdown();
        for putter in putters {
            assert_eq!(putter.join().expect("no panic"), Err(PutError::ShutDown(2)));
        }
        for getter in getters {
            assert_eq!(getter.join().expect("no panic"), Err(GetError::ShutDown));
        }
        assert!(joiner.join().expect("no panic"), "what is handed back is done");
    });
}

#[test]
fn a_thread_that_dies_with_an_item_leaves_it_undone() {
    let queue = Queue::new(0);
    queue.put(1).expect("open");
    thread::scope(|scope| {
        let dies = scope.spawn(|| {
            queue.get().expect("one");
            panic!("with the item");
        });
        assert!(dies.join().is_err());
    });
    assert!(!queue.join_timeout(Duration::from_millis(5)));
    assert_eq!(queue.unfinished(), 1);
    queue.task_done().expect("somebody deals with it");
    queue.join();
    assert_eq!(queue.task_done(), Err(TaskDoneError));
}

/// An item whose destructor and comparison are the user's own code.
struct Bomb {
    rank: u32,
    live: Arc<AtomicUsize>,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PartialEq for Bomb {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bomb {}

impl PartialOrd for Bomb {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bomb {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        assert!(self.rank != 13 && other.rank != 13, "not comparable");
        self.rank.cmp(&other.rank)
    }
}

#[test]
fn items_that_panic_when_compared_harm_nobody_else() {
    let live = Arc::new(AtomicUsize::new(0));
    let bomb = |rank| {
        live.fetch_add(1, Ordering::SeqCst);
        Bomb {
            rank,
            live: Arc::clone(&live),
        }
    };
    let queue = PriorityQueue::new(0);
    queue.put(bomb(5)).expect("open");
    catch_unwind(AssertUnwindSafe(|| drop(queue.put(bomb(13))))).expect_err("it panics");
    assert!(
        queue.try_put(bomb(1)).is_ok() || live.load(Ordering::SeqCst) > 0,
        "the queue is free"
    );
    drop(queue);
    assert_eq!(live.load(Ordering::SeqCst), 0, "each item is dropped once");
}

#[test]
fn a_select_does_one_thing_and_drops_the_rest() {
    let (full, empty, event) = (Queue::new(1), Queue::<u32>::new(1), Event::new());
    full.put(1).expect("room");
    let tried = Select::new()
        .get(&empty, |_| "got")
        .put(&full, 2, |_| "put")
        .event(&event, || "seen");
    assert_eq!(tried.now(), None);
    let waited = Select::new()
        .get(&empty, |_| "got")
        .put(&full, 2, |_| "put")
        .after(Duration::from_millis(5), || "late");
    assert_eq!(waited.wait(), "late");
    assert_eq!(
        Select::new()
            .get(&empty, |_| ())
            .wait_timeout(Duration::from_millis(5)),
        None
    );
    event.set();
    assert_eq!(
        Select::new()
            .get(&empty, |_| "got")
            .event(&event, || "seen")
            .wait(),
        "seen"
    );
    assert_eq!((full.len(), empty.len()), (1, 0));
    empty.shutdown();
    let shut = Select::new().get(&empty, |got| got).wait();
    assert_eq!(shut, Err(GetError::ShutDown));
}

/// Several selects and plain getters at the same queues: each item is got once, and nobody sleeps through one.
#[test]
fn selects_lose_nothing() {
    const ITEMS: u32 = 5_000;
    let (one, two) = (Queue::new(3), Queue::new(0));
    let (sender, receiver) = crossbeam_channel::bounded(2);
    let over = Event::new();
    let got = Mutex::new(Vec::new());
    let (writer, reader) = csp::any2any();
    // Not retired before the end: that would be something to read all the time.
    let kept = writer.clone();
    thread::scope(|scope| {
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = reader.clone();
                let (one, two, receiver, over, got) = (&one, &two, &receiver, &over, &got);
                scope.spawn(move || {
                    loop {
                        let item = Select::new()
                            .get(one, |item| item.ok())
                            .get(two, |item| item.ok())
                            .recv(receiver, |item| item.ok())
                            .read(&mut reader, |item| item.ok())
                            .event(over, || None)
                            .wait();
                        match item {
                            Some(item) => got.lock().push(item),
                            None if over.is_set() => return,
                            None => {}
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| (0..ITEMS).for_each(|item| one.put(item).expect("open")));
        scope.spawn(|| (ITEMS..2 * ITEMS).for_each(|item| two.put(item).expect("open")));
        scope.spawn({
            let sender = sender.clone();
            move || (2 * ITEMS..3 * ITEMS).for_each(|item| sender.send(item).expect("open"))
        });
        scope.spawn(move || {
            let mut writer = writer;
            (3 * ITEMS..4 * ITEMS).for_each(|item| writer.write(item).expect("open"));
        });
        settle("all are got", || got.lock().len() as u32 >= 4 * ITEMS);
        over.set();
        drop(kept);
        takers
            .into_iter()
            .for_each(|taker| taker.join().expect("no panic"));
    });
    let mut got = got.into_inner();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..4 * ITEMS));
}

#[test]
fn selects_may_put_on_both_sides() {
    let (left, right) = (Queue::new(1), Queue::new(1));
    let sent = thread::scope(|scope| {
        let drain: Vec<_> = [&left, &right]
            .map(|queue| scope.spawn(move || queue.iter().count()))
            .into();
        for item in 0..2_000 {
            Select::new()
                .put(&left, item, |put| put.expect("open"))
                .put(&right, item, |put| put.expect("open"))
                .wait();
        }
        left.shutdown();
        right.shutdown();
        drain
            .into_iter()
            .map(|drain| drain.join().expect("no panic"))
            .sum::<usize>()
    });
    assert_eq!(sent, 2_000);
}

#[test]
fn a_fair_select_serves_all_and_a_biased_one_the_first() {
    let (one, two) = (Queue::new(0), Queue::new(0));
    for item in 0..400 {
        one.put(item).expect("open");
        two.put(item).expect("open");
    }
    let from_one = (0..200)
        .filter(|_| Select::new().get(&one, |_| true).get(&two, |_| false).wait())
        .count();
    assert!((20..180).contains(&from_one), "{from_one} of 200");
    assert!((0..50).all(|_| {
        Select::new()
            .biased()
            .get(&two, |_| true)
            .get(&one, |_| false)
            .wait()
    }));
}

#[test]
fn a_branch_that_panics_leaves_nothing_behind() {
    let (queue, event) = (Queue::new(0), Event::new());
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            catch_unwind(AssertUnwindSafe(|| {
                Select::new()
                    .get(&queue, |_: Result<u8, _>| panic!("in the branch"))
                    .event(&event, || ())
                    .wait();
            }))
        });
        queue.put(1).expect("open");
        assert!(sleeper.join().expect("caught").is_err());
    });
    queue.put(2).expect("open");
    assert_eq!(queue.get(), Ok(2));
}

#[test]
fn thousands_of_threads_pass_one_item_each() {
    const CROWD: usize = 2_000;
    let queue = Queue::new(1);
    thread::scope(|scope| {
        for number in 0..CROWD {
            let queue = &queue;
            let work = move || {
                if number % 2 == 0 {
                    queue.put(number).is_ok()
                } else {
                    queue.get().is_ok()
                }
            };
            let small = thread::Builder::new().stack_size(64 << 10);
            small.spawn_scoped(scope, work).expect("a thread");
        }
    });
    assert!(queue.is_empty());
}
