//! How often, and for how long, each object made threads wait: switched on at run time. Needs the feature `statistics`.
//!
//! ```
//! use par_sync::{Mutex, statistics};
//!
//! statistics::enable();
//! let accounts = Mutex::named("accounts", 0);
//! for _ in 0..3 {
//!     *accounts.lock() += 1;
//! }
//! let row = statistics::snapshot().into_iter().find(|row| row.name == r#"mutex "accounts""#).unwrap();
//! assert_eq!((row.acquired, row.waits), (3, 0));
//! println!("{}", statistics::table());
//! ```

use parking_lot::Mutex;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

static ENABLED: AtomicBool = AtomicBool::new(false);
static KNOWN: Mutex<Vec<Weak<Counts>>> = Mutex::new(Vec::new());

/// What is counted of an object.
#[derive(Debug)]
pub(super) struct Counts {
    name: String,
    acquired: AtomicU64,
    waits: AtomicU64,
    waited: AtomicU64,
    longest: AtomicU64,
}

impl Counts {
    pub(super) fn known(name: String) -> Arc<Self> {
        let counts = Arc::new(Counts {
            name,
            acquired: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        });
        let mut known = KNOWN.lock();
        // Objects that are gone, now and then.
        if known.len().is_power_of_two() {
            known.retain(|counts| counts.strong_count() > 0);
        }
        known.push(Arc::downgrade(&counts));
        counts
    }

    pub(super) fn acquired(&self) {
        self.acquired.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waited(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.waited.fetch_add(nanos, Ordering::Relaxed);
        self.longest.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// What an object made of threads, since the statistics were switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The kind of the object and its name, or where it was made.
    pub name: String,
    /// How many times it was taken, for a lock.
    pub acquired: u64,
    /// How many times somebody had to wait for it.
    pub waits: u64,
    /// For how long, all together.
    pub waited: Duration,
    /// For how long at most.
    pub longest: Duration,
}

/// Begins to count.
pub fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Counts no more; what was counted stays.
pub fn disable() {
    ENABLED.store(false, Ordering::Relaxed);
}

/// Whether it counts.
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// The objects that are there and were used since, those for which threads waited longest first.
pub fn snapshot() -> Vec<Statistics> {
    let known = KNOWN.lock();
    let mut rows: Vec<_> = known
        .iter()
        .filter_map(Weak::upgrade)
        .map(|counts| row(&counts))
        .collect();
    drop(known);
    rows.sort_by(|a, b| b.waited.cmp(&a.waited).then_with(|| b.acquired.cmp(&a.acquired)));
    rows
}

fn row(counts: &Counts) -> Statistics {
    Statistics {
        name: counts.name.clone(),
        acquired: counts.acquired.load(Ordering::Relaxed),
        waits: counts.waits.load(Ordering::Relaxed),
        waited: Duration::from_nanos(counts.waited.load(Ordering::Relaxed)),
        longest: Duration::from_nanos(counts.longest.load(Ordering::Relaxed)),
    }
}

/// The [`snapshot`] as a table for people.
pub fn table() -> String {
    let mut text = format!(
        "{:>10} {:>8} {:>12} {:>12}  object\n",
        "acquired", "waits", "waited", "longest"
    );
    for row in snapshot() {
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "{:>10} {:>8} {:>12} {:>12}  {}",
            row.acquired,
            row.waits,
            format!("{:.1?}", row.waited),
            format!("{:.1?}", row.longest),
            row.name
        );
    }
    text
}
