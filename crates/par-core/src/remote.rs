//! The far side of a job: how a worker that has only bytes finds the code, runs it and replies.
//!
//! A call names the code, by task name and signature, or by its entry in this very build. A request is the call with the
//! encoded inputs of a claim; a reply is a form byte, outcomes, and the log lines if there were any. Engines carry both
//! without looking inside.

use crate::context;
use crate::entry;
use crate::error::TaskError;
use crate::log::{self, Lines};
use crate::panics;
use crate::registry;
use crate::task::{Data, Task, signature_of};
use crate::wire;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a worker finds the code of a job. The same for all its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub(crate) code: Code,
    /// Whether items after a failed one are wanted.
    pub(crate) all_outcomes: bool,
    /// Whether log lines are wanted.
    pub(crate) logs: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Code {
    /// A task by its stable name; the signature must be the same on both sides.
    Task { name: String, signature: String },
    /// An entry of the same build, with its own data.
    Entry { offset: u64, data: Vec<u8> },
}

impl Call {
    pub(crate) fn to_task<T: Task>() -> Self {
        let signature = signature_of::<T>().text().to_owned();
        Call {
            code: Code::Task {
                name: T::NAME.to_owned(),
                signature,
            },
            all_outcomes: false,
            logs: false,
        }
    }

    /// The name of the task, where it is called by name.
    pub fn task_name(&self) -> Option<&str> {
        match &self.code {
            Code::Task { name, .. } => Some(name),
            Code::Entry { .. } => None,
        }
    }
}

/// Which items a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Index of the first item in the whole input.
    pub first: u64,
    /// Number of items.
    pub items: u64,
}

/// A request at work: inputs to read, a reply to write.
pub struct Run<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) part: Part,
    pub(crate) input: &'a [u8],
    pub(crate) all_outcomes: bool,
    pub(crate) reply: &'a mut Vec<u8>,
}

/// Reads the inputs of a request, runs the code on them and writes the reply.
pub type RunFn = fn(&mut Run<'_>);

/// The reply holds an outcome for each item.
pub(crate) const ITEMS: u8 = 0;
/// The reply holds folded pieces.
pub(crate) const PIECES: u8 = 1;

/// A call whose code was found. Workers keep one a job.
pub struct Prepared {
    run: RunFn,
    data: Vec<u8>,
    all_outcomes: bool,
    logs: bool,
}

impl Prepared {
    /// Finds the code of `call` in this program.
    ///
    /// # Errors
    /// [`TaskError::Rejected`] for a name that is not known here, a signature that differs (with both), or an entry that is
    /// not one of this build.
    pub fn new(call: &Call) -> Result<Self, TaskError> {
        let (run, data) = match &call.code {
            Code::Task { name, signature } => {
                let found = registry::find(name).map_err(|e| TaskError::Rejected(e.to_string()))?;
                let ours = found.signature().text();
                if ours != signature {
                    return Err(TaskError::Rejected(format!(
                        "task {name:?} has another signature on the worker: submitted {signature}, worker has {ours}"
                    )));
                }
                (found.run, Vec::new())
            }
            Code::Entry { offset, data } => (
                entry::resolve(*offset).map_err(TaskError::Rejected)?,
                data.clone(),
            ),
        };
        Ok(Prepared {
            run,
            data,
            all_outcomes: call.all_outcomes,
            logs: call.logs,
        })
    }

    /// Runs the items and appends the reply to `reply`. The caller has put a token in force.
    pub fn run(&self, part: Part, input: &[u8], reply: &mut Vec<u8>) {
        let form = reply.len();
        let lines = self.logs.then(Arc::<Lines>::default);
        if lines.is_some() {
            context::keep_lines(lines.clone());
        }
        (self.run)(&mut Run {
            data: &self.data,
            part,
            input,
            all_outcomes: self.all_outcomes,
            reply,
        });
        if let Some(lines) = lines {
            context::keep_lines(None);
            log::append(&lines, form, reply);
        }
    }
}

/// Runs one call here, for its failure only.
pub(crate) fn run_once(call: &Call, input: &[u8]) -> Result<(), TaskError> {
    let mut reply = Vec::new();
    Prepared::new(call)?.run(Part { first: 0, items: 1 }, input, &mut reply);
    match reply.get(1) {
        Some(&OK) => Ok(()),
        Some(_) => Err(decode_error(&mut &reply[2..])),
        None => Err(TaskError::Cancelled),
    }
}

pub(crate) const OK: u8 = 0;
pub(crate) const FAILED: u8 = 1;

fn decode_error(bytes: &mut &[u8]) -> TaskError {
    wire::decode(bytes)
        .unwrap_or_else(|e| TaskError::Codec(format!("the error of the task was not readable: {e}")))
}

/// The loop of a worker over the items of a task.
pub(crate) fn run_items<T: Task>(run: &mut Run<'_>) {
    run_each(run, T::call);
}

/// The loop of a worker over items: an outcome each, until the first failure or, where all are wanted, to the end.
pub(crate) fn run_each<I: Data, O: Data>(run: &mut Run<'_>, call: impl Fn(I) -> Result<O, TaskError>) {
    run.reply.push(ITEMS);
    let (mut input, mut left) = (run.input, run.part.items);
    while left > 0 {
        // Where the reply of the item begins, and whether its input is not read yet.
        let (mut start, mut reading) = (run.reply.len(), false);
        // One net for all items that do not fail: a tiny one costs little more than its bytes.
        let outcome = panics::catch(|| {
            while left > 0 {
                left -= 1;
                start = run.reply.len();
                if context::cancelled() {
                    return Err(TaskError::Cancelled);
                }
                reading = true;
                let item = wire::decode::<I>(&mut input)
                    .map_err(|error| TaskError::Codec(format!("input: {error}")))?;
                reading = false;
                let value = call(item)?;
                run.reply.push(OK);
                wire::encode(&value, run.reply)
                    .map_err(|error| TaskError::Codec(format!("output: {error}")))?;
            }
            Ok(())
        });
        let Err(error) = outcome.and_then(|outcome| outcome) else {
            return;
        };
        run.reply.truncate(start);
        put_failure(run.reply, &error);
        // Where an input was not readable, what follows cannot be told apart any more.
        if reading || !run.all_outcomes {
            return;
        }
    }
}

pub(crate) fn put_failure(reply: &mut Vec<u8>, error: &TaskError) {
    reply.push(FAILED);
    // A TaskError is texts and numbers, which always encode; should that ever change, the reader sees a short reply.
    let _ = wire::encode(error, reply);
}

/// Reads the next outcome of a reply; `None` once there are no more.
pub(crate) fn next_outcome<O: Data>(reply: &mut &[u8]) -> Option<Result<O, TaskError>> {
    panics::catch(|| read_outcome(reply)).unwrap_or_else(|panic| {
        // Where the next outcome begins is not known.
        *reply = &[];
        Some(Err(panic))
    })
}

/// As [`next_outcome`], for one who catches the panics of the user's own code.
#[inline]
pub(crate) fn read_outcome<O: Data>(reply: &mut &[u8]) -> Option<Result<O, TaskError>> {
    let (&tag, rest) = reply.split_first()?;
    *reply = rest;
    Some(match tag {
        OK => wire::decode(reply).map_err(|e| TaskError::Codec(format!("output: {e}"))),
        FAILED => Err(decode_error(reply)),
        other => Err(TaskError::Codec(format!("reply: unknown outcome {other}"))),
    })
}

/// Splits the form byte from a reply.
pub(crate) fn form(reply: &[u8], expected: u8) -> Result<&[u8], TaskError> {
    match reply.split_first() {
        Some((&form, rest)) if form == expected => Ok(rest),
        Some((form, _)) => Err(TaskError::Codec(format!(
            "reply: form {expected} expected, got {form}"
        ))),
        None => Err(TaskError::Codec("reply: it is empty".to_owned())),
    }
}
