//! Recipe r2_define: five threads run a function, each with an argument of its own; main waits for all of them.
//!
//! Run: `cargo run --package par-sync --example r2_define`

use par_sync::{ChunkPlan, Mapping, Plan, ThreadPool};

#[par_sync::task]
fn function(i: u32) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    println!("{name}: function called by thread {i}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Dealt out one by one, so that each thread gets the argument at its own place.
    let plan = Plan::default()
        .mapping(Mapping::Cyclic)
        .chunk(ChunkPlan::Fixed(1));
    ThreadPool::new(5)?.with_plan(plan).for_each::<function>(0..5)?;
    Ok(())
}
