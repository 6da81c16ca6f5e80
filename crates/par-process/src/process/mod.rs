//! [`Process`]: one child process that runs a task, a function or a value of a user's own type.
//!
//! 1. A process is started from a thread that lives as long as the program: the signal that ends a child with its parent follows
//!    the thread that started it ([`start`]).
//! 2. The parent keeps the other end of the child's control socket open until the child has ended. So the child sees the death of the
//!    parent, however it dies ([`child`]).
//! 3. When the parent exits, its daemons are ended and the others are waited for ([`family`]).

mod birth;
mod builder;
pub(crate) mod child;
mod family;
mod start;

pub use builder::{ProcessBuilder, Run};
pub use child::{CurrentProcess, ParentProcess, current_process, parent_process};
pub use family::active_children;

use crate::sentinel;
use par_core::Task;
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A child process of this program, which runs one thing and ends.
///
/// The child is a copy of this program, re-executed and never forked, that enters its work before `main` begins. A clone is the same
/// process. Dropping one neither ends nor waits for the process; the program does that when it exits (see
/// [`daemon`](ProcessBuilder::daemon)).
///
/// ```
/// use par_process::{Process, task};
///
/// #[task]
/// fn greet(name: String) {
///     println!("hello {name}");
/// }
///
/// let child = Process::new::<greet>("bob".to_owned()).name("greeter").start()?;
/// assert_eq!(child.name(), "greeter");
/// assert_eq!(child.join()?, 0);
/// assert!(!child.is_alive());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "multiprocessing.Process")]
pub struct Process {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    daemon: bool,
    pid: u32,
    /// Readable once the process has ended.
    sentinel: OwnedFd,
    state: Mutex<State>,
    /// Rule 2.
    _control: UnixStream,
}

struct State {
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// A process that will run task `T` on `input`. Its output is dropped; if it fails or panics, the text goes to standard error
    /// and the exit code is 1.
    #[expect(
        clippy::new_ret_no_self,
        reason = "the name that Python users look for; start() makes the process"
    )]
    pub fn new<T: Task>(input: T::Input) -> ProcessBuilder {
        ProcessBuilder::of_task::<T>(&input)
    }

    /// A process that will run a plain function, which needs no `#[task]`, as the child is this very program.
    ///
    /// ```
    /// let child = par_process::Process::of_fn(3, |code: i32| std::process::exit(code)).start()?;
    /// assert_eq!(child.join()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_fn<I: par_core::Data>(input: I, function: fn(I)) -> ProcessBuilder {
        ProcessBuilder::of_fn(&input, function)
    }

    /// A process that will run a value of a user's own type; see [`Run`].
    pub fn of<R: Run>(value: R) -> ProcessBuilder {
        ProcessBuilder::of(&value)
    }

    /// Its name: as given, or else `Process-N`, or `TypeName-N` for a value of type `TypeName`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The number that the system knows it by. After its end the system may give it to another.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Whether it ends with its parent; see [`ProcessBuilder::daemon`].
    pub fn is_daemon(&self) -> bool {
        self.inner.daemon
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.exit_code().is_none()
    }

    /// How it ended: its exit code, or the negative number of the signal that ended it. `None` while it lives.
    #[doc(alias = "exitcode")]
    pub fn exit_code(&self) -> Option<i32> {
        let mut state = self.inner.state.lock();
        if state.status.is_none() {
            // A child that cannot be asked about counts as living: it is waited for elsewhere, or not at all.
            state.status = state.child.try_wait().ok().flatten();
        }
        state.status.map(code)
    }

    /// Waits until it has ended, and returns its [exit code](Self::exit_code).
    ///
    /// # Errors
    /// What the system says if it cannot wait.
    pub fn join(&self) -> io::Result<i32> {
        match self.join_until(None)? {
            Some(code) => Ok(code),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits until it has ended, at most for `timeout`; `None` if it lives on.
    ///
    /// # Errors
    /// What the system says if it cannot wait.
    pub fn join_timeout(&self, timeout: Duration) -> io::Result<Option<i32>> {
        self.join_until(Instant::now().checked_add(timeout))
    }

    fn join_until(&self, until: Option<Instant>) -> io::Result<Option<i32>> {
        loop {
            if let Some(code) = self.exit_code() {
                return Ok(Some(code));
            }
            if wait(&[self], until)?.is_empty() {
                return Ok(self.exit_code());
            }
        }
    }

    /// Asks it to end, by signal SIGTERM, which ends a program that does not handle it. No error if it has ended.
    ///
    /// # Errors
    /// What the system says if it may not be signalled.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends it, by signal SIGKILL. No error if it has ended.
    ///
    /// # Errors
    /// What the system says if it may not be signalled.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.inner.sentinel, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A file that becomes readable when the process has ended (a pidfd), for `poll` and its like.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.inner.sentinel.as_fd()
    }

    /// Waits until at least one of several processes has ended, at most for `timeout`: the places of those that have.
    /// Empty when the time is over, or if there is no process.
    ///
    /// # Errors
    /// What the system says if it cannot wait.
    ///
    /// ```
    /// use par_process::Process;
    /// use std::time::Duration;
    ///
    /// let slow = Process::of_fn((), |()| std::thread::sleep(Duration::from_secs(60))).daemon(true).start()?;
    /// let quick = Process::of_fn((), |()| ()).start()?;
    /// assert_eq!(Process::wait_any(&[&slow, &quick], None)?, [1]);
    /// slow.terminate()?;
    /// assert_eq!(slow.join()?, -15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "multiprocessing.connection.wait")]
    pub fn wait_any(processes: &[&Process], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
        if processes.is_empty() {
            return Ok(Vec::new());
        }
        wait(
            processes,
            timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        )
    }

    /// What it writes to its standard output, if that was [redirected](ProcessBuilder::stdout) to a pipe. Once.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.inner.state.lock().child.stdout.take()
    }

    /// What it writes to its standard error, if that was [redirected](ProcessBuilder::stderr) to a pipe. Once.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.inner.state.lock().child.stderr.take()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.inner.name)
            .field("pid", &self.inner.pid)
            .field("daemon", &self.inner.daemon)
            .field("exit_code", &self.exit_code())
            .finish()
    }
}

/// As Python tells it.
fn code(status: ExitStatus) -> i32 {
    // A child has ended by a code or by a signal; there is no third way.
    status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
        .unwrap_or(i32::MIN)
}

/// The places of the processes that have ended; empty past the deadline.
fn wait(processes: &[&Process], until: Option<Instant>) -> io::Result<Vec<usize>> {
    let sentinels: Vec<_> = processes.iter().map(|process| process.sentinel()).collect();
    sentinel::wait(&sentinels, until)
}
