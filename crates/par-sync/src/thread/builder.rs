//! [`ThreadBuilder`]: what a thread is to be, before it starts.

use super::handle::{JoinHandle, Outcome, run};
use super::registry::Thread;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What a user's own type must have to run as a thread.
///
/// ```
/// use par_sync::{Run, Thread};
///
/// struct Counter {
///     ticks: u32,
/// }
///
/// impl Run for Counter {
///     type Output = u32;
///
///     fn run(self) -> u32 {
///         (0..self.ticks).sum()
///     }
/// }
///
/// let thread = Thread::of(Counter { ticks: 5 }).start()?;
/// assert!(thread.thread().name().starts_with("Counter-"));
/// assert_eq!(thread.join()?, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Run: Send + 'static {
    /// What it makes.
    type Output: Send + 'static;

    /// The work of the thread; its end is the end of the thread.
    fn run(self) -> Self::Output;
}

/// A thread before it starts; made by [`Thread::new`] or [`Thread::of`].
#[must_use = "a builder does nothing until start()"]
pub struct ThreadBuilder<T> {
    work: Box<dyn FnOnce() -> T + Send>,
    prefix: String,
    name: Option<String>,
    daemon: Option<bool>,
    stack_size: Option<usize>,
}

impl Thread {
    /// A thread that will run `work`. Its name is `Thread-N`, unless it is given [another](ThreadBuilder::name).
    #[allow(
        clippy::new_ret_no_self,
        reason = "what comes back is a thread before it starts"
    )]
    pub fn new<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ThreadBuilder<T> {
        ThreadBuilder {
            work: Box::new(work),
            prefix: "Thread".to_owned(),
            name: None,
            daemon: None,
            stack_size: None,
        }
    }

    /// A thread that will run a value of a user's type. Its name is `TypeName-N`, unless it is given [another](ThreadBuilder::name).
    pub fn of<R: Run>(value: R) -> ThreadBuilder<R::Output> {
        let path = std::any::type_name::<R>();
        // Without the modules, and without the parameters of a generic type.
        let path = path.split('<').next().unwrap_or(path);
        let prefix = path.rsplit("::").next().unwrap_or(path).to_owned();
        ThreadBuilder {
            prefix,
            ..Thread::new(move || value.run())
        }
    }
}

/// The system takes none with a NUL byte.
pub(super) fn check_name(name: Option<&str>) -> io::Result<()> {
    match name.filter(|name| name.contains('\0')) {
        Some(name) => {
            let text = format!("a thread's name must not hold a NUL byte, got {name:?}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
        None => Ok(()),
    }
}

impl<T: Send + 'static> ThreadBuilder<T> {
    /// What its default name begins with.
    #[cfg(not(loom))]
    pub(super) fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Names it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the program may end before it does ([`wait_at_exit`](crate::wait_at_exit)); by default as the thread that starts it.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// The size of its stack in bytes; by default that of the standard library (2 MiB, or `RUST_MIN_STACK`).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// The system's, when it has no thread or no memory left; or a name with a NUL byte.
    pub fn start(self) -> io::Result<JoinHandle<T>> {
        check_name(self.name.as_deref())?;
        let daemon = self.daemon.unwrap_or_else(|| Thread::current().is_daemon());
        let thread = Thread::make(self.name, &self.prefix, daemon);
        let outcome = Arc::new(Outcome::new(thread.name()));
        let mut builder = std::thread::Builder::new().name(thread.name().to_owned());
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        thread.begin();
        let (mine, theirs, work) = (thread.clone(), Arc::clone(&outcome), self.work);
        let started = builder.spawn(move || run(&mine, &theirs, work));
        match started {
            Ok(_) => Ok(JoinHandle::new(thread, outcome)),
            Err(error) => {
                thread.end();
                Err(error)
            }
        }
    }
}

impl<T> fmt::Debug for ThreadBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBuilder")
            .field("name", &self.name)
            .field("daemon", &self.daemon)
            .field("stack_size", &self.stack_size)
            .finish_non_exhaustive()
    }
}
