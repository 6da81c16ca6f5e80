//! What the workers of a pool have done so far, and which cores they keep to.

use super::{Inner, ThreadEngine};
use std::sync::atomic::Ordering;

/// What a worker has done, with the substitutes that were lent for it. Counted without a clock and without a step that others see: each thread
/// counts for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkerStatistics {
    /// How many tasks it has run.
    pub ran: u64,
    /// How many halves of joins it took from others.
    pub stolen: u64,
    /// How many times it had nothing to do, and slept.
    pub slept: u64,
}

impl ThreadEngine {
    /// What each worker has done so far, by index. Threads that have ended (a pool that was made smaller, substitutes) are no more
    /// in it.
    ///
    /// ```
    /// use par_sync::ThreadPool;
    ///
    /// let pool = ThreadPool::new(2)?;
    /// pool.map_fn(0..1000u32, |x| x + 1)?;
    /// let ran: u64 = pool.engine().statistics().iter().map(|worker| worker.ran).sum();
    /// assert!(ran <= 1000); // whoever waits for a map helps
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics(&self) -> Vec<WorkerStatistics> {
        let inner = &self.inner;
        let mut workers = vec![WorkerStatistics::default(); inner.sizes().0];
        for desk in &inner.queue.state.lock().desks {
            let Some(worker) = workers.get_mut(desk.worker) else {
                continue;
            };
            worker.ran += desk.ran.load(Ordering::Relaxed);
            worker.stolen += desk.stolen.load(Ordering::Relaxed);
            worker.slept += desk.slept.load(Ordering::Relaxed);
        }
        workers
    }

    /// How many tasks wait for a worker.
    pub fn waiting(&self) -> usize {
        let state = self.inner.queue.state.lock();
        state.jobs.iter().map(|job| job.unclaimed()).sum()
    }
}

impl Inner {
    /// Keeps the calling thread, which is that worker, to its core.
    pub(super) fn keep_to_core(&self, worker: usize) {
        let cores = &self.options.cores;
        if let Some(core) = cores.get(worker % cores.len().max(1)) {
            // It was allowed when the pool started; where that has changed since, the thread runs where it may.
            let _ = keep_to(*core);
        }
    }
}

/// Whether the pool may have these cores; the text says why not.
pub(super) fn check_cores(cores: &[usize]) -> Result<(), String> {
    if cores.is_empty() {
        return Ok(());
    }
    let allowed = allowed_cores()?;
    match cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(format!(
            "core {core} is not one of those that this program may use: {allowed:?}"
        )),
        None => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn allowed_cores() -> Result<Vec<usize>, String> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None)
        .map_err(|error| format!("the system does not say which cores there are: {error}"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

#[cfg(target_os = "linux")]
fn keep_to(core: usize) -> std::io::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn allowed_cores() -> Result<Vec<usize>, String> {
    Err("threads can be kept to cores on Linux only".to_owned())
}

#[cfg(not(target_os = "linux"))]
fn keep_to(_: usize) -> std::io::Result<()> {
    Ok(())
}
