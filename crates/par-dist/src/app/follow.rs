//! What follows a run: its next attempt, what takes its place, and what is called with its value or because it failed.

use super::broker::Outgoing;
use super::instance::App;
use super::message::{Embed, Message, Signature};
use super::time::{from_now, write_time};
use serde_json::Value;
use std::time::Duration;

/// The same call once more: its next attempt, after a pause.
pub(super) fn attempt(message: &Message, queue: &str, retries: u32, pause: Duration) -> Outgoing {
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

/// The header that says how often a task has lost the process that ran it.
const LOST: &str = "x-par-lost";

/// How often a task has lost the process that ran it, before it went back to its queue.
pub(super) fn lost_before(message: &Message) -> u64 {
    let lost = message.headers.other.get(LOST);
    lost.and_then(Value::as_u64).unwrap_or(0)
}

/// The same call once more, after it lost so many processes.
pub(super) fn lost_once_more(message: &Message, queue: &str, lost: u64) -> Outgoing {
    let mut message = message.clone();
    message.headers.other.insert(LOST.to_owned(), lost.into());
    Outgoing {
        queue: queue.to_owned(),
        message,
        at: None,
    }
}

/// What takes the place of a task, with its id and all that follows it.
pub(super) fn replacement(app: &App, message: &Message, by: &Signature) -> Vec<Outgoing> {
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
pub(super) fn follow(app: &App, message: &Message, value: &Value) -> Vec<Outgoing> {
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
pub(super) fn errbacks(app: &App, message: &Message) -> Vec<Outgoing> {
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
