//! Handles as values: the token that stands for a segment while it travels, and names.

use super::SharedError;
use super::exchange::{Address, Exchange};
use super::header::{Id, Spec};
use super::segment::Segment;
use super::wire;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::ser::{Error as _, Serializer};
use std::any::type_name;
use std::fmt;
use std::sync::Arc;

/// Four numbers: the process that encoded the handle, and the segment.
type Token = (u32, u64, u64, u64);

/// What every handle can do; written once, for the macro below.
pub(crate) trait Handle: Sized {
    /// The type, as a segment tells it.
    fn expected() -> Spec;
    /// Whether nobody can write to the memory.
    const FROZEN: bool = false;
    fn segment(&self) -> &Arc<Segment>;
    /// The handle of a segment that is of the expected type.
    fn of(segment: Arc<Segment>) -> Self;
}

pub(crate) fn serialize<H: Handle, S: Serializer>(handle: &H, serializer: S) -> Result<S::Ok, S::Error> {
    let exchange = Exchange::own().map_err(S::Error::custom)?;
    let (Address { pid, nonce }, Id(id)) = (exchange.address(), handle.segment().id());
    exchange.keep(handle.segment().clone());
    let token: Token = (pid, nonce, id[0], id[1]);
    // The name puts the type into the signatures of tasks.
    serializer.serialize_newtype_struct(type_name::<H>(), &token)
}

pub(crate) fn deserialize<'de, H: Handle, D: Deserializer<'de>>(deserializer: D) -> Result<H, D::Error> {
    struct Inside;
    impl<'de> Visitor<'de> for Inside {
        type Value = Token;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the token of something shared")
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Token, D::Error> {
            Token::deserialize(deserializer)
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Token, A::Error> {
            Token::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
        }
    }
    let token = deserializer.deserialize_newtype_struct(type_name::<H>(), Inside)?;
    resolve(token).map_err(D::Error::custom)
}

fn resolve<H: Handle>((pid, nonce, first, second): Token) -> Result<H, SharedError> {
    let (address, id) = (Address { pid, nonce }, Id([first, second]));
    if pid == std::process::id() {
        let own = Exchange::own()?;
        if own.address() == address {
            let segment = own.arrived(id).ok_or_else(|| SharedError::Gone {
                reason: "this process has let go of it".to_owned(),
            })?;
            return checked(segment);
        }
    }
    if let Some(segment) = Segment::find(id) {
        wire::tell_arrived(address, id);
        return checked(segment);
    }
    let segment = Segment::adopt(wire::fetch(address, id)?, &H::expected(), H::FROZEN)?;
    if segment.id() != id {
        return Err(SharedError::Foreign {
            reason: "it is another segment".to_owned(),
        });
    }
    Ok(H::of(segment))
}

fn checked<H: Handle>(segment: Arc<Segment>) -> Result<H, SharedError> {
    segment.expect(&H::expected(), H::FROZEN)?;
    Ok(H::of(segment))
}

pub(crate) fn open<H: Handle>(name: &str) -> Result<H, SharedError> {
    let segment = Segment::adopt(wire::fetch_name(name)?, &H::expected(), H::FROZEN)?;
    checked(segment)
}

pub(crate) fn publish<H: Handle>(handle: &H, name: &str) -> Result<Published, SharedError> {
    let number = Exchange::own()?.publish(name, handle.segment().clone())?;
    Ok(Published {
        name: name.to_owned(),
        number,
    })
}

/// A name under which other processes of this user find something shared, for as long as this lives.
///
/// Dropping it withdraws the name, and so does the end of the process, however it ends. What others have opened stays theirs.
#[must_use = "the name is withdrawn when this is dropped"]
#[doc(alias = "unlink")]
pub struct Published {
    name: String,
    number: u64,
}

impl Published {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.name).finish()
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Ok(exchange) = Exchange::own() {
            exchange.withdraw(self.number);
        }
    }
}

/// The parts that all handles have alike: names, encoding, clones.
macro_rules! shared_handle {
    ($type:ident $(<$t:ident: [$($bound:tt)*]>)?) => {
        impl$(<$t: $($bound)*>)? $type$(<$t>)? {
            /// Publishes it under a name, under which other processes of this user can [`open`](Self::open) it while the value lives that
            /// this returns. A name is at most 64 bytes long, and no file.
            ///
            /// # Errors
            /// When the name is taken or cannot be one, or the system has no socket left.
            pub fn publish(&self, name: &str) -> Result<$crate::Published, $crate::SharedError> {
                $crate::shared::token::publish(self, name)
            }

            /// What a process of this user has [published](Self::publish) under the name.
            ///
            /// # Errors
            /// When there is nothing, when it is of another type, or when its publisher does not answer within 10 seconds.
            #[doc(alias = "attach")]
            pub fn open(name: &str) -> Result<Self, $crate::SharedError> {
                $crate::shared::token::open(name)
            }
        }

        /// A clone is the same shared thing.
        impl$(<$t: $($bound)*>)? Clone for $type$(<$t>)? {
            fn clone(&self) -> Self {
                $crate::shared::token::Handle::of($crate::shared::token::Handle::segment(self).clone())
            }
        }

        /// As a token, which is good while this process lives and has the value, or has sent nothing else since; see
        /// [shared memory](crate#shared-memory).
        impl$(<$t: $($bound)*>)? serde::Serialize for $type$(<$t>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::shared::token::serialize(self, serializer)
            }
        }

        impl<'de, $($t: $($bound)*)?> serde::Deserialize<'de> for $type$(<$t>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::shared::token::deserialize(deserializer)
            }
        }
    };
}
pub(crate) use shared_handle;
