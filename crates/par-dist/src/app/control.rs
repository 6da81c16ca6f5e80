//! What can be said to a task that runs: that it is to end, and, where its run can be ended by force, that it has ended.

use par_core::CancelFlag;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a task that runs is to end, or was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cancelled {
    /// It has run as long as its [soft limit](super::TaskOptions::soft_limit).
    #[doc(alias = "SoftTimeLimitExceeded")]
    SoftLimit,
    /// It has run as long as its [hard limit](super::TaskOptions::hard_limit).
    #[doc(alias = "TimeLimitExceeded")]
    HardLimit,
    /// Somebody [revoked](super::AsyncResult::terminate) it.
    Revoked,
    /// Its worker stops, and has waited as long as it may.
    Shutdown,
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cancelled::SoftLimit => "its soft time limit is over",
            Cancelled::HardLimit => "its hard time limit is over",
            Cancelled::Revoked => "it was revoked",
            Cancelled::Shutdown => "its worker stops",
        })
    }
}

/// What whoever runs a task is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said {
    Cancel(Cancelled),
    /// By force, where it can.
    End,
}

type Hears = Box<dyn Fn(Said) + Send + Sync>;

/// The reins of a task that runs.
#[derive(Default)]
pub(super) struct Control {
    flag: Arc<CancelFlag>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    why: Option<Cancelled>,
    ended: bool,
    hears: Option<Hears>,
}

impl Control {
    /// Why it is to end, if it is. A later word with more force counts.
    pub(super) fn why(&self) -> Option<Cancelled> {
        self.state.lock().why
    }

    /// Why it was ended by force, if it was.
    pub(super) fn ended(&self) -> Option<Cancelled> {
        let state = self.state.lock();
        state.why.filter(|_| state.ended)
    }

    /// The flag that is up once it is to end.
    pub(super) fn flag(&self) -> Arc<CancelFlag> {
        Arc::clone(&self.flag)
    }

    /// Who hears of it from now on, until [`done`](Self::done); at once, if something was said before.
    pub(super) fn hear(&self, hears: impl Fn(Said) + Send + Sync + 'static) {
        let mut state = self.state.lock();
        if let Some(why) = state.why {
            hears(Said::Cancel(why));
        }
        if state.ended {
            hears(Said::End);
        }
        state.hears = Some(Box::new(hears));
    }

    /// Nobody hears any more.
    pub(super) fn done(&self) {
        self.state.lock().hears = None;
    }

    pub(super) fn cancel(&self, why: Cancelled) {
        let mut state = self.state.lock();
        state.why = Some(why);
        self.flag.raise();
        if let Some(hears) = &state.hears {
            hears(Said::Cancel(why));
        }
    }

    pub(super) fn end(&self, why: Cancelled) {
        self.cancel(why);
        let mut state = self.state.lock();
        state.ended = true;
        if let Some(hears) = &state.hears {
            hears(Said::End);
        }
    }
}

/// The tasks of a worker that run, and when something is to be said to them.
#[derive(Default)]
pub(super) struct Reins {
    all: Mutex<All>,
    changed: Condvar,
}

#[derive(Default)]
struct All {
    number: u64,
    running: HashMap<u64, (String, Arc<Control>)>,
    times: BTreeMap<(Instant, u64), Cancelled>,
    stops: bool,
}

/// A task is among those that run until this is dropped.
pub(super) struct Rein {
    reins: Arc<Reins>,
    number: u64,
    times: [Option<Instant>; 2],
}

impl Reins {
    /// A task runs from now on.
    pub(super) fn take(
        self: &Arc<Self>,
        id: &str,
        control: &Arc<Control>,
        soft: Option<Duration>,
        hard: Option<Duration>,
    ) -> Rein {
        let now = Instant::now();
        let times = [soft, hard].map(|limit| now.checked_add(limit?));
        let mut all = self.all.lock();
        all.number += 1;
        let number = all.number;
        all.running.insert(number, (id.to_owned(), Arc::clone(control)));
        for (time, why) in times.iter().zip([Cancelled::SoftLimit, Cancelled::HardLimit]) {
            if let Some(time) = time {
                // Both may be over at once.
                let key = (*time, number * 2 + u64::from(why == Cancelled::HardLimit));
                all.times.insert(key, why);
                if all
                    .times
                    .first_key_value()
                    .is_some_and(|(first, _)| *first == key)
                {
                    self.changed.notify_all();
                }
            }
        }
        Rein {
            reins: Arc::clone(self),
            number,
            times,
        }
    }

    /// Says what is to be said in time, until [`stop`](Self::stop).
    pub(super) fn watch(&self) {
        let mut all = self.all.lock();
        while !all.stops {
            let Some((&(time, key), &why)) = all.times.first_key_value() else {
                self.changed.wait(&mut all);
                continue;
            };
            if time > Instant::now() {
                self.changed.wait_until(&mut all, time);
                continue;
            }
            all.times.remove(&(time, key));
            let control = all
                .running
                .get(&(key / 2))
                .map(|(_, control)| Arc::clone(control));
            parking_lot::MutexGuard::unlocked(&mut all, || {
                if let Some(control) = control {
                    match why {
                        Cancelled::HardLimit => control.end(why),
                        _ => control.cancel(why),
                    }
                }
            });
        }
    }

    pub(super) fn stop(&self) {
        self.all.lock().stops = true;
        self.changed.notify_all();
    }

    /// Those that run, by the id of the call; of all, where there is none.
    pub(super) fn of(&self, id: Option<&str>) -> Vec<Arc<Control>> {
        let all = self.all.lock();
        let those = all
            .running
            .values()
            .filter(|(other, _)| id.is_none_or(|id| id == other));
        those.map(|(_, control)| Arc::clone(control)).collect()
    }
}

impl Drop for Rein {
    fn drop(&mut self) {
        let mut all = self.reins.all.lock();
        all.running.remove(&self.number);
        for (time, second) in self.times.iter().zip(0..) {
            if let Some(time) = time {
                all.times.remove(&(*time, self.number * 2 + second));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn limits_are_told_in_their_order_and_only_to_those_that_run() {
        let reins = Arc::new(Reins::default());
        let (said, hears) = channel();
        let (one, two) = (Arc::new(Control::default()), Arc::new(Control::default()));
        for (name, control) in [("one", &one), ("two", &two)] {
            let said = said.clone();
            control.hear(move |word| said.send((name, format!("{word:?}"))).expect("heard"));
        }
        let watch = {
            let reins = Arc::clone(&reins);
            std::thread::spawn(move || reins.watch())
        };
        let hour = Some(Duration::from_secs(3600));
        let ended = reins.take("a", &two, Some(Duration::from_millis(1500)), hour);
        let _runs = reins.take(
            "b",
            &one,
            Some(Duration::from_millis(1)),
            Some(Duration::from_millis(2)),
        );
        let said: Vec<_> = (0..3)
            .map(|_| hears.recv_timeout(PATIENCE).expect("said"))
            .collect();
        assert_eq!(
            said.iter()
                .map(|(name, word)| (*name, word.as_str()))
                .collect::<Vec<_>>(),
            [
                ("one", "Cancel(SoftLimit)"),
                ("one", "Cancel(HardLimit)"),
                ("one", "End")
            ]
        );
        assert_eq!(
            (one.ended(), one.flag().is_raised()),
            (Some(Cancelled::HardLimit), true)
        );
        drop(ended);
        assert_eq!(reins.of(None).len(), 1);
        assert_eq!((reins.of(Some("a")).len(), reins.of(Some("b")).len()), (0, 1));
        reins.stop();
        watch.join().expect("no panic");
        assert_eq!(two.why(), None);
    }

    #[test]
    fn who_comes_late_hears_what_was_said() {
        let control = Control::default();
        control.end(Cancelled::Revoked);
        let (said, hears) = channel();
        control.hear(move |word| said.send(format!("{word:?}")).expect("heard"));
        assert_eq!(hears.try_iter().collect::<Vec<_>>(), ["Cancel(Revoked)", "End"]);
        control.done();
        control.cancel(Cancelled::Shutdown);
        assert_eq!(hears.try_recv().ok(), None);
    }
}
