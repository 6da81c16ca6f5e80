//! What only a pool of processes can be told.

/// Options of [`ProcessPool`](crate::ProcessPool), beside those that every pool has.
///
/// ```
/// use par_process::{Options, ProcessPool};
/// let options = Options { longest: 1 << 20, ..Options::default() };
/// let pool = ProcessPool::builder().workers(1).options(options).build()?;
/// # Ok::<(), par_process::StartError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest encoded input or output of one request, in bytes; 1 GiB. What is longer fails with
    /// [`TaskError::Codec`](crate::TaskError::Codec). At least 1024.
    pub longest: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { longest: 1 << 30 }
    }
}
