//! Memory that processes share: [`RawValue`], [`RawArray`] and [`FrozenArray`], and what those with a lock in
//! [`sync`](crate::sync) stand on.
//!
//! `segment` is the memory, `exchange` brings it to other processes, `token` makes handles values.

mod cells;
pub(crate) mod content;
mod error;
mod exchange;
mod frozen;
pub(crate) mod header;
mod mapping;
#[cfg(feature = "ndarray")]
mod ndarray;
mod raw;
pub(crate) mod segment;
pub(crate) mod token;
mod wire;

pub use content::Content;
pub use error::SharedError;
pub use frozen::FrozenArray;
pub use raw::{RawArray, RawValue, SharedMemory};
pub use token::Published;

/// How shared memory is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct SharedOptions {
    pub(crate) huge_pages: bool,
    pub(crate) frozen: bool,
}

impl SharedOptions {
    /// The defaults: pages of the usual size.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the system for huge pages, and aligns the memory for them (2 MiB). Worth it for many megabytes that are read again and again.
    ///
    /// It is a wish: the system grants it where `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says `advise` or more.
    ///
    /// ```
    /// use par_process::{RawArray, SharedOptions};
    ///
    /// let large = RawArray::<f64>::with(1 << 20, SharedOptions::new().huge_pages(true), |values| values.fill(1.0))?;
    /// assert_eq!(large.get(1 << 19), Some(1.0));
    /// # Ok::<(), par_process::SharedError>(())
    /// ```
    #[doc(alias = "MADV_HUGEPAGE")]
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }
}
