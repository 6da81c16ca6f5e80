//! How a task is called and run where its call does not say.

use super::config::{seconds, seconds_or_none};
use super::rate::Rate;
use par_core::TaskError;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// How a task is called and run where its call does not say; see [`AppBuilder::task_with`](super::AppBuilder::task_with). In a file of
/// [`AppBuilder::file`](super::AppBuilder::file) the names are the same, and times are numbers of seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskOptions {
    /// The queue that its calls go to; that of the app, where there is none.
    pub queue: Option<String>,
    /// From 0 to 255; higher ones go first.
    pub priority: u8,
    /// Whether it is acknowledged after it ran and not before: it is run again when its worker dies, so it should do no harm twice.
    pub acks_late: bool,
    /// Whether nobody wants its value.
    pub ignore_result: bool,
    /// When it is tried again after a failure.
    pub retry: Retry,
    /// How long it may run until it is told ([`TaskContext::cancelled`](super::TaskContext::cancelled)), so that it can end in peace.
    #[serde(with = "seconds_or_none")]
    #[doc(alias = "soft_time_limit")]
    pub soft_limit: Option<Duration>,
    /// How long it may run until it has failed: a child process is killed, the future of an async worker is dropped; a thread can only be
    /// told, and what comes of it after that is not kept.
    #[serde(with = "seconds_or_none")]
    #[doc(alias = "time_limit")]
    pub hard_limit: Option<Duration>,
    /// How often each worker begins it at most.
    #[doc(alias = "rate_limit")]
    pub rate: Option<Rate>,
    /// How often a task that acknowledges late goes back to the end of its queue when the child process that runs it dies. Then it has failed: a task
    /// that kills whoever runs it would go on for ever.
    #[doc(alias = "reject_on_worker_lost")]
    pub requeue_lost: u32,
}

/// When a task is tried again after a failure: `count` times, after `delay`, which grows by `factor` each time up to `most`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often at most.
    #[doc(alias = "max_retries")]
    pub count: u32,
    /// How long before the first time.
    #[doc(alias = "default_retry_delay")]
    #[serde(with = "seconds")]
    pub delay: Duration,
    /// By what the time grows.
    #[doc(alias = "retry_backoff")]
    pub factor: f64,
    /// The longest time.
    #[doc(alias = "retry_backoff_max")]
    #[serde(with = "seconds")]
    pub most: Duration,
    /// Whether the time is drawn from nothing up to that.
    #[doc(alias = "retry_jitter")]
    pub jitter: bool,
    /// The types of errors that are worth it, as `std::any::type_name` ends; where there is none, all are, and panics too.
    #[doc(alias = "autoretry_for")]
    pub errors: Vec<String>,
}

impl Default for Retry {
    /// Never.
    fn default() -> Self {
        Retry {
            count: 0,
            delay: Duration::from_secs(1),
            factor: 2.0,
            most: Duration::from_secs(600),
            jitter: true,
            errors: Vec::new(),
        }
    }
}

impl Retry {
    /// Whether that error is worth another time after so many.
    pub(super) fn applies(&self, error: &TaskError, retries: u32) -> bool {
        retries < self.count
            && match error {
                TaskError::Failed(failure) => {
                    let ends = |kind: &String| failure.type_name.ends_with(kind.as_str());
                    self.errors.is_empty() || self.errors.iter().any(ends)
                }
                TaskError::Panicked(_) => self.errors.is_empty(),
                _ => false,
            }
    }

    /// How long before the next time after so many.
    pub(super) fn pause(&self, retries: u32) -> Duration {
        let factor = self
            .factor
            .max(0.0)
            .powi(i32::try_from(retries).unwrap_or(i32::MAX));
        let pause = Duration::try_from_secs_f64(self.delay.as_secs_f64() * factor).unwrap_or(self.most);
        let pause = pause.min(self.most);
        if self.jitter {
            // A hash with fresh keys is as good as a die.
            let drawn = RandomState::new().hash_one(retries) as f64 / u64::MAX as f64;
            return pause.mul_f64(drawn);
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut retry = Retry {
            count: 9,
            jitter: false,
            most: Duration::from_secs(5),
            ..Retry::default()
        };
        let pauses: Vec<u64> = (0..5).map(|retries| retry.pause(retries).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        assert_eq!(retry.pause(u32::MAX), retry.most);
        retry.jitter = true;
        assert!((0..100).all(|_| retry.pause(3) <= retry.most));
    }

    #[test]
    fn only_errors_that_are_worth_it_are_tried_again() {
        let failed = |kind: &str| {
            TaskError::Failed(par_core::Failure {
                type_name: kind.to_owned(),
                message: String::new(),
                chain: Vec::new(),
            })
        };
        let all = Retry {
            count: 2,
            ..Retry::default()
        };
        assert!(all.applies(&failed("io::Error"), 1) && !all.applies(&failed("io::Error"), 2));
        assert!(!all.applies(&TaskError::Cancelled, 0));
        let some = Retry {
            errors: vec!["io::Error".to_owned()],
            ..all
        };
        assert!(some.applies(&failed("std::io::Error"), 0) && !some.applies(&failed("Other"), 0));
    }
}
