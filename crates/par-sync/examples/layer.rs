//! What the trait layer adds to the engine's own primitive: the same million tiny tasks in chunks of 256 through `Pool::map`,
//! by forks and joins on the engine itself, and in a plain loop. To be counted in instructions, which no other load disturbs:
//!
//! ```text
//! cargo build --release --package par-sync --example layer
//! for how in loop join map; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/layer $how 2>&1 | grep Collected
//! done
//! ```

use par_sync::{ChunkPlan, Plan, ThreadPool};

const ITEMS: u32 = 1_000_000;
const CHUNK: usize = 256;
const ROUNDS: u32 = 20;

#[par_sync::task]
fn step(x: u32) -> u32 {
    x.wrapping_mul(747_796_405).rotate_left(17)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let how = std::env::args().nth(1).unwrap_or_default();
    let plan = Plan::default().chunk(ChunkPlan::Fixed(CHUNK));
    // One worker: others would add what they do while they wait.
    let pool = ThreadPool::new(1)?.with_plan(plan);
    let mut values: Vec<u32> = (0..ITEMS).collect();
    for _ in 0..ROUNDS {
        match &*how {
            "loop" => values.iter_mut().for_each(|value| *value = step(*value)),
            "join" => halves(&pool, &mut values),
            "map" => values = pool.map::<step>(values)?,
            _ => return Err("usage: layer loop|join|map".into()),
        }
    }
    println!("{:08x}", values.iter().fold(0, |all, value| step(all ^ value)));
    Ok(())
}

/// Forks until the pieces are chunks.
fn halves(pool: &ThreadPool, values: &mut [u32]) {
    if values.len() <= CHUNK {
        return values.iter_mut().for_each(|value| *value = step(*value));
    }
    let chunks = values.len().div_ceil(CHUNK);
    let (left, right) = values.split_at_mut(chunks / 2 * CHUNK);
    pool.join_with(|| halves(pool, left), || halves(pool, right));
}
