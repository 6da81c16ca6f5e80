//! `cargo xtask ci`: what continuous integration runs.

use crate::{Error, doc, setup, test};

/// Runs what is quick to fail first (formatting, lints), then the documentation and everything in `test`.
///
/// # Errors
/// The first step that fails.
pub(crate) fn run() -> Result<(), Error> {
    test::fmt()?;
    test::clippy()?;
    doc::run()?;
    test::run(&setup::Options { yes: true })
}
