//! Shared values: a large argument that crosses to each worker once and then travels as its number.
//!
//! While inputs are encoded, a [`Recorder`] notes which shared values they name. The engine sends those that a worker does
//! not have yet before the inputs; the worker keeps them until it is told to forget them.

use crate::error::TaskError;
use crate::signature;
use crate::task::Data;
use crate::wire;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Number of a shared value: random by process, counted within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShareId {
    process: u64,
    number: u64,
}

impl ShareId {
    fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let process = *PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()));
        ShareId {
            process,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.process, self.number)
    }
}

/// A value that tasks read, sent to each worker once. Made by [`Pool::share`](crate::Pool::share); clones are the same value.
pub struct Shared<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    id: ShareId,
    value: T,
    bytes: OnceLock<Arc<[u8]>>,
    on_drop: Option<Box<dyn Fn(ShareId) + Send + Sync>>,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({}, {:?})", self.inner.id, self.inner.value)
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        STORE.lock().remove(&self.id);
        if let Some(tell) = &self.on_drop {
            tell(self.id);
        }
    }
}

/// A shared value whose type is not known: what an engine sends to a worker.
pub trait AnyShare: Send + Sync {
    /// Its number.
    fn id(&self) -> ShareId;
    /// Its bytes, made once.
    ///
    /// # Errors
    /// [`TaskError::Codec`] if the value does not serialise.
    fn bytes(&self) -> Result<Arc<[u8]>, TaskError>;
}

impl<T: Data + Sync> AnyShare for Inner<T> {
    fn id(&self) -> ShareId {
        self.id
    }
    fn bytes(&self) -> Result<Arc<[u8]>, TaskError> {
        if let Some(bytes) = self.bytes.get() {
            return Ok(Arc::clone(bytes));
        }
        let made: Arc<[u8]> = wire::to_bytes(&self.value)
            .map_err(|e| TaskError::Codec(e.to_string()))?
            .into();
        Ok(Arc::clone(self.bytes.get_or_init(|| made)))
    }
}

/// What this process knows of shared values.
enum Entry {
    /// The value lives here: it was shared from here, or decoded here before.
    Live(Weak<dyn Any + Send + Sync>),
    /// The bytes came from elsewhere, and stay until they are evicted; with the value once somebody decoded it.
    Received {
        bytes: Arc<[u8]>,
        value: Option<Arc<dyn Any + Send + Sync>>,
    },
}

static STORE: Mutex<std::collections::BTreeMap<ShareId, Entry>> =
    Mutex::new(std::collections::BTreeMap::new());

impl<T: Data + Sync> Shared<T> {
    pub(crate) fn check_encodes(&self) -> Result<(), TaskError> {
        self.inner.bytes().map(|_| ())
    }
}

pub(crate) fn share<T: Data + Sync>(
    value: T,
    on_drop: impl Fn(ShareId) + Send + Sync + 'static,
) -> Shared<T> {
    let inner = Arc::new(Inner {
        id: ShareId::next(),
        value,
        bytes: OnceLock::new(),
        on_drop: Some(Box::new(on_drop)),
    });
    let weak: Weak<dyn Any + Send + Sync> =
        Arc::downgrade(&(Arc::clone(&inner) as Arc<dyn Any + Send + Sync>));
    STORE.lock().insert(inner.id, Entry::Live(weak));
    Shared { inner }
}

/// Keeps the bytes of a shared value that came from elsewhere, for the tasks that will name it. Workers call it.
pub fn receive(id: ShareId, bytes: Vec<u8>) {
    STORE.lock().entry(id).or_insert_with(|| Entry::Received {
        bytes: bytes.into(),
        value: None,
    });
}

/// Whether this process has the value.
pub fn has(id: ShareId) -> bool {
    STORE.lock().contains_key(&id)
}

/// Forgets a value that came from elsewhere. Clones that tasks still hold stay good.
pub fn forget(id: ShareId) {
    let entry = STORE.lock().remove(&id);
    // Dropped outside the lock: it may be the last owner of the value.
    drop(entry);
}

thread_local! {
    static RECORDING: RefCell<Option<HashMap<ShareId, Arc<dyn AnyShare>>>> = const { RefCell::new(None) };
}

/// Notes which shared values the encoded inputs name.
#[derive(Default)]
pub struct Recorder {
    seen: HashMap<ShareId, Arc<dyn AnyShare>>,
}

impl Recorder {
    /// One that has seen none.
    pub fn new() -> Self {
        Recorder::default()
    }

    pub(crate) fn record<R>(&mut self, encode: impl FnOnce() -> R) -> R {
        let before = RECORDING.replace(Some(std::mem::take(&mut self.seen)));
        let result = encode();
        self.seen = RECORDING.replace(before).unwrap_or_default();
        result
    }

    /// The values that were named since the last call.
    pub fn take(&mut self) -> Vec<Arc<dyn AnyShare>> {
        self.seen.drain().map(|(_, share)| share).collect()
    }

    /// Whether any value was named since the last `take`.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

/// Notes a shared value that what is being encoded names.
pub(crate) fn note(share: &Arc<dyn AnyShare>) {
    RECORDING.with_borrow_mut(|slot| {
        if let Some(seen) = slot {
            seen.entry(share.id()).or_insert_with(|| Arc::clone(share));
        }
    });
}

impl<T: Data + Sync> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        note(&(Arc::clone(&self.inner) as Arc<dyn AnyShare>));
        self.inner.id.serialize(serializer)
    }
}

impl<'de, T: Data + Sync> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if signature::probing() {
            // The number is made up. What matters to the two sides is the type of the value behind it.
            let (id, value) = (
                ShareId {
                    process: 0,
                    number: 0,
                },
                signature::probe_named("Shared", deserializer)?,
            );
            return Ok(Shared {
                inner: Arc::new(Inner {
                    id,
                    value,
                    bytes: OnceLock::new(),
                    on_drop: None,
                }),
            });
        }
        let id = ShareId::deserialize(deserializer)?;
        find(id).map_err(de::Error::custom)
    }
}

fn find<T: Data + Sync>(id: ShareId) -> Result<Shared<T>, String> {
    let typed = |any: Arc<dyn Any + Send + Sync>| {
        any.downcast::<Inner<T>>()
            .map(|inner| Shared { inner })
            .map_err(|_| format!("shared value {id} is not a {}", std::any::type_name::<T>()))
    };
    let missing = || format!("shared value {id} is not on this worker; it was dropped where it was made");
    enum Found {
        Value(Option<Arc<dyn Any + Send + Sync>>),
        Bytes(Arc<[u8]>),
    }
    // Nothing is dropped under the lock: the last owner of a value takes the lock itself.
    let found = match STORE.lock().get(&id) {
        None => Found::Value(None),
        Some(Entry::Live(weak)) => Found::Value(weak.upgrade()),
        Some(Entry::Received {
            value: Some(value), ..
        }) => Found::Value(Some(Arc::clone(value))),
        Some(Entry::Received { bytes, value: None }) => Found::Bytes(Arc::clone(bytes)),
    };
    let bytes = match found {
        Found::Value(value) => return value.ok_or_else(missing).and_then(typed),
        Found::Bytes(bytes) => bytes,
    };
    // Decoded outside the lock: it may be long, and may name shared values itself.
    let value: T = wire::from_bytes(&bytes).map_err(|e| format!("shared value {id}: {e}"))?;
    let bytes_cell = OnceLock::from(bytes);
    let inner = Arc::new(Inner {
        id,
        value,
        bytes: bytes_cell,
        on_drop: None,
    });
    // Two tasks may have decoded it at once; the first is kept.
    let kept = match STORE.lock().get_mut(&id) {
        Some(Entry::Received { value, .. }) => {
            Some(Arc::clone(value.get_or_insert_with(|| {
                Arc::clone(&inner) as Arc<dyn Any + Send + Sync>
            })))
        }
        _ => None,
    };
    kept.map_or(Ok(Shared { inner }), typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker sees: a number and bytes that were made elsewhere.
    fn from_elsewhere(number: u64, value: &str) -> (ShareId, Vec<u8>) {
        let id = ShareId { process: 7, number };
        receive(id, wire::to_bytes(value).expect("text"));
        (id, wire::to_bytes(&id).expect("numbers"))
    }

    #[test]
    fn a_received_value_is_decoded_once_and_forgotten_on_demand() {
        let (id, bytes) = from_elsewhere(1, "large table");
        let first: Shared<String> = wire::from_bytes(&bytes).expect("there");
        let second: Shared<String> = wire::from_bytes(&bytes).expect("there");
        assert_eq!((first.as_str(), has(id)), ("large table", true));
        assert!(Arc::ptr_eq(&first.inner, &second.inner));
        forget(id);
        assert_eq!(*second, "large table");
        let missing = wire::from_bytes::<Shared<String>>(&bytes)
            .expect_err("forgotten")
            .to_string();
        assert!(missing.contains("is not on this worker"), "{missing}");
    }

    #[test]
    fn another_type_is_an_error() {
        let (_, bytes) = from_elsewhere(2, "text");
        let _text: Shared<String> = wire::from_bytes(&bytes).expect("there");
        let error = wire::from_bytes::<Shared<u64>>(&bytes)
            .expect_err("not a number")
            .to_string();
        assert!(error.contains("is not a u64"), "{error}");
    }

    #[test]
    fn encoding_notes_the_values_it_names_and_dropping_the_last_clone_tells() {
        let gone = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&gone);
        let shared = share(vec![1u8, 2, 3], move |id| told.lock().push(id));
        let mut recorder = Recorder::new();
        let bytes = recorder
            .record(|| wire::to_bytes(&(&shared, &shared)))
            .expect("encodes");
        let named = recorder.take();
        assert_eq!(named.len(), 1);
        assert_eq!(
            named[0].bytes().expect("encodes").as_ref(),
            wire::to_bytes(&vec![1u8, 2, 3]).expect("list")
        );
        let (a, _b): (Shared<Vec<u8>>, Shared<Vec<u8>>) = wire::from_bytes(&bytes).expect("same process");
        let id = shared.inner.id;
        drop((a, _b, shared));
        assert!(gone.lock().is_empty(), "the recorder's list still holds it");
        drop(named);
        assert_eq!(*gone.lock(), [id]);
        assert!(!has(id));
    }
}
