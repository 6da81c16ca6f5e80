//! Proxies of the objects in which processes wait: locks, events and queues.

use super::client::{Connection, within};
use super::kinds::{blob, proxy, unblob};
use super::protocol::put_call;
use super::proxy::FAREWELL;
use super::waiting::{Got, Put};
use super::{ManagerError, Proxy, Remote};
use crate::failpoint::reach;
use par_core::{Data, wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// The manager keeps deadlines itself, and its answer that the time is over takes a moment to arrive, on a busy machine a long one.
/// Past this, it does not run.
const GRACE: Duration = Duration::from_millis(500);

fn with_grace(timeout: Option<Duration>) -> Option<Duration> {
    timeout.map(|timeout| timeout.saturating_add(GRACE))
}

/// Calls a method that waits at most for `timeout`, which is also its last argument.
fn call_within<A: Serialize, R: DeserializeOwned>(
    proxy: &Proxy,
    method: &str,
    arguments: &A,
    timeout: Option<Duration>,
) -> Result<R, ManagerError> {
    proxy.client()?.exchange(
        |out| put_call(out, proxy.object(), method, arguments),
        with_grace(timeout),
        wire::from_bytes,
    )
}

proxy! {
    /// A lock of a manager. It belongs to the guard that took it; when the process of that dies, the lock is free.
    ///
    /// ```
    /// let manager = par_process::manager::Manager::start()?;
    /// let lock = manager.lock()?;
    /// let guard = lock.lock()?;
    /// assert!(lock.try_lock()?.is_none());
    /// drop(guard);
    /// assert!(lock.try_lock()?.is_some());
    /// # Ok::<(), par_process::manager::ManagerError>(())
    /// ```
    #[doc(alias = "AcquirerProxy")]
    Lock, "lock"
}

impl Lock {
    /// Takes the lock; waits while somebody has it, also while this process has it.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<LockGuard, ManagerError> {
        match self.acquire(None)? {
            Some(guard) => Ok(guard),
            None => Err(ManagerError::TimedOut),
        }
    }

    /// Takes the lock, if it is free before the timeout is over.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<LockGuard>, ManagerError> {
        self.acquire(Some(timeout))
    }

    /// Takes the lock, if it is free now.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn try_lock(&self) -> Result<Option<LockGuard>, ManagerError> {
        let asked: Result<bool, _> = self.proxy.call("is_locked", &());
        // Asking first keeps a manager that takes its time from counting as a lock that is held.
        if asked? {
            Ok(None)
        } else {
            self.acquire(Some(Duration::ZERO))
        }
    }

    fn acquire(&self, timeout: Option<Duration>) -> Result<Option<LockGuard>, ManagerError> {
        let client = self.proxy.client()?;
        let mut connection = client.take()?;
        let acquired: Result<bool, _> = client.exchange_on(
            &mut connection,
            |out| put_call(out, self.proxy.object(), "acquire", &(timeout,)),
            with_grace(timeout),
            wire::from_bytes,
        );
        match acquired {
            Ok(true) => Ok(Some(LockGuard {
                proxy: self.proxy.clone(),
                connection: Some(connection),
            })),
            Ok(false) => {
                client.give_back(connection);
                Ok(None)
            }
            // The connection goes, and with it what the manager may be about to grant.
            Err(ManagerError::TimedOut) if timeout.is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody has the lock at this moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn is_locked(&self) -> Result<bool, ManagerError> {
        self.proxy.call("is_locked", &())
    }
}

/// The lock is held while this lives.
#[must_use = "the lock is released when its guard is dropped"]
pub struct LockGuard {
    proxy: Proxy,
    /// The one that holds the lock; `None` once it is released.
    connection: Option<Connection>,
}

impl LockGuard {
    /// Releases the lock, and says whether that went well.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "release")]
    pub fn unlock(mut self) -> Result<(), ManagerError> {
        self.release()
    }

    fn release(&mut self) -> Result<(), ManagerError> {
        let Some(mut connection) = self.connection.take() else {
            return Ok(());
        };
        let client = self.proxy.client()?;
        // Should it go wrong, the end of the connection releases the lock.
        client.exchange_on(
            &mut connection,
            |out| put_call(out, self.proxy.object(), "release", &()),
            None,
            wire::from_bytes::<()>,
        )?;
        client.give_back(connection);
        Ok(())
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // A manager that is gone holds no locks; one that is stopped finds the connection closed, which releases it.
        let _ = within(FAREWELL, || self.release());
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(&self.proxy).finish()
    }
}

proxy! {
    /// Something that happens once, until it is cleared, and that processes wait for.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let manager = par_process::manager::Manager::start()?;
    /// let event = manager.event()?;
    /// assert!(!event.wait_timeout(Duration::from_millis(1))?);
    /// event.set()?;
    /// event.wait()?;
    /// # Ok::<(), par_process::manager::ManagerError>(())
    /// ```
    #[doc(alias = "EventProxy")]
    Event, "event"
}

impl Event {
    /// Sets the event; everyone who waits wakes.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn set(&self) -> Result<(), ManagerError> {
        self.proxy.call("set", &())
    }

    /// Clears the event.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn clear(&self) -> Result<(), ManagerError> {
        self.proxy.call("clear", &())
    }

    /// Whether it is set at this moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn is_set(&self) -> Result<bool, ManagerError> {
        self.proxy.call("is_set", &())
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn wait(&self) -> Result<(), ManagerError> {
        let none: Option<Duration> = None;
        call_within::<_, bool>(&self.proxy, "wait", &(none,), None).map(|_| ())
    }

    /// Waits until it is set, at most for `timeout`; whether it is.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, ManagerError> {
        call_within(&self.proxy, "wait", &(Some(timeout),), Some(timeout))
    }
}

/// Why a queue of a manager did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// It was closed, and for a get, is empty.
    #[error("the queue is closed")]
    Closed,
    /// There was no room until the deadline.
    #[error("there was no room until the deadline")]
    Full,
    /// There was no item until the deadline.
    #[error("there was no item until the deadline")]
    Empty,
    /// The manager could not be asked. After [`ManagerError::TimedOut`] an item may be in the queue or not.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}

impl From<wire::WireError> for QueueError {
    fn from(error: wire::WireError) -> Self {
        QueueError::Manager(error.into())
    }
}

proxy! {
    /// A bounded queue of a manager, which also reaches other machines. Between processes of one, [`Queue`](crate::Queue) in shared
    /// memory is much faster.
    ///
    /// A process that dies in the middle of a get leaves the item to others.
    ///
    /// ```
    /// let manager = par_process::manager::Manager::start()?;
    /// let queue = manager.queue(2)?;
    /// queue.put(&"one".to_owned())?;
    /// queue.close()?;
    /// assert_eq!(queue.get()?, "one");
    /// assert!(queue.get().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Queue<T>, "queue"
}

impl<T: Data> Queue<T> {
    /// Puts an item at the end; waits while the queue is full.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn put(&self, item: &T) -> Result<(), QueueError> {
        self.put_within(item, None)
    }

    /// Puts an item, if there is room before the timeout is over.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<(), QueueError> {
        self.put_within(item, Some(timeout))
    }

    fn put_within(&self, item: &T, timeout: Option<Duration>) -> Result<(), QueueError> {
        match call_within(&self.proxy, "put", &(blob(item)?, timeout), timeout)? {
            Put::Done => Ok(()),
            Put::Full => Err(QueueError::Full),
            Put::Closed => Err(QueueError::Closed),
        }
    }

    /// Takes the first item; waits while the queue is empty and open.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn get(&self) -> Result<T, QueueError> {
        self.get_within(None)
    }

    /// Takes the first item, if there is one before the timeout is over.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, QueueError> {
        self.get_within(Some(timeout))
    }

    fn get_within(&self, timeout: Option<Duration>) -> Result<T, QueueError> {
        let client = self.proxy.client()?;
        let mut connection = client.take()?;
        let got = client.exchange_on(
            &mut connection,
            |out| put_call(out, self.proxy.object(), "get", &(timeout,)),
            with_grace(timeout),
            wire::from_bytes,
        );
        let result = match got {
            Ok(Got::Item(item)) => {
                reach("manager.get.arrived");
                connection.confirm()?;
                reach("manager.get.confirmed");
                unblob(&item).map_err(QueueError::Manager)
            }
            Ok(Got::Empty) => Err(QueueError::Empty),
            Ok(Got::Closed) => Err(QueueError::Closed),
            // With its connection goes what the manager may be about to give.
            Err(ManagerError::TimedOut) if timeout.is_some() => return Err(QueueError::Empty),
            Err(error) => return Err(error.into()),
        };
        client.give_back(connection);
        result
    }

    /// How many items are in it at this moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "qsize")]
    pub fn len(&self) -> Result<u64, ManagerError> {
        self.proxy.call("len", &())
    }

    /// Whether no item is in it at this moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn is_empty(&self) -> Result<bool, ManagerError> {
        Ok(self.len()? == 0)
    }

    /// Closes it for everybody: nothing can be put any more, and gets take what is left.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn close(&self) -> Result<(), ManagerError> {
        self.proxy.call("close", &())
    }
}
