//! What a borrowing engine promises: closures and slices of the caller, never touched after the call.

use super::bench::{Bench, Check};
use crate::engine::Borrowing;
use crate::fold;
use crate::panics::catch;
use crate::pool::Pool;
use crate::reduction::Sum;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(super) fn checks<E: Borrowing>() -> Vec<Check<Pool<E>>> {
    vec![
        ("join_with gives both values", join::<E>),
        ("join_with nests", deep_join::<E>),
        (
            "a panic in join_with comes after both have ended",
            join_panics::<E>,
        ),
        ("slices", slices::<E>),
        ("reduce_slice has the bits of the tree", sums::<E>),
        ("a panic in a slice has the lowest index", slice_panics::<E>),
        ("scope_with waits for all", scope::<E>),
        ("scope_with waits while it unwinds", scope_panics::<E>),
        ("slices within slices", nested::<E>),
    ]
}

fn join<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let (left, mut right) = (vec![1u64, 2, 3], vec![4u64]);
    let both = pool.join_with(
        || left.iter().sum::<u64>(),
        || {
            right.push(5);
            right.len()
        },
    );
    assert_eq!((both, right), ((6, 2), vec![4, 5]));
}

fn fibonacci<E: Borrowing>(pool: &Pool<E>, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = pool.join_with(|| fibonacci(pool, n - 1), || fibonacci(pool, n - 2));
    a + b
}

fn deep_join<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    assert_eq!(fibonacci(&pool, 14), 377);
    // From within the pool as well.
    let twice = pool.map_slice(&[10u64, 11, 12], |n| fibonacci(&pool, *n));
    assert_eq!(twice, Ok(vec![55, 89, 144]));
}

fn join_panics<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    for bad in 0..2 {
        let ended = AtomicUsize::new(0);
        let run = |me: usize| {
            if me == bad {
                panic!("closure {me}");
            }
            std::thread::sleep(Duration::from_millis(20));
            ended.fetch_add(1, Ordering::SeqCst);
        };
        let error = catch(|| pool.join_with(|| run(0), || run(1)))
            .expect_err("one panics")
            .to_string();
        assert!(error.contains(&format!("closure {bad}")), "{error}");
        assert_eq!(
            ended.load(Ordering::SeqCst),
            1,
            "the other closure had ended when the panic came"
        );
    }
}

fn slices<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let names: Vec<String> = (0..2000).map(|i| format!("n{i}")).collect();
    let lengths = pool.map_slice(&names, |name| name.len()).expect("no panic");
    assert_eq!(lengths, names.iter().map(String::len).collect::<Vec<_>>());
    let mut numbers: Vec<u64> = (0..3000).collect();
    pool.for_each_mut(&mut numbers, |x| *x *= 3).expect("no panic");
    assert_eq!(numbers, (0..3000).map(|x| 3 * x).collect::<Vec<_>>());
    pool.for_each_chunk_mut(&mut numbers, 7, |chunk, part| part.fill(chunk as u64))
        .expect("no panic");
    assert_eq!(numbers, (0..3000).map(|i| i / 7).collect::<Vec<u64>>());
    assert!(
        pool.for_each_chunk_mut(&mut numbers, 0, |_, _| {}).is_err(),
        "chunks of 0"
    );
    assert_eq!(
        pool.map_slice(&[] as &[u8], |x| *x),
        Ok(Vec::new()),
        "a slice of nothing"
    );
}

fn sums<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    for length in [0, 1, 1023, 1024, 1025, 5000, 40_000] {
        let values: Vec<f64> = (0..length).map(super::tasks::value).collect();
        let sum = pool.reduce_slice(&values, Sum).expect("no panic");
        assert_eq!(
            sum.to_bits(),
            fold::reduce(&Sum, values.iter().copied()).to_bits(),
            "bits of a sum of {length}"
        );
    }
}

fn slice_panics<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let numbers: Vec<u64> = (0..1000).collect();
    let check = |x: &u64| assert!(x % 400 != 150, "number {x}");
    let failed = pool.map_slice(&numbers, check).expect_err("two panic");
    assert_eq!(failed.index, 150, "{failed}");
    assert!(failed.to_string().contains("number 150"), "{failed}");
}

fn scope<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let count = AtomicUsize::new(0);
    let result = pool.scope_with(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1));
                count.fetch_add(1, Ordering::SeqCst);
                scope.spawn(|| {
                    count.fetch_add(1, Ordering::SeqCst);
                });
            });
        }
        7
    });
    assert_eq!((result, count.load(Ordering::SeqCst)), (Ok(7), 100));
    let failed = pool
        .scope_with(|scope| scope.spawn(|| panic!("a spawned closure")))
        .expect_err("it panics");
    assert!(failed.to_string().contains("a spawned closure"), "{failed}");
}

fn scope_panics<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let ended = AtomicUsize::new(0);
    let result = catch(|| {
        pool.scope_with(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(5));
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
            panic!("the body");
        })
    });
    assert!(result.is_err(), "the panic goes on");
    assert_eq!(
        ended.load(Ordering::SeqCst),
        10,
        "closures that had ended when the scope unwound"
    );
}

fn nested<E: Borrowing>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let mut rows = vec![vec![1u64; 200]; 40];
    pool.for_each_mut(&mut rows, |row| {
        pool.for_each_mut(row, |x| *x += 1).expect("no panic")
    })
    .expect("no panic");
    assert!(
        rows.iter().flatten().all(|x| *x == 2),
        "every element of every row"
    );
}
