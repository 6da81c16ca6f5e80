//! Child processes of the same program, re-executed and never forked.
#![deny(unsafe_code)]

mod before_main;
mod files;
mod options;
mod page;
mod pool;
mod protocol;
pub mod role;
mod worker;

pub use options::Options;
pub use par_core;
pub use par_core::*;
pub use pool::ProcessEngine;
pub use role::init;

use files::receive_files;

/// A pool whose workers are child processes of this program.
pub type ProcessPool = Pool<ProcessEngine>;

/// The name of the engine.
const NAME: &str = "processes";

/// What the macros of this crate expand to.
#[doc(hidden)]
pub mod macro_support {
    pub use linkme;
}
