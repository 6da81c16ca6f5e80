//! What an engine of the same program promises: plain functions reach its workers.

use super::bench::{Bench, Check};
use crate::engine::SameProgram;
use crate::fold;
use crate::pool::Pool;
use crate::reduction::{Concat, Sum};

pub(super) fn checks<E: SameProgram>() -> Vec<Check<Pool<E>>> {
    vec![
        ("submit_fn", submit::<E>),
        ("map_fn", map::<E>),
        ("map_reduce_fn has the bits of the tree", map_reduce::<E>),
        ("a function that panics", panics::<E>),
        ("reduce folds on the workers", reduce::<E>),
    ]
}

fn triple(x: u64) -> u64 {
    3 * x
}

fn submit<E: SameProgram>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    assert!(
        pool.info().capabilities.same_program,
        "the capability is declared where the trait is implemented"
    );
    let handles: Vec<_> = (0..50)
        .map(|x| pool.submit_fn(x, triple).expect("open"))
        .collect();
    for (x, handle) in (0..).zip(handles) {
        assert_eq!(bench.ended(handle), Ok(3 * x));
    }
    let text = pool
        .submit_fn(vec!["a".to_owned(), "b".to_owned()], |words: Vec<String>| {
            words.join("-")
        })
        .expect("open");
    assert_eq!(
        bench.ended(text),
        Ok("a-b".to_owned()),
        "a closure without captures"
    );
}

fn map<E: SameProgram>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    assert_eq!(pool.map_fn(0..1000, triple), Ok((0..1000).map(triple).collect()));
    assert_eq!(
        pool.map_fn(0..100u32, |x| f64::from(x).sqrt()),
        Ok((0..100u32).map(|x| f64::from(x).sqrt()).collect())
    );
}

fn map_reduce<E: SameProgram>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    for length in [0, 1, 1023, 1024, 1025, 5000] {
        let sum = pool
            .map_reduce_fn(0..length, super::tasks::value, Sum)
            .expect("a sum");
        assert_eq!(
            sum.to_bits(),
            fold::reduce(&Sum, (0..length).map(super::tasks::value)).to_bits(),
            "{length} values"
        );
    }
}

fn panics<E: SameProgram>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let failed = pool
        .map_fn(0..100u64, |x| assert!(x % 40 != 17, "number {x}"))
        .expect_err("two panic");
    assert_eq!(failed.index, 17, "{failed}");
    assert!(failed.to_string().contains("number 17"), "{failed}");
}

fn reduce<E: SameProgram>(bench: &Bench<Pool<E>>) {
    let pool = bench.pool();
    let words: Vec<String> = (0..3000).map(|x| format!("{x},")).collect();
    assert_eq!(pool.reduce(words.clone(), Concat), Ok(words.concat()));
}
