//! A trace of what a pool did, in the Chrome trace-event format.

use super::{Event, Observer};
use crate::job::JobId;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

/// An observer that writes a trace for `chrome://tracing`, Perfetto or Speedscope: a row a worker, a bar for each range of
/// parts that it ran, marks where workers came and went, parts failed or a task [logged](crate::log()).
///
/// It writes the JSON array form of the [trace-event format], with times in microseconds since the trace was made. Every event is written by
/// one call, so that the file can be opened as it is if the program ends early: viewers do not insist on the bracket at the
/// end. [`finish`](ChromeTrace::finish), and dropping the trace, write the bracket, after which the file is strict JSON. An unbuffered file
/// costs a system call an event; a `BufWriter` around it is cheaper and loses its last events if the program is killed.
///
/// Parts whose worker is not known are on a row of their own.
///
/// [trace-event format]: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
///
/// ```
/// use par_core::{SerialPool, observe::ChromeTrace};
/// use std::sync::Arc;
///
/// #[par_core::task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let trace = Arc::new(ChromeTrace::new(Vec::new())?); // or a File
/// let pool = SerialPool::new(1)?;
/// pool.observer(trace.clone());
/// pool.map::<square>(0..100)?;
/// let json = String::from_utf8(trace.finish()?)?;
/// assert!(json.starts_with('[') && json.ends_with("]\n") && json.contains(r#""ph":"X""#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChromeTrace<W: Write + Send + 'static> {
    origin: Instant,
    state: Mutex<State<W>>,
}

struct State<W: Write> {
    /// `None` once the trace is finished.
    out: Option<W>,
    /// The first error; nothing is written after it.
    broken: Option<io::Error>,
    /// Rows that have their name.
    named: BTreeSet<u64>,
}

/// The row of parts whose worker is not known.
const NOBODY: u64 = u32::MAX as u64;

/// An event as the format has it.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    kind: Kind,
    /// When it was or began, in microseconds.
    at: f64,
    row: u64,
    args: &'a [(&'a str, Arg<'a>)],
}

#[derive(Clone, Copy)]
enum Kind {
    /// A bar of so many microseconds.
    Bar(f64),
    /// A mark on its row, or across all of them.
    Mark { across: bool },
    /// Names the row.
    RowName,
}

#[derive(Clone, Copy)]
enum Arg<'a> {
    Number(u64),
    Text(&'a str),
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { name, at, row, .. } = self;
        let (pid, name) = (std::process::id(), Quoted(name));
        write!(f, r#"{{"name":{name},"pid":{pid},"tid":{row},"ts":{at:.3},"#)?;
        match self.kind {
            Kind::Bar(micros) => write!(f, r#""ph":"X","dur":{micros:.3},"args":{{"#)?,
            Kind::Mark { across: false } => f.write_str(r#""ph":"i","s":"t","args":{"#)?,
            Kind::Mark { across: true } => f.write_str(r#""ph":"i","s":"p","args":{"#)?,
            Kind::RowName => f.write_str(r#""ph":"M","args":{"#)?,
        }
        for (place, (key, value)) in self.args.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            match value {
                Arg::Number(value) => write!(f, "{comma}\"{key}\":{value}")?,
                Arg::Text(value) => write!(f, "{comma}\"{key}\":{}", Quoted(value))?,
            }
        }
        f.write_str("}}")
    }
}

/// A text as a string of JSON.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if u32::from(c) < 0x20 => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl<W: Write + Send + 'static> ChromeTrace<W> {
    /// Begins a trace; times count from here.
    ///
    /// # Errors
    /// Whatever `out` refuses.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"[")?;
        Ok(ChromeTrace {
            origin: Instant::now(),
            state: Mutex::new(State {
                out: Some(out),
                broken: None,
                named: BTreeSet::new(),
            }),
        })
    }

    /// Ends the trace and gives the writer back; what happens later is not in it.
    ///
    /// # Errors
    /// The first error of the writer since the beginning; one of kind `NotConnected` if the trace was finished before.
    pub fn finish(&self) -> io::Result<W> {
        self.state.lock().finish()
    }

    fn micros(&self, at: Instant) -> f64 {
        // What began before the trace is left of its zero.
        let after = at.saturating_duration_since(self.origin);
        let before = self.origin.saturating_duration_since(at);
        micros(after) - micros(before)
    }

    fn put(&self, worker: Option<usize>, name: &str, kind: Kind, at: Instant, args: &[(&str, Arg<'_>)]) {
        let entry = Entry {
            name,
            kind,
            at: self.micros(at),
            row: worker.map_or(NOBODY, |worker| worker as u64),
            args,
        };
        let mut state = self.state.lock();
        if !state.named.contains(&entry.row) {
            let title = worker.map_or_else(
                || "worker not known".to_owned(),
                |worker| format!("worker {worker}"),
            );
            state.write(Entry {
                name: "thread_name",
                kind: Kind::RowName,
                args: &[("name", Arg::Text(&title))],
                ..entry
            });
            state.named.insert(entry.row);
        }
        state.write(entry);
    }

    fn mark(&self, worker: Option<usize>, name: &str, args: &[(&str, Arg<'_>)]) {
        let across = worker.is_none();
        self.put(worker, name, Kind::Mark { across }, Instant::now(), args);
    }
}

impl<W: Write> State<W> {
    fn write(&mut self, entry: Entry<'_>) {
        let Some(out) = &mut self.out else { return };
        if self.broken.is_some() {
            return;
        }
        // The first entry names a row, so none is named yet.
        let comma = if self.named.is_empty() { "" } else { "," };
        self.broken = out.write_all(format!("{comma}\n{entry}").as_bytes()).err();
    }

    fn finish(&mut self) -> io::Result<W> {
        let finished = || io::Error::new(io::ErrorKind::NotConnected, "the trace was finished before");
        let mut out = self.out.take().ok_or_else(finished)?;
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        out.write_all(b"\n]\n")?;
        out.flush()?;
        Ok(out)
    }
}

impl<W: Write> Drop for State<W> {
    fn drop(&mut self) {
        // Whoever wants to know of an error calls `finish`.
        let _ = self.finish();
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1_000.0
}

impl<W: Write + Send + 'static> Observer for ChromeTrace<W> {
    fn event(&self, event: &Event) {
        match event {
            Event::Finished {
                job,
                name,
                parts,
                worker,
                started,
                took,
            } => {
                let args = range(*job, parts);
                self.put(*worker, name, Kind::Bar(micros(*took)), *started, &args);
            }
            Event::Failed { job, parts, error } => {
                let [job, first, count] = range(*job, parts);
                let error = error.to_string();
                self.mark(None, "failed", &[job, first, count, ("error", Arg::Text(&error))]);
            }
            Event::WorkerUp { worker, pid } => {
                let pid = pid.map(|pid| ("process", Arg::Number(pid.into())));
                self.mark(Some(*worker), "worker up", pid.as_slice());
            }
            Event::WorkerLost { worker, reason } => {
                self.mark(Some(*worker), "worker lost", &[("reason", Arg::Text(reason))]);
            }
            Event::Log {
                job,
                worker,
                level,
                text,
            } => {
                let (job, level) = (Arg::Number(job.0), format!("{level:?}"));
                let args = [
                    ("job", job),
                    ("level", Arg::Text(&level)),
                    ("text", Arg::Text(text)),
                ];
                self.mark(*worker, "log", &args);
            }
            // When parts were submitted and handed out shows in nothing that a row could hold.
            _ => {}
        }
    }
}

fn range(job: JobId, parts: &Range<usize>) -> [(&'static str, Arg<'static>); 3] {
    [
        ("job", Arg::Number(job.0)),
        ("first", Arg::Number(parts.start as u64)),
        ("parts", Arg::Number(parts.len() as u64)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TaskError;
    use serde_json::{Value, json};

    fn trace() -> ChromeTrace<Vec<u8>> {
        let trace = ChromeTrace::new(Vec::new()).expect("a Vec takes all");
        trace.event(&Event::WorkerUp {
            worker: 1,
            pid: Some(77),
        });
        for worker in [Some(1), Some(0), None, Some(1)] {
            trace.event(&Event::Finished {
                job: JobId(5),
                name: "a \"task\"\\\n",
                parts: 10..14,
                worker,
                started: trace.origin + Duration::from_micros(1500),
                took: Duration::from_nanos(2500),
            });
        }
        trace.event(&Event::Failed {
            job: JobId(5),
            parts: 14..15,
            error: TaskError::Cancelled,
        });
        trace.event(&Event::WorkerLost {
            worker: 1,
            reason: "killed".to_owned(),
        });
        trace
    }

    fn entries(json: &[u8]) -> Vec<Value> {
        serde_json::from_slice(json).expect("strict JSON")
    }

    #[test]
    fn every_row_has_its_name_and_its_bars() {
        let json = trace().finish().expect("a Vec takes all");
        let entries = entries(&json);
        let names: Vec<_> = entries
            .iter()
            .filter(|entry| entry["ph"] == "M")
            .map(|entry| (entry["tid"].as_u64(), entry["args"]["name"].as_str()))
            .collect();
        let expected = [
            (Some(1), Some("worker 1")),
            (Some(0), Some("worker 0")),
            (Some(NOBODY), Some("worker not known")),
        ];
        assert_eq!(names, expected);
        let bars: Vec<_> = entries.iter().filter(|entry| entry["ph"] == "X").collect();
        assert_eq!(bars.len(), 4);
        for bar in bars {
            assert_eq!(
                (&bar["name"], &bar["ts"], &bar["dur"]),
                (&json!("a \"task\"\\\n"), &json!(1500.0), &json!(2.5))
            );
            assert_eq!(bar["args"], json!({ "job": 5, "first": 10, "parts": 4 }));
        }
        let marks: Vec<_> = entries
            .iter()
            .filter(|entry| entry["ph"] == "i")
            .map(|entry| {
                (
                    entry["name"].as_str().unwrap_or(""),
                    entry["s"].as_str().unwrap_or(""),
                )
            })
            .collect();
        assert_eq!(marks, [("worker up", "t"), ("failed", "p"), ("worker lost", "t")]);
    }

    #[test]
    fn a_trace_that_was_not_finished_lacks_only_its_bracket() {
        let trace = trace();
        let mut early = trace.state.lock().out.clone().expect("not finished");
        early.extend(b"]");
        assert_eq!(entries(&early).len(), 10);
        assert_eq!(
            entries(
                &ChromeTrace::new(Vec::new())
                    .and_then(|t| t.finish())
                    .expect("empty")
            ),
            Vec::<Value>::new()
        );
    }

    #[test]
    fn errors_of_the_writer_come_with_finish() {
        /// Takes the bracket and no more.
        struct Full(bool);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::new(io::ErrorKind::StorageFull, "no room"));
                }
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let trace = ChromeTrace::new(Full(false)).expect("there is room for a bracket");
        trace.event(&Event::WorkerUp { worker: 0, pid: None });
        let errors = [(); 2].map(|()| trace.finish().err().map(|error| error.kind()));
        assert_eq!(
            errors,
            [
                Some(io::ErrorKind::StorageFull),
                Some(io::ErrorKind::NotConnected)
            ]
        );
    }
}
