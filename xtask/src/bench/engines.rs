//! The engines that the benchmarks know.

use super::runner::Runner;
use crate::Error;

/// An engine and how it is started with a number of workers. Dropping the runner stops its workers.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) start: fn(usize) -> Result<Box<dyn Runner>, Error>,
}

pub(crate) const ENGINES: &[Engine] = &[];
