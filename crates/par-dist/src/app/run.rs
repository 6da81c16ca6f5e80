//! One run of a task: from what was leased to what comes of it, and who is told.
//!
//! 1. A task that acknowledges early is acknowledged before it runs; one that acknowledges late with its outcome and what follows, or after them.
//!    So a death in between loses the one, and runs the other again.
//! 2. The next attempt of a task takes its place in its queue in one step, where it is still leased.
//! 3. Of calls with the same key one copy is run; it is claimed before it is acknowledged.

use super::arguments::{CallError, Code};
use super::broker::{Incoming, Outcome, Outgoing, Tag};
use super::call::{COPY, KEY};
use super::context::{Ran, RunInfo, TaskContext, Wish};
use super::control::{Cancelled, Control};
use super::follow::{attempt, errbacks, follow, lost_before, lost_once_more, replacement};
use super::hands::{self, Ended};
use super::hooks;
use super::instance::App;
use super::message::Message;
use super::options::TaskOptions;
use super::outcome::{State, document, exception, failure, no_result};
use super::time::waits_until;
use crate::BrokerError;
use jiff::Timestamp;
use par_core::TaskError;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What comes of a run.
#[derive(Default)]
pub(super) struct Done {
    /// What is kept for those who have its result: a state, a value or an error, and the children.
    outcome: Option<(State, Value, Vec<String>)>,
    /// What is kept instead, as that cannot be.
    instead: Option<Outcome>,
    /// What is sent.
    next: Vec<Outgoing>,
    /// Whether it goes back as it is.
    back: bool,
    /// Whether it is rejected, and nothing else.
    rejected: bool,
}

impl Done {
    pub(super) fn is_instead(&self) -> bool {
        self.instead.is_some()
    }
}

/// A run that has begun.
pub(super) struct Begun {
    pub(super) code: Code,
    pub(super) message: Message,
    pub(super) context: TaskContext,
    options: Arc<TaskOptions>,
    /// What it is leased by, if it was not acknowledged.
    lease: Option<Tag>,
}

impl Begun {
    fn new(app: &App, message: Message, queue: &str, redelivered: bool) -> Result<Self, Box<Message>> {
        let known = app.inner.tasks.get(message.headers.task.as_str());
        let Some((code, options)) = known.and_then(|known| Some((known.code?, &known.options))) else {
            return Err(Box::new(message));
        };
        let headers = &message.headers;
        let run = RunInfo {
            id: headers.id.clone(),
            reply_to: message.properties.reply_to.clone(),
            task: headers.task.clone(),
            root: headers.root_id.clone(),
            parent: headers.parent_id.clone(),
            retries: headers.retries.unwrap_or(0),
            queue: queue.to_owned(),
            redelivered,
        };
        Ok(Begun {
            code,
            options: Arc::clone(options),
            context: TaskContext {
                app: app.clone(),
                run,
                control: Arc::new(Control::default()),
            },
            message,
            lease: None,
        })
    }

    /// The soft and the hard limit: what the call says, or else the task's options.
    pub(super) fn limits(&self) -> (Option<Duration>, Option<Duration>) {
        let (hard, soft) = self.message.headers.timelimit.unwrap_or((None, None));
        let said = |seconds: Option<f64>| Duration::try_from_secs_f64(seconds?).ok();
        (
            said(soft).or(self.options.soft_limit),
            said(hard).or(self.options.hard_limit),
        )
    }
}

/// Begins what was leased. None if it ends here: it is no task, nobody knows it, its time is over or has not come, it was revoked, or it is another's.
///
/// # Errors
/// The broker cannot be used; its lease may not have ended.
pub(super) fn begin(
    app: &App,
    incoming: Incoming,
    is_revoked: impl FnOnce(&str) -> bool,
) -> Result<Option<Begun>, BrokerError> {
    let (transport, tag, queue) = (app.transport(), incoming.tag, incoming.queue);
    let named = |name: &str| {
        let value = incoming.headers.get(name).and_then(Value::as_str);
        value.map(str::to_owned)
    };
    let (id, task) = (named("id"), named("task"));
    let reply_to = incoming.properties.reply_to.clone();
    let end = |id: Option<&str>, kind: &str, text: &str, state: State| {
        if let Some(id) = id {
            app.results().store(Outcome {
                id: id.to_owned(),
                to: reply_to.clone(),
                document: document(id, &state, exception(kind, text), &[]),
            })?;
        }
        transport.acknowledge(&[tag])?;
        Ok(None)
    };
    let read = Message::read(incoming.headers, incoming.properties, &incoming.body).and_then(|message| {
        let times = (message.eta()?, message.expires()?);
        Ok((message, times))
    });
    let (message, (eta, expires)) = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(queue, id, task, %error, "dropped what is no task");
            let kind = "par_dist::app::MessageError";
            return end(id.as_deref(), kind, &error.to_string(), State::Failure);
        }
    };
    let (id, now) = (message.headers.id.clone(), Timestamp::now());
    if is_revoked(&id) {
        tracing::info!(id, task, "revoked");
        return end(Some(&id), "TaskRevokedError", "revoked", State::Revoked);
    }
    if expires.is_some_and(|expires| expires <= now) {
        tracing::info!(id, task, "expired");
        return end(Some(&id), "TaskRevokedError", "expired", State::Revoked);
    }
    if let Some(at) = eta.and_then(|eta| waits_until(eta, incoming.left, now)) {
        // It came from somebody who leaves the waiting to us.
        let later = Outgoing {
            queue,
            message,
            at: Some(at),
        };
        transport.conclude(Some(tag), None, &[later])?;
        return Ok(None);
    }
    let mut begun = match Begun::new(app, message, &queue, incoming.redelivered) {
        Ok(begun) => begun,
        Err(message) => {
            let (name, known) = (&message.headers.task, app.tasks().collect::<Vec<_>>());
            let text = format!("no task is named {name:?}; known are: {}", known.join(", "));
            tracing::error!(queue, id, task, "dropped a task that nobody knows");
            return end(Some(&id), "NotRegistered", &text, State::Failure);
        }
    };
    let other = &begun.message.headers.other;
    let key = other.get(KEY).and_then(Value::as_str);
    if let (Some(key), Some(copy)) = (key, other.get(COPY).and_then(Value::as_str))
        && !app.results().claim(key, copy)?
    {
        // Rule 3: the outcome is that of the other.
        tracing::info!(id, task, key, "is there already");
        transport.acknowledge(&[tag])?;
        return Ok(None);
    }
    if begun.options.acks_late {
        begun.lease = Some(tag);
    } else if transport.acknowledge(&[tag])? == 0 {
        // This process was taken for dead, and somebody else has it.
        return Ok(None);
    }
    hooks::call("before", || app.inner.hooks.before(&begun.context));
    Ok(Some(begun))
}

/// Those of the leased tasks that are to wait, apart, so that they can do so together; the rest is as it was.
pub(super) fn part_those_that_wait(leased: &mut Vec<Incoming>) -> Vec<(Tag, Outgoing)> {
    let now = Timestamp::now();
    let mut waits = Vec::new();
    leased.retain(|incoming| {
        // Most have no such header.
        if !incoming.headers.get("eta").is_some_and(Value::is_string) {
            return true;
        }
        let Incoming {
            headers,
            properties,
            body,
            ..
        } = incoming;
        let Ok(message) = Message::read(headers.clone(), properties.clone(), body) else {
            return true;
        };
        let eta = message.eta().ok().flatten();
        let Some(at) = eta.and_then(|eta| waits_until(eta, incoming.left, now)) else {
            return true;
        };
        let later = Outgoing {
            queue: incoming.queue.clone(),
            message,
            at: Some(at),
        };
        waits.push((incoming.tag, later));
        false
    });
    waits
}

/// Ends a run: what came of it is kept, what follows is sent, and its lease ends.
///
/// # Errors
/// The broker cannot be used; its lease may not have ended.
pub(super) fn end(app: &App, begun: &Begun, done: &Done) -> Result<(), BrokerError> {
    let run = &begun.context.run;
    let transport = app.transport();
    let mut kept = done.instead.clone();
    if kept.is_none()
        && let Some((state, value, children)) = &done.outcome
        && !begun.message.headers.ignore_result.unwrap_or(false)
    {
        kept = Some(Outcome {
            id: run.id.clone(),
            to: run.reply_to.clone(),
            document: document(&run.id, state, value.clone(), children),
        });
    }
    if !app.inner.together
        && let Some(outcome) = kept.take()
    {
        app.results().store(outcome)?;
    }
    match begun.lease {
        Some(tag) if done.back => transport.release(&[tag])?,
        Some(tag) if done.rejected => transport.reject(tag)?,
        None if kept.is_none() && done.next.is_empty() => {}
        lease => transport.conclude(lease, kept, &done.next)?,
    }
    if let Some((state, value, _)) = &done.outcome {
        hooks::call("after", || app.inner.hooks.after(&begun.context, state, value));
    }
    Ok(())
}

/// Runs a task in the thread that sends it, and what follows it as well.
pub(super) fn eagerly(app: &App, task: Outgoing) {
    let mut line = std::collections::VecDeque::from([task]);
    while let Some(Outgoing { queue, message, .. }) = line.pop_front() {
        let id = message.headers.id.clone();
        let outcome = match Begun::new(app, message, &queue, false) {
            Ok(begun) => {
                hooks::call("before", || app.inner.hooks.before(&begun.context));
                let done = conclude(app, &begun, Ended::Ran(hands::here(&begun)));
                line.extend(done.next);
                if let Some((state, value, _)) = &done.outcome {
                    hooks::call("after", || app.inner.hooks.after(&begun.context, state, value));
                }
                done.outcome
            }
            Err(message) => {
                let error = exception("NotRegistered", &message.headers.task);
                Some((State::Failure, error, Vec::new()))
            }
        };
        if let Some((state, value, children)) = outcome {
            let document = document(&id, &state, value, &children);
            // In memory; if even that fails, nothing is known of the task, and that is told.
            let _ = app.results().store(Outcome {
                id,
                to: None,
                document,
            });
        }
    }
}

/// Instead of what came of a run, which the broker does not take, those who wait hear that; nothing follows.
pub(super) fn instead(app: &App, begun: &Begun, error: &BrokerError) -> Done {
    let run = &begun.context.run;
    let outcome = Outcome {
        id: run.id.clone(),
        to: run.reply_to.clone(),
        document: no_result(&run.id, error),
    };
    Done {
        instead: Some(outcome),
        next: errbacks(app, &begun.message),
        ..Done::default()
    }
}

/// Gives a run up that cannot be ended: it is begun once more, if it may be.
///
/// # Errors
/// The broker cannot be used.
pub(super) fn give_up(app: &App, begun: &Begun) -> Result<(), BrokerError> {
    match begun.lease {
        Some(tag) => app.transport().release(&[tag]),
        None => Ok(()),
    }
}

/// What comes of a run that has ended.
pub(super) fn conclude(app: &App, begun: &Begun, ended: Ended) -> Done {
    let (message, options) = (&begun.message, &begun.options);
    let id = &message.headers.id;
    let fails = |error: Value, children: Vec<String>| Done {
        outcome: Some((State::Failure, error, children)),
        next: errbacks(app, message),
        ..Done::default()
    };
    let ended = match (ended, begun.context.control.why()) {
        // Threads cannot be ended by force; the outcome is the same.
        (Ended::Ran(_), Some(why @ (Cancelled::HardLimit | Cancelled::Revoked))) => Ended::Forced(why),
        (ended, _) => ended,
    };
    match ended {
        Ended::Ran(ran) => ran_out(app, begun, ran),
        Ended::Forced(why) => {
            tracing::warn!(id, task = message.headers.task, %why, "ended by force");
            let text = why.to_string();
            match why {
                Cancelled::Revoked => Done {
                    outcome: Some((
                        State::Revoked,
                        exception("TaskRevokedError", "terminated"),
                        Vec::new(),
                    )),
                    ..Done::default()
                },
                Cancelled::Shutdown if options.acks_late => Done {
                    back: true,
                    ..Done::default()
                },
                Cancelled::Shutdown => fails(exception("WorkerLostError", &text), Vec::new()),
                _ => fails(exception("TimeLimitExceeded", &text), Vec::new()),
            }
        }
        Ended::Lost(how) => {
            tracing::error!(id, task = message.headers.task, how, "lost");
            let lost = lost_before(message);
            if options.acks_late && lost < u64::from(options.requeue_lost) {
                return Done {
                    next: vec![lost_once_more(message, &begun.context.run.queue, lost + 1)],
                    ..Done::default()
                };
            }
            let text = match lost {
                0 => how,
                _ => format!("{how}; {lost} that ran it before died as well"),
            };
            fails(exception("WorkerLostError", &text), Vec::new())
        }
    }
}

/// What comes of a run that ended by itself.
fn ran_out(app: &App, begun: &Begun, ran: Ran) -> Done {
    let (message, queue) = (&begun.message, begun.context.run.queue.as_str());
    let headers = &message.headers;
    let retries = begun.context.run.retries;
    let Ran {
        called,
        wish,
        mut children,
    } = ran;
    let again = |pause: Duration, error: Value| Done {
        outcome: Some((State::Retry, error, Vec::new())),
        next: vec![attempt(message, queue, retries + 1, pause)],
        ..Done::default()
    };
    let fails = |error: Value, children: Vec<String>| Done {
        outcome: Some((State::Failure, error, children)),
        next: errbacks(app, message),
        ..Done::default()
    };
    let retry = &begun.options.retry;
    match (called, wish) {
        // It left with a word; a value says that it did not mean it.
        (Err(CallError::Task(TaskError::Failed(_))), Some(wish)) => match wish {
            Wish::Retry { after } if retries < retry.count => {
                let pause = after.unwrap_or_else(|| retry.pause(retries));
                again(pause, exception("Retry", "the task is to be tried again"))
            }
            Wish::Retry { .. } => {
                let text = format!("tried {} times, as often as it may be", retries + 1);
                fails(exception("MaxRetriesExceededError", &text), children)
            }
            Wish::Ignore => Done::default(),
            Wish::Reject { requeue } => Done {
                back: requeue,
                rejected: !requeue,
                ..Done::default()
            },
            Wish::Replace(by) => Done {
                next: replacement(app, message, &by),
                ..Done::default()
            },
        },
        (Ok(value), _) => {
            let next = follow(app, message, &value);
            children.extend(next.iter().map(|task| task.message.headers.id.clone()));
            Done {
                outcome: Some((State::Success, value, children)),
                next,
                ..Done::default()
            }
        }
        (Err(CallError::Task(error)), None) if retry.applies(&error, retries) => {
            again(retry.pause(retries), failure(&error))
        }
        (Err(CallError::Task(error)), _) => {
            tracing::warn!(id = headers.id, task = headers.task, %error, "failed");
            fails(failure(&error), children)
        }
        (Err(CallError::Arguments(error)), _) => {
            tracing::warn!(id = headers.id, task = headers.task, %error, "does not fit");
            fails(exception("TypeError", &error), children)
        }
    }
}
