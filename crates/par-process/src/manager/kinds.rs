//! Proxies of the collections that every manager knows.

use super::blob::Blob;
use super::{ManagerError, Proxy, Remote};
use par_core::Data;
use par_core::wire::{self, WireError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// A type of proxies with parameters, which is a value that can be sent.
macro_rules! proxy {
    ($(#[$meta:meta])* $Name:ident$(<$($T:ident),*>)?, $kind:literal) => {
        $(#[$meta])*
        #[derive(Serialize, Deserialize)]
        #[serde(bound = "")]
        pub struct $Name$(<$($T),*>)? {
            proxy: Proxy,
            types: PhantomData<fn() -> ($($($T,)*)?)>,
        }

        impl$(<$($T),*>)? Remote for $Name$(<$($T),*>)? {
            const KIND: &'static str = $kind;

            fn from_proxy(proxy: Proxy) -> Self {
                Self { proxy, types: PhantomData }
            }

            fn proxy(&self) -> &Proxy {
                &self.proxy
            }
        }

        impl$(<$($T),*>)? Clone for $Name$(<$($T),*>)? {
            fn clone(&self) -> Self {
                Self::from_proxy(self.proxy.clone())
            }
        }

        impl$(<$($T),*>)? fmt::Debug for $Name$(<$($T),*>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($Name)).field(&self.proxy).finish()
            }
        }
    };
}
pub(super) use proxy;

pub(super) fn blob<T: Serialize + ?Sized>(value: &T) -> Result<Blob, WireError> {
    wire::to_bytes(value).map(Blob)
}

pub(super) fn unblob<T: DeserializeOwned>(blob: &Blob) -> Result<T, ManagerError> {
    Ok(wire::from_bytes(&blob.0)?)
}

fn unblob_some<T: DeserializeOwned>(blob: Option<Blob>) -> Result<Option<T>, ManagerError> {
    blob.as_ref().map(unblob).transpose()
}

proxy! {
    /// A dictionary of a manager, in the order in which its keys came. Keys are the same where their encodings are; values are copies.
    ///
    /// ```
    /// use par_process::Process;
    /// use par_process::manager::{Dict, Manager};
    ///
    /// let manager = Manager::start()?;
    /// let dict = manager.dict::<String, u32>()?;
    /// let child = Process::of_fn(dict.clone(), |dict: Dict<String, u32>| {
    ///     dict.insert(&"answer".to_owned(), &42).expect("the manager lives");
    /// })
    /// .start()?;
    /// assert_eq!(child.join()?, 0);
    /// assert_eq!(dict.get(&"answer".to_owned())?, Some(42));
    /// assert_eq!(dict.items()?, [("answer".to_owned(), 42)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "DictProxy")]
    Dict<K, V>, "dict"
}

impl<K: Data, V: Data> Dict<K, V> {
    /// Sets the value of a key, and returns the one it had.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn insert(&self, key: &K, value: &V) -> Result<Option<V>, ManagerError> {
        unblob_some(self.proxy.call("insert", &(blob(key)?, blob(value)?))?)
    }

    /// Sets the values of many keys at once: others see all of them or none.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "update")]
    pub fn extend(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<(), ManagerError> {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| Ok((blob(&key)?, blob(&value)?)));
        let pairs: Vec<(Blob, Blob)> = pairs.collect::<Result<_, WireError>>()?;
        self.proxy.call("extend", &(pairs,))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn get(&self, key: &K) -> Result<Option<V>, ManagerError> {
        unblob_some(self.proxy.call("get", &(blob(key)?,))?)
    }

    /// The value of a key; `value` becomes that if it has none.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "setdefault")]
    pub fn get_or_insert(&self, key: &K, value: &V) -> Result<V, ManagerError> {
        unblob(&self.proxy.call("get_or_insert", &(blob(key)?, blob(value)?))?)
    }

    /// Removes a key, and returns its value.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "pop")]
    pub fn remove(&self, key: &K) -> Result<Option<V>, ManagerError> {
        unblob_some(self.proxy.call("remove", &(blob(key)?,))?)
    }

    /// Whether the key has a value.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn contains(&self, key: &K) -> Result<bool, ManagerError> {
        self.proxy.call("contains", &(blob(key)?,))
    }

    /// Sets the value of a key only if it is `expected`, where `None` is no value; else returns the one it has. In one step, so
    /// that several processes can change a value without losing each other's changes.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn compare_exchange(
        &self,
        key: &K,
        expected: Option<&V>,
        new: Option<&V>,
    ) -> Result<Result<(), Option<V>>, ManagerError> {
        let expected = expected.map(blob).transpose()?;
        let new = new.map(blob).transpose()?;
        match self
            .proxy
            .call("compare_exchange", &(blob(key)?, expected, new))?
        {
            Ok(()) => Ok(Ok(())),
            Err(found) => unblob_some(found).map(Err),
        }
    }

    /// All keys with their values, as they are at one moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn items(&self) -> Result<Vec<(K, V)>, ManagerError> {
        let items: Vec<(Blob, Blob)> = self.proxy.call("items", &())?;
        items
            .iter()
            .map(|(key, value)| Ok((unblob(key)?, unblob(value)?)))
            .collect()
    }

    /// All keys, as they are at one moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn keys(&self) -> Result<Vec<K>, ManagerError> {
        let keys: Vec<Blob> = self.proxy.call("keys", &())?;
        keys.iter().map(unblob).collect()
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn len(&self) -> Result<u64, ManagerError> {
        self.proxy.call("len", &())
    }

    /// Whether there are no keys.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn is_empty(&self) -> Result<bool, ManagerError> {
        Ok(self.len()? == 0)
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn clear(&self) -> Result<(), ManagerError> {
        self.proxy.call("clear", &())
    }
}

proxy! {
    /// A list of a manager. Values are copies.
    ///
    /// ```
    /// let manager = par_process::manager::Manager::start()?;
    /// let list = manager.list()?;
    /// list.extend([1, 2, 3])?;
    /// assert_eq!(list.set(1, &7)?, Some(2));
    /// assert_eq!(list.items()?, [1, 7, 3]);
    /// assert_eq!(list.get(3)?, None);
    /// # Ok::<(), par_process::manager::ManagerError>(())
    /// ```
    #[doc(alias = "ListProxy")]
    List<V>, "list"
}

impl<V: Data> List<V> {
    /// Appends a value.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "append")]
    pub fn push(&self, value: &V) -> Result<(), ManagerError> {
        self.proxy.call("push", &(blob(value)?,))
    }

    /// Appends many values, one after the other without anybody else's between them.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn extend(&self, values: impl IntoIterator<Item = V>) -> Result<(), ManagerError> {
        let values = values.into_iter().map(|value| blob(&value));
        let values: Vec<Blob> = values.collect::<Result<_, WireError>>()?;
        self.proxy.call("extend", &(values,))
    }

    /// Removes the last value and returns it.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn pop(&self) -> Result<Option<V>, ManagerError> {
        unblob_some(self.proxy.call("pop", &())?)
    }

    /// The value at a place.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn get(&self, index: u64) -> Result<Option<V>, ManagerError> {
        unblob_some(self.proxy.call("get", &(index,))?)
    }

    /// Sets the value at a place and returns the one before; `None`, and nothing is set, if the list is not so long.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn set(&self, index: u64, value: &V) -> Result<Option<V>, ManagerError> {
        unblob_some(self.proxy.call("set", &(index, blob(value)?))?)
    }

    /// Inserts a value before a place; false, and nothing is inserted, if that is beyond the end.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn insert(&self, index: u64, value: &V) -> Result<bool, ManagerError> {
        self.proxy.call("insert", &(index, blob(value)?))
    }

    /// Removes the value at a place and returns it.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn remove(&self, index: u64) -> Result<Option<V>, ManagerError> {
        unblob_some(self.proxy.call("remove", &(index,))?)
    }

    /// All values, as they are at one moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn items(&self) -> Result<Vec<V>, ManagerError> {
        let items: Vec<Blob> = self.proxy.call("items", &())?;
        items.iter().map(unblob).collect()
    }

    /// How many values there are.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn len(&self) -> Result<u64, ManagerError> {
        self.proxy.call("len", &())
    }

    /// Whether there are no values.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn is_empty(&self) -> Result<bool, ManagerError> {
        Ok(self.len()? == 0)
    }

    /// Removes all values.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn clear(&self) -> Result<(), ManagerError> {
        self.proxy.call("clear", &())
    }
}

proxy! {
    /// Names with values of any types, which whoever reads a name has to know.
    ///
    /// ```
    /// let manager = par_process::manager::Manager::start()?;
    /// let namespace = manager.namespace()?;
    /// namespace.set("limit", &2.5)?;
    /// assert_eq!(namespace.get::<f64>("limit")?, Some(2.5));
    /// assert_eq!(namespace.get::<f64>("other")?, None);
    /// # Ok::<(), par_process::manager::ManagerError>(())
    /// ```
    #[doc(alias = "NamespaceProxy")]
    Namespace, "namespace"
}

impl Namespace {
    /// Sets the value of a name.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "setattr")]
    pub fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), ManagerError> {
        self.proxy.call("set", &(blob(name)?, blob(value)?))
    }

    /// The value of a name.
    ///
    /// # Errors
    /// [`ManagerError`]; [`ManagerError::Codec`] if it is of another type.
    #[doc(alias = "getattr")]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ManagerError> {
        unblob_some(self.proxy.call("get", &(blob(name)?,))?)
    }

    /// Removes a name; whether it had a value.
    ///
    /// # Errors
    /// [`ManagerError`].
    #[doc(alias = "delattr")]
    pub fn remove(&self, name: &str) -> Result<bool, ManagerError> {
        let before: Option<Blob> = self.proxy.call("remove", &(blob(name)?,))?;
        Ok(before.is_some())
    }

    /// All names, as they are at one moment.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn names(&self) -> Result<Vec<String>, ManagerError> {
        let names: Vec<Blob> = self.proxy.call("keys", &())?;
        names.iter().map(unblob).collect()
    }
}

proxy! {
    /// A number that several processes count with. It goes around at the ends of its range, as an atomic does.
    ///
    /// ```
    /// let manager = par_process::manager::Manager::start()?;
    /// let counter = manager.counter(10)?;
    /// assert_eq!(counter.add(-3)?, 7);
    /// assert_eq!(counter.set(0)?, 7);
    /// assert_eq!(counter.get()?, 0);
    /// # Ok::<(), par_process::manager::ManagerError>(())
    /// ```
    #[doc(alias = "ValueProxy")]
    Counter, "counter"
}

impl Counter {
    /// Adds a number, and returns the sum.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn add(&self, number: i64) -> Result<i64, ManagerError> {
        self.proxy.call("add", &(number,))
    }

    /// The number.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn get(&self) -> Result<i64, ManagerError> {
        self.proxy.call("get", &())
    }

    /// Sets the number, and returns the one before.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn set(&self, number: i64) -> Result<i64, ManagerError> {
        self.proxy.call("set", &(number,))
    }
}
