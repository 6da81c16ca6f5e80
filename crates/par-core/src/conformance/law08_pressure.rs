//! Law 8: queues are bounded, inputs are read lazily, and inside a task nothing blocks on the bound.

use super::bench::{Bench, Check, submit};
use super::folder::Folder;
use super::tasks::{brood, double, mark, picky};
use crate::engine::Refused;
use crate::observe::{Event, Observer};
use crate::plan::Plan;
use crate::pool::AnyPool;
use crate::reduction::Sum;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("a full queue hands the input back", full),
    ("submit waits for room", waits_for_room),
    ("a task submits beyond the bound", inside),
    ("an endless stream is read a bounded number ahead", endless),
    (
        "a map over endless items ends with the item that fails",
        endless_failure,
    ),
    ("a fold over many items has few of them in memory", many),
];

const QUEUE: usize = 4;

/// What may be accepted beyond the queue's bound: an engine may have delivered some to each worker.
fn slack(bench: &Bench<AnyPool>) -> usize {
    QUEUE + 256 * bench.workers()
}

fn full(bench: &Bench<AnyPool>) {
    let pool = bench.pool_with(|setup| setup.queue = Some(QUEUE));
    if bench.inline(&pool, "the queue is never full") {
        return;
    }
    let folder = Folder::new();
    let gates = bench.occupy(&pool, &folder);
    let mut accepted = Vec::new();
    let refused = loop {
        let tag = accepted.len() as u64;
        assert!(
            accepted.len() <= slack(bench),
            "a queue of {QUEUE} took {} tasks while all workers were busy",
            accepted.len()
        );
        match pool.try_submit::<mark>((folder.path(), tag)) {
            Ok(handle) => accepted.push(handle),
            Err(refused) => break refused,
        }
    };
    assert!(
        accepted.len() >= QUEUE,
        "a queue of {QUEUE} took only {}",
        accepted.len()
    );
    assert_eq!(refused.reason, Refused::Full);
    assert_eq!(refused.to_string(), "the queue of the pool is full");
    assert_eq!(
        refused.input,
        (folder.path(), accepted.len() as u64),
        "the input that came back"
    );
    bench.release(&folder, gates);
    for (tag, handle) in (0..).zip(accepted) {
        assert_eq!(bench.ended(handle), Ok(tag), "a task that was accepted");
    }
    bench.until("there is room again", || {
        pool.try_submit::<mark>((folder.path(), 0)).is_ok()
    });
}

fn waits_for_room(bench: &Bench<AnyPool>) {
    let pool = bench.pool_with(|setup| setup.queue = Some(QUEUE));
    if bench.inline(&pool, "submit never waits for room") {
        return;
    }
    let folder = Folder::new();
    let gates = bench.occupy(&pool, &folder);
    let accepted = Arc::new(AtomicU64::new(0));
    let total = 2 * slack(bench) as u64;
    let submitter = {
        let (pool, accepted) = (pool.clone(), Arc::clone(&accepted));
        thread::spawn(move || {
            for x in 0..total {
                drop(pool.submit::<double>(x).expect("open"));
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    bench.until("the queue fills", || {
        accepted.load(Ordering::Relaxed) >= QUEUE as u64
    });
    // The bound itself, not a moment at which it might be seen: try_submit says when nothing more goes in.
    bench.until("the queue is full", || pool.try_submit::<double>(1).is_err());
    assert!(
        accepted.load(Ordering::Relaxed) < total,
        "submit took {total} tasks into a queue of {QUEUE}"
    );
    bench.release(&folder, gates);
    bench.until("all that waited go in", || {
        accepted.load(Ordering::Relaxed) == total
    });
    submitter.join().expect("no panic");
}

fn inside(bench: &Bench<AnyPool>) {
    let pool = bench.pool_with(|setup| setup.queue = Some(1));
    let parents: Vec<_> = (0..2 * bench.workers())
        .map(|_| submit::<brood>(&pool, 50))
        .collect();
    for parent in parents {
        assert_eq!(
            bench.ended(parent),
            Ok(50 * 49),
            "a task with 50 children in a queue of 1"
        );
    }
}

fn endless(bench: &Bench<AnyPool>) {
    const WINDOW: u64 = 64;
    let pool = bench.pool().with_plan(Plan::default().window(WINDOW as usize));
    for ordered in [false, true] {
        let read = AtomicU64::new(0);
        let items = std::iter::repeat_with(|| read.fetch_add(1, Ordering::Relaxed));
        let most_ahead = |taken: u64| {
            let ahead = read.load(Ordering::Relaxed).saturating_sub(taken);
            assert!(
                ahead <= 2 * WINDOW,
                "{ahead} items read ahead, the window is {WINDOW}"
            );
        };
        let stream = if ordered {
            pool.map_ordered::<double, _>(items)
        } else {
            pool.map_unordered::<double, _>(items)
        };
        for (taken, (index, outcome)) in (1..=1000).zip(stream.expect("a stream")) {
            assert_eq!(outcome, Ok(2 * index));
            most_ahead(taken);
        }
    }
}

fn endless_failure(bench: &Bench<AnyPool>) {
    let pool = bench.pool().with_plan(Plan::default().window(256));
    let items = || {
        (0u64..)
            .filter(|x| *x != 7 && *x != 5)
            .map(|x| if x < 1000 { 10 } else { x })
    };
    let failed = pool.map::<picky>(items()).expect_err("1003 fails");
    assert_eq!(failed.index, 1001, "{failed}");
    let failed = pool.map_reduce::<picky, _>(items(), Sum).expect_err("1003 fails");
    assert_eq!(failed.index, 1001, "{failed}");
}

/// Items that were read and have not ended.
#[derive(Default)]
struct Open {
    now: AtomicI64,
    most: AtomicI64,
}

impl Observer for Open {
    fn event(&self, event: &Event) {
        if let Event::Finished { parts, .. } = event {
            self.now.fetch_sub(parts.len() as i64, Ordering::Relaxed);
        }
    }
}

fn many(bench: &Bench<AnyPool>) {
    const ITEMS: u64 = 300_000;
    const WINDOW: i64 = 8192;
    let pool = bench.pool().with_plan(Plan::default().window(WINDOW as usize));
    let open = Arc::new(Open::default());
    pool.observer(Arc::clone(&open) as Arc<dyn Observer>);
    let items = || {
        let open = Arc::clone(&open);
        (0u64..).take_while(|x| *x < ITEMS).inspect(move |_| {
            let now = open.now.fetch_add(1, Ordering::Relaxed);
            open.most.fetch_max(now, Ordering::Relaxed);
        })
    };
    assert_eq!(
        pool.map_reduce::<double, _>(items(), Sum),
        Ok(ITEMS * (ITEMS - 1))
    );
    assert_eq!(pool.for_each::<double>(items()), Ok(()));
    let most = open.most.load(Ordering::Relaxed);
    assert!(
        most <= 2 * WINDOW,
        "{most} items were in memory at once, the window is {WINDOW}"
    );
}
