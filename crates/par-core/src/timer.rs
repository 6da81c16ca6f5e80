//! One clock for the deadlines of jobs, so that they hold for awaited and detached tasks too.

use crate::engine::Engine;
use crate::job::Job;
use parking_lot::{Condvar, Mutex};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock, Weak};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

struct Alarm {
    at: Instant,
    number: u64,
    what: What,
}

enum What {
    /// A job is late, if it is not done.
    Late(Weak<Job>, Weak<dyn Engine>),
    /// Somebody paused.
    Wake(Waker),
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

static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock {
    alarms: Mutex::default(),
    sooner: Condvar::new(),
});

/// Ends `job` as timed out when its deadline comes, if it has one.
#[inline]
pub(crate) fn watch(job: &Arc<Job>, engine: &Arc<dyn Engine>) {
    if let Some(at) = job.deadline() {
        // Without a clock, deadlines still hold for those who block: their wait ends by itself.
        set(at, What::Late(Arc::downgrade(job), Arc::downgrade(engine)));
    }
}

/// Ready when the time has passed.
pub(crate) async fn pause(time: Duration) {
    let at = Instant::now() + time;
    poll_fn(|cx| {
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        if !set(at, What::Wake(cx.waker().clone())) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// Has the clock do something; whether there is a clock.
fn set(at: Instant, what: What) -> bool {
    static STARTED: LazyLock<bool> = LazyLock::new(|| {
        let clock = thread::Builder::new().name("par-clock".to_owned());
        clock.spawn(run).is_ok()
    });
    if !*STARTED {
        return false;
    }
    let mut alarms = CLOCK.alarms.lock();
    alarms.1 += 1;
    let number = alarms.1;
    let first = alarms.0.peek().is_none_or(|Reverse(next)| at < next.at);
    alarms.0.push(Reverse(Alarm { at, number, what }));
    drop(alarms);
    if first {
        CLOCK.sooner.notify_one();
    }
    true
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
                parking_lot::MutexGuard::unlocked(&mut alarms, || due.map(|Reverse(alarm)| ring(alarm.what)));
            }
        }
    }
}

fn ring(what: What) {
    match what {
        What::Wake(waker) => waker.wake(),
        What::Late(job, engine) => {
            if let Some(job) = job.upgrade()
                && job.expire()
                && let Some(engine) = engine.upgrade()
            {
                engine.cancel(&job, true);
            }
        }
    }
}
