//! How a peer hears over a Redis server that there is something: a thread that listens on the peer's channels.

use crate::broker::Woken;
use crate::redis_server::Address;
use parking_lot::{Condvar, Mutex};
use redis::RedisResult;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the thread listens without looking whether it is still wanted.
const LOOK: Duration = Duration::from_millis(500);
/// The pause after a server that is away.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Default)]
struct State {
    woken: Woken,
    /// It rang since the last sleep.
    rung: bool,
    closed: bool,
}

impl Bell {
    /// Starts the thread.
    pub(super) fn listen(self: &Arc<Self>, address: Address, channels: Vec<String>) -> Result<(), String> {
        let here = Arc::clone(self);
        let listens = move || {
            while !here.state.lock().closed {
                if let Err(error) = here.hear(&address, &channels) {
                    tracing::debug!(%error, "cannot listen");
                    std::thread::sleep(PAUSE);
                }
            }
        };
        std::thread::Builder::new()
            .name("par-bell".to_owned())
            .spawn(listens)
            .map(drop)
            .map_err(|error| format!("cannot start its thread: {error}"))
    }

    fn hear(&self, address: &Address, channels: &[String]) -> RedisResult<()> {
        let mut connection = address.connect()?;
        let mut listens = connection.as_pubsub();
        listens.subscribe(channels)?;
        listens.set_read_timeout(Some(LOOK))?;
        // What was told before that is there to be looked at.
        self.ring(|woken| (woken.work, woken.reply, woken.news) = (true, true, true));
        while !self.state.lock().closed {
            match listens.get_message() {
                Ok(message) => match message.get_payload_bytes() {
                    b"w" => self.ring(|woken| woken.work = true),
                    b"r" => self.ring(|woken| woken.reply = true),
                    _ => self.ring(|woken| woken.news = true),
                },
                Err(error) if error.is_timeout() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ring(&self, change: impl FnOnce(&mut Woken)) {
        let mut state = self.state.lock();
        change(&mut state.woken);
        state.rung = true;
        drop(state);
        self.rung.notify_all();
    }

    /// Sleeps until it rings or the time is up.
    pub(super) fn sleep(&self, timeout: Duration) -> Woken {
        let until = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !state.rung && !self.rung.wait_until(&mut state, until).timed_out() {}
        state.rung = false;
        std::mem::take(&mut state.woken)
    }

    /// Ends a sleep.
    pub(super) fn wake(&self) {
        self.ring(|_| ());
    }

    /// The thread ends soon.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
    }
}
