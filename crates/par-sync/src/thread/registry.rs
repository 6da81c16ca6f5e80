//! Which threads there are: [`Thread`], and the guard that waits for them at the end of `main`.

use par_core::Panic;
use parking_lot::{Condvar, Mutex, RwLock};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A thread: its name, its number, whether it is alive.
///
/// ```
/// use par_sync::Thread;
///
/// let thread = Thread::new(|| Thread::current().name().to_owned()).name("worker").start()?;
/// assert_eq!(thread.thread().name(), "worker");
/// assert_eq!(thread.join()?, "worker");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Thread {
    record: Arc<Record>,
}

pub(super) struct Record {
    name: String,
    number: u64,
    daemon: bool,
    native: OnceLock<u32>,
    alive: AtomicBool,
}

/// All threads that are known and alive, by their numbers.
static KNOWN: Mutex<BTreeMap<u64, Thread>> = Mutex::new(BTreeMap::new());
static NUMBERS: AtomicU64 = AtomicU64::new(1);
static DEFAULT_NAMES: AtomicU64 = AtomicU64::new(1);

/// How many threads are alive that are not daemons (rule 3).
static BUSY: Mutex<usize> = Mutex::new(0);
static IDLE: Condvar = Condvar::new();

/// What is told of a thread and the panic that ended it. See [`Thread::on_panic`].
pub type PanicHook = Box<dyn Fn(&Thread, &Panic) + Send + Sync>;
static HOOK: RwLock<Option<Arc<PanicHook>>> = RwLock::new(None);

/// The first thread of the program.
static MAIN: OnceLock<Thread> = OnceLock::new();

thread_local! {
    static CURRENT: OnceCell<Foreign> = const { OnceCell::new() };
}

/// The record of a thread, as the thread itself has it; one that was not started here is forgotten when it ends.
struct Foreign {
    thread: Thread,
    ours: bool,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if !self.ours {
            self.thread.forget();
        }
    }
}

impl Thread {
    pub(super) fn make(name: Option<String>, prefix: &str, daemon: bool) -> Self {
        let name =
            name.unwrap_or_else(|| format!("{prefix}-{}", DEFAULT_NAMES.fetch_add(1, Ordering::Relaxed)));
        Thread {
            record: Arc::new(Record {
                name,
                number: NUMBERS.fetch_add(1, Ordering::Relaxed),
                daemon,
                native: OnceLock::new(),
                alive: AtomicBool::new(false),
            }),
        }
    }

    /// It is about to start (rule 1).
    pub(super) fn begin(&self) {
        self.known();
        if !self.record.daemon {
            *BUSY.lock() += 1;
        }
    }

    /// In the thread itself, before its work.
    pub(super) fn enter(&self) {
        self.record.native.get_or_init(native_id);
        CURRENT.with(|current| {
            // A new thread has none.
            let _ = current.set(Foreign {
                thread: self.clone(),
                ours: true,
            });
        });
    }

    /// It has ended, or did not start.
    pub(super) fn end(&self) {
        self.forget();
        if !self.record.daemon {
            let mut busy = BUSY.lock();
            *busy -= 1;
            if *busy == 0 {
                IDLE.notify_all();
            }
        }
    }

    fn known(&self) {
        self.record.alive.store(true, Ordering::Release);
        KNOWN.lock().insert(self.record.number, self.clone());
    }

    fn forget(&self) {
        self.record.alive.store(false, Ordering::Release);
        KNOWN.lock().remove(&self.record.number);
    }

    /// The thread that runs this. One that was not started by this crate is called as the system calls it, or `Dummy-N`; the first of the
    /// program, `MainThread`.
    #[doc(alias = "current_thread")]
    pub fn current() -> Self {
        CURRENT
            .try_with(|current| current.get_or_init(Foreign::here).thread.clone())
            // Its locals are gone already: it ends.
            .unwrap_or_else(|_| Thread::make(None, "Dummy", false))
    }

    /// The first thread of the program.
    #[doc(alias = "main_thread")]
    pub fn main() -> Self {
        let main = MAIN.get_or_init(|| {
            let main = Thread::make(Some("MainThread".to_owned()), "", false);
            main.record.native.get_or_init(std::process::id);
            main.known();
            main
        });
        main.clone()
    }

    /// All threads that are alive: those started by this crate, the first of the program, and others that asked for
    /// [`current`](Self::current).
    pub fn enumerate() -> Vec<Self> {
        // Who asks is one of them.
        Thread::main();
        Thread::current();
        KNOWN.lock().values().cloned().collect()
    }

    /// How many [there are](Self::enumerate).
    pub fn active_count() -> usize {
        Thread::enumerate().len()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its number: from 1, and never that of another thread of this program.
    #[doc(alias = "get_ident")]
    pub fn ident(&self) -> u64 {
        self.record.number
    }

    /// The system's number for it (Linux: the one of `/proc/self/task`); none before it runs.
    #[doc(alias = "get_native_id")]
    pub fn native_id(&self) -> Option<u32> {
        self.record.native.get().copied()
    }

    /// Whether the program may end before it does.
    #[doc(alias = "isDaemon")]
    pub fn is_daemon(&self) -> bool {
        self.record.daemon
    }

    /// Whether it has started and not ended.
    pub fn is_alive(&self) -> bool {
        self.record.alive.load(Ordering::Acquire)
    }

    /// Sets what is told of a panic that ends a thread which nobody joins, instead of a line on standard error. The hook runs in that
    /// thread, or in the one that drops its handle; a panic of its own is printed. `None` is the line again.
    #[doc(alias = "excepthook")]
    pub fn on_panic(hook: Option<PanicHook>) {
        *HOOK.write() = hook.map(Arc::new);
    }

    /// Rule 2.
    pub(super) fn report(&self, panic: &Panic) {
        let hook = HOOK.read().clone();
        let told = hook.map(|hook| par_core::catch(|| hook(self, panic)));
        match told {
            Some(Ok(())) => {}
            Some(Err(error)) => eprintln!("thread {}: {panic}; and the hook for it: {error}", self.name()),
            None => eprintln!("thread {}: panicked: {panic}", self.name()),
        }
    }
}

impl Foreign {
    /// This thread, which was not started here.
    fn here() -> Self {
        let native = native_id();
        if native == std::process::id() {
            let thread = Thread::main();
            return Foreign { thread, ours: false };
        }
        let name = std::thread::current().name().map(str::to_owned);
        let thread = Thread::make(name, "Dummy", false);
        thread.record.native.get_or_init(|| native);
        thread.known();
        Foreign { thread, ours: false }
    }
}

/// The system's number of the thread that calls.
#[cfg(target_os = "linux")]
pub(crate) fn native_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn native_id() -> u32 {
    0
}

impl PartialEq for Thread {
    fn eq(&self, other: &Self) -> bool {
        self.ident() == other.ident()
    }
}

impl Eq for Thread {}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("name", &self.name())
            .field("ident", &self.ident())
            .field("is_alive", &self.is_alive())
            .field("is_daemon", &self.is_daemon())
            .finish()
    }
}

/// Waits, when it is dropped, for all threads that are not daemons: put it first into `main`, so that it goes last.
///
/// ```
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// static DONE: AtomicBool = AtomicBool::new(false);
/// {
///     let _threads = par_sync::wait_at_exit();
///     par_sync::Thread::new(|| DONE.store(true, Ordering::Relaxed)).start()?;
/// } // waits here
/// assert!(DONE.load(Ordering::Relaxed));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "it waits where it is dropped"]
pub fn wait_at_exit() -> WaitAtExit {
    WaitAtExit(())
}

/// See [`wait_at_exit`].
#[derive(Debug)]
pub struct WaitAtExit(());

impl Drop for WaitAtExit {
    fn drop(&mut self) {
        // A thread that waits for itself would wait for ever.
        let mine = usize::from(CURRENT.with(|current| {
            current
                .get()
                .is_some_and(|here| here.ours && !here.thread.is_daemon())
        }));
        let mut busy = BUSY.lock();
        while *busy > mine {
            IDLE.wait_for(&mut busy, std::time::Duration::from_secs(1));
        }
    }
}
