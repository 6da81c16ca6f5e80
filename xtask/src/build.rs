//! `cargo xtask build`: every crate with its default features.

use crate::{Error, command};

/// Builds the workspace.
///
/// # Errors
/// The build fails.
pub(crate) fn run() -> Result<(), Error> {
    command::run(command::cargo(&["build", "--workspace"]))
}
