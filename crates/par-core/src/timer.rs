//! One clock for the deadlines of jobs, so that they hold for awaited and detached tasks too.

use crate::engine::Engine;
use crate::job::Job;
use parking_lot::{Condvar, Mutex};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Once, Weak};
use std::thread;
use std::time::Instant;

struct Alarm {
    at: Instant,
    number: u64,
    job: Weak<Job>,
    engine: Weak<dyn Engine>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Alarm {}
impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

struct Clock {
    alarms: Mutex<(BinaryHeap<Reverse<Alarm>>, u64)>,
    sooner: Condvar,
}

static CLOCK: std::sync::LazyLock<Clock> = std::sync::LazyLock::new(|| Clock {
    alarms: Mutex::default(),
    sooner: Condvar::new(),
});

/// Ends `job` as timed out when its deadline comes, if it has one.
pub(crate) fn watch(job: &Arc<Job>, engine: &Arc<dyn Engine>) {
    let Some(at) = job.deadline() else { return };
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // Without a clock, deadlines still hold for those who block: their wait ends by itself.
        let _ = thread::Builder::new().name("par-clock".to_owned()).spawn(run);
    });
    let mut alarms = CLOCK.alarms.lock();
    alarms.1 += 1;
    let number = alarms.1;
    let first = alarms.0.peek().is_none_or(|Reverse(next)| at < next.at);
    alarms.0.push(Reverse(Alarm {
        at,
        number,
        job: Arc::downgrade(job),
        engine: Arc::downgrade(engine),
    }));
    drop(alarms);
    if first {
        CLOCK.sooner.notify_one();
    }
}

fn run() {
    let mut alarms = CLOCK.alarms.lock();
    loop {
        let now = Instant::now();
        match alarms.0.peek() {
            None => CLOCK.sooner.wait(&mut alarms),
            Some(Reverse(next)) if next.at > now => {
                let at = next.at;
                CLOCK.sooner.wait_until(&mut alarms, at);
            }
            Some(_) => {
                let due = alarms.0.pop();
                parking_lot::MutexGuard::unlocked(&mut alarms, || {
                    if let Some(Reverse(alarm)) = due
                        && let Some(job) = alarm.job.upgrade()
                        && job.expire()
                        && let Some(engine) = alarm.engine.upgrade()
                    {
                        engine.cancel(&job, true);
                    }
                });
            }
        }
    }
}
