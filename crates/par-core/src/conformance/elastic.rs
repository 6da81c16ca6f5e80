//! What an elastic engine promises: it grows and shrinks while it runs, and nothing is lost by that.

use super::bench::{Bench, Check, can};
use super::folder::Folder;
use super::law10_shutdown::lives;
use super::tasks::{count_here, double, slow_mark, uneven, value};
use crate::engine::{Elastic, Shutdown};
use crate::error::StartError;
use crate::fold;
use crate::observe::{Event, Observer};
use crate::plan::{ChunkPlan, Plan};
use crate::pool::Pool;
use crate::reduction::Sum;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub(super) fn checks<E: Elastic>() -> Vec<Check<Pool<E>>> {
    vec![
        (
            "a pool that has grown has as many workers, and all are ready",
            grow::<E>,
        ),
        (
            "a pool that shrinks finishes what runs, and fewer stay",
            shrink::<E>,
        ),
        ("what waits is run at every size", while_working::<E>),
        ("a pool that has grown leaves nobody behind", nobody_left::<E>),
        (
            "a size that cannot be is refused, and the pool goes on",
            refusals::<E>,
        ),
    ]
}

/// Counts the workers that came up.
#[derive(Default)]
struct Ups(AtomicUsize);

impl Observer for Ups {
    fn event(&self, event: &Event) {
        if let Event::WorkerUp { .. } = event {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Changes the size, which must show at once.
#[track_caller]
fn resize<E: Elastic>(pool: &Pool<E>, workers: usize) {
    if let Err(error) = pool.resize(workers) {
        panic!("a pool cannot have {workers} workers: {error}");
    }
    assert_eq!(
        pool.workers(),
        workers,
        "the size of a pool that was made {workers}"
    );
}

fn grow<E: Elastic>(bench: &Bench<Pool<E>>) {
    let (few, many) = (bench.workers(), bench.workers() + 2);
    let folder = Folder::new();
    let pool = bench.pool_with(|setup| setup.initializer = Some((folder.path(), false)));
    assert!(
        pool.info().capabilities.elastic,
        "the capability is declared where the trait is implemented"
    );
    let ups = Arc::new(Ups::default());
    pool.observer(Arc::clone(&ups) as Arc<dyn Observer>);
    resize(&pool, many);
    assert_eq!(
        folder.count("initialized"),
        many,
        "initialisers that ran before the pool had grown"
    );
    assert_eq!(
        ups.0.load(Ordering::SeqCst),
        many - few,
        "new workers of which observers had heard when the pool had grown"
    );
    let gates = bench.occupy_all(&pool, &folder, many);
    bench.release(&folder, gates);
    // The same size once more changes nothing.
    resize(&pool, many);
    assert_eq!(folder.count("initialized"), many, "initialisers that ran in all");
}

fn shrink<E: Elastic>(bench: &Bench<Pool<E>>) {
    let many = bench.workers() + 2;
    let pool = bench.pool();
    resize(&pool, many);
    let folder = Folder::new();
    let gates = bench.occupy_all(&pool, &folder, many);
    let behind: Vec<_> = (0..10)
        .map(|tag| pool.submit::<slow_mark>((folder.path(), tag)).expect("open"))
        .collect();
    let seats = folder.lines("seats");
    // It does not wait for what runs, which ends only after this.
    resize(&pool, 1);
    assert_eq!(
        folder.count("gates ended"),
        0,
        "tasks that had ended when the pool had shrunk, and none was to end"
    );
    bench.release(&folder, gates);
    for (tag, handle) in (0..).zip(behind) {
        assert_eq!(
            bench.ended(handle),
            Ok(tag),
            "a task that waited while the pool shrank"
        );
    }
    if Path::new("/proc/self/stat").exists() {
        bench.until("the workers that are too many are gone", || {
            seats.iter().filter(|seat| lives(seat)).count() == 1
        });
        let seats = pool.map::<count_here>(0..100).expect("a map");
        // A process may run its tasks on more than one thread.
        let whole = !can(&pool).processes;
        let workers: BTreeSet<&str> = seats
            .iter()
            .filter_map(|(seat, _)| {
                if whole {
                    Some(&**seat)
                } else {
                    seat.split('/').next()
                }
            })
            .collect();
        assert_eq!(workers.len(), 1, "the workers of a pool of one: {workers:?}");
    }
    resize(&pool, many);
    let folder = Folder::new();
    let gates = bench.occupy_all(&pool, &folder, many);
    bench.release(&folder, gates);
}

fn while_working<E: Elastic>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(3)));
    let working = thread::spawn(move || {
        let map = plan.map::<uneven>(0..240);
        let sum = plan.map_reduce::<value, _>(0..3000, Sum);
        let ordered: Result<Vec<u64>, _> = plan
            .map_ordered::<uneven, _>(0..120)
            .and_then(|outcomes| outcomes.map(|(_, outcome)| outcome).collect());
        (map, sum.map(f64::to_bits), ordered)
    });
    let mut sizes = [3, 1, 4, 2].into_iter().cycle();
    while !working.is_finished() {
        resize(&pool, sizes.next().unwrap_or(1));
    }
    let (map, sum, ordered) = working
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(map, Ok((0..240).map(|x| 2 * x).collect()), "a map");
    let expected: f64 = fold::reduce(&Sum, (0..3000).map(value));
    assert_eq!(sum, Ok(expected.to_bits()), "the bits of a sum");
    assert_eq!(
        ordered,
        Ok((0..120).map(|x| 2 * x).collect()),
        "a stream in order"
    );
}

fn nobody_left<E: Elastic>(bench: &Bench<Pool<E>>) {
    for how in [Shutdown::Drain, Shutdown::Kill] {
        let pool = bench.pool();
        let many = bench.workers() + 2;
        resize(&pool, many);
        let folder = Folder::new();
        let gates = bench.occupy_all(&pool, &folder, many);
        let seats = folder.lines("seats");
        resize(&pool, many - 1);
        bench.release(&folder, gates);
        let report = pool.shutdown(how, Some(bench.patience()));
        assert_eq!(
            (report.ran, report.detached),
            (many as u64, 0),
            "tasks that ran and workers left behind: {report:?}"
        );
        if Path::new("/proc/self/stat").exists() {
            bench.until("every worker is gone, also those that came later", || {
                !seats.iter().any(|seat| lives(seat))
            });
        }
    }
}

fn refusals<E: Elastic>(bench: &Bench<Pool<E>>) {
    let folder = Folder::new();
    let pool = bench.pool_with(|setup| setup.initializer = Some((folder.path(), false)));
    let workers = bench.workers();
    let none = pool.resize(0);
    assert!(
        matches!(none, Err(StartError::Workers(0))),
        "a pool of no workers: {none:?}"
    );
    folder.refuse(true);
    let refused = pool.resize(workers + 1).map_err(|error| error.to_string());
    let told = matches!(&refused, Err(text) if text.contains("told to fail"));
    assert!(told, "a new worker whose initialiser fails: {refused:?}");
    assert_eq!(pool.workers(), workers, "the size after growth that failed");
    let engine: &E = pool.engine();
    assert_eq!(engine.info().workers, workers, "as the engine tells it");
    assert_eq!(pool.map::<double>(0..50).map(|all| all.len()), Ok(50));
    folder.refuse(false);
    resize(&pool, workers + 1);
    pool.shutdown(Shutdown::Drain, Some(bench.patience()));
    assert!(
        pool.resize(workers + 2).is_err(),
        "a pool that has ended was made larger"
    );
}
