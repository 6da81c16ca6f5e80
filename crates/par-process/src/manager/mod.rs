//! Managers: a process that owns objects, and proxies of them that other processes use.
//!
//! ```
//! use par_process::Process;
//! use par_process::manager::{Dict, Manager};
//!
//! let manager = Manager::start()?;
//! let dict = manager.dict::<u32, u32>()?;
//! let children: Vec<_> = (0..4)
//!     .map(|i| {
//!         let write = |(dict, i): (Dict<u32, u32>, u32)| {
//!             dict.insert(&i, &(2 * i)).expect("the manager lives");
//!         };
//!         Process::of_fn((dict.clone(), i), write).start()
//!     })
//!     .collect::<Result<_, _>>()?;
//! for child in children {
//!     assert_eq!(child.join()?, 0);
//! }
//! let mut items = dict.items()?;
//! items.sort();
//! assert_eq!(items, [(0, 0), (1, 2), (2, 4), (3, 6)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A proxy is a value: it can be an argument of a process or of a task of any pool, and be sent through any channel. An object
//! lives while a proxy of it does, in whatever process, or a name that was [published](Manager::publish); a process that dies
//! leaves nothing of that behind, and releases the locks that it held. When the manager's process is gone, every call ends at once
//! with [`ManagerError::Gone`]. Bytes that were made of a proxy and that nobody reads keep its object until the process that made them ends.
//!
//! Manager and clients prove to each other that they have the same [`Key`]. The bytes of a proxy hold the key: keep them as you
//! would keep the key, and send them only where the manager's clients may be. Nothing is encrypted.

mod address;
mod blob;
mod client;
mod collections;
mod error;
mod key;
mod kinds;
mod macros;
mod object;
mod protocol;
mod proxy;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod waiting;
mod waits;

pub use address::{Address, AddressError};
pub use client::within;
pub use error::{Fault, ManagerError};
pub use key::Key;
pub use kinds::{Counter, Dict, List, Namespace};
pub use object::Managed;
pub use proxy::{Proxy, Remote, Shareable};
pub use waits::{Event, Lock, LockGuard, Queue, QueueError};

use crate::{Descriptor, Process};
use address::Listener;
use blob::Blob;
use client::Client;
use par_core::Data;
use protocol::Request;
use serde::Serialize;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What [`managed!`](crate::managed!) expands to.
#[doc(hidden)]
pub mod macro_support {
    pub use super::object::{ManagedType, TYPES, arguments, unknown, value};
    pub use serde::{Deserialize, Deserializer, Serialize, Serializer};
}

/// A process that owns objects. It ends when the `Manager` that started it is dropped, and when this process ends, however it does.
#[doc(alias = "SyncManager")]
#[doc(alias = "BaseManager")]
pub struct Manager {
    client: Arc<Client>,
    /// That of the manager, where this started it.
    process: Option<Process>,
}

/// A manager before it starts; made by [`Manager::builder`].
#[must_use = "a builder does nothing until start()"]
#[derive(Debug, Default)]
pub struct ManagerBuilder {
    tcp: Option<SocketAddr>,
    key: Option<Key>,
}

impl ManagerBuilder {
    /// Listens on TCP instead of on a Unix socket; port 0 is any that is free. Who is not on this machine can connect if the address is
    /// not that of the loopback, and others on the way can read and change what is said.
    pub fn tcp(mut self, address: SocketAddr) -> Self {
        self.tcp = Some(address);
        self
    }

    /// The key that clients must have; a random one unless given.
    #[doc(alias = "authkey")]
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Starts the manager's process.
    ///
    /// # Errors
    /// [`ManagerError::Io`] if the address cannot be had; [`ManagerError::Start`] if the process cannot be started.
    pub fn start(self) -> Result<Manager, ManagerError> {
        let key = match self.key {
            Some(key) => key,
            None => Key::random()?,
        };
        let (listener, address) = match self.tcp {
            Some(address) => Listener::tcp(address)?,
            None => Listener::unix(u64::from_le_bytes(key::random()?))?,
        };
        let post = server::Post {
            listener: Descriptor::from(listener.into_file()),
            address: address.clone(),
            key: key.clone(),
        };
        let process = Process::of_fn(post, server::serve)
            .name("Manager")
            .daemon(true)
            .start()
            .map_err(|error| ManagerError::Start(error.to_string()))?;
        match Client::of(&address, &key) {
            Ok(client) => Ok(Manager {
                client,
                process: Some(process),
            }),
            Err(error) => {
                end(&process);
                Err(error)
            }
        }
    }
}

/// Ends the manager's process.
fn end(process: &Process) {
    // What it owns is of no use to anybody any more. That it cannot be signalled or waited for means that it is gone.
    let _ = process.kill();
    let _ = process.join();
}

impl Manager {
    /// Starts a manager on a Unix socket with a random key, which is known to this process and in the bytes of proxies.
    ///
    /// # Errors
    /// As [`ManagerBuilder::start`].
    pub fn start() -> Result<Self, ManagerError> {
        Manager::builder().start()
    }

    /// A manager with other properties.
    ///
    /// ```
    /// use par_process::manager::{Key, Manager, ManagerError};
    ///
    /// let manager = Manager::builder()
    ///     .tcp(([127, 0, 0, 1], 0).into())
    ///     .key(Key::from("a secret"))
    ///     .start()?;
    /// manager.publish("jobs", &manager.counter(5)?)?;
    ///
    /// // Elsewhere, by whoever was told the address and the key:
    /// let client = Manager::connect(manager.address(), &Key::from("a secret"))?;
    /// assert_eq!(client.find::<par_process::manager::Counter>("jobs")?.get()?, 5);
    /// let refused = Manager::connect(manager.address(), &Key::from("a guess"));
    /// assert!(matches!(refused, Err(ManagerError::WrongKey(_))));
    /// # Ok::<(), ManagerError>(())
    /// ```
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// Uses a manager that another process has started. Dropping this does not end it.
    ///
    /// # Errors
    /// [`ManagerError::Gone`] if no manager listens there; [`ManagerError::WrongKey`].
    pub fn connect(address: &Address, key: &Key) -> Result<Self, ManagerError> {
        let client = Client::of(address, key)?;
        // One that was known before may have ended.
        client.request::<u64>(&Request::Count)?;
        Ok(Manager {
            client,
            process: None,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.client.address
    }

    /// Its key.
    pub fn key(&self) -> &Key {
        &self.client.key
    }

    /// Its process, if this started it.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn create<P: Remote, F: Serialize>(&self, from: &F) -> Result<P, ManagerError> {
        let request = Request::Create {
            kind: P::KIND.to_owned(),
            from: Blob(par_core::wire::to_bytes(from)?),
        };
        let object = self.client.request(&request)?;
        Ok(P::from_proxy(Proxy::referring(&self.client, object)))
    }

    /// A new dictionary.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn dict<K: Data, V: Data>(&self) -> Result<Dict<K, V>, ManagerError> {
        self.create(&())
    }

    /// A new list.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn list<V: Data>(&self) -> Result<List<V>, ManagerError> {
        self.create(&())
    }

    /// A new namespace.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn namespace(&self) -> Result<Namespace, ManagerError> {
        self.create(&())
    }

    /// A new counter, which begins with that number.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn counter(&self, number: i64) -> Result<Counter, ManagerError> {
        self.create(&number)
    }

    /// A new queue for at most so many items.
    ///
    /// # Errors
    /// [`ManagerError::Failed`] for a capacity of 0, and the others.
    pub fn queue<T: Data>(&self, capacity: usize) -> Result<Queue<T>, ManagerError> {
        if capacity == 0 {
            let text = "capacity of a queue: 0, expected at least 1";
            return Err(ManagerError::Failed(text.to_owned()));
        }
        self.create(&(capacity as u64))
    }

    /// A new lock.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn lock(&self) -> Result<Lock, ManagerError> {
        self.create(&())
    }

    /// A new event, which is not set.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn event(&self) -> Result<Event, ManagerError> {
        self.create(&())
    }

    /// Gives the manager a value of a user's own type; see [`managed!`](crate::managed!).
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn own<T: Shareable>(&self, value: T) -> Result<T::Proxy, ManagerError> {
        self.create(&value)
    }

    /// Gives an object a name, by which others can [find](Self::find) it, and which keeps it. An object that had the name
    /// before loses it.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn publish<P: Remote>(&self, name: &str, object: &P) -> Result<(), ManagerError> {
        if object.proxy().address() != self.address() {
            let text = format!(
                "the object is one of {}, not of {}",
                object.proxy().address(),
                self.address()
            );
            return Err(ManagerError::NoObject(text));
        }
        self.client.request(&Request::Publish {
            name: name.to_owned(),
            object: object.proxy().object(),
        })
    }

    /// The object of that name.
    ///
    /// # Errors
    /// [`ManagerError::NoObject`] if there is none, or it is of another kind, and the others.
    pub fn find<P: Remote>(&self, name: &str) -> Result<P, ManagerError> {
        let object = self.client.request(&Request::Find {
            name: name.to_owned(),
            kind: P::KIND.to_owned(),
        })?;
        Ok(P::from_proxy(Proxy::referring(&self.client, object)))
    }

    /// How many objects it owns at this moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "number_of_objects")]
    pub fn objects(&self) -> Result<u64, ManagerError> {
        self.client.request(&Request::Count)
    }

    /// Ends the manager, if this started it, and waits for that. Dropping it does the same.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            end(process);
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("address", self.address())
            .field("process", &self.process)
            .finish()
    }
}
