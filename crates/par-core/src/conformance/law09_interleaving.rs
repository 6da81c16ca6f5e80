//! Law 9, for engines with a runtime (capability `tokio_tasks`): async tasks go on beside each other and beside blocking ones.

use super::bench::{Bench, can, submit};
use super::folder::Folder;
use super::tasks::{double, meets, waits_open};
use crate::error::TaskError;
use crate::handle::Handle;
use crate::pool::AnyPool;

/// Whether the engine has a runtime for async tasks; says what is then not asked of it.
fn interleaves(bench: &Bench<AnyPool>, pool: &AnyPool) -> bool {
    let can = can(pool).tokio_tasks;
    if !can {
        bench.weaker(
            pool,
            "an async task keeps its worker while it waits (no capability tokio_tasks)",
        );
    }
    can
}

fn limit_ms(bench: &Bench<AnyPool>) -> u64 {
    u64::try_from(bench.patience().as_millis() / 2).unwrap_or(u64::MAX)
}

/// Tasks in a ring, each of which ends only when its neighbour has begun.
fn ring(bench: &Bench<AnyPool>, pool: &AnyPool, folder: &Folder, size: u64) -> Vec<Handle<u64>> {
    (0..size)
        .map(|me| submit::<meets>(pool, (folder.path(), me, (me + 1) % size, limit_ms(bench))))
        .collect()
}

pub(super) fn beside_each_other(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !interleaves(bench, &pool) {
        return;
    }
    for size in [2, 50] {
        let folder = Folder::new();
        for (me, handle) in (0..).zip(ring(bench, &pool, &folder, size)) {
            assert_eq!(bench.ended(handle), Ok(me), "one of {size} async tasks");
        }
        let folder = Folder::new();
        let items = (0..size).map(|me| (folder.path(), me, (me + 1) % size, limit_ms(bench)));
        assert_eq!(
            pool.map::<meets>(items),
            Ok((0..size).collect()),
            "a map of async tasks"
        );
    }
}

pub(super) fn beside_blocking(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !interleaves(bench, &pool) {
        return;
    }
    let (gate, folder) = (Folder::new(), Folder::new());
    let gates = bench.occupy(&pool, &gate);
    for (me, handle) in (0..).zip(ring(bench, &pool, &folder, 4)) {
        assert_eq!(
            bench.ended(handle),
            Ok(me),
            "an async task while every worker has a blocking one"
        );
    }
    bench.release(&gate, gates);
    let gate = Folder::new();
    let waiting: Vec<_> = (0..2 * bench.workers() as u64)
        .map(|tag| submit::<waits_open>(&pool, (gate.path(), tag)))
        .collect();
    bench.until("all async tasks begin", || gate.count("gates") == waiting.len());
    assert_eq!(
        bench.ended(submit::<double>(&pool, 4)),
        Ok(8),
        "a blocking task while async ones wait"
    );
    gate.open();
    for (tag, handle) in (0..).zip(waiting) {
        assert_eq!(bench.ended(handle), Ok(tag), "an async task that waited");
    }
}

pub(super) fn cancelled(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !interleaves(bench, &pool) {
        return;
    }
    let gate = Folder::new();
    let handle = submit::<waits_open>(&pool, (gate.path(), 0));
    bench.until("it begins", || gate.count("gates") == 1);
    handle.cancel();
    assert_eq!(
        bench.ended(handle),
        Err(TaskError::Cancelled),
        "an async task that was cancelled while it waits"
    );
    bench.until("its future is dropped", || gate.count("gates ended") == 1);
}
