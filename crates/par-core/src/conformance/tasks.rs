//! The tasks of the laws.

use super::folder::{is_open, note, refuses, try_lock, unlock};
use crate::context;
use crate::error::TaskError;
use crate::handle::{as_completed, wait_all, wait_any};
use crate::observe::Level;
use crate::pool::AnyPool;
use crate::share::Shared;
use par_macros::task;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

/// Steps in which tasks look at files.
const STEP: Duration = Duration::from_millis(2);
/// No task of the laws runs longer, whatever happens to the test that it belongs to.
const LONGEST: Duration = Duration::from_secs(60);

#[task(idempotent)]
pub(super) fn double(x: u64) -> u64 {
    2 * x
}

#[task]
pub(super) fn word(x: u64) -> String {
    format!("{x},")
}

/// Doubles, the later items of every eight faster than the earlier ones.
#[task]
pub(super) fn uneven(x: u64) -> u64 {
    thread::sleep(Duration::from_micros((7 - x % 8) * 400));
    2 * x
}

#[derive(Debug, thiserror::Error)]
#[error("{number} is not welcome")]
pub(super) struct Unwelcome {
    number: u64,
    #[source]
    cause: std::num::ParseIntError,
}

/// Fails at 3, 5, 13, 23, ..., panics at 7.
#[task]
pub(super) fn picky(x: u64) -> Result<u64, Unwelcome> {
    match x {
        7 => panic!("no {x} here"),
        5 => Err(Unwelcome {
            number: 5,
            cause: "five".parse::<u64>().expect_err("no number"),
        }),
        x if x % 10 == 3 => Err(Unwelcome {
            number: x,
            cause: "three".parse::<u64>().expect_err("no number"),
        }),
        x => Ok(x),
    }
}

/// Takes a while, and then fails or does not.
#[task]
pub(super) fn late(ms: u64, fails: bool) -> Result<(), TaskError> {
    thread::sleep(Duration::from_millis(ms));
    if fails {
        return Err(TaskError::Rejected(format!("after {ms} ms")));
    }
    Ok(())
}

/// Notes that it ran.
#[task]
pub(super) fn mark(folder: String, tag: u64) -> u64 {
    note(&folder, "marks", tag);
    tag
}

/// As `mark`, but takes a while, and notes its end.
#[task]
pub(super) fn slow_mark(folder: String, tag: u64) -> u64 {
    note(&folder, "begun", tag);
    thread::sleep(Duration::from_millis(10));
    note(&folder, "ended", tag);
    tag
}

/// Logs that many lines.
#[task]
pub(super) fn talks(tag: u64, lines: u64) -> u64 {
    for line in 0..lines {
        context::log(Level::Info, format_args!("line {line} of {tag}"));
    }
    tag
}

/// Submits a child that logs.
#[task]
pub(super) fn talks_below(tag: u64) -> Result<u64, TaskError> {
    pool()?.submit::<talks>((tag, 1))?.wait()
}

/// Which process and thread runs this, such as `4711/task/4712`.
pub(super) fn seat() -> String {
    match std::fs::read_link("/proc/thread-self") {
        Ok(link) => link.display().to_string(),
        Err(_) => format!("{}/{:?}", std::process::id(), thread::current().id()),
    }
}

/// Runs until the gate of the folder opens, or its token is up; takes a moment to clean up.
#[task]
pub(super) fn gate(folder: String, tag: u64) -> Result<u64, TaskError> {
    note(&folder, "seats", seat());
    note(&folder, "gates", tag);
    let end = Instant::now() + LONGEST;
    let mut outcome = Ok(tag);
    while !is_open(&folder) && Instant::now() < end {
        if context::cancelled() {
            thread::sleep(10 * STEP);
            outcome = Err(TaskError::Cancelled);
            break;
        }
        thread::sleep(STEP);
    }
    note(&folder, "gates ended", tag);
    outcome
}

/// As `gate`, but blind to its token.
#[task]
pub(super) fn stubborn(folder: String, tag: u64) -> u64 {
    note(&folder, "seats", seat());
    note(&folder, "gates", tag);
    let end = Instant::now() + LONGEST;
    while !is_open(&folder) && Instant::now() < end {
        thread::sleep(STEP);
    }
    note(&folder, "gates ended", tag);
    tag
}

// --- death ---

/// How a worker dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Death {
    Kill,
    Abort,
    Exit,
}

pub(super) const DEATHS: [Death; 3] = [Death::Kill, Death::Abort, Death::Exit];

thread_local! {
    static SIMULATED: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// For an engine that only plays at processes: tasks of the laws that would end their process call `death` instead, on this
/// thread. It should not return before its pool has ended.
#[doc(hidden)]
pub fn simulate_death(death: impl Fn() + 'static) {
    SIMULATED.set(Some(Box::new(death)));
}

fn die(how: Death) {
    if let Some(death) = SIMULATED.take() {
        return death();
    }
    match how {
        Death::Kill => {
            let me = std::process::id();
            let _ = std::process::Command::new("/bin/sh")
                .args(["-c", &format!("kill -9 {me}")])
                .status();
            // The signal is on its way.
            thread::sleep(LONGEST);
        }
        Death::Abort => std::process::abort(),
        Death::Exit => std::process::exit(3),
    }
}

/// Dies.
#[task]
pub(super) fn deadly(folder: String, tag: u64, how: Death) -> u64 {
    note(&folder, "marks", tag);
    die(how);
    tag
}

/// Dies each time it is run.
#[task(idempotent)]
pub(super) fn deadly_again(folder: String, tag: u64) -> u64 {
    note(&folder, "marks", tag);
    die(Death::Kill);
    tag
}

/// Waits for the gate, then dies.
#[task]
pub(super) fn deadly_gate(folder: String, tag: u64) -> u64 {
    note(&folder, "gates", tag);
    let end = Instant::now() + LONGEST;
    while !is_open(&folder) && Instant::now() < end {
        thread::sleep(STEP);
    }
    die(Death::Kill);
    tag
}

/// Dies the first time that it is run, where `how` says so.
#[task(idempotent)]
pub(super) fn deadly_once(folder: String, tag: u64, how: Option<Death>) -> u64 {
    note(&folder, "marks", tag);
    if let Some(how) = how
        && std::fs::create_dir(format!("{folder}/died-{tag}")).is_ok()
    {
        die(how);
    }
    2 * tag
}

/// As `deadly_once`, for the float of that number.
#[task(idempotent)]
pub(super) fn deadly_value(folder: String, tag: u64, how: Option<Death>) -> f64 {
    deadly_once(folder, tag, how);
    value(tag)
}

/// As `deadly_once`, but not to be run again.
#[task]
pub(super) fn deadly_item(folder: String, tag: u64, how: Option<Death>) -> u64 {
    note(&folder, "marks", tag);
    if let Some(how) = how {
        die(how);
    }
    2 * tag
}

// --- bits ---

/// A float whose size jumps about, so that every order of adding has other bits. Integers and powers of two only: the same
/// on every machine.
#[task(idempotent)]
pub(super) fn value(index: u64) -> f64 {
    // The finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let sign = if z & 1 == 0 { 1.0 } else { -1.0 };
    sign * (z >> 12) as f64 * f64::from_bits((1023 - 40 + (z >> 1) % 40) << 52)
}

#[task]
pub(super) fn keyed(index: u64) -> BTreeMap<u64, f64> {
    BTreeMap::from([(index % 7, value(index)), (index % 11, value(index + 1))])
}

// --- nesting ---

fn pool() -> Result<AnyPool, TaskError> {
    context::current().ok_or_else(|| TaskError::Rejected("current() knows no pool inside a task".to_owned()))
}

/// Submits `width` of its kind, one level deeper, waits for them and counts the leaves.
#[task]
pub(super) fn tree(depth: u32, width: u32) -> Result<u64, TaskError> {
    if depth == 0 {
        return Ok(1);
    }
    let pool = pool()?;
    let children = (0..width)
        .map(|_| pool.submit::<tree>((depth - 1, width)))
        .collect::<Result<Vec<_>, _>>()?;
    children.into_iter().map(|child| child.wait()).sum()
}

/// The sum of a map inside a map.
#[task]
pub(super) fn inner_map(count: u64) -> Result<u64, crate::MapError> {
    Ok(pool()
        .map_err(|error| crate::MapError { index: 0, error })?
        .map::<double>(0..count)?
        .into_iter()
        .sum())
}

/// Fibonacci numbers by joins.
#[task]
pub(super) fn fibonacci(n: u64) -> Result<u64, TaskError> {
    if n < 2 {
        return Ok(n);
    }
    let (a, b) = pool()?.join::<fibonacci, fibonacci>(n - 1, n - 2)?;
    Ok(a + b)
}

/// Awaits two children, as an async task.
#[task]
pub(super) async fn awaits(depth: u64) -> Result<u64, TaskError> {
    if depth == 0 {
        return Ok(1);
    }
    let pool = pool()?;
    let a = pool.submit::<awaits>(depth - 1)?;
    let b = pool.submit::<awaits>(depth - 1)?;
    Ok(a.await? + b.await?)
}

/// Lets others have the thread once.
async fn pass() {
    let mut passed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Ends once another of its kind has begun; fails where that does not happen in time.
#[task]
pub(super) async fn meets(folder: String, me: u64, other: u64, limit_ms: u64) -> Result<u64, String> {
    note(&folder, "met", me);
    let end = Instant::now() + Duration::from_millis(limit_ms);
    let other_line = other.to_string();
    loop {
        let met = std::fs::read_to_string(format!("{folder}/met")).unwrap_or_default();
        if met.lines().any(|line| line == other_line) {
            return Ok(me);
        }
        if Instant::now() >= end {
            return Err(format!("async task {me} never met {other}"));
        }
        pass().await;
    }
}

/// As `gate`, but waits as async code does, and is blind to its token.
#[task]
pub(super) async fn waits_open(folder: String, tag: u64) -> u64 {
    struct End(String, u64);
    impl Drop for End {
        fn drop(&mut self) {
            note(&self.0, "gates ended", self.1);
        }
    }
    note(&folder, "gates", tag);
    let end = End(folder, tag);
    let last = Instant::now() + LONGEST;
    while !is_open(&end.0) && Instant::now() < last {
        pass().await;
    }
    tag
}

/// Every form of a wait, and of a map, inside a task.
#[task]
pub(super) fn every_form(_x: ()) -> Result<u64, TaskError> {
    let pool = pool()?;
    let four = || {
        (0..4)
            .map(|x| pool.submit::<double>(x))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut sum: u64 = wait_all(four()?).into_iter().sum::<Result<u64, _>>()?;
    sum += as_completed(four()?)
        .map(|(_, outcome)| outcome)
        .sum::<Result<u64, _>>()?;
    let mut handles = four()?;
    while let Some(done) = wait_any(&mut handles, None) {
        sum += done.wait()?;
    }
    sum += pool.scope(|scope| Ok(scope.submit::<double>(5)?.wait()? + scope.submit::<double>(1)?.wait()?))?;
    sum += pool
        .map_ordered::<double, _>(0..4)?
        .map(|(_, outcome)| outcome)
        .sum::<Result<u64, _>>()?;
    sum += pool
        .map_unordered::<double, _>(0..4)?
        .map(|(_, outcome)| outcome)
        .sum::<Result<u64, _>>()?;
    sum += pool
        .map_reduce::<double, _>(0..4, crate::Sum)
        .map_err(|e| e.error)?;
    let submitted = pool.submit_map::<double>(0..4)?.wait();
    sum += submitted.map_err(|e| e.error)?.into_iter().sum::<u64>();
    Ok(sum)
}

/// Submits more children than fit into the queue, then waits for them.
#[task]
pub(super) fn brood(count: u64) -> Result<u64, TaskError> {
    let pool = pool()?;
    let children = (0..count)
        .map(|x| pool.submit::<double>(x))
        .collect::<Result<Vec<_>, _>>()?;
    children.into_iter().map(|child| child.wait()).sum()
}

/// Takes the lock of the folder; fails where that does not happen in time.
#[task]
pub(super) fn wants(folder: String, limit_ms: u64) -> Result<(), String> {
    let end = Instant::now() + Duration::from_millis(limit_ms);
    while !try_lock(&folder) {
        if Instant::now() >= end || is_open(&folder) {
            return Err("a task never got the lock: its holder waits below it".to_owned());
        }
        thread::sleep(STEP);
    }
    unlock(&folder);
    Ok(())
}

/// Holds the lock while it waits for one child, when others want the lock.
#[task]
pub(super) fn holds(folder: String, limit_ms: u64, elsewhere: bool) -> Result<(), TaskError> {
    let pool = pool()?;
    let end = Instant::now() + Duration::from_millis(limit_ms);
    while !try_lock(&folder) {
        if Instant::now() >= end {
            return Err(TaskError::failed("nobody gave the lock back"));
        }
        thread::sleep(STEP);
    }
    let result = (|| {
        let awaited = pool.submit::<pause>((folder.clone(), 40))?;
        if elsewhere {
            // Another worker has begun it, so that this wait finds nothing to claim.
            while std::fs::metadata(format!("{folder}/paused")).is_err() && Instant::now() < end {
                thread::sleep(STEP);
            }
        }
        let rivals: Result<Vec<_>, _> = (0..4)
            .map(|_| pool.submit::<wants>((folder.clone(), limit_ms)))
            .collect();
        awaited.wait()?;
        rivals
    })();
    unlock(&folder);
    result?.into_iter().try_for_each(|rival| rival.wait())
}

/// Takes a while.
#[task]
pub(super) fn pause(folder: String, ms: u64) {
    note(&folder, "paused", ms);
    thread::sleep(Duration::from_millis(ms));
}

/// Waits for a child that does not end, for `ms`; returns how long that took in milliseconds.
#[task]
pub(super) fn impatient(folder: String, ms: u64) -> Result<u64, TaskError> {
    let child = pool()?.submit::<gate>((folder, 1))?;
    let start = Instant::now();
    match child.wait_timeout(Duration::from_millis(ms)) {
        Ok(outcome) => Err(TaskError::failed(format!("the child ended: {outcome:?}"))),
        Err(child) => {
            let took = start.elapsed();
            child.cancel();
            Ok(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
        }
    }
}

/// Waits where that is an error; returns the error's text.
#[task]
pub(super) fn forbidden(folder: String) -> Result<String, TaskError> {
    let child = pool()?.submit::<gate>((folder, 1))?;
    let _guard = context::forbid_blocking();
    match child.wait_timeout(LONGEST) {
        Ok(Err(error)) => Ok(error.to_string()),
        other => Err(TaskError::failed(format!(
            "a blocking wait in async code gave {other:?}"
        ))),
    }
}

// --- workers ---

/// Notes that a worker was made ready.
#[task]
pub(super) fn initialize(folder: String, fail: bool) -> Result<(), String> {
    note(&folder, "initialized", std::process::id());
    if fail || refuses(&folder) {
        Err("the initialiser of the laws was told to fail".to_owned())
    } else {
        Ok(())
    }
}

/// Counts the calls on this worker.
#[task]
pub(super) fn count_here(_x: u64) -> (String, u64) {
    let count = context::with_local(
        || 0u64,
        |count| {
            *count += 1;
            *count
        },
    );
    (seat(), count)
}

/// Reads a shared value at a place.
#[task]
pub(super) fn look_up(table: Shared<Vec<u64>>, index: u64) -> Option<u64> {
    table.get(usize::try_from(index).ok()?).copied()
}

/// A value that does not serialise where it is 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shy(pub(super) u64);

impl Serialize for Shy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 {
            return Err(ser::Error::custom("13 does not travel"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Shy)
    }
}

#[task]
pub(super) fn takes_shy(x: Shy) -> u64 {
    x.0
}

#[task]
pub(super) fn gives_shy(x: u64) -> Shy {
    Shy(x)
}
