//! The error of a deadlock.

use std::fmt;
use std::sync::Arc;

/// Threads wait for each other, and the call that would have closed the cycle did not wait. Its text says who holds and waits for what, and where.
///
/// Made only where the detector is compiled in (feature `deadlock`) and switched on.
#[derive(Clone, PartialEq, Eq)]
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

/// As [`Display`](fmt::Display): an `unwrap` shows lines that can be read.
impl fmt::Debug for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Deadlock {}
