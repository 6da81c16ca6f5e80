//! The thread engine side by side with rayon: one task there and back, a map of tiny tasks, a sum, recursive joins.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use par_sync::{ChunkPlan, Plan, Sum, Task, ThreadPool};
use rayon::prelude::*;
use std::hint::black_box;
use std::sync::mpsc;

/// So little that a processor does several at a time, and memory decides.
#[par_sync::task]
fn step(x: u32) -> u32 {
    x.wrapping_mul(747_796_405).rotate_left(17)
}

/// A few nanoseconds, one at a time.
#[par_sync::task]
fn divide(x: u32) -> u32 {
    (u64::MAX / (u64::from(x) + 3)) as u32
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn pools() -> (ThreadPool, rayon::ThreadPool) {
    let ours = ThreadPool::new(workers()).expect("starts");
    let rayon = rayon::ThreadPoolBuilder::new()
        .num_threads(workers())
        .build()
        .expect("starts");
    (ours, rayon)
}

fn there_and_back(c: &mut Criterion) {
    let (ours, rayon) = pools();
    let mut group = c.benchmark_group("one task");
    group.bench_function("par", |b| {
        b.iter(|| ours.submit::<step>(black_box(1)).expect("open").wait())
    });
    group.bench_function("rayon", |b| {
        b.iter(|| {
            let (send, receive) = mpsc::sync_channel(1);
            rayon.spawn(move || send.send(step(black_box(1))).expect("somebody waits"));
            receive.recv()
        });
    });
    group.finish();
}

fn map_of_tiny_tasks(c: &mut Criterion) {
    maps::<step>(c, "map of 1e6", step);
    maps::<divide>(c, "map of 1e6 divisions", divide);
}

/// Maps in chunks of one size on both sides: rayon halves until a piece is a chunk at most.
fn maps<T: Task<Input = u32, Output = u32>>(
    c: &mut Criterion,
    name: &str,
    task: impl Fn(u32) -> u32 + Copy + Send + Sync,
) {
    const ITEMS: u32 = 1_000_000;
    let (ours, rayon) = pools();
    let mut group = c.benchmark_group(name);
    let input: Vec<u32> = (0..ITEMS).collect();
    for chunk in [256, 4096, 31_250] {
        let ours = ours.with_plan(Plan::default().chunk(ChunkPlan::Fixed(chunk)));
        group.bench_function(BenchmarkId::new("par, range", chunk), |b| {
            b.iter(|| ours.map::<T>(0..ITEMS))
        });
        group.bench_function(BenchmarkId::new("rayon, range", chunk), |b| {
            b.iter(|| {
                let items = (0..ITEMS).into_par_iter();
                let items = items.with_min_len(chunk / 2).with_max_len(chunk);
                rayon.install(|| items.map(task).collect::<Vec<_>>())
            });
        });
        group.bench_function(BenchmarkId::new("par, vec", chunk), |b| {
            b.iter_batched(
                || input.clone(),
                |items| ours.map::<T>(items),
                criterion::BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("rayon, vec", chunk), |b| {
            b.iter_batched(
                || input.clone(),
                |items| {
                    let items = items.into_par_iter();
                    let items = items.with_min_len(chunk / 2).with_max_len(chunk);
                    rayon.install(|| items.map(task).collect::<Vec<_>>())
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn sum_of_floats(c: &mut Criterion) {
    let (ours, rayon) = pools();
    let data: Vec<f64> = (0..10_000_000).map(f64::from).collect();
    let mut group = c.benchmark_group("sum of 1e7");
    group.sample_size(30);
    group.bench_function("par", |b| b.iter(|| ours.reduce_slice(&data, Sum)));
    group.bench_function("rayon", |b| {
        b.iter(|| rayon.install(|| data.par_iter().sum::<f64>()))
    });
    for chunk in [16 * 1024, 312_500] {
        let ours = ours.with_plan(Plan::default().chunk(ChunkPlan::Fixed(chunk)));
        group.bench_function(BenchmarkId::new("par", chunk), |b| {
            b.iter(|| ours.reduce_slice(&data, Sum))
        });
        group.bench_function(BenchmarkId::new("rayon", chunk), |b| {
            b.iter(|| rayon.install(|| data.par_iter().with_min_len(chunk).sum::<f64>()));
        });
    }
    group.finish();
}

fn recursive_joins(c: &mut Criterion) {
    fn ours(pool: &ThreadPool, n: u32) -> u64 {
        if n < 2 {
            return n.into();
        }
        let (a, b) = pool.join_with(|| ours(pool, n - 1), || ours(pool, n - 2));
        a + b
    }
    fn rayons(n: u32) -> u64 {
        if n < 2 {
            return n.into();
        }
        let (a, b) = rayon::join(|| rayons(n - 1), || rayons(n - 2));
        a + b
    }
    let (pool, rayon) = pools();
    let mut group = c.benchmark_group("fib(30) by join");
    group.sample_size(10);
    group.bench_function("par", |b| b.iter(|| ours(&pool, black_box(30))));
    group.bench_function("rayon", |b| b.iter(|| rayon.install(|| rayons(black_box(30)))));
    group.finish();
}

criterion_group!(
    benches,
    there_and_back,
    map_of_tiny_tasks,
    sum_of_floats,
    recursive_joins
);
criterion_main!(benches);
