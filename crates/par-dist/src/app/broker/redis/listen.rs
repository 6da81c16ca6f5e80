//! How those who wait for a Redis server hear that there is something: a thread for each queue, and one for all that is told by name.
//!
//! 1. A queue is watched only while a worker waits, by a blocking move of the last message to where it is: whoever does that sees it, and takes nothing.
//! 2. Outcomes and what is told to all workers come on channels. A thread is told by a channel of its own for which it is to listen besides.

use crate::app::broker::ring::Ring;
use crate::app::broker::{Revocation, Seen};
use crate::app::control_message;
use parking_lot::{Condvar, Mutex};
use redis::{Client, RedisResult};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long a thread listens without looking whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a server that is away.
const PAUSE: Duration = Duration::from_millis(250);
/// Outcomes that are listened for; the oldest go first, and who waits for them looks now and then.
const LISTENED: usize = 10_000;

pub(super) struct Listener {
    pub(super) ring: Ring,
    client: Client,
    /// The channel by which the thread is told.
    pub(super) own: String,
    /// The channel on which all workers are told.
    pub(super) all: String,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    queues: HashSet<String>,
    /// How often a worker began to wait.
    waits: u64,
    listens: bool,
    channels: HashSet<String>,
    order: VecDeque<String>,
    /// What is to be listened for, and is not yet.
    asks: Vec<String>,
    revoked: Vec<Revocation>,
    closed: bool,
}

impl Listener {
    pub(super) fn new(client: &Client, me: &str, db: i64) -> Arc<Self> {
        Arc::new(Listener {
            ring: Ring::new(None),
            client: client.clone(),
            own: format!("par.wake.{me}"),
            all: format!("/{db}.celery.pidbox"),
            state: Mutex::default(),
            wanted: Condvar::new(),
        })
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wanted.notify_all();
    }

    /// Watches these queues from now on.
    pub(super) fn watch(self: &Arc<Self>, queues: &[String]) {
        for queue in queues {
            if self.state.lock().queues.insert(queue.clone()) {
                let (here, queue) = (Arc::clone(self), queue.clone());
                // Without it, who waits looks a few times a second.
                let _ = std::thread::Builder::new()
                    .name("par-dist-queue".to_owned())
                    .spawn(move || here.watch_one(&queue));
            }
        }
    }

    /// A worker sleeps until a watched queue has something.
    pub(super) fn wait(&self, since: Seen, timeout: Duration) {
        self.state.lock().waits += 1;
        self.wanted.notify_all();
        self.ring.wait(since, timeout);
    }

    /// Rule 1.
    fn watch_one(&self, queue: &str) {
        let (mut connection, mut served) = (None, 0);
        loop {
            let waits = {
                let mut state = self.state.lock();
                while !state.closed && state.waits == served {
                    self.wanted.wait(&mut state);
                }
                if state.closed {
                    return;
                }
                state.waits
            };
            let mut look = || -> RedisResult<bool> {
                let connection = match &mut connection {
                    Some(open) => open,
                    none => none.insert(self.client.get_connection_with_timeout(10 * LOOK)?),
                };
                connection.set_read_timeout(Some(10 * LOOK))?;
                let mut last = redis::cmd("BLMOVE");
                last.arg(queue).arg(queue).arg("RIGHT").arg("RIGHT");
                let last: Option<redis::Value> = last.arg(LOOK.as_secs_f64()).query(connection)?;
                Ok(last.is_some())
            };
            match look() {
                Ok(true) => {
                    served = waits;
                    self.ring.ring();
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, queue, "cannot watch a queue");
                    connection = None;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Rule 2. Whether the thread is to be told.
    pub(super) fn listen_for(self: &Arc<Self>, channel: &str) -> bool {
        let mut state = self.state.lock();
        if !state.channels.insert(channel.to_owned()) {
            return false;
        }
        state.order.push_back(channel.to_owned());
        state.asks.push(channel.to_owned());
        if state.order.len() > LISTENED
            && let Some(oldest) = state.order.pop_front()
        {
            state.channels.remove(&oldest);
        }
        if !std::mem::replace(&mut state.listens, true) {
            let here = Arc::clone(self);
            let _ = std::thread::Builder::new()
                .name("par-dist-listen".to_owned())
                .spawn(move || here.listen());
        }
        true
    }

    fn listen(&self) {
        loop {
            if let Err(error) = self.listen_on_one_connection() {
                tracing::debug!(%error, "cannot listen");
                std::thread::sleep(PAUSE);
            }
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            // All of it, on the next one.
            state.asks = state.channels.iter().cloned().collect();
        }
    }

    fn listen_on_one_connection(&self) -> RedisResult<()> {
        let mut connection = self.client.get_connection_with_timeout(10 * LOOK)?;
        let mut channels = connection.as_pubsub();
        channels.subscribe(&self.own)?;
        channels.set_read_timeout(Some(LOOK))?;
        loop {
            let asks = std::mem::take(&mut self.state.lock().asks);
            if !asks.is_empty() {
                channels.subscribe(&asks)?;
                // What came before that is there to be looked at.
                self.ring.ring();
            }
            let message = match channels.get_message() {
                Ok(message) => message,
                Err(error) if error.is_timeout() => {
                    if self.state.lock().closed {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let channel = message.get_channel_name().to_owned();
            if channel == self.all {
                let payload: String = message.get_payload().unwrap_or_default();
                let revoked = control_message::revoked(&super::wire::read_json(&payload));
                self.state.lock().revoked.extend(revoked);
            } else if channel != self.own {
                channels.unsubscribe(&channel)?;
                let mut state = self.state.lock();
                state.channels.remove(&channel);
                state.order.retain(|other| *other != channel);
            }
            self.ring.ring();
        }
    }

    pub(super) fn take_revoked(&self) -> Vec<Revocation> {
        std::mem::take(&mut self.state.lock().revoked)
    }
}
