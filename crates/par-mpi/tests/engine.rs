//! What the engine does beyond the laws, on ranks that are threads.

use par_mpi::{
    ChunkPlan, Mapping, MpiError, MpiOptions, MpiPool, Plan, Shared, Shutdown, StartError, Sum, TaskError,
    run, task,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::time::Duration;

#[task]
fn double(x: u64) -> u64 {
    2 * x
}

#[task]
fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

#[task]
fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

#[task]
fn where_am_i(x: u64) -> (u64, Option<usize>) {
    (x, par_mpi::worker_index())
}

/// Cannot be encoded, or decoded, without a panic.
#[derive(Debug, PartialEq)]
struct Mine<const ENCODES: bool>(u64);

impl<const ENCODES: bool> Serialize for Mine<ENCODES> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(ENCODES || self.0 != 13, "no encoding of {}", self.0);
        self.0.serialize(serializer)
    }
}

impl<'de, const ENCODES: bool> Deserialize<'de> for Mine<ENCODES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        assert!(!ENCODES || number != 13, "no decoding of {number}");
        Ok(Mine(number))
    }
}

#[task]
fn gives_mine(x: u64) -> Mine<true> {
    Mine(x)
}

#[task]
fn takes_mine(mine: Mine<false>) -> u64 {
    mine.0
}

#[task]
fn reads_mine(mine: Shared<Mine<false>>) -> u64 {
    mine.0
}

/// Submits what cannot be encoded, and waits in a way that runs nothing inline.
#[task]
fn submits_mine(x: u64) -> Result<u64, TaskError> {
    let pool = par_mpi::current().expect("inside a task");
    match pool
        .submit::<takes_mine>(Mine(x))?
        .wait_timeout(Duration::from_secs(20))
    {
        Ok(outcome) => outcome,
        Err(handle) => Err(TaskError::Rejected(format!("nobody ends {handle:?}"))),
    }
}

#[test]
fn code_that_encodes_may_panic() -> Result<(), StartError> {
    let pool = MpiPool::new(2)?;
    for _ in 0..3 {
        let failed = pool
            .submit::<gives_mine>(13)
            .expect("open")
            .wait()
            .expect_err("it panics");
        assert!(failed.to_string().contains("no decoding of 13"), "{failed}");
        let failed = pool.map::<gives_mine>(0..100).expect_err("one panics");
        assert_eq!(failed.index, 13, "{failed}");
        let failed = pool
            .submit::<takes_mine>(Mine(13))
            .expect("open")
            .wait()
            .expect_err("it panics");
        assert!(failed.to_string().contains("no encoding of 13"), "{failed}");
        let shared = pool
            .share(Mine(13))
            .expect("it is encoded when it is first named");
        for failed in [
            pool.submit::<reads_mine>(shared).expect("open").wait(),
            pool.submit::<submits_mine>(13).expect("open").wait(),
        ] {
            let failed = failed.expect_err("it panics");
            assert!(failed.to_string().contains("no encoding of 13"), "{failed}");
        }
    }
    assert_eq!(pool.submit::<submits_mine>(4).expect("open").wait(), Ok(4));
    assert_eq!(pool.submit::<takes_mine>(Mine(4)).expect("open").wait(), Ok(4));
    assert_eq!(pool.shutdown(Shutdown::Drain, None).detached, 0);
    Ok(())
}

#[test]
fn long_inputs_and_outputs_cross_and_too_long_ones_are_told() -> Result<(), StartError> {
    let options = MpiOptions {
        longest: 3 << 20,
        ..MpiOptions::default()
    };
    let pool = MpiPool::builder().workers(2).options(options).build()?;
    let sizes = [0, 1, 1000, 65_536, 70_000, 3_000_000];
    let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let expected: Vec<u64> = sizes.iter().map(|size| *size as u64).collect();
    assert_eq!(plan.map::<length>(sizes.map(|size| vec![7; size])), Ok(expected));
    let outputs = plan.map::<zeros>(sizes).expect("they fit");
    assert_eq!(outputs.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
    let codec = |ended: Option<TaskError>, what: &str| match ended {
        Some(TaskError::Codec(text)) => assert!(text.starts_with(what), "{text}"),
        other => panic!("{what} are too long, and it ended as {other:?}"),
    };
    codec(
        pool.submit::<length>(vec![1; 4 << 20])
            .expect("open")
            .wait()
            .err(),
        "inputs of 4",
    );
    codec(
        pool.submit::<zeros>(4 << 20).expect("open").wait().err(),
        "outputs of 4",
    );
    assert_eq!(pool.submit::<double>(4).expect("open").wait(), Ok(8));
    Ok(())
}

#[test]
fn static_mappings_are_kept() -> Result<(), StartError> {
    let pool = MpiPool::new(3)?;
    for (mapping, place) in [
        (Mapping::Cyclic, (|x| x as usize % 3) as fn(u64) -> usize),
        (Mapping::StaticBlock, |x| x as usize / 20),
    ] {
        let plan = Plan::default().mapping(mapping).chunk(ChunkPlan::Fixed(1));
        let placed = pool.with_plan(plan).map::<where_am_i>(0..60).expect("a map");
        for (x, worker) in placed {
            assert_eq!(worker, Some(place(x)), "item {x} under {mapping:?}");
        }
    }
    Ok(())
}

#[test]
fn bad_options_are_named() {
    let options = |longest| MpiOptions {
        longest,
        ..MpiOptions::default()
    };
    for longest in [0, 1023, 1 << 31, u64::MAX] {
        let refused = MpiPool::builder().workers(1).options(options(longest)).build();
        let text = refused
            .map(|pool| pool.info())
            .expect_err("out of range")
            .to_string();
        assert!(
            text.starts_with("bad option longest: 1024 to ") && text.ends_with(&longest.to_string()),
            "{text}"
        );
    }
    let refused = run(3, |comm| {
        comm.serve(|crew| {
            crew.builder()
                .workers(3)
                .build()
                .map(|pool| pool.info())
                .expect_err("two work")
                .to_string()
        })
    });
    let text = refused.expect("all ranks").swap_remove(0).expect("rank 0 tells");
    assert!(
        text.starts_with("bad option workers: at most 2, one for each rank but rank 0, got 3"),
        "{text}"
    );
}

#[test]
fn a_crew_serves_one_pool_after_the_other_and_two_at_once() {
    let sums = run(4, |comm| {
        let first = comm.serve(|crew| {
            let mut sum = 0;
            for _ in 0..5 {
                sum += crew
                    .pool()
                    .expect("a pool")
                    .map_reduce::<double, _>(0..100, Sum)
                    .expect("a sum");
            }
            let (one, other) = (
                crew.pool().expect("one"),
                crew.builder().workers(1).build().expect("another"),
            );
            let handles: Vec<_> = (0..50)
                .flat_map(|x| [one.submit::<double>(x), other.submit::<double>(x)])
                .collect();
            drop(one);
            let tail: u64 = handles
                .into_iter()
                .map(|handle| handle.expect("open").wait().expect("a value"))
                .sum();
            sum + tail
        })?;
        // Between and after, the ranks are a communicator like any other.
        let ranks = comm.all_reduce(comm.rank() as u64, Sum)?;
        let second = comm.serve(|crew| {
            crew.pool()
                .expect("a pool")
                .submit::<double>(4)
                .expect("open")
                .wait()
        })?;
        Ok((first, ranks, second))
    })
    .expect("all ranks");
    let mut ranks = sums.into_iter();
    assert_eq!(ranks.next(), Some((Some(5 * 9900 + 2 * 2450), 6, Some(Ok(8)))));
    assert!(ranks.all(|other| other == (None, 6, None)));
}

/// Waits for a child in a way that runs nothing inline: the child has to come back to a rank.
#[task]
fn waits_for_child(x: u64) -> Result<u64, TaskError> {
    let pool = par_mpi::current().expect("inside a task");
    match pool.submit::<double>(x)?.wait_timeout(Duration::from_secs(20)) {
        Ok(outcome) => outcome,
        Err(handle) => Err(TaskError::Rejected(format!("nobody runs {handle:?}"))),
    }
}

#[test]
fn a_task_that_waits_is_served_while_another_pool_idles_on_its_rank() {
    let ended = run(2, |comm| {
        comm.serve(|crew| {
            let (busy, idle) = (crew.pool().expect("one"), crew.pool().expect("another"));
            for x in 0..20 {
                assert_eq!(idle.submit::<double>(x).expect("open").wait(), Ok(2 * x));
                assert_eq!(busy.submit::<waits_for_child>(x).expect("open").wait(), Ok(2 * x));
            }
        })
    });
    assert_eq!(ended.map(|ranks| ranks.len()), Ok(2));
}

#[test]
fn a_program_that_panics_lets_its_crew_go() {
    let ended = run(3, |comm| {
        comm.serve(|crew| {
            let pool = crew.pool().expect("a pool");
            drop(pool.submit::<double>(1));
            panic!("the program fell over");
        })
    });
    match ended.map(|ranks: Vec<Option<()>>| ranks.len()) {
        Err(MpiError::Rank { rank: 0, error }) => {
            assert!(error.to_string().contains("the program fell over"), "{error}")
        }
        other => panic!("rank 0 panicked, and it ended as {other:?}"),
    }
}

#[test]
fn a_pool_that_outlives_its_crew_is_told() {
    let ranks = run(2, |comm| comm.serve(|crew| crew.pool().expect("a pool"))).expect("all ranks");
    let pool = ranks.into_iter().flatten().next().expect("that of rank 0");
    match pool.submit::<double>(1) {
        Err(TaskError::Broken(text)) => assert!(text.contains("serve no longer"), "{text}"),
        other => panic!("the ranks are gone, and it gave {other:?}"),
    }
    assert_eq!(pool.shutdown(Shutdown::Drain, None).ran, 0);
}

#[test]
fn ranks_are_different_workers() -> Result<(), StartError> {
    let pool = MpiPool::new(3)?;
    let plan = Plan::default()
        .mapping(Mapping::Cyclic)
        .chunk(ChunkPlan::Fixed(1));
    let placed = pool.with_plan(plan).map::<where_am_i>(0..9).expect("a map");
    let workers: BTreeSet<_> = placed.into_iter().map(|(_, worker)| worker).collect();
    assert_eq!(workers, BTreeSet::from([Some(0), Some(1), Some(2)]));
    Ok(())
}
