//! The thread of a worker that leases tasks, and gives back what the worker does not begin (rules 1 and 2 of the crew).

use super::broker::{Incoming, Outgoing, Tag};
use super::crew::Crew;
use super::run;
use std::time::Duration;

/// The longest sleep without a look.
const LOOK: Duration = Duration::from_secs(5);

impl Crew {
    /// Rule 1.
    pub(super) fn lease(&self) {
        while let Err(error) = self.transport.join(&self.queues, self.room) {
            self.troubled(Some(error.to_string()));
            self.pause();
            if self.state.lock().stops {
                return;
            }
        }
        loop {
            let room = {
                let mut state = self.state.lock();
                while !state.stops && !state.wants_more(self.room) {
                    self.room_again.wait(&mut state);
                }
                if state.stops {
                    return self.give_back(state.line.drain(..).collect());
                }
                self.room - state.line.len() - state.running
            };
            let seen = self.transport.seen();
            match self.transport.lease(&self.queues, room) {
                Ok(leased) if leased.is_empty() => {
                    let due = self.transport.next_due(&self.queues).ok().flatten();
                    self.transport.wait(seen, due.unwrap_or(LOOK).min(LOOK));
                }
                Ok(mut leased) => {
                    let waits = run::part_those_that_wait(&mut leased);
                    if !waits.is_empty() {
                        self.defer(waits);
                    }
                    self.hear();
                    let one = leased.len() == 1;
                    self.state.lock().line.extend(leased);
                    if one {
                        self.work.notify_one();
                    } else {
                        self.work.notify_all();
                    }
                }
                Err(error) => {
                    self.troubled(Some(error.to_string()));
                    self.pause();
                }
            }
        }
    }

    fn defer(&self, waits: Vec<(Tag, Outgoing)>) {
        let tags: Vec<Tag> = waits.iter().map(|(tag, _)| *tag).collect();
        if let Err(error) = self.transport.defer(waits) {
            self.troubled(Some(error.to_string()));
            // If that fails too, they go back when this process has ended.
            let _ = self.transport.release(&tags);
            // They come again at once.
            self.pause();
        }
    }

    /// Rule 2.
    fn give_back(&self, rest: Vec<Incoming>) {
        let tags: Vec<_> = rest.iter().map(|incoming| incoming.tag).collect();
        let left = self.transport.leave(&self.queues);
        let released = if tags.is_empty() {
            Ok(())
        } else {
            self.transport.release(&tags)
        };
        if let Err(error) = left.and(released) {
            tracing::error!(%error, "cannot give tasks back; others get them when this process has ended");
        }
    }
}
