//! What only a pool of processes can be told.

use par_core::StartError;

/// Options of [`ProcessPool`](crate::ProcessPool), beside those that every pool has.
///
/// ```
/// use par_process::{Options, ProcessPool};
/// let options = Options { longest: 1 << 20, tasks_per_worker: Some(1000), ..Options::default() };
/// let pool = ProcessPool::builder().workers(1).options(options).build()?;
/// # Ok::<(), par_process::StartError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest encoded input or output of one request, in bytes; 1 GiB. What is longer fails with
    /// [`TaskError::Codec`](crate::TaskError::Codec). At least 1024.
    pub longest: u64,
    /// How many tasks a worker is given before another takes its place, items of a map each; at least 1. `None`, which is the default, is no limit.
    /// Only what its own tasks wait for comes on top. The replacement does not count as a restart.
    #[doc(alias = "maxtasksperchild")]
    #[doc(alias = "max_tasks_per_child")]
    pub tasks_per_worker: Option<u64>,
    /// The most memory of its own (anonymous pages, without files and what it shares) that a worker may use, in bytes; `None` is no limit.
    /// Linux only.
    ///
    /// A worker that is found above it after a task is replaced, and nothing is lost. One that is found above twice of it while a task
    /// runs, by a look about every millisecond, is killed: that task ends as [`TaskError::Lost`](crate::TaskError::Lost), which says so. Neither
    /// counts as a restart. What takes more between two looks than the system has is beyond this; see `address_space`.
    pub memory: Option<u64>,
    /// The most address space that a worker may have, in bytes (`RLIMIT_AS`), counted with everything that it maps, its stacks
    /// and its program too; `None` is no limit. An allocation beyond it fails on the spot, which in most Rust code ends the worker by an abort.
    pub address_space: Option<u64>,
    /// Memory for large inputs and outputs on their way, in bytes for each direction and worker; 64 MiB. Encoded values of a
    /// request of 256 KiB and more cross there and not by the socket, as long as there is room; memory is taken as it is used, and used again. 0 is none.
    pub shared: u64,
    /// Where the standard output of workers goes; through the pool, by lines.
    pub output: Output,
}

/// Where the standard output of workers goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Through the pool to the standard output of this program, in whole lines: those of two workers do not mix, however long
    /// they are (up to a mebibyte) and in however many pieces they are printed. A line may come out shortly after the outcome of its task; all have come out
    /// when the pool has been shut down, also those of workers that died. After that, nobody reads what a process prints that a
    /// worker has left behind.
    #[default]
    Lines,
    /// To what is the standard output of this program, directly: a terminal is one to the workers too, and what two of them print at
    /// the same time may mix.
    Inherit,
}

/// The shortest value of `longest`.
const SHORTEST: u64 = 1024;

impl Default for Options {
    fn default() -> Self {
        Options {
            longest: 1 << 30,
            tasks_per_worker: None,
            memory: None,
            address_space: None,
            shared: 64 << 20,
            output: Output::default(),
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let bad = |option, reason| Err(StartError::Option { option, reason });
        if self.longest < SHORTEST {
            return bad(
                "longest",
                format!("at least {SHORTEST} bytes, got {}", self.longest),
            );
        }
        if self.tasks_per_worker == Some(0) {
            return bad("tasks_per_worker", "at least 1 task, got 0".to_owned());
        }
        if self.memory == Some(0) {
            return bad("memory", "at least 1 byte, got 0".to_owned());
        }
        Ok(())
    }
}
