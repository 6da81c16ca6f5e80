//! The limit of a worker's memory: looked at after every task, and, for twice of it, about every millisecond while one runs.

use super::Worker;
use crate::die;
use crate::page::OVER_MEMORY;
use crate::protocol::up;
use par_core::wire::WireError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Looks at the memory of this process.
pub(super) struct Gauge {
    limit: u64,
    statm: File,
    page: u64,
    /// Whether the pool was told that the worker has grown too large.
    told: AtomicBool,
}

impl Gauge {
    /// Nothing where there is no limit.
    pub(super) fn new(limit: Option<u64>) -> io::Result<Option<Self>> {
        let Some(limit) = limit else { return Ok(None) };
        Ok(Some(Gauge {
            limit,
            statm: File::open("/proc/self/statm")?,
            page: rustix::param::page_size() as u64,
            told: AtomicBool::new(false),
        }))
    }

    /// Bytes of memory that are this process's own: resident, and of no file.
    fn own(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0)?;
        let text = str::from_utf8(&text[..length]).unwrap_or_default();
        let mut pages = text.split(' ').skip(1).map(str::parse::<u64>);
        match (pages.next(), pages.next()) {
            (Some(Ok(resident)), Some(Ok(shared))) => Ok(resident.saturating_sub(shared) * self.page),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn is_over(&self, limit: u64) -> bool {
        // What the system does not tell limits nobody.
        self.own().is_ok_and(|own| own > limit)
    }
}

impl Worker {
    /// After a task: whether this worker is to begin nothing more, which the pool is told.
    pub(super) fn is_worn(&self) -> bool {
        let Some(gauge) = &self.gauge else { return false };
        if gauge.told.load(Ordering::Relaxed) {
            return true;
        }
        if !gauge.is_over(gauge.limit) {
            return false;
        }
        gauge.told.store(true, Ordering::Relaxed);
        // Infallible: there is no payload.
        let _ = self.outbox.frame(up::WORN, |_| Ok::<(), WireError>(()));
        self.outbox.flush();
        true
    }

    /// While a task runs: ends this process if it is too large. One that is so since an earlier task waits to be replaced.
    pub(super) fn weigh(&self) {
        let Some(gauge) = &self.gauge else { return };
        let most = gauge.limit.saturating_mul(2);
        // Under the lock, so that no task ends between the look and the end: it would be lost for what another has taken.
        if !gauge.told.load(Ordering::Relaxed) && self.executors.while_running(|| gauge.is_over(most)) {
            self.outbox.page().set_verdict(OVER_MEMORY);
            die();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_shows() {
        let gauge = Gauge::new(Some(u64::MAX))
            .expect("a file of the system")
            .expect("a limit");
        let before = gauge.own().expect("a number");
        let much = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(gauge.own().expect("a number") >= before + (32 << 20));
        drop(much);
        assert!(Gauge::new(None).expect("nothing to open").is_none());
    }
}
