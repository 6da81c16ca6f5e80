//! The graph in words, and who is told of them.

use super::Deadlock;
use super::graph::{Cycle, Graph, Object, Step, ThreadNumber};
use parking_lot::RwLock;
use std::sync::Arc;

/// What is told of warnings, or of deadlocks.
pub type Hook = Box<dyn Fn(&str) + Send + Sync>;

type Place = RwLock<Option<Arc<Hook>>>;
static WARNINGS: Place = RwLock::new(None);
static DEADLOCKS: Place = RwLock::new(None);

fn set(place: &Place, hook: Option<Hook>) {
    let new = hook.map(Arc::new);
    // The old one is code of the user's, and goes without the lock.
    let old = std::mem::replace(&mut *place.write(), new);
    drop(old);
}

/// Sets what is told of locks that are taken in orders that could meet, and of waits that only threads unknown to the detector could end, instead of
/// standard error. It runs without a lock of the detector, in the thread that took the last lock, or waits; a panic of its own is
/// printed. `None` is standard error again.
pub fn on_warning(hook: Option<Hook>) {
    set(&WARNINGS, hook);
}

/// Sets what is told of every deadlock, besides the call that gets it as its error. One that no call could refuse, as all that wait
/// waited before (the last thread that could have gone on has ended), is printed to standard error where there is no hook.
pub fn on_deadlock(hook: Option<Hook>) {
    set(&DEADLOCKS, hook);
}

/// Tells the hook; false if there is none.
fn tell(place: &Place, text: &str) -> bool {
    let hook = place.read().clone();
    let told = hook.map(|hook| par_core::catch(|| hook(text)));
    if let Some(Err(error)) = &told {
        eprintln!("par-sync: {text}\n(the hook for it: {error})");
    }
    told.is_some()
}

pub(super) fn warn(warning: &str) {
    if !tell(&WARNINGS, warning) {
        eprintln!("par-sync: {warning}");
    }
}

/// A deadlock that a call returns.
pub(super) fn refuse(deadlock: &Deadlock) {
    tell(&DEADLOCKS, &deadlock.to_string());
}

/// A deadlock that nobody returns.
pub(super) fn announce(report: &str) {
    if !tell(&DEADLOCKS, report) {
        eprintln!("par-sync: {report}");
    }
}

impl Graph {
    pub(super) fn called(&self, object: Object) -> &str {
        self.names.get(&object).map_or("something", |(_, name)| name)
    }

    fn thread(&self, thread: ThreadNumber) -> &str {
        let name = self.threads.get(&thread).or_else(|| self.ended.get(&thread));
        name.map_or("somebody", String::as_str)
    }

    fn tell_holds(&self, thread: ThreadNumber) -> String {
        let locks = self.in_hand(thread).filter(|(object, _)| self.is_lock(*object));
        locks
            .map(|(object, place)| format!(" holds {} since {place},", self.called(object)))
            .collect()
    }

    /// Who holds and waits for what.
    pub(super) fn tell(&self, title: &str, steps: &[Step]) -> String {
        let mut text = title.to_owned();
        for (thread, wait) in steps {
            text += &format!("\n  thread {:?}", self.thread(*thread));
            text += &self.tell_holds(*thread);
            text += &format!(" waits for {}", self.called(wait.object));
            // A wait for a task is entered by the engine, not where it was written.
            if !self.is_task(wait.object) {
                text += &format!(" at {}", wait.place);
            }
            if let Some(again) = wait.again {
                text += &format!(", and then for {}", self.called(again));
            }
        }
        text
    }

    pub(super) fn tell_cycle(&self, cycle: &Cycle) -> String {
        let title = match (cycle.ended, cycle.steps.len()) {
            (Some(_), _) => "deadlock: a thread has ended, and holds what is waited for:".to_owned(),
            (None, 1) => "deadlock: a thread waits for what it holds:".to_owned(),
            (None, threads) => format!("deadlock: {threads} threads wait for each other:"),
        };
        let mut text = self.tell(&title, &cycle.steps);
        if let Some(ended) = cycle.ended {
            let holds = self.tell_holds(ended);
            text += &format!("\n  thread {:?}{} and has ended", self.thread(ended), holds);
        }
        text
    }
}
