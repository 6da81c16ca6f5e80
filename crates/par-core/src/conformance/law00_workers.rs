//! Beside the laws: initialisers, worker-local state, shared values, observers.

use super::bench::{Bench, Check, can, submit};
use super::folder::Folder;
use super::tasks::{Shy, count_here, double, look_up};
use crate::observe::{Event, Observer};
use crate::pool::AnyPool;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("every worker runs the initialiser once, first", initializer),
    ("an initialiser that fails is told", failing_initializer),
    ("local state stays with its worker", locals),
    ("a shared value is the same for every task", shares),
    ("observers see every part", observers),
];

fn initializer(bench: &Bench<AnyPool>) {
    let folder = Folder::new();
    let pool = bench.pool_with(|setup| setup.initializer = Some((folder.path(), false)));
    let gates = if can(&pool).inline {
        Vec::new()
    } else {
        bench.occupy(&pool, &folder)
    };
    assert_eq!(
        folder.count("initialized"),
        bench.workers(),
        "initialisers that ran before all workers had a task"
    );
    bench.release(&folder, gates);
    assert_eq!(bench.ended(submit::<double>(&pool, 4)), Ok(8));
    assert_eq!(
        folder.count("initialized"),
        bench.workers(),
        "initialisers that ran in all"
    );
}

fn failing_initializer(bench: &Bench<AnyPool>) {
    let folder = Folder::new();
    let error = bench.try_pool(|setup| {
        setup.initializer = Some((folder.path(), true));
        setup.restarts = Some(0);
    });
    let error = error
        .map(|pool| pool.info())
        .expect_err("the initialiser fails, so the pool does not start")
        .to_string();
    assert!(
        error.contains("told to fail"),
        "the text of the initialiser's error is missing: {error}"
    );
}

fn locals(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a worker lasts as long as the call") {
        return;
    }
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (seat, count) in pool.map::<count_here>(0..200).expect("a map") {
        counts.entry(seat).or_default().push(count);
    }
    for (seat, mut counts) in counts {
        counts.sort_unstable();
        let expected: Vec<u64> = (1..=counts.len() as u64).collect();
        assert_eq!(counts, expected, "what worker {seat} counted in its local state");
    }
}

fn shares(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let table: Vec<u64> = (0..10_000).map(|x| 3 * x).collect();
    let shared = pool.share(table.clone()).expect("numbers serialise");
    let other = pool.share(vec![7]).expect("numbers serialise");
    let got = pool
        .map::<look_up>((0..500).map(|i| (shared.clone(), 20 * i)))
        .expect("a map over a shared value");
    let expected: Vec<Option<u64>> = (0..500).map(|i| table.get(20 * i).copied()).collect();
    assert_eq!(got, expected, "values read from the shared table");
    assert_eq!(
        bench.ended(submit::<look_up>(&pool, (other, 0))),
        Ok(Some(7)),
        "a second shared value"
    );
    // Dropped here while a task still has it to read.
    let last = submit::<look_up>(&pool, (shared, 9));
    assert_eq!(
        bench.ended(last),
        Ok(Some(27)),
        "a value whose last clone here went into a task"
    );
    if can(&pool).processes {
        let error = pool
            .share(vec![Shy(13)])
            .map(|_| ())
            .expect_err("it does not serialise");
        assert!(error.to_string().contains("cannot encode"), "{error}");
    }
}

#[derive(Default)]
struct Seen(Mutex<(usize, usize, Vec<usize>)>);

impl Observer for Seen {
    fn event(&self, event: &Event) {
        let seen = &mut *self.0.lock();
        match event {
            Event::Submitted { parts, .. } => seen.0 += parts,
            Event::Started { parts, .. } => seen.1 += parts.len(),
            Event::Returned { parts, .. } => seen.1 -= parts.len(),
            Event::Finished { parts, .. } => seen.2.extend(parts.clone()),
            _ => {}
        }
    }
}

fn observers(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let seen = Arc::new(Seen::default());
    pool.observer(Arc::clone(&seen) as Arc<dyn Observer>);
    pool.map::<double>(0..300).expect("a map");
    // An engine may tell after the waiter was woken.
    bench.until("an observer sees the end of every part", || {
        seen.0.lock().2.len() >= 300
    });
    let (submitted, started, mut finished) = std::mem::take(&mut *seen.0.lock());
    finished.sort_unstable();
    assert_eq!(
        (submitted, started, finished.len()),
        (300, 300, 300),
        "parts submitted, started and finished"
    );
    assert_eq!(finished, (0..300).collect::<Vec<_>>(), "each part once");
}
