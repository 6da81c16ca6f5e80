//! A process's side of a manager: its session and its connections.
//!
//! 1. A process has one session a manager. One connection stands for it and is never used for calls, so that a call that goes wrong does
//!    not end the session; the others are used by one call at a time, and kept for the next.
//! 2. A call that has no answer at its deadline gives its connection up. The manager sees that, and takes back what the
//!    call has not brought to an end.
//! 3. A manager that is gone has closed its sockets: every call then ends at once.

use super::address::Stream;
use super::key::{self, Key, random};
use super::protocol::{LONGEST, Request, down, up};
use super::{Address, Fault, ManagerError};
use crate::sentinel;
use par_core::wire::{self, FrameDecoder, WireError};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The most connections that are kept for the next calls.
const MOST_IDLE: usize = 64;

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs something whose calls to managers on this thread shall be answered within `timeout`, all together; one that is not ends
/// with [`ManagerError::TimedOut`], and may or may not have happened. Without it, a call waits for as long as its manager lives.
///
/// ```
/// use par_process::manager::{self, Manager};
/// use std::time::Duration;
///
/// let manager = Manager::start()?;
/// let counter = manager.counter(5)?;
/// assert_eq!(manager::within(Duration::from_secs(60), || counter.add(2))?, 7);
/// # Ok::<(), par_process::manager::ManagerError>(())
/// ```
pub fn within<R>(timeout: Duration, run: impl FnOnce() -> R) -> R {
    struct Restore(Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }
    let before = DEADLINE.get();
    let until = sooner(Instant::now().checked_add(timeout), before);
    let _restore = Restore(before);
    DEADLINE.set(until);
    run()
}

fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// One connection.
pub(super) struct Connection {
    stream: Stream,
    decoder: FrameDecoder,
    out: Vec<u8>,
}

/// This process as a client of one manager.
pub(super) struct Client {
    pub(super) address: Address,
    pub(super) key: Key,
    pub(super) session: u128,
    idle: Mutex<Vec<Connection>>,
    /// Rule 1.
    _session: Connection,
}

static CLIENTS: Mutex<Option<HashMap<Address, Weak<Client>>>> = Mutex::new(None);

impl Client {
    /// The client of the manager there.
    pub(super) fn of(address: &Address, key: &Key) -> Result<Arc<Self>, ManagerError> {
        let known = CLIENTS
            .lock()
            .as_ref()
            .and_then(|clients| clients.get(address)?.upgrade());
        if let Some(client) = known.filter(|client| client.key == *key) {
            return Ok(client);
        }
        let session = u128::from_le_bytes(random()?);
        let client = Arc::new(Client {
            address: address.clone(),
            key: key.clone(),
            session,
            idle: Mutex::default(),
            _session: Connection::open(address, key, session)?,
        });
        let mut clients = CLIENTS.lock();
        let clients = clients.get_or_insert_default();
        clients.retain(|_, client| client.strong_count() > 0);
        // Another thread may have been quicker; both are good.
        clients.insert(address.clone(), Arc::downgrade(&client));
        Ok(client)
    }

    fn gone(&self, reason: impl ToString) -> ManagerError {
        ManagerError::Gone {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn take(&self) -> Result<Connection, ManagerError> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.address, &self.key, self.session),
        }
    }

    pub(super) fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
    }

    /// Sends what `fill` writes and reads the answer, on any connection.
    pub(super) fn exchange<R>(
        &self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        timeout: Option<Duration>,
        read: impl FnOnce(&[u8]) -> Result<R, WireError>,
    ) -> Result<R, ManagerError> {
        let mut connection = self.take()?;
        let result = self.exchange_on(&mut connection, fill, timeout, read);
        if result.as_ref().map_or_else(ends_well, |_| true) {
            self.give_back(connection);
        }
        result
    }

    /// The same on one connection.
    pub(super) fn exchange_on<R>(
        &self,
        connection: &mut Connection,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        timeout: Option<Duration>,
        read: impl FnOnce(&[u8]) -> Result<R, WireError>,
    ) -> Result<R, ManagerError> {
        let own = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let until = sooner(own, DEADLINE.get());
        connection.out.clear();
        fill(&mut connection.out)?;
        let length = connection.out.len() as u64 - wire::FRAME_HEADER as u64;
        if length > LONGEST {
            return Err(WireError::TooLarge {
                claimed: length,
                allowed: LONGEST,
            }
            .into());
        }
        connection.send(until).map_err(|error| self.broken(&error))?;
        loop {
            match connection
                .decoder
                .next_frame()
                .map_err(|error| self.gone(error))?
            {
                Some((up::VALUE, payload)) => return Ok(read(payload)?),
                Some((up::FAULT, payload)) => return Err(wire::from_bytes::<Fault>(payload)?.into()),
                Some((kind, _)) => return Err(self.gone(format!("it answers with a frame of kind {kind}"))),
                None => {}
            }
            if until.is_some() && sentinel::wait(&[connection.stream.as_fd()], until)?.is_empty() {
                return Err(ManagerError::TimedOut);
            }
            match connection.decoder.read_from(&mut &connection.stream) {
                Ok(0) => return Err(self.gone("it has closed the connection")),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(self.broken(&error)),
                _ => {}
            }
        }
    }

    fn broken(&self, error: &io::Error) -> ManagerError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ManagerError::TimedOut,
            _ => self.gone(error),
        }
    }

    /// Asks the manager itself.
    pub(super) fn request<R: DeserializeOwned>(&self, request: &Request) -> Result<R, ManagerError> {
        self.exchange(
            |out| wire::append_frame(out, down::REQUEST, |payload| wire::encode(request, payload)),
            None,
            wire::from_bytes,
        )
    }

    /// A proxy is gone. Nobody waits for that, and a manager that is gone does not mind.
    pub(super) fn forget(&self, object: u64) {
        let Ok(mut connection) = self.take() else { return };
        let payload = object.to_le_bytes();
        connection.out.clear();
        let framed: Result<(), WireError> = wire::append_frame(&mut connection.out, down::FORGET, |out| {
            out.extend_from_slice(&payload);
            Ok(())
        });
        if framed.is_ok() && connection.send(None).is_ok() {
            self.give_back(connection);
        }
    }

    /// Calls a method of an object.
    pub(super) fn call<A: Serialize, R: DeserializeOwned>(
        &self,
        object: u64,
        method: &str,
        arguments: &A,
    ) -> Result<R, ManagerError> {
        self.exchange(
            |out| super::protocol::put_call(out, object, method, arguments),
            None,
            wire::from_bytes,
        )
    }
}

/// Whether the connection is of use after an error.
fn ends_well(error: &ManagerError) -> bool {
    matches!(
        error,
        ManagerError::NoObject(_)
            | ManagerError::Failed(_)
            | ManagerError::Panicked(_)
            | ManagerError::Codec(_)
    )
}

impl Connection {
    fn open(address: &Address, key: &Key, session: u128) -> Result<Self, ManagerError> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound, TimedOut};
        let stream = Stream::connect(address).map_err(|error| match error.kind() {
            ConnectionAborted | ConnectionRefused | ConnectionReset | NotFound | TimedOut => {
                ManagerError::Gone {
                    address: address.clone(),
                    reason: error.to_string(),
                }
            }
            // Not for want of a manager, but of files, mostly.
            _ => ManagerError::Io(error),
        })?;
        let left = DEADLINE.get().map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        key::present(&stream, key, session, address, left)?;
        Ok(Connection {
            stream,
            decoder: FrameDecoder::new(LONGEST),
            out: Vec::new(),
        })
    }

    /// Sends what is in `out`.
    fn send(&mut self, until: Option<Instant>) -> io::Result<()> {
        if let Some(until) = until {
            let left = until
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            self.stream.set_timeout(Some(left))?;
        }
        (&self.stream).write_all(&self.out)?;
        if until.is_some() {
            self.stream.set_timeout(None)?;
        }
        self.out.shrink_to(1 << 20);
        Ok(())
    }

    /// Tells the manager that its answer has arrived.
    pub(super) fn confirm(&mut self) -> Result<(), WireError> {
        wire::write_frame(&mut &self.stream, down::CONFIRM, &[])
    }
}
