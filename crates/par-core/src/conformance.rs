//! The twelve laws as tests that every engine must pass, at given numbers of workers (feature `conformance`).
//!
//! An engine's `tests/laws.rs` names the engine; [`stamp!`] makes a test for each law and number of workers:
//!
//! ```no_run
//! # mod par_sync { pub use par_core::Serial as ThreadEngine; }
//! use par_sync::ThreadEngine;
//! par_core::conformance::stamp!(laws, [1, 3], |setup| setup.start::<ThreadEngine>());
//! # fn main() {}
//! ```
//!
//! Engines with more to offer add [`stamp_borrowing!`], [`stamp_same_program!`] and [`stamp_elastic!`]. What a test harness of their own needs
//! (ranks under a launcher) is in [`check`] and [`LAWS`].
//!
//! 1. A law is weaker only by a declared [capability](crate::Capabilities), and the run says so on the standard error, as in
//!    `law 5 (cancel) in the weaker form on serial at 1 worker: ...`.
//! 2. A law has a deadline. What hangs fails, with the name of the law and of the check.
//! 3. Tasks tell what happened through files in a folder that they get as an argument, because memory is not shared
//!    between processes. They are tasks of this crate, found by name in every program that has the feature.
//! 4. Every law has an engine that breaks it, in the tests of this crate, and fails on it.

mod bench;
mod borrowing;
mod elastic;
mod folder;
mod law00_workers;
mod law01_identity;
mod law02_logs;
mod law02_outcome;
mod law02_waits;
mod law03_delivery;
mod law04_death;
mod law05_cancel;
mod law06_order;
mod law07_bits;
mod law08_pressure;
mod law09_interleaving;
mod law09_nesting;
mod law10_shutdown;
mod law11_scopes;
mod law12_time;
mod same_program;
mod stamp;
mod tasks;

pub use crate::{
    __stamp_borrowing_laws as stamp_borrowing, __stamp_elastic_laws as stamp_elastic, __stamp_laws as stamp,
    __stamp_same_program_laws as stamp_same_program,
};
pub use bench::{Bench, Check, Limits, Setup, Start};
pub use tasks::simulate_death;

use crate::engine::{Borrowing, Elastic, SameProgram};
use crate::pool::{AnyPool, Pool};

/// A law, as checks that an engine must pass.
#[derive(Debug, Clone, Copy)]
pub struct Law {
    /// Its number in the list of laws; 0 is what workers owe beside them: initialiser, local state, shared values.
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    checks: &'static [Check<AnyPool>],
}

/// All laws, by number.
pub const LAWS: [Law; 13] = [
    Law {
        number: 0,
        name: "workers",
        checks: law00_workers::CHECKS,
    },
    Law {
        number: 1,
        name: "identity",
        checks: law01_identity::CHECKS,
    },
    Law {
        number: 2,
        name: "outcome",
        checks: law02_outcome::CHECKS,
    },
    Law {
        number: 3,
        name: "delivery",
        checks: law03_delivery::CHECKS,
    },
    Law {
        number: 4,
        name: "worker death",
        checks: law04_death::CHECKS,
    },
    Law {
        number: 5,
        name: "cancel",
        checks: law05_cancel::CHECKS,
    },
    Law {
        number: 6,
        name: "order",
        checks: law06_order::CHECKS,
    },
    Law {
        number: 7,
        name: "bits",
        checks: law07_bits::CHECKS,
    },
    Law {
        number: 8,
        name: "back-pressure",
        checks: law08_pressure::CHECKS,
    },
    Law {
        number: 9,
        name: "nesting",
        checks: law09_nesting::CHECKS,
    },
    Law {
        number: 10,
        name: "shutdown",
        checks: law10_shutdown::CHECKS,
    },
    Law {
        number: 11,
        name: "scopes",
        checks: law11_scopes::CHECKS,
    },
    Law {
        number: 12,
        name: "time",
        checks: law12_time::CHECKS,
    },
];

/// Holds an engine against law `number`, which is an index into [`LAWS`].
///
/// # Errors
/// What was broken, a line for each check that failed: the law, the check, the number of workers, what was seen and where.
///
/// # Panics
/// If there is no law of that number.
///
/// ```
/// use par_core::conformance::{check, Limits};
/// use par_core::Serial;
/// check(1, |setup| setup.start::<Serial>(), 1, Limits::default())?;
/// # Ok::<(), String>(())
/// ```
pub fn check(number: usize, start: Start<AnyPool>, workers: usize, limits: Limits) -> Result<(), String> {
    let law = LAWS[number];
    bench::run(
        format!("law {} ({})", law.number, law.name),
        law.checks.to_vec(),
        start,
        workers,
        limits,
    )
}

/// Holds an engine against what [`Borrowing`] promises.
///
/// # Errors
/// As [`check`].
pub fn check_borrowing<E: Borrowing>(
    start: Start<Pool<E>>,
    workers: usize,
    limits: Limits,
) -> Result<(), String> {
    bench::run(
        "borrowing".to_owned(),
        borrowing::checks(),
        start,
        workers,
        limits,
    )
}

/// Holds an engine against what [`Elastic`] promises.
///
/// # Errors
/// As [`check`].
pub fn check_elastic<E: Elastic>(
    start: Start<Pool<E>>,
    workers: usize,
    limits: Limits,
) -> Result<(), String> {
    bench::run("elastic".to_owned(), elastic::checks(), start, workers, limits)
}

/// Holds an engine against what [`SameProgram`] promises.
///
/// # Errors
/// As [`check`].
pub fn check_same_program<E: SameProgram>(
    start: Start<Pool<E>>,
    workers: usize,
    limits: Limits,
) -> Result<(), String> {
    bench::run(
        "same program".to_owned(),
        same_program::checks(),
        start,
        workers,
        limits,
    )
}
