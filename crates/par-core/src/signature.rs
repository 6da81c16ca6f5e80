//! Signatures: what serde sees of a task's types, as text and hash.

mod probe;
mod shape;
mod trace;

pub(crate) use probe::{probe_named, probing};

use crate::task::Data;
use serde::{Deserialize, Serialize};
use shape::Shape;
use std::fmt;

/// The parameters and types of a task, as a text and the hash of it.
///
/// The text shows what crosses the wire, in its order: names of structs, fields and variants, and primitive types.
/// Two programs in which it is the same read each other's bytes in the same sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    text: String,
    hash: u64,
}

impl Signature {
    fn of_text(text: String) -> Self {
        let hash = fnv1a(text.as_bytes());
        Signature { text, hash }
    }

    /// The text, such as `(width: u32, height: u32) -> u64`.
    ///
    /// Within it `[T]` is a list, `{K: V}` a map, `^Name` the type of that name around it (which refers to itself),
    /// and `?` a part whose type accepted none of the values it was probed with.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// FNV-1a of the text (Fowler, Noll, Vo; 64 bits).
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{:016x}]", self.text, self.hash)
    }
}

/// Describes a task that takes `I` under the given parameter names and gives `O`.
pub(crate) fn describe_task<I: Data, O: Data>(params: &[&str]) -> Signature {
    let input = trace::trace::<I>();
    let parameters = match (&input.shape, params) {
        (Shape::Unit, []) => String::new(),
        (_, [one]) => format!("{one}: {}", input.text()),
        (Shape::Tuple { slots, length }, names) if *length == names.len() && slots.len() == names.len() => {
            let named = names
                .iter()
                .zip(slots)
                .map(|(name, slot)| format!("{name}: {}", slot.text()));
            named.collect::<Vec<_>>().join(", ")
        }
        // A task written by hand may name its parameters as it likes.
        (_, names) => format!("{}: {}", names.join(", "), input.text()),
    };
    Signature::of_text(format!("({parameters}) -> {}", trace::trace::<O>().text()))
}

/// The hash of <http://www.isthe.com/chongo/tech/comp/fnv/>, with its 64-bit parameters.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
