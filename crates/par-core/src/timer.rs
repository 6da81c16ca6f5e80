//! One clock for the deadlines of jobs, so that they hold for awaited and detached tasks too.

use crate::engine::Engine;
use crate::job::Job;
use crate::panics;
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

#[derive(Default)]
struct Alarms {
    heap: BinaryHeap<Reverse<Alarm>>,
    /// The number of the last one.
    number: u64,
    /// At how many the dead are looked for.
    crowd: usize,
}

impl Alarms {
    /// Adds an alarm; whether it is the first to come.
    fn add(&mut self, at: Instant, what: What) -> bool {
        // A job that is gone keeps its memory until its alarm goes: with long deadlines that would be all jobs of hours. Looking
        // when they have doubled costs each alarm a constant.
        if self.heap.len() >= self.crowd {
            self.heap.retain(|Reverse(alarm)| alarm.what.is_alive());
            self.crowd = (2 * self.heap.len()).max(CROWD);
        }
        self.number += 1;
        let number = self.number;
        let first = self.heap.peek().is_none_or(|Reverse(next)| at < next.at);
        self.heap.push(Reverse(Alarm { at, number, what }));
        first
    }
}

/// So few alarms are nobody's trouble.
const CROWD: usize = 1024;

impl What {
    fn is_alive(&self) -> bool {
        match self {
            What::Late(job, _) => job.strong_count() > 0,
            What::Wake(_) => true,
        }
    }
}

struct Clock {
    alarms: Mutex<Alarms>,
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
    let first = alarms.add(at, what);
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
        match alarms.heap.peek() {
            None => CLOCK.sooner.wait(&mut alarms),
            Some(Reverse(next)) if next.at > now => {
                let at = next.at;
                CLOCK.sooner.wait_until(&mut alarms, at);
            }
            Some(_) => {
                let due = alarms.heap.pop();
                // Wakers, engines and values of users: were this thread to end by their panic, no deadline would be kept any more.
                let due = || due.map(|Reverse(alarm)| panics::report("at a deadline", || ring(alarm.what)));
                parking_lot::MutexGuard::unlocked(&mut alarms, due);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Body, Spec};
    use crate::kernel::{Identity, Kernel};
    use crate::observe::Observers;
    use crate::plan::{Plan, Schedule};
    use std::task::Wake;

    struct Rude;

    impl Wake for Rude {
        fn wake(self: Arc<Self>) {
            panic!("nobody listens here");
        }
    }

    struct Polite(std::sync::mpsc::Sender<()>);

    impl Wake for Polite {
        fn wake(self: Arc<Self>) {
            // Nobody listens any more where the test has failed.
            let _ = self.0.send(());
        }
    }

    #[test]
    fn the_clock_goes_on_when_a_waker_panics() {
        let now = Instant::now();
        assert!(set(now, What::Wake(Waker::from(Arc::new(Rude)))));
        let (tell, told) = std::sync::mpsc::channel();
        assert!(set(now, What::Wake(Waker::from(Arc::new(Polite(tell))))));
        let outcome = told.recv_timeout(Duration::from_secs(30));
        assert_eq!(outcome, Ok(()), "the clock stands still");
    }

    #[test]
    fn jobs_that_are_gone_leave_no_alarms_behind() {
        let far = Instant::now() + Duration::from_secs(1 << 20);
        let pool = crate::SerialPool::new(1).expect("starts").into_any();
        let job = || {
            let spec = Spec::of::<Identity<u64>>(&Plan::default(), &Observers::default());
            let body = crate::body::single::SingleBody::new(Identity::<u64>::new(), 1, Kernel::start);
            Job::new(spec, 1, Schedule::single(), body) as Arc<Job<dyn Body>>
        };
        let kept = job();
        let late = |job: &Arc<Job>| What::Late(Arc::downgrade(job), Arc::downgrade(pool.engine()));
        let mut alarms = Alarms::default();
        alarms.add(far, late(&kept));
        for _ in 0..10 * CROWD {
            alarms.add(far, late(&job()));
        }
        assert!(alarms.heap.len() <= CROWD + 1, "{} alarms", alarms.heap.len());
        let first = alarms.heap.pop().map(|Reverse(alarm)| alarm.number);
        assert_eq!(first, Some(1), "the job that is there lost its alarm");
    }
}
