//! Ranks that are threads of this process: each has a mailbox, and a message is moved into that of its receiver.

use crate::error::MpiError;
use crate::transport::{CHANNELS, Channel, Match, Message, Received, Transport};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

#[derive(Default)]
struct State {
    messages: [VecDeque<Message>; CHANNELS],
    woken: [bool; CHANNELS],
    /// Ranks that have ended: nothing more comes from them.
    ended: Vec<usize>,
}

/// The messages that have come to a rank and were not received yet.
#[derive(Default)]
struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl State {
    fn take(&mut self, channel: Channel, which: Match) -> Option<Message> {
        let messages = &mut self.messages[channel as usize];
        let at = messages
            .iter()
            .position(|message| which.takes(message.source, message.tag))?;
        messages.remove(at)
    }
}

/// One of several ranks that are threads. When it is dropped, the others know that nothing more comes from it.
pub(crate) struct Local {
    rank: usize,
    boxes: Arc<[Mailbox]>,
}

impl Local {
    /// The ends of a group of so many ranks.
    pub(crate) fn group(ranks: usize) -> Vec<Local> {
        let boxes: Arc<[Mailbox]> = (0..ranks).map(|_| Mailbox::default()).collect();
        let end = |rank| Local {
            rank,
            boxes: Arc::clone(&boxes),
        };
        (0..ranks).map(end).collect()
    }

    fn own(&self) -> &Mailbox {
        &self.boxes[self.rank]
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for mailbox in self.boxes.iter() {
            mailbox.state.lock().ended.push(self.rank);
            mailbox.changed.notify_all();
        }
    }
}

impl Transport for Local {
    fn name(&self) -> String {
        "threads".to_owned()
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.boxes.len()
    }

    fn processes(&self) -> bool {
        false
    }

    fn most_tag(&self) -> u32 {
        u32::MAX
    }

    fn send(&self, channel: Channel, dest: usize, tag: u32, bytes: Vec<u8>) -> Result<(), MpiError> {
        let mailbox = self.boxes.get(dest).ok_or(MpiError::NoSuchRank {
            rank: dest,
            size: self.size(),
        })?;
        mailbox.state.lock().messages[channel as usize].push_back(Message {
            source: self.rank,
            tag,
            bytes,
        });
        mailbox.changed.notify_all();
        Ok(())
    }

    fn try_receive(&self, channel: Channel, which: Match) -> Result<Option<Message>, MpiError> {
        Ok(self.own().state.lock().take(channel, which))
    }

    fn receive(&self, channel: Channel, which: Match, until: Option<Instant>) -> Result<Received, MpiError> {
        let mailbox = self.own();
        let mut state = mailbox.state.lock();
        loop {
            if let Some(message) = state.take(channel, which) {
                return Ok(Received::Message(message));
            }
            if which.source.is_some_and(|source| state.ended.contains(&source)) {
                return Ok(Received::Ended);
            }
            if std::mem::take(&mut state.woken[channel as usize]) {
                return Ok(Received::Nothing);
            }
            match until {
                None => mailbox.changed.wait(&mut state),
                Some(at) => {
                    if mailbox.changed.wait_until(&mut state, at).timed_out() {
                        // What came in the last moment has come in time.
                        let message = state.take(channel, which);
                        return Ok(message.map_or(Received::Nothing, Received::Message));
                    }
                }
            }
        }
    }

    fn wake(&self, channel: Channel) {
        let mailbox = self.own();
        mailbox.state.lock().woken[channel as usize] = true;
        mailbox.changed.notify_all();
    }

    fn abort(&self, _: i32, _: &str) {}
}
