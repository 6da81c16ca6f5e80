//! Proxies: what processes hold of an object that a manager owns.
//!
//! A proxy is a reference of this process's session; its clones in the process share it. Bytes that are made of one hold a
//! reference of their own, until a proxy is made of them, or the process that made them ends (`table.rs` has the rules). A proxy that
//! was made of bytes speaks to its manager when it is first used, so that reading bytes never waits.

use super::client::{Client, within};
use super::key::Key;
use super::protocol::Request;
use super::{Address, Managed, ManagerError};
use par_core::{Data, wire};
use parking_lot::Mutex;
use serde::de::{self, DeserializeOwned, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Stands before the rest, so that nothing made up reads as a proxy.
const MARK: u64 = 0x7061_725f_7072_6f78;

/// How long dropping a proxy or a guard may take.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);

/// An object of a manager, whatever it is. Proxies of all kinds stand on one.
#[derive(Clone)]
pub struct Proxy {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    key: Key,
    object: u64,
    /// Who lent it, where it came as bytes.
    lender: u128,
    /// Set with the reference.
    client: OnceLock<Arc<Client>>,
    adopting: Mutex<()>,
}

/// A proxy as bytes.
#[derive(Serialize, Deserialize)]
struct Ticket {
    mark: u64,
    address: Address,
    key: Key,
    object: u64,
    lender: u128,
}

/// A type of proxies. Implemented by those of this module and by [`managed!`](crate::managed!).
pub trait Remote: Sized {
    /// The kind of the object, by which a manager finds its type.
    const KIND: &'static str;
    /// A proxy of this type for an object of that kind.
    fn from_proxy(proxy: Proxy) -> Self;
    /// The object.
    fn proxy(&self) -> &Proxy;
}

/// A user's type whose values a manager can own; implemented by [`managed!`](crate::managed!).
pub trait Shareable: Managed + Data {
    /// Its proxies.
    type Proxy: Remote;
}

impl Proxy {
    /// For an object to which the session has a new reference.
    pub(super) fn referring(client: &Arc<Client>, object: u64) -> Self {
        let inner = Inner {
            address: client.address.clone(),
            key: client.key.clone(),
            object,
            lender: client.session,
            client: OnceLock::from(Arc::clone(client)),
            adopting: Mutex::new(()),
        };
        Proxy {
            inner: Arc::new(inner),
        }
    }

    /// Calls a method, by its name and with its arguments as a tuple. The methods of typed proxies do this.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn call<A: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &A,
    ) -> Result<R, ManagerError> {
        self.client()?.call(self.inner.object, method, arguments)
    }

    /// Where the manager is.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    pub(super) fn object(&self) -> u64 {
        self.inner.object
    }

    pub(super) fn client(&self) -> Result<&Arc<Client>, ManagerError> {
        self.inner.client()
    }
}

impl Inner {
    fn client(&self) -> Result<&Arc<Client>, ManagerError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let _one = self.adopting.lock();
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::of(&self.address, &self.key)?;
        let request = Request::Adopt {
            object: self.object,
            lender: self.lender,
        };
        client.request::<()>(&request)?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A manager that is gone has no references.
        within(FAREWELL, || {
            if let Ok(client) = self.client() {
                client.forget(self.object);
            }
        });
    }
}

impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lend = || {
            let client = self.client()?;
            client.request::<()>(&Request::Lend {
                object: self.inner.object,
            })?;
            Ok::<_, ManagerError>(client.session)
        };
        let lender = lend().map_err(|error| wire::refuse(format!("a proxy: {error}")))?;
        let ticket = Ticket {
            mark: MARK,
            address: self.inner.address.clone(),
            key: self.inner.key.clone(),
            object: self.inner.object,
            lender,
        };
        ticket.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ticket = Ticket::deserialize(deserializer)?;
        if ticket.mark != MARK {
            return Err(de::Error::custom(
                "a proxy was expected, and these bytes are none",
            ));
        }
        let inner = Inner {
            address: ticket.address,
            key: ticket.key,
            object: ticket.object,
            lender: ticket.lender,
            client: OnceLock::new(),
            adopting: Mutex::new(()),
        };
        Ok(Proxy {
            inner: Arc::new(inner),
        })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy(object {} of {})", self.inner.object, self.inner.address)
    }
}
