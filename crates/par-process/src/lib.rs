//! Child processes of the same program, re-executed and never forked.
#![deny(unsafe_code)]

mod before_main;
pub mod role;

pub use par_core;
pub use role::init;

/// What the macros of this crate expand to.
#[doc(hidden)]
pub mod macro_support {
    pub use linkme;
}
