//! The tokens by which tasks that run hear that their job is cancelled.

use super::Consumer;
use crate::broker::PeerId;
use par_core::CancelFlag;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

/// A job of some pool, as workers know it.
pub(super) type JobKey = (PeerId, u64);

/// The tokens of what runs here.
#[derive(Default)]
pub(super) struct Flags {
    running: HashMap<JobKey, Weak<CancelFlag>>,
    /// The jobs that are cancelled, as of the last look.
    raised: HashSet<JobKey>,
}

impl Consumer {
    pub(super) fn flag(&self, job: JobKey) -> Arc<CancelFlag> {
        let mut flags = self.flags.lock();
        if let Some(flag) = flags.running.get(&job).and_then(Weak::upgrade) {
            return flag;
        }
        if flags.running.len() >= 64 {
            flags.running.retain(|_, flag| flag.strong_count() > 0);
        }
        let flag = Arc::new(CancelFlag::new(None));
        if flags.raised.contains(&job) {
            flag.raise();
        }
        flags.running.insert(job, Arc::downgrade(&flag));
        flag
    }

    /// Raises the flags of cancelled jobs, now and when they come to run.
    pub(crate) fn raise(&self, raised: Vec<JobKey>) {
        let mut flags = self.flags.lock();
        for job in &raised {
            if let Some(flag) = flags.running.get(job).and_then(Weak::upgrade) {
                flag.raise();
            }
        }
        flags.raised = raised.into_iter().collect();
    }

    /// Raises the flags of jobs whose pool is gone.
    pub(crate) fn raise_orphans(&self, lives: impl Fn(PeerId) -> bool) {
        for (job, flag) in &self.flags.lock().running {
            if !lives(job.0)
                && let Some(flag) = flag.upgrade()
            {
                flag.raise();
            }
        }
    }
}
