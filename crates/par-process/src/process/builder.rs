//! What can be said of a process before it starts.

use super::{Process, start};
use crate::channel::transit;
use par_core::engine::Initializer;
use par_core::wire::WireError;
use par_core::{Data, StartError, Task};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What a user's own type must have to run as a process: the value crosses to the child, and runs there.
///
/// ```
/// use par_process::{Process, Run};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greeter {
///     times: u32,
/// }
///
/// impl Run for Greeter {
///     fn run(self) {
///         for _ in 0..self.times {
///             println!("hello from {}", par_process::current_process().name());
///         }
///     }
/// }
///
/// let child = Process::of(Greeter { times: 2 }).start()?;
/// assert!(child.name().starts_with("Greeter-"));
/// assert_eq!(child.join()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Run: Data {
    /// The work of the process; its end is the end of the process.
    fn run(self);
}

/// A process before it starts; made by [`Process::new`], [`Process::of_fn`] or [`Process::of`].
#[must_use = "a builder does nothing until start()"]
#[derive(Debug)]
pub struct ProcessBuilder {
    pub(super) work: Result<Initializer, WireError>,
    /// The open files that the input of the work names.
    pub(super) files: Vec<OwnedFd>,
    /// What default names begin with.
    pub(super) kind: &'static str,
    pub(super) name: Option<String>,
    pub(super) daemon: Option<bool>,
    pub(super) ignores_interrupts: bool,
    pub(super) environment: Vec<(OsString, Option<OsString>)>,
    pub(super) folder: Option<PathBuf>,
    pub(super) stdout: Option<Stdio>,
    pub(super) stderr: Option<Stdio>,
}

impl ProcessBuilder {
    pub(super) fn of_task<T: Task>(input: &T::Input) -> Self {
        Self::of_work(|| Initializer::of_task::<T>(input), "Process")
    }

    pub(super) fn of_fn<I: Data>(input: &I, function: fn(I)) -> Self {
        Self::of_work(|| Initializer::of_fn(function, input), "Process")
    }

    pub(super) fn of<R: Run>(value: &R) -> Self {
        let path = std::any::type_name::<R>();
        // Without its path and without its parameters.
        let path = path.split('<').next().unwrap_or(path);
        let kind = path.rsplit("::").next().unwrap_or(path);
        Self::of_work(|| Initializer::of_fn::<R>(R::run, value), kind)
    }

    fn of_work(work: impl FnOnce() -> Result<Initializer, WireError>, kind: &'static str) -> Self {
        let (work, files) = transit::lend(work);
        ProcessBuilder {
            work,
            files,
            kind,
            name: None,
            daemon: None,
            ignores_interrupts: false,
            environment: Vec::new(),
            folder: None,
            stdout: None,
            stderr: None,
        }
    }

    /// Names the process; default `Process-1`, `Process-2` and so on, or the name of the type before the number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the process is a daemon: it ends when its parent does, is not waited for, and may not start processes. Others are waited
    /// for when the parent exits. When a parent is killed, all its children end. Default: as the process that starts it.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// Leaves interrupts from the keyboard (SIGINT), which reach the whole group of processes, to its parent.
    pub fn ignore_interrupts(mut self) -> Self {
        self.ignores_interrupts = true;
        self
    }

    /// Sets a variable of its environment; the others are those of its parent.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let variable = (name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self.environment.push(variable);
        self
    }

    /// Removes a variable of its environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets its working folder; default that of its parent.
    #[doc(alias = "cwd")]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Where its standard output goes; default where its parent's goes. Its standard input is empty.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.stdout = Some(to.into());
        self
    }

    /// Where its standard error goes; default where its parent's goes.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.stderr = Some(to.into());
        self
    }

    /// Starts the process, and returns once it is about to begin its work.
    ///
    /// # Errors
    /// [`StartError::Option`] for an input that does not encode, or if this process is a daemon; [`StartError::Io`] for what the system
    /// refused.
    pub fn start(self) -> Result<Process, StartError> {
        start::start(self)
    }
}
