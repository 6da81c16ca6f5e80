//! One run of a task: from what was leased to what comes of it, and who is told.
//!
//! 1. A task that acknowledges early is acknowledged before it runs; one that acknowledges late after its outcome is kept and what follows is sent.
//!    So a death in between loses the one, and runs the other again.
//! 2. The next attempt of a task takes its place in its queue in one step, where it is still leased.

use super::arguments::CallError;
use super::broker::{Incoming, Outgoing};
use super::builder::{App, Known};
use super::call::from_now;
use super::context::{TaskContext, Wish, within};
use super::message::{Embed, Message, Signature, write_time};
use super::outcome::{State, document, exception, failure};
use crate::BrokerError;
use jiff::Timestamp;
use par_core::TaskError;
use serde_json::Value;
use std::time::Duration;

/// What comes of a run.
#[derive(Default)]
struct Done {
    /// What is kept for those who have its result.
    document: Option<Value>,
    /// What is sent.
    next: Vec<Outgoing>,
    /// Whether it goes back as it is.
    back: bool,
}

/// Runs what was leased, and ends its lease.
///
/// # Errors
/// The broker cannot be used; the lease may not have ended.
pub(super) fn handle(app: &App, incoming: Incoming) -> Result<(), BrokerError> {
    let (transport, tag) = (app.transport(), incoming.tag);
    let named = |name: &str| {
        incoming
            .headers
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let (id, task) = (named("id"), named("task"));
    let reply_to = incoming.properties.reply_to.clone();
    let drop_it = |id: Option<&str>, outcome: Value, state: State| {
        if let Some(id) = id {
            app.results()
                .store(id, reply_to.as_deref(), &document(id, &state, outcome, &[]))?;
        }
        transport.acknowledge(&[tag]).map(drop)
    };
    let read = Message::read(incoming.headers, incoming.properties, &incoming.body).and_then(|message| {
        let times = (message.eta()?, message.expires()?);
        Ok((message, times))
    });
    let (message, (eta, expires)) = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(queue = incoming.queue, id, task, %error, "dropped what is no task");
            let outcome = exception("par_dist::app::MessageError", &error.to_string());
            return drop_it(id.as_deref(), outcome, State::Failure);
        }
    };
    let headers = &message.headers;
    let Some(known) = app.inner.tasks.get(headers.task.as_str()) else {
        let names: Vec<&str> = app.tasks().collect();
        let text = format!(
            "no task is named {:?}; known are: {}",
            headers.task,
            names.join(", ")
        );
        tracing::error!(
            queue = incoming.queue,
            id,
            task,
            "dropped a task that nobody knows"
        );
        return drop_it(
            Some(&headers.id),
            exception("NotRegistered", &text),
            State::Failure,
        );
    };
    let now = Timestamp::now();
    if expires.is_some_and(|expires| expires <= now) {
        tracing::info!(id, task, "expired");
        let outcome = exception("TaskRevokedError", "expired");
        return drop_it(Some(&headers.id), outcome, State::Revoked);
    }
    if eta.is_some_and(|eta| eta > now) {
        // It came from somebody who leaves the waiting to us.
        let later = Outgoing {
            queue: incoming.queue,
            message,
            at: eta,
        };
        return transport.replace(tag, &[later]);
    }
    let late = known.options.acks_late;
    if !late && transport.acknowledge(&[tag])? == 0 {
        // This process was taken for dead, and somebody else has it.
        return Ok(());
    }
    let done = perform(app, known, &message, &incoming.queue, incoming.redelivered);
    if let Some(document) = &done.document {
        app.results().store(&headers.id, reply_to.as_deref(), document)?;
    }
    match (late, done.back) {
        (true, true) => transport.release(&[tag]),
        (true, false) => transport.replace(tag, &done.next),
        (false, _) if done.next.is_empty() => Ok(()),
        (false, _) => transport.publish(&done.next),
    }
}

/// Runs a task in the thread that sends it, and what follows it as well.
pub(super) fn eagerly(app: &App, task: Outgoing) {
    let mut line = std::collections::VecDeque::from([task]);
    while let Some(Outgoing { queue, message, .. }) = line.pop_front() {
        let id = message.headers.id.clone();
        let done = match app.inner.tasks.get(message.headers.task.as_str()) {
            Some(known) => perform(app, known, &message, &queue, false),
            None => Done {
                document: Some(document(
                    &id,
                    &State::Failure,
                    exception("NotRegistered", &message.headers.task),
                    &[],
                )),
                ..Done::default()
            },
        };
        if let Some(document) = done.document {
            // In memory; if even that fails, nothing is known of the task, and that is told.
            let _ = app.results().store(&id, None, &document);
        }
        line.extend(done.next);
    }
}

fn perform(app: &App, known: &Known, message: &Message, queue: &str, redelivered: bool) -> Done {
    let headers = &message.headers;
    let retries = headers.retries.unwrap_or(0);
    let context = TaskContext {
        app: app.clone(),
        id: headers.id.clone(),
        reply_to: message.properties.reply_to.clone(),
        task: headers.task.clone(),
        root: headers.root_id.clone(),
        parent: headers.parent_id.clone(),
        retries,
        queue: queue.to_owned(),
        redelivered,
    };
    let body = &message.body;
    let (result, wish, children) = within(context, || {
        par_core::catch(|| (known.call)(&body.args, &body.kwargs))
            .unwrap_or_else(|panic| Err(CallError::Task(panic)))
    });
    let wanted = !headers.ignore_result.unwrap_or(false);
    let document = |state: State, outcome: Value, children: &[String]| {
        wanted.then(|| document(&headers.id, &state, outcome, children))
    };
    let fails = |outcome: Value| Done {
        document: document(State::Failure, outcome, &children),
        next: errbacks(app, message),
        back: false,
    };
    let again = |pause: Duration, outcome: Value| Done {
        document: document(State::Retry, outcome, &[]),
        next: vec![attempt(message, queue, retries + 1, pause)],
        back: false,
    };
    let retry = &known.options.retry;
    match (result, wish) {
        // It left with a word; a value says that it did not mean it.
        (Err(CallError::Task(TaskError::Failed(_))), Some(wish)) => match wish {
            Wish::Retry { after } if retries < retry.count => {
                let pause = after.unwrap_or_else(|| retry.pause(retries));
                again(pause, exception("Retry", "the task is to be tried again"))
            }
            Wish::Retry { .. } => {
                let text = format!("tried {} times, as often as it may be", retries + 1);
                fails(exception("MaxRetriesExceededError", &text))
            }
            Wish::Ignore => Done::default(),
            Wish::Reject { requeue } => Done {
                back: requeue,
                ..Done::default()
            },
            Wish::Replace(by) => Done {
                next: replacement(app, message, &by),
                ..Done::default()
            },
        },
        (Ok(value), _) => {
            let next = follow(app, message, &value);
            let mut children = children;
            children.extend(next.iter().map(|task| task.message.headers.id.clone()));
            Done {
                document: document(State::Success, value, &children),
                next,
                back: false,
            }
        }
        (Err(CallError::Task(error)), None) if retry.applies(&error, retries) => {
            again(retry.pause(retries), failure(&error))
        }
        (Err(CallError::Task(error)), _) => {
            tracing::warn!(id = headers.id, task = headers.task, %error, "failed");
            fails(failure(&error))
        }
        (Err(CallError::Arguments(error)), _) => {
            tracing::warn!(id = headers.id, task = headers.task, %error, "does not fit");
            fails(exception("TypeError", &error.to_string()))
        }
    }
}

/// The same call once more (rule 2).
fn attempt(message: &Message, queue: &str, retries: u32, pause: Duration) -> Outgoing {
    let mut message = message.clone();
    let at = from_now(pause);
    message.headers.retries = Some(retries);
    message.headers.eta = Some(write_time(at));
    Outgoing {
        queue: queue.to_owned(),
        message,
        at: Some(at),
    }
}

/// What takes the place of a task, with its id and all that follows it.
fn replacement(app: &App, message: &Message, by: &Signature) -> Vec<Outgoing> {
    let call = by.call(app, None).id(&message.headers.id);
    let Ok((mut task, _)) = call.into_outgoing() else {
        return Vec::new();
    };
    task.message
        .properties
        .reply_to
        .clone_from(&message.properties.reply_to);
    let headers = &mut task.message.headers;
    headers.root_id.clone_from(&message.headers.root_id);
    headers.parent_id.clone_from(&message.headers.parent_id);
    headers.replaced_task_nesting = Some(message.headers.replaced_task_nesting.unwrap_or(0) + 1);
    let (ours, theirs) = (&mut task.message.body.embed, &message.body.embed);
    ours.chain.clone_from(&theirs.chain);
    for (ours, theirs) in [
        (&mut ours.callbacks, &theirs.callbacks),
        (&mut ours.errbacks, &theirs.errbacks),
    ] {
        if let Some(theirs) = theirs {
            ours.get_or_insert_default().extend(theirs.iter().cloned());
        }
    }
    vec![task]
}

/// What is called with a value: callbacks, and the next of the chain with the rest of it.
fn follow(app: &App, message: &Message, value: &Value) -> Vec<Outgoing> {
    let embed = &message.body.embed;
    let callbacks = embed.callbacks.iter().flatten();
    let mut next: Vec<Outgoing> = callbacks
        .filter_map(|signature| child(app, message, signature, value.clone()))
        .collect();
    if let Some((signature, rest)) = embed.chain.as_deref().and_then(<[Signature]>::split_last)
        && let Some(mut task) = child(app, message, signature, value.clone())
    {
        let theirs: &mut Embed = &mut task.message.body.embed;
        theirs.chain = (!rest.is_empty()).then(|| rest.to_vec());
        if theirs.errbacks.is_none() {
            theirs.errbacks.clone_from(&embed.errbacks);
        }
        next.push(task);
    }
    next
}

/// What is called when a task failed: with its id, as JSON has no exceptions.
fn errbacks(app: &App, message: &Message) -> Vec<Outgoing> {
    let errbacks = message.body.embed.errbacks.iter().flatten();
    let id = Value::from(message.headers.id.as_str());
    errbacks
        .filter_map(|signature| child(app, message, signature, id.clone()))
        .collect()
}

fn child(app: &App, message: &Message, signature: &Signature, value: Value) -> Option<Outgoing> {
    let (mut task, _) = signature.call(app, Some(value)).into_outgoing().ok()?;
    // Whoever called the first hears of what follows, if it says no other.
    let theirs = &mut task.message.properties.reply_to;
    *theirs = theirs.take().or_else(|| message.properties.reply_to.clone());
    let headers = &mut task.message.headers;
    headers.parent_id = Some(message.headers.id.clone());
    headers.root_id = message
        .headers
        .root_id
        .clone()
        .or_else(|| Some(message.headers.id.clone()));
    Some(task)
}
