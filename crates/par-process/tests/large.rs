//! Large values, which cross through shared memory where there is room, and over the socket where there is none.

use par_process::{ChunkPlan, Options, Plan, ProcessPool, TaskError};
use std::collections::VecDeque;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn with(workers: usize, shared: u64) -> ProcessPool {
    let options = Options {
        shared,
        ..Options::default()
    };
    let builder = ProcessPool::builder().workers(workers);
    builder.options(options).build().expect("starts")
}

/// Bytes that tell where they belong.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u8).wrapping_mul(31) ^ ((at >> 8) as u8) ^ seed)
        .collect()
}

/// Turns bytes around.
#[par_process::task]
fn turn(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[par_process::task]
fn make((length, seed): (usize, u8)) -> Vec<u8> {
    pattern(length, seed)
}

fn check(pool: &ProcessPool, sizes: &[usize]) {
    let inputs: Vec<Vec<u8>> = sizes
        .iter()
        .zip(0..)
        .map(|(size, seed)| pattern(*size, seed))
        .collect();
    for chunk in [1, 3] {
        let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(chunk)));
        let turned = plan.map::<turn>(inputs.clone()).expect("a map");
        for (mut turned, input) in turned.into_iter().zip(&inputs) {
            turned.reverse();
            assert!(turned == *input, "{} bytes, chunk {chunk}", input.len());
        }
    }
}

#[test]
fn every_size_crosses_both_ways_with_much_room_little_and_none() {
    let sizes = [
        0,
        1,
        200 * KIB,
        256 * KIB - 8,
        256 * KIB,
        300 * KIB + 1,
        MIB,
        MIB + 77,
        2 * MIB,
        10,
        700 * KIB,
    ];
    // More than there can be, all that is wanted, room for a few, for one at a time, and none.
    for shared in [1 << 60, 64 << 20, 2 << 20, 1, 0] {
        check(&with(2, shared), &sizes);
    }
}

#[test]
fn many_in_flight_share_little_room() {
    let pool = with(2, 4 << 20);
    let mut out = VecDeque::new();
    let mut next = 0;
    while next < 60 || !out.is_empty() {
        if next < 60 && out.len() < 12 {
            let length = 300 * KIB + next * 20 * KIB;
            let handle = pool.submit::<make>((length, next as u8)).expect("open");
            out.push_back((length, next as u8, handle));
            next += 1;
        } else if let Some((length, seed, handle)) = out.pop_front() {
            assert!(
                handle.wait().expect("made") == pattern(length, seed),
                "{length} {seed}"
            );
        }
    }
}

/// Reads all of its input, makes an output, and ends its worker for some.
#[par_process::task]
fn turn_or_die((how, bytes): (u8, Vec<u8>)) -> Vec<u8> {
    match how {
        1 => std::process::abort(),
        2 => std::process::exit(3),
        _ => bytes.into_iter().rev().collect(),
    }
}

#[test]
fn deaths_lose_only_what_had_begun() {
    let pool = with(2, 8 << 20);
    let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)).window(16));
    let input = pattern(600 * KIB, 9);
    let expected: Vec<u8> = input.iter().rev().copied().collect();
    let inputs = (0..100u64).map(|x| (u8::try_from(x % 10).expect("small"), input.clone()));
    let (mut lost, mut whole) = (0, 0);
    for (index, outcome) in plan.map_ordered::<turn_or_die, _>(inputs).expect("a plan") {
        match outcome {
            Ok(bytes) => {
                assert!(bytes == expected, "item {index}");
                whole += 1;
            }
            Err(TaskError::Lost { .. }) => {
                assert!(matches!(index % 10, 1 | 2), "item {index} was lost for another");
                lost += 1;
            }
            Err(other) => panic!("item {index}: {other}"),
        }
    }
    assert_eq!((lost, whole), (20, 80));
}

#[test]
fn a_worker_without_address_space_for_it_works_over_the_socket() {
    let options = Options {
        shared: 8 << 30,
        address_space: Some(1 << 30),
        ..Options::default()
    };
    let builder = ProcessPool::builder().workers(1);
    let pool = builder.options(options).build().expect("starts");
    check(&pool, &[300 * KIB, 2 * MIB]);
}
