//! What a parent says to its child first, and what the child answers.

use crate::protocol::Image;
use par_core::engine::Initializer;
use serde::{Deserialize, Serialize};

/// Kinds of frames.
pub(super) const BIRTH: u8 = 1;
pub(super) const CRY: u8 = 2;

/// The longest birth: it holds the input of what the child runs.
pub(super) const LONGEST_BIRTH: u64 = 1 << 30;
/// The longest answer: a text.
pub(super) const LONGEST_CRY: u64 = 1 << 16;

/// Who the child is, and what it runs.
#[derive(Serialize, Deserialize)]
pub(super) struct Birth {
    /// The program of the parent.
    pub(super) image: Image,
    pub(super) name: String,
    /// The numbers that default names are made of: the child's place among its parent's children, after those of the parent.
    pub(super) identity: Vec<u32>,
    pub(super) daemon: bool,
    pub(super) ignores_interrupts: bool,
    pub(super) parent_name: String,
    pub(super) parent_pid: u32,
    pub(super) work: Initializer,
    /// How many open files its input names; they follow.
    pub(super) files: usize,
}

/// The child's answer: `Err` says why it cannot be this child.
pub(super) type Cry = Result<(), String>;
