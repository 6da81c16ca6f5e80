//! What a manager's objects are, to the manager.

use super::address::Stream;
use super::error::Fault;
use super::waiting::LockState;
use par_core::wire;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An object of a manager, called by several connections at once.
pub(super) trait Object: Send + Sync + 'static {
    /// Runs a method on encoded arguments, and encodes its value.
    fn call(
        &self,
        method: &str,
        arguments: &[u8],
        reply: &mut Vec<u8>,
        caller: &mut Caller<'_>,
    ) -> Result<(), Fault>;
}

/// How often who waits for an object looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(100);

/// Hears whether the client has got the reply (true), or has gone without it.
pub(super) type Confirm = Box<dyn FnOnce(bool) + Send>;

/// The connection that calls.
pub(super) struct Caller<'a> {
    pub(super) stream: &'a Stream,
    /// The number of the connection.
    pub(super) number: u64,
    /// Set by a call whose effect depends on whether the client got the reply.
    pub(super) confirm: Option<Confirm>,
    /// The locks that the connection holds; they are released when it ends.
    pub(super) held: Vec<Arc<LockState>>,
}

impl Caller<'_> {
    /// How long to wait until the next look; `None` when the deadline is over.
    pub(super) fn slice(&self, until: Option<Instant>) -> Result<Option<Duration>, Fault> {
        if self.stream.is_gone() {
            return Err(Fault::Abandoned);
        }
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
        Ok((!left.is_zero()).then(|| left.min(LOOK)))
    }
}

/// A type whose values a manager can own; implemented by [`managed!`](crate::managed!).
pub trait Managed: Send + 'static {
    /// The name by which the manager finds the type.
    const NAME: &'static str;

    /// Runs a method on encoded arguments, and encodes its value.
    ///
    /// # Errors
    /// [`Fault::Failed`] for an unknown method, or arguments that do not decode.
    fn call(&mut self, method: &str, arguments: &[u8], reply: &mut Vec<u8>) -> Result<(), Fault>;
}

/// A value, one call at a time.
struct Owned<T>(Mutex<T>);

impl<T: Managed> Object for Owned<T> {
    fn call(
        &self,
        method: &str,
        arguments: &[u8],
        reply: &mut Vec<u8>,
        _: &mut Caller<'_>,
    ) -> Result<(), Fault> {
        let mut value = self.0.lock();
        match catch_unwind(AssertUnwindSafe(|| value.call(method, arguments, reply))) {
            Ok(result) => result,
            Err(panic) => Err(Fault::Panicked(text_of(&*panic))),
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a value that is no text")
        .to_owned()
}

/// A value as an object.
pub(super) fn owned<T: Managed>(value: T) -> Box<dyn Object> {
    Box::new(Owned(Mutex::new(value)))
}

/// Makes an object of the bytes that it begins with.
pub(super) type Create = fn(&[u8]) -> Result<Box<dyn Object>, Fault>;

/// A type that the manager of this program knows. Registered by [`managed!`](crate::managed!).
#[doc(hidden)]
pub struct ManagedType {
    pub(super) name: &'static str,
    pub(super) create: Create,
}

impl ManagedType {
    /// That of `T`, whose values cross as they are encoded.
    pub const fn of<T: Managed + DeserializeOwned>() -> Self {
        ManagedType {
            name: T::NAME,
            create: |bytes| Ok(owned(arguments::<T>(bytes)?)),
        }
    }
}

/// Where [`managed!`](crate::managed!) enters types at link time.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static TYPES: [ManagedType];

/// Decodes the arguments of a method.
///
/// # Errors
/// [`Fault::Failed`] with what is wrong with them.
#[doc(hidden)]
pub fn arguments<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, Fault> {
    wire::from_bytes(bytes).map_err(|error| Fault::Failed(format!("the arguments are not readable: {error}")))
}

/// Encodes the value of a method.
///
/// # Errors
/// [`Fault::Failed`] with why it does not encode.
#[doc(hidden)]
pub fn value<V: Serialize>(reply: &mut Vec<u8>, value: &V) -> Result<(), Fault> {
    wire::encode(value, reply).map_err(|error| Fault::Failed(format!("the value of the method: {error}")))
}

/// A method that the object does not have.
#[doc(hidden)]
pub fn unknown(kind: &str, method: &str, known: &[&str]) -> Fault {
    Fault::Failed(format!("{kind} has no method {method:?}; it has {known:?}"))
}
