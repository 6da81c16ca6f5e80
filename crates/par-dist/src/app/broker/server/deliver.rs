//! What a RabbitMQ server delivers: tasks, outcomes, and messages to all workers; and which of it is acknowledged how.

use super::confirm::say;
use super::table::to_map;
use super::{KEPT, Shared};
use crate::app::broker::{Incoming, LEFT, Tag};
use crate::app::control_message;
use crate::app::message::Properties;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::types::FieldTable;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// How the names of headers begin that the server adds to what it moves.
const DEATHS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];
/// The bits of a tag that are the server's own (rule 3).
pub(super) const OWN: u32 = 40;

/// Rule 5.
pub(super) fn outcome(
    outcomes: &mut HashMap<String, Value>,
    order: &mut VecDeque<String>,
    delivery: &Delivery,
) {
    let Ok(document) = serde_json::from_slice::<Value>(&delivery.data) else {
        tracing::warn!("dropped a result that is no JSON");
        return;
    };
    let Some(id) = document["task_id"].as_str().map(str::to_owned) else {
        return;
    };
    if outcomes.insert(id.clone(), document).is_none() {
        order.push_back(id);
    }
    while order.len() > KEPT
        && let Some(oldest) = order.pop_front()
    {
        outcomes.remove(&oldest);
    }
}

fn is_death(name: &str) -> bool {
    DEATHS.iter().any(|prefix| name.starts_with(prefix))
}

/// Without what the server adds to what it moves: it would take the next move for one in a circle, and drop the task.
pub(super) fn without_deaths(headers: &FieldTable) -> FieldTable {
    let headers = headers.inner().iter();
    let headers = headers.filter(|(name, _)| !is_death(name.as_str()));
    let headers = headers.map(|(name, value)| (name.clone(), value.clone()));
    headers.collect::<BTreeMap<_, _>>().into()
}

pub(super) fn incoming(epoch: i64, queue: String, delivery: Delivery) -> Incoming {
    let properties = &delivery.properties;
    let mut headers = properties.headers().as_ref().map(to_map).unwrap_or_default();
    let left = headers.remove(LEFT).and_then(|left| left.as_i64());
    if left.is_some() {
        headers.retain(|name, _| !is_death(name));
    }
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    Incoming {
        // A connection does not live to see so many.
        tag: Tag(epoch << OWN | (delivery.delivery_tag as i64 & ((1 << OWN) - 1))),
        queue,
        redelivered: delivery.redelivered,
        left,
        headers,
        properties: Properties {
            content_type: text(properties.content_type()).unwrap_or_default(),
            content_encoding: text(properties.content_encoding()).unwrap_or_default(),
            correlation_id: text(properties.correlation_id()).unwrap_or_default(),
            reply_to: text(properties.reply_to()),
            priority: properties.priority().unwrap_or(0),
        },
        body: delivery.data,
    }
}

/// What was told to all workers.
pub(super) fn told(shared: &Shared, delivery: &Delivery) {
    // What is none is no business of a worker.
    let message: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
    shared
        .state
        .lock()
        .revoked
        .extend(control_message::revoked(&message));
    shared.ring.ring();
}

/// The deliveries of a channel that are yet to be acknowledged: one word to the server covers all up to a number.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// All up to that are done.
    done: u64,
    /// Those after it that are.
    apart: BTreeSet<u64>,
}

impl Acks {
    /// These are done. Up to which of them all are, to be told in one word, and those that are beyond. The server takes a word on a number once.
    pub(super) fn settle(&mut self, tags: impl IntoIterator<Item = u64>) -> (Option<u64>, Vec<u64>) {
        let is_new = |tag: &u64| *tag > self.done && !self.apart.contains(tag);
        let fresh: BTreeSet<u64> = tags.into_iter().filter(is_new).collect();
        self.apart.extend(&fresh);
        while self.apart.remove(&(self.done + 1)) {
            self.done += 1;
        }
        let (all, beyond): (Vec<u64>, Vec<u64>) = fresh.into_iter().partition(|tag| *tag <= self.done);
        // What comes after it was told one by one.
        (all.last().copied(), beyond)
    }

    /// Tells the server which deliveries are done, with as few words as it takes.
    pub(super) fn tell(
        &mut self,
        channel: &Channel,
        tags: impl IntoIterator<Item = u64>,
    ) -> lapin::Result<()> {
        let (all, apart) = self.settle(tags);
        if let Some(all) = all {
            let multiple = BasicAckOptions { multiple: true };
            say(channel.basic_ack(all, multiple))?;
        }
        for tag in apart {
            say(channel.basic_ack(tag, BasicAckOptions::default()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The server has exactly what was acknowledged, whatever the order.
        #[test]
        fn what_is_said_covers_what_is_done_and_nothing_else(
            order in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle(),
            sizes in prop::collection::vec(1..8usize, 1..40),
        ) {
            let (mut acks, mut unsettled) = (Acks::default(), (1..=40u64).collect::<BTreeSet<_>>());
            let mut order = order.into_iter();
            let mut done = BTreeSet::new();
            for size in sizes {
                let batch: Vec<u64> = order.by_ref().take(size).collect();
                done.extend(&batch);
                let (all, apart) = acks.settle(batch);
                if let Some(all) = all {
                    prop_assert!(unsettled.contains(&all), "{all} twice");
                    unsettled.retain(|tag| *tag > all);
                }
                for tag in apart {
                    prop_assert!(unsettled.remove(&tag), "{tag} twice");
                }
                let settled: BTreeSet<u64> = (1..=40).filter(|tag| !unsettled.contains(tag)).collect();
                prop_assert_eq!(&settled, &done);
            }
        }
    }
}
