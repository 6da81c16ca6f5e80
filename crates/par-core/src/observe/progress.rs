//! A progress bar on the terminal (feature `progress`).

use super::{Event, Observer};
use indicatif::ProgressStyle;

/// An observer that shows on the standard error how many parts of what was submitted have ended; nothing where that is not a
/// terminal. What tasks [log](crate::log()), and workers that are lost, scroll by above it; [`finish`](ProgressBar::finish) takes
/// the bar away.
///
/// The streaming forms submit their input in blocks, so there the total grows as they read.
///
/// ```
/// use par_core::{SerialPool, observe::ProgressBar};
/// use std::sync::Arc;
///
/// #[par_core::task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let bar = Arc::new(ProgressBar::new("squares"));
/// let pool = SerialPool::new(1)?;
/// pool.observer(bar.clone());
/// pool.map::<square>(0..100)?;
/// assert_eq!((bar.ended(), bar.submitted()), (100, 100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ProgressBar {
    bar: indicatif::ProgressBar,
}

impl ProgressBar {
    /// A bar with a title before it.
    pub fn new(title: impl Into<String>) -> Self {
        // The terminal is asked by indicatif, which draws on nothing else.
        let bar = indicatif::ProgressBar::new(0);
        let style = "{prefix} [{wide_bar}] {pos}/{len} {per_sec}, {elapsed} and {eta} to go";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_prefix(title.into());
        ProgressBar { bar }
    }

    /// Takes the bar from the terminal; dropping the last pointer to it does the same.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// How many parts have ended, with a value or without.
    pub fn ended(&self) -> u64 {
        self.bar.position()
    }

    /// How many parts were submitted so far.
    pub fn submitted(&self) -> u64 {
        self.bar.length().unwrap_or(0)
    }
}

impl Observer for ProgressBar {
    fn event(&self, event: &Event) {
        match event {
            Event::Submitted { parts, .. } => self.bar.inc_length(*parts as u64),
            Event::Finished { parts, .. } | Event::Failed { parts, .. } => self.bar.inc(parts.len() as u64),
            Event::WorkerLost { worker, reason } => {
                self.bar.println(format!("worker {worker} was lost: {reason}"));
            }
            Event::Log { level, text, .. } => self.bar.println(format!("{level:?}: {text}")),
            _ => {}
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChunkPlan, Plan, SerialPool};
    use std::sync::Arc;

    #[test]
    fn what_is_never_run_ends_as_well() {
        let bar = Arc::new(ProgressBar::new("parts"));
        let pool = SerialPool::new(1).expect("a pool");
        pool.observer(Arc::clone(&bar) as Arc<dyn Observer>);
        let pool = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
        let failed = pool.map_fn(0..100u32, |x| assert!(x != 3, "not 3"));
        assert_eq!(failed.map_err(|error| error.index), Err(3));
        assert_eq!((bar.ended(), bar.submitted()), (100, 100));
        bar.finish();
    }
}
