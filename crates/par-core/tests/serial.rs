//! The forms of a pool, on the reference engine.

use par_core::{
    Capabilities, Concat, MapError, Mapping, Plan, ScanKind, SerialPool, Sum, TaskError, TaskState,
};
use par_core::{ChunkPlan, Shutdown};

#[par_core::task]
fn square(x: u64) -> u64 {
    x * x
}

#[par_core::task]
fn word(x: u64) -> String {
    format!("{x},")
}

#[par_core::task]
fn picky(x: u64) -> Result<u64, String> {
    match x {
        3 | 5 => Err(format!("{x} is not welcome")),
        7 => panic!("seven"),
        x => Ok(x),
    }
}

fn pool() -> SerialPool {
    SerialPool::new(1).expect("starts")
}

#[test]
fn every_form_gives_what_a_loop_gives() {
    let pool = pool();
    let squares: Vec<u64> = (0..5000).map(|x| x * x).collect();
    assert_eq!(pool.map::<square>(0..5000).expect("map"), squares);
    assert_eq!(pool.map_fn(0..5000u64, |x| x * x).expect("map_fn"), squares);
    // Items of unknown number.
    assert_eq!(
        pool.map::<square>((0..5000).filter(|x| x % 2 == 0))
            .expect("map")
            .len(),
        2500
    );
    assert_eq!(
        pool.map_reduce::<square, _>(0..5000, Sum).expect("sum"),
        squares.iter().sum::<u64>()
    );
    assert_eq!(
        pool.reduce(squares.clone(), Sum).expect("sum"),
        squares.iter().sum::<u64>()
    );
    let words = pool.map_reduce::<word, _>(0..3000, Concat).expect("concat");
    assert_eq!(words, (0..3000).map(|x| format!("{x},")).collect::<String>());
    let ordered: Vec<u64> = pool
        .map_ordered::<square, _>(0..100)
        .expect("plan")
        .map(|(_, y)| y.expect("ok"))
        .collect();
    assert_eq!(ordered, squares[..100]);
    assert_eq!(
        pool.scan::<square, _>(0..4, Sum, ScanKind::Inclusive)
            .expect("scan"),
        [0, 1, 5, 14]
    );
    assert_eq!(
        pool.join::<square, word>(3, 4).expect("join"),
        (9, "4,".to_owned())
    );
    pool.for_each::<square>(0..10).expect("for_each");
}

#[test]
fn a_map_fails_with_the_lowest_index() {
    let error: MapError = pool().map::<picky>([0, 1, 5, 3, 7]).expect_err("two fail");
    assert_eq!(
        error.to_string(),
        "item 2: task failed: 5 is not welcome [alloc::string::String]"
    );
    let error = pool()
        .map_reduce::<picky, _>((0..).skip(6), Sum)
        .expect_err("seven panics");
    assert_eq!(error.index, 1);
    assert!(matches!(error.error, TaskError::Panicked(panic) if panic.message == "seven"));
    let outcomes = pool().map_outcomes::<picky>(0..9).expect("plan");
    let failed: Vec<usize> = (0..9).filter(|i| outcomes[*i].is_err()).collect();
    assert_eq!(failed, [3, 5, 7]);
}

#[test]
fn floating_sums_have_the_bits_of_the_tree_under_every_plan() {
    let values: Vec<f64> = (0..10_000).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
    let expected = par_core::fold::reduce(&Sum, values.iter().copied()).to_bits();
    for mapping in [
        Mapping::Dynamic,
        Mapping::StaticBlock,
        Mapping::Cyclic,
        Mapping::Stealing,
    ] {
        for chunk in [
            ChunkPlan::Auto,
            ChunkPlan::Fixed(1),
            ChunkPlan::Fixed(700),
            ChunkPlan::Fixed(3000),
        ] {
            let pool = pool().with_plan(Plan::default().mapping(mapping).chunk(chunk));
            assert_eq!(
                pool.reduce(values.iter().copied(), Sum).expect("sum").to_bits(),
                expected,
                "{mapping:?} {chunk:?}"
            );
        }
    }
}

#[test]
fn a_scope_cancels_the_rest_after_the_first_failure() {
    let pool = pool();
    let result = pool.scope(|scope| {
        let bad = scope.submit::<picky>(3)?;
        assert_eq!(bad.state(), TaskState::Done);
        assert_eq!(
            scope.submit::<picky>(1).expect_err("closed"),
            TaskError::Cancelled
        );
        Ok(())
    });
    assert_eq!(
        result.expect_err("failed").to_string(),
        "task failed: 3 is not welcome [alloc::string::String]"
    );
}

#[test]
fn a_closed_pool_refuses() {
    let pool = pool();
    assert!(
        pool.info().capabilities
            == Capabilities {
                inline: true,
                same_program: true,
                ..Capabilities::default()
            }
    );
    pool.map::<square>(0..10).expect("open");
    assert_eq!(pool.shutdown(Shutdown::Drain, None).ran, 10);
    let refused = pool.try_submit::<square>(4).expect_err("closed");
    assert_eq!(
        (refused.input, refused.to_string()),
        (4, "the pool is shut down".to_owned())
    );
    assert_eq!(
        pool.map::<square>(0..10).expect_err("closed").to_string(),
        "item 0: task was rejected: the pool is shut down"
    );
}
