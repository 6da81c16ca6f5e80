//! Deadlocks found when they close, and warned of before: switched on at run time. Needs the feature `deadlock`.
//!
//! With the detector on, every lock, every join of a thread and every other wait of this crate is entered in one wait-for graph. The call that
//! would close a cycle of locks and joins does not wait: the plain forms panic with a report, those for a time and the `.._checked`
//! ones return it ([`Deadlock`]); so does a wait for what a thread held when it ended. Semaphores, conditions, events, barriers, queues and channels
//! have no owner whose release could be awaited: a wait for one is reported when every thread of the program waits for ever, and warned of
//! ([`on_warning`]) when those do that the detector knows, and the others sleep. Locks taken in different orders are warned of, once a pair,
//! before they ever meet.
//!
//! Waits for tasks of a [`ThreadPool`](crate::ThreadPool) are in the graph, too: one for a task that waits for what this thread holds is refused
//! ([`TaskError::Rejected`](par_core::TaskError), with the report).
//!
//! What was taken before the detector was switched on is unknown to it, and never reported.
//!
//! ```
//! use par_sync::{Mutex, deadlock};
//!
//! deadlock::enable();
//! let accounts = Mutex::named("accounts", 0);
//! let held = accounts.lock();
//! let twice = accounts.lock_checked().unwrap_err();
//! assert!(twice.to_string().contains(r#"waits for mutex "accounts""#));
//! # drop(held);
//! # deadlock::disable();
//! ```

use super::Deadlock;
use super::everyone::{EVERYONE, LASTS, others_sleep_on, threads};
use super::graph::{Cycle, Graph, Step, ThreadNumber, Wait};
use super::on::Watch;
pub use super::report::{Hook, on_deadlock, on_warning};
use super::report::{announce, refuse, warn};
use super::{Hold, Kind};
use crate::Thread;
use crate::sync_seam::Until;
use par_core::job::Job;
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

static ENABLED: AtomicBool = AtomicBool::new(false);
static GRAPH: LazyLock<Mutex<Graph>> = LazyLock::new(Mutex::default);

/// How often a wait was looked at that threads unknown to the detector may end, by the line of its place.
static LOOKED: LazyLock<Mutex<HashMap<&'static Location<'static>, u8>>> = LazyLock::new(Mutex::default);
/// Each look takes a while, and most such waits are as they should be.
const LOOKS: u8 = 3;

thread_local! {
    /// Whether this thread is in the detector: what it locks there is not watched.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Its number, from its first step in the detector on, also when its other locals are gone.
    static NUMBER: Cell<ThreadNumber> = const { Cell::new(0) };
    /// Whether it does nothing more that others could wait for.
    static GONE: Cell<bool> = const { Cell::new(false) };
    static END: End = const { End };
}

/// Switches the detector on. What is locked by then stays unknown to it.
pub fn enable() {
    ENABLED.store(true, Ordering::SeqCst);
}

/// Switches the detector off, and forgets all it knew.
pub fn disable() {
    ENABLED.store(false, Ordering::SeqCst);
    let known = std::mem::take(&mut *GRAPH.lock());
    drop(known);
    LOOKED.lock().clear();
}

/// Whether it is on.
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Who waits for what now: a line a thread that waits, with what it holds.
pub fn snapshot() -> String {
    let graph = GRAPH.lock();
    let steps = graph.waiting();
    graph.tell(&format!("{} threads wait", steps.len()), &steps)
}

/// A thread is in the detector, until this is dropped.
struct Inside;

impl Inside {
    fn enter() -> Option<Self> {
        (!INSIDE.replace(true)).then_some(Inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// The graph, where the detector is on. Once more with the lock: what is entered after it was cleared would never be taken out.
fn graph() -> Option<MutexGuard<'static, Graph>> {
    let graph = is_enabled().then(|| GRAPH.lock())?;
    is_enabled().then_some(graph)
}

/// Runs `work` with the graph, where the detector is on and this thread is not in it already.
fn with<R>(work: impl FnOnce(&mut Graph, ThreadNumber) -> R) -> Option<R> {
    if !is_enabled() {
        return None;
    }
    let _inside = Inside::enter()?;
    let alive = END.try_with(|_| ()).is_ok() && !GONE.get();
    if NUMBER.get() == 0 {
        NUMBER.set(Thread::current().ident());
    }
    let me = NUMBER.get();
    let mut graph = graph()?;
    if alive && !graph.threads.contains_key(&me) {
        graph.threads.insert(me, Thread::current().name().to_owned());
    }
    Some(work(&mut graph, me))
}

fn know(graph: &mut Graph, watch: &Watch) {
    let names = graph.names.entry(watch.number());
    names.or_insert_with(|| (watch.kind(), watch.called()));
}

/// This thread is about to wait for something; `lock` is what it gives back meanwhile.
pub(super) fn wait(
    watch: &Watch,
    lock: Option<&Watch>,
    how: Hold,
    until: Until,
    place: &'static Location<'static>,
    ready: &dyn Fn() -> bool,
) -> Result<(), Deadlock> {
    // To wait for a thread is to wait for its one owner.
    let how = if watch.kind() == Kind::Thread {
        Hold::Exclusive
    } else {
        how
    };
    let known = |graph: &mut Graph, me| {
        know(graph, watch);
        if let Some(lock) = lock {
            know(graph, lock);
            graph.give_back(lock.number(), me);
        }
    };
    let wait = Wait {
        number: 0,
        object: watch.number(),
        how,
        for_ever: until == Until::Forever,
        looks: false,
        again: lock.map(Watch::number),
        place,
    };
    enter(known, wait, ready)
}

/// The number of a job among the objects, which have smaller ones.
fn number_of(job: &Job) -> u64 {
    job.id().0 | 1 << 63
}

fn know_job(graph: &mut Graph, job: &Job) {
    let names = graph.names.entry(number_of(job));
    names.or_insert_with(|| (Kind::Task, format!("task {:?}", job.name())));
}

/// This thread runs a part of that job.
#[track_caller]
pub(crate) fn task_begins(job: &Job) {
    let place = Location::caller();
    with(|graph, me| {
        know_job(graph, job);
        graph.hold(number_of(job), me, Hold::Exclusive, place);
    });
}

pub(crate) fn task_ends(job: &Job) {
    with(|graph, me| {
        graph.give_back(number_of(job), me);
        if job.is_done() {
            graph.forget(number_of(job));
        }
    });
}

/// This thread is about to sleep until that job is done.
#[track_caller]
pub(crate) fn task_sleeps(job: &Job, until: Option<Instant>) -> Result<(), Deadlock> {
    let wait = Wait {
        number: 0,
        object: number_of(job),
        how: Hold::Exclusive,
        for_ever: until.is_none(),
        looks: false,
        again: None,
        place: Location::caller(),
    };
    // Its callbacks may still run, on a thread that counts as running it until they have ended.
    let done = || job.is_done();
    enter(|graph, _| know_job(graph, job), wait, &done)
}

pub(crate) fn task_slept(job: &Job) {
    awake(number_of(job));
}

/// What a look at the graph found.
enum Found {
    Nothing,
    Deadlock(String),
    /// A cycle that may be one no more (rule 3 of the graph).
    Doubtful(Cycle),
    /// Every thread that is known waits.
    Stuck {
        waits: Vec<Step>,
        known: usize,
    },
}

fn enter(
    know: impl FnOnce(&mut Graph, ThreadNumber),
    wait: Wait,
    ready: &dyn Fn() -> bool,
) -> Result<(), Deadlock> {
    let (for_ever, place) = (wait.for_ever, wait.place);
    let found = with(|graph, me| {
        know(graph, me);
        graph.enter_wait(me, wait);
        let Some(cycle) = graph.cycle(me) else {
            let stuck = for_ever && graph.is_stuck();
            return if stuck {
                stuck_now(graph, me)
            } else {
                Found::Nothing
            };
        };
        let others = cycle.steps[1..].iter();
        if cycle.steps.iter().any(|(_, wait)| graph.is_task(wait.object))
            || others.into_iter().any(|(_, wait)| wait.how == Hold::Shared)
        {
            return Found::Doubtful(cycle);
        }
        graph.waits.remove(&me);
        Found::Deadlock(graph.tell_cycle(&cycle))
    });
    let report = match found {
        Some(Found::Deadlock(report)) => Some(report),
        Some(Found::Doubtful(cycle)) => {
            std::thread::sleep(LASTS);
            look_again(|graph, me| {
                let now = graph.cycle(me)?;
                (numbers(&now.steps) == numbers(&cycle.steps)).then(|| graph.tell_cycle(&now))
            })
        }
        Some(Found::Stuck { waits, known }) => {
            let report = stuck(&waits, known, place, ready);
            with(|graph, me| graph.looks(me, false));
            report
        }
        Some(Found::Nothing) | None => None,
    };
    match report {
        Some(report) if !ready() => {
            let deadlock = Deadlock::new(report);
            refuse(&deadlock);
            Err(deadlock)
        }
        _ => Ok(()),
    }
}

fn stuck_now(graph: &mut Graph, me: ThreadNumber) -> Found {
    graph.looks(me, true);
    Found::Stuck {
        waits: graph.waiting(),
        known: graph.threads.len(),
    }
}

/// The calling thread is the last of those that are known to wait, and what it waits for is not `ready`.
fn stuck(
    waits: &[Step],
    known: usize,
    place: &'static Location<'static>,
    ready: &dyn Fn() -> bool,
) -> Option<String> {
    let others = threads()?.checked_sub(waits.len())?;
    if others > 0 && (known != waits.len() || !is_worth_a_look(place)) {
        return None;
    }
    let same = |graph: &Graph| numbers(&graph.waiting()) == numbers(waits);
    if !others_sleep_on(|| !ready() && graph().is_some_and(|graph| same(&graph))) {
        return None;
    }
    // Those that were about to end have ended.
    let others = threads()?.checked_sub(waits.len())?;
    if others == 0 {
        return look_again(|graph, _| {
            let last = same(graph) && threads() == Some(waits.len());
            last.then(|| graph.tell(EVERYONE, waits))
        });
    }
    let title = format!(
        "every thread that is known to the detector waits for ever; if none of the {others} others that there are wakes one, it is a deadlock:"
    );
    let warning = with(|graph, _| graph.tell(&title, waits));
    LOOKED.lock().insert(place, LOOKS);
    warning.iter().for_each(|warning| warn(warning));
    None
}

fn is_worth_a_look(place: &'static Location<'static>) -> bool {
    let mut looked = LOOKED.lock();
    let looks = looked.entry(place).or_insert(0);
    *looks = looks.saturating_add(1);
    *looks <= LOOKS
}

fn numbers(steps: &[Step]) -> Vec<(ThreadNumber, u64)> {
    steps
        .iter()
        .map(|(thread, wait)| (*thread, wait.number))
        .collect()
}

/// Looks again, after a while in which those that were woken have run; with a report, this thread does not wait.
fn look_again(again: impl FnOnce(&Graph, ThreadNumber) -> Option<String>) -> Option<String> {
    let found = with(|graph, me| {
        let report = again(graph, me)?;
        graph.waits.remove(&me);
        Some(report)
    });
    found.flatten()
}

pub(super) fn woke(watch: &Watch) {
    awake(watch.number());
}

fn awake(object: u64) {
    with(|graph, me| {
        if graph.waits.get(&me).is_some_and(|wait| wait.object == object) {
            graph.waits.remove(&me);
        }
    });
}

/// Wakes as many as `notify` says, in one step with what the graph knows of it.
pub(super) fn notified(watch: &Watch, notify: impl Fn() -> usize) -> usize {
    let told = with(|graph, _| {
        let count = notify();
        graph.notified(watch.number(), count);
        count
    });
    told.unwrap_or_else(notify)
}

pub(super) fn heard(watch: &Watch) {
    with(|graph, _| graph.heard(watch.number()));
}

pub(super) fn acquired(watch: &Watch, how: Hold, tried: bool, place: &'static Location<'static>) {
    let warnings = with(|graph, me| {
        know(graph, watch);
        let warnings = if tried {
            Vec::new()
        } else {
            graph.order(watch.number(), me, place)
        };
        graph.hold(watch.number(), me, how, place);
        warnings
    });
    warnings.into_iter().flatten().for_each(|warning| warn(&warning));
}

pub(super) fn released(watch: &Watch, _: Hold) {
    with(|graph, me| graph.give_back(watch.number(), me));
}

pub(super) fn forget(object: u64) {
    with(|graph, _| graph.forget(object));
}

/// The calling thread does nothing more that others could wait for. Those that waited for what it holds are told of; whether there were any.
pub(crate) fn thread_ends() -> bool {
    GONE.set(true);
    let reports: Vec<String> = {
        let _inside = Inside::enter();
        let Some(mut graph) = graph() else {
            return false;
        };
        let cycles = graph.end(NUMBER.get());
        cycles.iter().map(|cycle| graph.tell_cycle(cycle)).collect()
    };
    reports.iter().for_each(|report| announce(report));
    !reports.is_empty()
}

/// The end of a thread: the last that did not wait looks at those that do.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        // The program ends with its first thread.
        if thread_ends() || Thread::main().ident() == NUMBER.get() {
            return;
        }
        let waits = graph().and_then(|graph| {
            // Who looks has no need of this.
            let stuck = graph.is_stuck() && !graph.waits.values().any(|wait| wait.looks);
            stuck.then(|| graph.waiting())
        });
        let Some(waits) = waits else {
            return;
        };
        let last = || threads() == Some(waits.len() + 1);
        let same = |graph: &Graph| numbers(&graph.waiting()) == numbers(&waits);
        if last() && others_sleep_on(|| graph().is_some_and(|graph| same(&graph))) && last() {
            let report = graph().map(|graph| graph.tell(EVERYONE, &waits));
            report.iter().for_each(|report| announce(report));
        }
    }
}
