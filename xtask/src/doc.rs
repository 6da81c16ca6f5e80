//! `cargo xtask doc`: the documentation of every crate, with warnings as errors.

use crate::{Error, command};

/// Builds the documentation.
///
/// # Errors
/// A warning or an error of rustdoc, such as a link to nothing.
pub(crate) fn run() -> Result<(), Error> {
    let mut cargo = command::cargo(&["doc", "--no-deps", "--workspace"]);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    command::run(cargo)
}
