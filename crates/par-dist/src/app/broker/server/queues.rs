//! Queues on a RabbitMQ server: of what kind they are made, and those in which tasks wait for their time (rule 4).

use crate::app::AppError;
use crate::app::config::Config;
use lapin::types::{AMQPValue, FieldTable};

/// What is to wait so many milliseconds or less waits in no room: who moves it keeps it until then.
pub(super) const HOLD: i64 = 250;
/// Between which powers of two of milliseconds the times in rooms are.
const LEAST: u32 = 7;
const MOST: u32 = 30;

/// What is said of queues that are made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kinds {
    quorum: bool,
    highest_priority: Option<u8>,
    pub(super) dead_letters: Option<String>,
}

impl Kinds {
    pub(super) fn of(config: &Config) -> Result<Self, AppError> {
        if config.quorum_queues && config.highest_priority.is_some() {
            return Err(AppError::Option {
                option: "highest_priority",
                reason: "quorum queues have no priorities; leave out one of both".to_owned(),
            });
        }
        Ok(Kinds {
            quorum: config.quorum_queues,
            highest_priority: config.highest_priority,
            dead_letters: config.dead_letters.clone(),
        })
    }

    /// The arguments of a queue for tasks.
    pub(super) fn arguments(&self, queue: &str) -> FieldTable {
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        if self.quorum {
            arguments.insert("x-queue-type".into(), text("quorum"));
        }
        if let Some(priority) = self.highest_priority {
            arguments.insert("x-max-priority".into(), AMQPValue::LongLongInt(priority.into()));
        }
        if let Some(dead) = self.dead_letters.as_deref().filter(|dead| *dead != queue) {
            arguments.insert("x-dead-letter-exchange".into(), text(""));
            arguments.insert("x-dead-letter-routing-key".into(), text(dead));
        }
        arguments
    }
}

/// The queue of what passes from one queue where it waits to another.
pub(super) fn later(queue: &str) -> String {
    format!("{queue}.later")
}

/// What nobody takes there goes to its queue soon: workers of others keep it themselves.
pub(super) fn passage(queue: &str) -> FieldTable {
    waits(2 * HOLD, queue)
}

/// The queue in which what is to wait so many milliseconds waits first, and how long; none if that is too short. It has to wait at least an eighth
/// of it after that, so that it does not matter when it was moved a bit late.
pub(super) fn room(queue: &str, millis: i64) -> Option<(String, i64)> {
    if millis <= HOLD {
        return None;
    }
    let most = millis.min(i64::from(i32::MAX)) * 7 / 8;
    let level = 1i64 << most.ilog2();
    Some((format!("{queue}.later.{level}"), level))
}

/// All the queues in which tasks of a queue may wait, whether they are there or not.
pub(super) fn rooms(queue: &str) -> impl Iterator<Item = String> {
    (LEAST..=MOST).map(move |power| format!("{queue}.later.{}", 1u64 << power))
}

/// Rule 4: what lies there so long is to be moved on. It stays when nobody uses it: one that expired would take with it what is in it.
pub(super) fn waiting_room(queue: &str, millis: i64) -> FieldTable {
    waits(millis, &later(queue))
}

/// Of a queue in which things lie so many milliseconds and go to the next then.
fn waits(millis: i64, next: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis));
    let text = |text: &str| AMQPValue::LongString(text.into());
    // Only a quorum queue keeps what it moves until it has arrived; a classic one forgets it at once, and it may be lost when the server dies.
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-routing-key", next),
    ] {
        arguments.insert(name.into(), text(value));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_through_smaller_and_smaller_rooms() {
        assert_eq!(room("q", HOLD), None);
        for waits in [HOLD + 1, 1000, 100_000, 1_000_000, i64::from(i32::MAX)] {
            let (mut left, mut rooms) = (waits, 0);
            while let Some((name, level)) = room("q", left) {
                assert_eq!(name, format!("q.later.{level}"));
                assert!(super::rooms("q").any(|room| room == name), "{name}");
                assert!(
                    left - level >= left / 8 && level >= left * 7 / 16,
                    "{left} {level}"
                );
                left -= level;
                rooms += 1;
            }
            assert!(rooms <= 24, "{waits}: {rooms}");
        }
        assert_eq!(room("q", i64::MAX).map(|(_, level)| level), Some(1 << 30));
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        let both = Config {
            quorum_queues: true,
            highest_priority: Some(9),
            ..Config::default()
        };
        assert!(Kinds::of(&both).is_err());
        let dead = Config {
            dead_letters: Some("dead".to_owned()),
            ..Config::default()
        };
        let kinds = Kinds::of(&dead).expect("good");
        assert_eq!(kinds.arguments("q").inner().len(), 2);
        // It is not its own.
        assert_eq!(kinds.arguments("dead").inner().len(), 0);
    }
}
