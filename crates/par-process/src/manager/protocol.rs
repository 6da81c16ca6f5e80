//! What clients and manager say to each other after the proofs of the key: frames of `par_core::wire`.

use super::error::Fault;
use super::object::arguments;
use par_core::wire::{self, WireError};
use serde::{Deserialize, Serialize};

/// Kinds of frames from a client.
pub(super) mod down {
    /// A call: the object's number (8 bytes), then method and arguments.
    pub(crate) const CALL: u8 = 17;
    /// A [`Request`](super::Request).
    pub(crate) const REQUEST: u8 = 18;
    /// A proxy is gone: the object's number (8 bytes). No reply.
    pub(crate) const FORGET: u8 = 19;
    /// What the last call returned has arrived. No reply.
    pub(crate) const CONFIRM: u8 = 20;
}

/// Kinds of frames from the manager.
pub(super) mod up {
    /// The value of a call or request.
    pub(crate) const VALUE: u8 = 33;
    /// A [`Fault`](super::Fault).
    pub(crate) const FAULT: u8 = 34;
}

/// The longest frame.
pub(super) const LONGEST: u64 = wire::MAX_FRAME;

/// What is asked of the manager itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A new object of a kind, from the bytes that it begins with. Its number comes back.
    Create { kind: String, from: super::blob::Blob },
    /// Bytes were made of a proxy.
    Lend { object: u64 },
    /// A proxy was made of such bytes.
    Adopt { object: u64, lender: u128 },
    /// Gives an object a name.
    Publish { name: String, object: u64 },
    /// The number of the object with that name.
    Find { name: String, kind: String },
    /// How many objects there are.
    Count,
}

/// Writes a call.
pub(super) fn put_call<A: Serialize>(
    out: &mut Vec<u8>,
    object: u64,
    method: &str,
    arguments: &A,
) -> Result<(), WireError> {
    wire::append_frame(out, down::CALL, |payload| {
        payload.extend_from_slice(&object.to_le_bytes());
        wire::encode(method, payload)?;
        wire::encode(arguments, payload)
    })
}

/// Reads a call: object, method, arguments.
pub(super) fn read_call(payload: &[u8]) -> Result<(u64, String, &[u8]), Fault> {
    let (object, mut rest) = read_number(payload)?;
    let method = wire::decode(&mut rest)
        .map_err(|error| Fault::Failed(format!("the method is not readable: {error}")))?;
    Ok((object, method, rest))
}

/// Reads the number before the rest.
pub(super) fn read_number(payload: &[u8]) -> Result<(u64, &[u8]), Fault> {
    match payload.split_first_chunk() {
        Some((number, rest)) => Ok((u64::from_le_bytes(*number), rest)),
        None => Err(Fault::Failed("a call without the number of an object".to_owned())),
    }
}

/// Reads a request.
pub(super) fn read_request(payload: &[u8]) -> Result<Request, Fault> {
    arguments(payload)
}
