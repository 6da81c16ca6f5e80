//! How long the workers of a pool were inside tasks: what tells waiting from working slowly.

use par_core::{Event, Observer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Adds up the time of all claims. On the cluster and on processes it is the workers' own clock.
#[derive(Default)]
pub(crate) struct Busy {
    nanoseconds: AtomicU64,
}

impl Busy {
    /// The time that came together since the last call.
    pub(crate) fn take(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.swap(0, Ordering::Relaxed))
    }
}

impl Observer for Busy {
    fn event(&self, event: &Event) {
        if let Event::Finished { took, .. } = event {
            let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }
}

/// Where the time of the workers went, in words.
///
/// `workers` were there for `seconds`, of which they spent `busy` seconds inside tasks, all together; the serial program took
/// `serial` seconds for the same work.
pub(crate) fn in_words(workers: usize, seconds: f64, busy: f64, serial: f64) -> String {
    let available = workers as f64 * seconds;
    let inside = 100.0 * (busy / available).min(1.0);
    let slower = busy / serial;
    let mut words = format!("with {workers} its workers were inside tasks {inside:.0} % of the time");
    if inside < 90.0 {
        words += " and waited for input, for hand-over or for the merging of results else";
    }
    if slower > 1.1 {
        words += &format!(
            "; the tasks took {slower:.2} times as long as in the serial program (shared cores and caches, memory, encoding)"
        );
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[par_core::task]
    fn nap(_: u32) {
        std::thread::sleep(Duration::from_millis(5));
    }

    #[test]
    fn time_inside_tasks_adds_up() {
        let pool = par_core::SerialPool::new(1).unwrap();
        let busy = Arc::new(Busy::default());
        pool.observer(Arc::clone(&busy) as Arc<dyn Observer>);
        pool.for_each::<nap>(0..4).unwrap();
        assert!(busy.take() >= Duration::from_millis(20));
        assert_eq!(busy.take(), Duration::ZERO);
    }

    #[test]
    fn words_tell_waiting_from_working_slowly() {
        assert_eq!(
            in_words(2, 1.0, 1.9, 1.9),
            "with 2 its workers were inside tasks 95 % of the time"
        );
        let waiting = in_words(4, 1.0, 2.0, 2.0);
        assert!(
            waiting.contains("50 %") && waiting.contains("waited for input"),
            "{waiting}"
        );
        let slow = in_words(2, 1.0, 2.0, 1.0);
        assert!(slow.contains("100 %") && slow.contains("2.00 times"), "{slow}");
    }
}
