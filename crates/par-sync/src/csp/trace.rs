//! What the processes and channels of the program do, as lines of JSON or for Chrome's tracing: `chrome://tracing`, or Perfetto.
//!
//! ```
//! use par_sync::csp::{self, trace};
//!
//! trace::start();
//! csp::parallel(|network| {
//!     let (mut out, mut into) = csp::one2one();
//!     network.spawn("writer", move || Ok(out.write(1)?));
//!     network.spawn("reader", move || into.read());
//! });
//! let events = trace::stop();
//! let done = |event: &&trace::Event| event.what == trace::What::DoneRead;
//! assert!(events.iter().any(|event| done(&event) && event.process == "reader"));
//! let mut lines = Vec::new();
//! trace::write_lines(&events, &mut lines)?;
//! assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), events.len());
//! # Ok::<(), std::io::Error>(())
//! ```

use crate::Thread;
use parking_lot::Mutex;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum What {
    /// A process starts.
    #[serde(rename = "StartProcess")]
    Start,
    /// A process ends.
    #[serde(rename = "QuitProcess")]
    Quit,
    /// A reader waits.
    BlockOnRead,
    /// A reader has read.
    DoneRead,
    /// A writer waits.
    BlockOnWrite,
    /// A writer has written.
    DoneWrite,
    /// A channel is poisoned.
    Poison,
    /// The last end of a side of a channel retires.
    Retire,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Microseconds since the trace was started.
    pub micros: f64,
    /// What.
    pub what: What,
    /// The name of the process; of its thread, where it is no process of a network.
    pub process: String,
    /// The number of the channel, where it is about one.
    pub channel: Option<u64>,
}

struct Trace {
    started: Instant,
    events: Vec<Event>,
}

static ENABLED: AtomicBool = AtomicBool::new(false);
static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

/// Begins to note what happens, in memory.
pub fn start() {
    *TRACE.lock() = Some(Trace {
        started: Instant::now(),
        events: Vec::new(),
    });
    ENABLED.store(true, Ordering::SeqCst);
}

/// Ends the trace; what happened, in order.
pub fn stop() -> Vec<Event> {
    ENABLED.store(false, Ordering::SeqCst);
    TRACE.lock().take().map_or_else(Vec::new, |trace| trace.events)
}

/// Writes a line of JSON an event.
///
/// # Errors
/// The writer's.
pub fn write_lines(events: &[Event], out: &mut dyn Write) -> io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut *out, event)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes the events for Chrome's tracing: a row a process, with its waits as spans.
///
/// # Errors
/// The writer's.
pub fn write_chrome(events: &[Event], out: &mut dyn Write) -> io::Result<()> {
    let mut rows: Vec<&str> = Vec::new();
    let mut spans = Vec::new();
    for event in events {
        let row = rows
            .iter()
            .position(|name| *name == event.process)
            .unwrap_or_else(|| {
                rows.push(&event.process);
                rows.len() - 1
            });
        if event.what == What::Quit && waits(&spans, row) {
            // The end of its channel ended the wait.
            spans.push(span("E", "", event.micros, row));
        }
        let (phase, name) = match event.what {
            What::Start => ("B", event.process.clone()),
            What::Quit => ("E", event.process.clone()),
            What::BlockOnRead => ("B", format!("wait to read {}", event.channel.unwrap_or_default())),
            What::BlockOnWrite => (
                "B",
                format!("wait to write {}", event.channel.unwrap_or_default()),
            ),
            What::DoneRead | What::DoneWrite if waits(&spans, row) => ("E", String::new()),
            other => ("i", format!("{other:?} {}", event.channel.unwrap_or_default())),
        };
        spans.push(span(phase, &name, event.micros, row));
    }
    for (row, name) in rows.iter().enumerate() {
        spans.push(serde_json::json!({
            "ph": "M", "name": "thread_name", "pid": 1, "tid": row, "args": { "name": name },
        }));
    }
    serde_json::to_writer(&mut *out, &spans)?;
    out.flush()
}

fn span(phase: &str, name: &str, micros: f64, row: usize) -> serde_json::Value {
    serde_json::json!({ "ph": phase, "name": name, "ts": micros, "pid": 1, "tid": row, "s": "t" })
}

/// Whether the last span of a row is a wait that is open.
fn waits(spans: &[serde_json::Value], row: usize) -> bool {
    let last = spans
        .iter()
        .rev()
        .find(|span| span["tid"] == row && span["ph"] != "i");
    last.is_some_and(|span| {
        span["ph"] == "B"
            && span["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("wait to"))
    })
}

#[inline]
pub(super) fn is_on() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

#[inline]
pub(super) fn channel(what: What, channel: u64) {
    if is_on() {
        note(
            what,
            super::light::here().unwrap_or_else(|| Thread::current().name().to_owned()),
            Some(channel),
        );
    }
}

#[inline]
pub(super) fn process(what: What, name: &str) {
    if is_on() {
        note(what, name.to_owned(), None);
    }
}

#[cold]
fn note(what: What, process: String, channel: Option<u64>) {
    if let Some(trace) = &mut *TRACE.lock() {
        trace.events.push(Event {
            micros: trace.started.elapsed().as_secs_f64() * 1e6,
            what,
            process,
            channel,
        });
    }
}
