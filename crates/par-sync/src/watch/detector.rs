//! Deadlocks found when they close, and warned of before: switched on at run time. Needs the feature `deadlock`.
//!
//! With the detector on, every lock, every join of a thread and every other wait of this crate is entered in one wait-for graph. The call that
//! would close a cycle of locks and joins does not wait: the plain forms panic with a report, those for a time and the `.._checked`
//! ones return it ([`Deadlock`]). Semaphores, conditions, events, barriers and queues have no owner whose release could be awaited: a wait for one
//! is reported only when every thread of the program waits for ever. Locks taken in different orders are warned of, once a pair, before they ever meet.
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
use super::graph::{Graph, Step, ThreadNumber, Wait};
use super::on::Watch;
use super::{Hold, Kind};
use crate::Thread;
use crate::sync_seam::Until;
use par_core::job::Job;
use parking_lot::{Mutex, RwLock};
use std::cell::Cell;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

static ENABLED: AtomicBool = AtomicBool::new(false);
static GRAPH: LazyLock<Mutex<Graph>> = LazyLock::new(Mutex::default);

/// What is told of orders that could meet.
pub type WarningHook = Box<dyn Fn(&str) + Send + Sync>;
static HOOK: RwLock<Option<Arc<WarningHook>>> = RwLock::new(None);

/// How long a cycle with a reader in it must last to count (rule 3 of the graph).
const LASTS: Duration = Duration::from_millis(100);

thread_local! {
    /// Whether this thread is in the detector: what it locks there is not watched.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Switches the detector on. What is locked by then stays unknown to it.
pub fn enable() {
    ENABLED.store(true, Ordering::SeqCst);
}

/// Switches the detector off, and forgets all it knew.
pub fn disable() {
    ENABLED.store(false, Ordering::SeqCst);
    *GRAPH.lock() = Graph::default();
}

/// Whether it is on.
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Sets what is told of locks that are taken in orders that could meet, instead of standard error. It runs without a lock of the
/// detector, in the thread that took the last lock; a panic of its own is printed. `None` is standard error again.
pub fn on_warning(hook: Option<WarningHook>) {
    *HOOK.write() = hook.map(Arc::new);
}

/// Who waits for what now: a line a thread that waits, with what it holds.
pub fn snapshot() -> String {
    let graph = GRAPH.lock();
    let steps = waiting(&graph);
    graph.tell(&format!("{} threads wait", steps.len()), &steps)
}

/// Runs `work` with the graph, where the detector is on and this thread is not in it already.
fn with<R>(work: impl FnOnce(&mut Graph, ThreadNumber) -> R) -> Option<R> {
    if !is_enabled() || INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true) {
        return None;
    }
    let me = Thread::current();
    let mut graph = GRAPH.lock();
    // Once more with the lock: what is entered after the graph was cleared would never be taken out.
    if !is_enabled() {
        INSIDE.set(false);
        return None;
    }
    graph
        .threads
        .entry(me.ident())
        .or_insert_with(|| me.name().to_owned());
    let result = work(&mut graph, me.ident());
    drop(graph);
    INSIDE.set(false);
    Some(result)
}

fn know(graph: &mut Graph, watch: &Watch) {
    let names = graph.names.entry(watch.number());
    names.or_insert_with(|| (watch.kind(), watch.called()));
}

pub(super) fn wait(
    watch: &Watch,
    how: Hold,
    until: Until,
    place: &'static Location<'static>,
) -> Result<(), Deadlock> {
    // To wait for a thread is to wait for its one owner.
    let how = if watch.kind() == Kind::Thread {
        Hold::Exclusive
    } else {
        how
    };
    enter(|graph| know(graph, watch), watch.number(), how, until, place)
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
    let until = until.map_or(Until::Forever, Until::At);
    let entered = enter(
        |graph| know_job(graph, job),
        number_of(job),
        Hold::Exclusive,
        until,
        Location::caller(),
    );
    // Its callbacks may still run, on a thread that counts as running it until they have ended.
    if job.is_done() { Ok(()) } else { entered }
}

pub(crate) fn task_slept(job: &Job) {
    awake(number_of(job));
}

fn enter(
    know: impl FnOnce(&mut Graph),
    object: u64,
    how: Hold,
    until: Until,
    place: &'static Location<'static>,
) -> Result<(), Deadlock> {
    let for_ever = until == Until::Forever;
    let found = with(|graph, me| {
        know(graph);
        let number = 0;
        graph.enter_wait(
            me,
            Wait {
                number,
                object,
                how,
                for_ever,
                place,
            },
        );
        let cycle = graph.cycle(me);
        let Some(cycle) = cycle else {
            let all = (for_ever && nobody_is_left(graph)).then(|| waiting(graph));
            return all.map_or(Found::Nothing, Found::Everyone);
        };
        let others = cycle[1..].iter();
        if cycle.iter().any(|(_, wait)| graph.is_task(wait.object))
            || others.into_iter().any(|(_, wait)| wait.how == Hold::Shared)
        {
            return Found::Doubtful(cycle);
        }
        graph.waits.remove(&me);
        Found::Deadlock(report(graph, &cycle))
    });
    match found {
        Some(Found::Deadlock(report)) => Err(Deadlock::new(report)),
        Some(Found::Doubtful(cycle)) => {
            std::thread::sleep(LASTS);
            look_again(|graph, me| {
                let now = graph.cycle(me)?;
                (numbers(&now) == numbers(&cycle)).then(|| report(graph, &now))
            })
        }
        Some(Found::Everyone(steps)) => {
            std::thread::sleep(LASTS);
            // A thread that was woken and has not run yet is not asleep for the system; asked without the lock of the graph, at which it might
            // sleep.
            let asleep = others_sleep();
            look_again(|graph, _| {
                let now = waiting(graph);
                let same = asleep && numbers(&now) == numbers(&steps) && nobody_is_left(graph);
                same.then(|| graph.tell(EVERYONE, &now))
            })
        }
        Some(Found::Nothing) | None => Ok(()),
    }
}

/// What a look at the graph found.
enum Found {
    Nothing,
    Deadlock(String),
    /// A cycle that may be one no more (rule 3 of the graph).
    Doubtful(Vec<Step>),
    /// Every thread waits.
    Everyone(Vec<Step>),
}

const EVERYONE: &str = "deadlock: every thread of the program waits, and nobody is left to wake one:";

fn report(graph: &Graph, cycle: &[Step]) -> String {
    let title = match cycle.len() {
        1 => "deadlock: a thread waits for what it holds:".to_owned(),
        threads => format!("deadlock: {threads} threads wait for each other:"),
    };
    graph.tell(&title, cycle)
}

fn numbers(steps: &[Step]) -> Vec<(ThreadNumber, u64)> {
    steps
        .iter()
        .map(|(thread, wait)| (*thread, wait.number))
        .collect()
}

/// All waits, by thread.
fn waiting(graph: &Graph) -> Vec<Step> {
    let waits = graph.waits.iter().map(|(thread, wait)| (*thread, wait.clone()));
    let mut steps: Vec<Step> = waits.collect();
    steps.sort_by_key(|(thread, _)| *thread);
    steps
}

/// Looks again, after a while in which those that were woken have run; with a report, this thread does not wait.
fn look_again(again: impl FnOnce(&Graph, ThreadNumber) -> Option<String>) -> Result<(), Deadlock> {
    let found = with(|graph, me| {
        let report = again(graph, me)?;
        graph.waits.remove(&me);
        Some(report)
    });
    found
        .flatten()
        .map_or(Ok(()), |report| Err(Deadlock::new(report)))
}

/// Whether every thread of the process is in a wait of this crate, without an end.
fn nobody_is_left(graph: &Graph) -> bool {
    let waiting = graph.waits.values().filter(|wait| wait.for_ever).count();
    // Linux; elsewhere nobody knows, and nothing is reported.
    waiting == graph.waits.len()
        && std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == waiting)
}

/// Whether the system says that all other threads sleep (proc(5): the state of a task).
fn others_sleep() -> bool {
    let mine = Thread::current();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    tasks.flatten().all(|task| {
        let is_mine = task.file_name().to_str().and_then(|name| name.parse().ok()) == mine.native_id();
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        is_mine
            || stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    })
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
    for warning in warnings.into_iter().flatten() {
        let hook = HOOK.read().clone();
        match hook.map(|hook| par_core::catch(|| hook(&warning))) {
            Some(Ok(())) => {}
            Some(Err(error)) => eprintln!("par-sync: {warning}\n(the hook for it: {error})"),
            None => eprintln!("par-sync: {warning}"),
        }
    }
}

pub(super) fn released(watch: &Watch, _: Hold) {
    with(|graph, me| graph.give_back(watch.number(), me));
}

pub(super) fn forget(object: u64) {
    with(|graph, _| graph.forget(object));
}
