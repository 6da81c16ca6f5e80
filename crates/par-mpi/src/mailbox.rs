//! Mailboxes: the messages that have come to a rank and were not received yet.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Instant;

/// A message on its way: who sent it, under which tag, what.
pub(crate) struct Message {
    pub(crate) source: usize,
    pub(crate) tag: i64,
    pub(crate) bytes: Vec<u8>,
}

/// What a wait for a message can end with, other than the message.
pub(crate) enum NoMessage {
    /// The deadline passed.
    Late,
    /// The source has ended and nothing of it is left.
    SourceEnded,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    /// Ranks that have ended: nothing more comes from them.
    ended: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl Mailbox {
    pub(crate) fn put(&self, message: Message) {
        self.state.lock().messages.push_back(message);
        self.changed.notify_all();
    }

    pub(crate) fn source_ended(&self, rank: usize) {
        self.state.lock().ended.push(rank);
        self.changed.notify_all();
    }

    /// The oldest message of that source and tag: messages of one pair do not overtake each other.
    pub(crate) fn take(
        &self,
        source: usize,
        tag: i64,
        deadline: Option<Instant>,
    ) -> Result<Message, NoMessage> {
        let mut state = self.state.lock();
        loop {
            let found = state
                .messages
                .iter()
                .position(|m| m.source == source && m.tag == tag);
            if let Some(message) = found.and_then(|place| state.messages.remove(place)) {
                return Ok(message);
            }
            if state.ended.contains(&source) {
                return Err(NoMessage::SourceEnded);
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(at) => {
                    if self.changed.wait_until(&mut state, at).timed_out() {
                        return Err(NoMessage::Late);
                    }
                }
            }
        }
    }
}
