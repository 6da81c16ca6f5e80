//! The error of a deadlock.

use std::fmt;
use std::sync::Arc;

/// Threads wait for each other, and the call that would have closed the cycle did not wait. Its text says who holds and waits for what, and where.
///
/// Made only where the detector is compiled in (feature `deadlock`) and switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    report: Arc<str>,
}

impl Deadlock {
    #[cfg(feature = "deadlock")]
    pub(super) fn new(report: String) -> Self {
        Deadlock {
            report: report.into(),
        }
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

impl std::error::Error for Deadlock {}
