//! The one place for encoding: values as postcard bytes, read within bounds, and versioned frames for sockets and files.
//!
//! Values are written by postcard. They are read by a decoder of the same format that adds what bytes from
//! elsewhere need: no claimed length is believed before the bytes for it are there, nesting is limited, and a
//! list of items that take no bytes is limited too. Floats keep every bit, those of a NaN included.

mod decoder;
mod frame;

pub use frame::{
    FRAME_HEADER, FRAME_VERSION, FrameDecoder, FrameHeader, MAX_FRAME, append_frame, read_frame, write_frame,
};

use decoder::Decoder;
use serde::{Serialize, de::DeserializeOwned};
use std::cell::RefCell;
use std::fmt::Display;

/// Why a value or a frame could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The value's `Serialize` refused, or asked for what the format does not have.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The type's `Deserialize` refused what it read.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// The bytes end within the value.
    #[error("cannot decode: {needed} more byte(s) needed, {left} left")]
    Truncated {
        /// How many bytes the next piece takes, at least.
        needed: u64,
        /// How many are left.
        left: u64,
    },
    /// A list claims more items than the rest of the bytes can hold.
    #[error("cannot decode: a length of {claimed} is claimed, with {left} byte(s) left")]
    Length {
        /// The length that is claimed.
        claimed: u64,
        /// How many bytes are left.
        left: u64,
    },
    /// Values are nested too deeply.
    #[error("cannot decode: nested deeper than {limit} levels")]
    Depth {
        /// The deepest nesting that is read.
        limit: usize,
    },
    /// Bytes that no encoder writes.
    #[error("cannot decode: {0}")]
    Malformed(&'static str),
    /// A value ended before its bytes did.
    #[error("cannot decode: {0} byte(s) left over after the value")]
    Trailing(usize),
    /// What should be a frame does not begin like one.
    #[error("not a frame: it begins with {0:02x?}")]
    Magic([u8; 2]),
    /// The other side speaks another version of the protocol.
    #[error("the frame is of protocol version {theirs}, this program speaks version {ours}")]
    Version {
        /// The version in the frame.
        theirs: u8,
        /// The version of this program.
        ours: u8,
    },
    /// A frame is, or claims to be, longer than allowed.
    #[error("a frame of {claimed} bytes is claimed, {allowed} are allowed")]
    TooLarge {
        /// The claimed length in bytes.
        claimed: u64,
        /// The longest payload that is allowed, in bytes.
        allowed: u64,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame: {missing} byte(s) missing")]
    Cut {
        /// How many bytes of the header or the payload are missing.
        missing: u64,
    },
    /// The operating system refused to read or write.
    #[error("cannot read or write a frame: {0}")]
    Io(#[from] std::io::Error),
}

/// Appends the encoding of `value` to `out`. On an error `out` is as it was.
///
/// # Errors
/// [`WireError::Encode`] when the type's `Serialize` fails, or when it needs a self-describing format
/// (an iterator of unknown length, `#[serde(flatten)]`).
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    let before = out.len();
    postcard::serialize_with_flavor(value, Append(out)).map_err(|error| {
        out.truncate(before);
        let reason = REASON.take().filter(|_| error == postcard::Error::SerdeSerCustom);
        WireError::Encode(reason.unwrap_or_else(|| error.to_string()))
    })
}

thread_local! {
    /// Why the last `Serialize` of this thread refused.
    static REASON: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// An error for a `Serialize` that refuses, whose text [`encode`] tells: postcard drops the text of other errors.
///
/// ```
/// use par_core::wire;
///
/// struct Secret;
///
/// impl serde::Serialize for Secret {
///     fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
///         Err(wire::refuse("a secret stays here"))
///     }
/// }
///
/// let error = wire::to_bytes(&Secret).unwrap_err();
/// assert_eq!(error.to_string(), "cannot encode: a secret stays here");
/// ```
pub fn refuse<E: serde::ser::Error>(reason: impl Display) -> E {
    let reason = reason.to_string();
    let error = E::custom(&reason);
    REASON.set(Some(reason));
    error
}

/// The encoding of `value`.
///
/// # Errors
/// As [`encode`].
///
/// ```
/// let bytes = par_core::wire::to_bytes(&(3u32, "three"))?;
/// assert_eq!(par_core::wire::from_bytes::<(u32, String)>(&bytes)?, (3, "three".to_owned()));
/// # Ok::<(), par_core::wire::WireError>(())
/// ```
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    encode(value, &mut out)?;
    Ok(out)
}

/// Reads one value from the front of `bytes` and moves the slice past it. On an error the slice stays.
///
/// # Errors
/// Every kind of [`WireError`] that speaks of decoding. No bytes make it panic, recurse without end or
/// allocate far beyond their own length.
///
/// ```
/// use par_core::wire;
/// let mut both = wire::to_bytes(&1.5f64)?;
/// wire::encode("after", &mut both)?;
/// let mut rest = &both[..];
/// assert_eq!(wire::decode::<f64>(&mut rest)?, 1.5);
/// assert_eq!(wire::decode::<String>(&mut rest)?, "after");
/// assert!(rest.is_empty());
/// # Ok::<(), wire::WireError>(())
/// ```
pub fn decode<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, WireError> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    *bytes = decoder.rest();
    Ok(value)
}

/// Reads one value that takes all of `bytes`.
///
/// # Errors
/// As [`decode`], and [`WireError::Trailing`] when bytes are left over.
pub fn from_bytes<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, WireError> {
    let value = decode(&mut bytes)?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(WireError::Trailing(bytes.len()))
    }
}

/// Lets postcard write to the end of a vector that already holds something.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
