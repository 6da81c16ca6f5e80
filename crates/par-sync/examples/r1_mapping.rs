//! Recipe r1_mapping: one problem taken apart, grouped and given to workers in five ways, with the same answer each time.
//!
//! 1. Decomposition. By domain: the items of the input, whose costs differ. By function: two questions about the results.
//! 2. Agglomeration: items are handed out in chunks.
//! 3. Mapping: who gets which chunk. `messages` counts how often a worker was handed some; `idle` is the time in milliseconds,
//!    summed over the workers, in which they had none.
//!
//! Run: `cargo run --release --package par-sync --example r1_mapping`

use par_sync::par_core::Event;
use par_sync::{ChunkPlan, Mapping, Observer, Plan, ThreadPool};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const ITEMS: u32 = 240;
const WORKERS: usize = 4;

/// Later items cost more, so that equal blocks are not equal work.
#[par_sync::task]
fn uneven(item: u32) -> u64 {
    (0..20_000 + 1_000 * u64::from(item)).fold(u64::from(item), |hash, step| {
        (hash ^ step).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
    })
}

/// Counts what the pool tells.
#[derive(Default)]
struct Tally {
    messages: AtomicU64,
    busy_nanos: AtomicU64,
}

impl Observer for Tally {
    fn event(&self, event: &Event) {
        match event {
            Event::Started { .. } => _ = self.messages.fetch_add(1, Ordering::Relaxed),
            Event::Finished { took, .. } => {
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let block = ITEMS as usize / WORKERS;
    let plans = [
        // Static: settled before the work begins.
        ("block", Mapping::StaticBlock, block),
        ("cyclic", Mapping::Cyclic, 1),
        // A manager hands the next chunk to whoever is free.
        ("dynamic", Mapping::Dynamic, 4),
        // A manager for each group of workers, which fetches more at a time from the one above.
        ("hierarchical", Mapping::Hierarchical { groups: 2 }, 4),
        // No manager: workers that run dry take from each other.
        ("stealing", Mapping::Stealing, 4),
    ];
    println!("{ITEMS} items of uneven cost on {WORKERS} workers");
    println!("mapping       answer                messages  idle");
    let mut values = Vec::new();
    for (name, mapping, chunk) in plans {
        let plan = Plan::default().mapping(mapping).chunk(ChunkPlan::Fixed(chunk));
        let tally = Arc::new(Tally::default());
        let (results, idle) = run(plan, &tally)?;
        let answer = results.iter().fold(0u64, |sum, value| sum.wrapping_add(*value));
        let messages = tally.messages.load(Ordering::Relaxed);
        println!("{name:<12}  {answer:<20}  {messages:>8}  {idle:.1}");
        values = results;
    }

    let pool = ThreadPool::new(2)?;
    let (odd, even) = pool.join_with(
        || values.iter().filter(|value| *value % 2 == 1).count(),
        || values.iter().filter(|value| *value % 2 == 0).count(),
    );
    println!("by function, side by side: {odd} odd results, {even} even ones");
    Ok(())
}

/// The results of a map under that plan, and the idle time of its workers in milliseconds.
fn run(plan: Plan, tally: &Arc<Tally>) -> Result<(Vec<u64>, f64), Box<dyn std::error::Error>> {
    // A pool of its own for each plan: an observer stays as long as its pool.
    let pool = ThreadPool::new(WORKERS)?.with_plan(plan);
    pool.observer(tally.clone());
    let began = Instant::now();
    let results = pool.map::<uneven>(0..ITEMS)?;
    let took = began.elapsed();
    let busy = tally.busy_nanos.load(Ordering::Relaxed) as f64;
    let idle = (took.as_nanos() as f64 * WORKERS as f64 - busy).max(0.0) / 1e6;
    Ok((results, idle))
}
