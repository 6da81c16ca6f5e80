//! A worker process, seen from inside: the role that a copy of the program runs.
//!
//! 1. Tasks run on executor threads, of which one may run for each place: one, and one more for each thread that waits inside its
//!    task (law 9). An executor that finds a place and nothing to run reads the socket itself, so that a request
//!    crosses no thread on its way.
//! 2. The first thread watches: the pool's end (the end of the control socket), cancelled jobs, and, every [`TICK`] while there is
//!    something to look after, replies that nobody sends and parts that other workers could run.
//! 3. A worker ends when its pool says so, or is gone. The pool's death also kills it by signal, a stopped one as well.

mod executor;
mod inbox;
mod memory;
mod nested;
mod outbox;

use crate::arena::Arena;
use crate::page::Page;
use crate::protocol::{Hello, Image, Setup, down, up};
use crate::{die, receive_files};
use executor::Executors;
use inbox::Inbox;
use memory::Gauge;
use nested::Nested;
use outbox::Outbox;
use par_core::engine::Engine;
use par_core::wire;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often a worker that is busy looks after what waits.
const TICK: Duration = Duration::from_millis(1);
/// The longest setup: it holds an initialiser's input.
const SETUP: u64 = 1 << 30;

/// What the threads of a worker share.
pub(crate) struct Worker {
    index: usize,
    workers: usize,
    /// The longest payload, in bytes.
    longest: u64,
    outbox: Outbox,
    executors: Executors,
    /// The memory for large values, where there is one.
    arena: Option<Arc<Arena>>,
    /// Where its memory is limited.
    gauge: Option<Gauge>,
    nested: Arc<Nested>,
    /// Held by the executor that reads.
    inbox: Mutex<Inbox>,
    /// Wakes the first thread.
    wake: OwnedFd,
    /// Whether the first thread looks after what waits.
    ticking: AtomicBool,
}

impl Worker {
    /// Makes the first thread look after what waits, until nothing does.
    fn tick(&self) {
        if !self.ticking.swap(true, Ordering::AcqRel) {
            self.rouse();
        }
    }

    fn rouse(&self) {
        // A counter that is full wakes as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// The role's `main`.
pub(crate) fn main() -> i32 {
    // A pool that cannot be followed so is followed by the socket alone.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    match start() {
        Ok(Some((worker, control))) => watch(&worker, control),
        Ok(None) => 0,
        Err(text) => {
            eprintln!("par-process: this copy of the program is a worker, and cannot work: {text}");
            1
        }
    }
}

/// Nothing where the pool was told why this worker does not start.
fn start() -> Result<Option<(Arc<Worker>, UnixStream)>, String> {
    let text = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    let (work, control, page, arena) =
        take_files().map_err(text("its standard input is not the socket of a pool"))?;
    let reader = work.try_clone().map_err(text("the socket of its pool"))?;
    let mut inbox = Inbox::new(reader);
    let Some((kind, payload)) = inbox.frame(SETUP).map_err(|error| error.to_string())? else {
        return Err("its pool went away".to_owned());
    };
    if kind != down::SETUP {
        return Err(format!(
            "the first word of its pool is a frame of kind {kind}, and no setup"
        ));
    }
    let setup: Setup = wire::from_bytes(&payload).map_err(|error| format!("its setup: {error}"))?;
    let page = Page::open(page).map_err(text("the page that it shares with its pool"))?;
    let outbox = Outbox::new(work, page);
    let say = |hello: Hello| -> Result<(), String> {
        outbox
            .frame(up::HELLO, |out| wire::encode(&hello, out))
            .map_err(|error| error.to_string())?;
        outbox.flush();
        Ok(())
    };
    let own = Image::own().map_err(text("which program it runs"))?;
    if own != setup.image {
        let refused = format!(
            "it runs another program than its pool: {own:?}, not {:?}",
            setup.image
        );
        say(Hello::Refused(refused.clone()))?;
        return Err(refused);
    }
    if let Some(most) = setup.address_space {
        limit_address_space(most).map_err(text("its address space cannot be limited"))?;
    }
    // Without it, large values go over the socket.
    let arena = arena.and_then(|file| Arena::open(file).ok()).map(Arc::new);
    let gauge = Gauge::new(setup.memory).map_err(text("its memory cannot be looked at"))?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| format!("a way to wake it: {error}"))?;
    let worker = Arc::new_cyclic(|me: &Weak<Worker>| Worker {
        index: setup.index,
        workers: setup.workers,
        longest: setup.longest,
        outbox,
        executors: Executors::default(),
        gauge,
        arena,
        nested: Nested::new(Weak::clone(me)),
        inbox: Mutex::new(inbox),
        wake,
        ticking: AtomicBool::new(false),
    });
    let engine: Weak<dyn Engine> = {
        let nested: Arc<dyn Engine> = Arc::clone(&worker.nested) as _;
        Arc::downgrade(&nested)
    };
    let ready = worker
        .start_first(engine, setup.initializer)
        .map_err(text("cannot start a thread for its tasks"))?;
    match ready {
        Ok(()) => Ok(Some((worker, control))),
        // The pool was told, and ends it.
        Err(_) => Ok(None),
    }
}

fn limit_address_space(most: u64) -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::As);
    // Not beyond what this process was given.
    limit.current = Some(limit.maximum.map_or(most, |maximum| maximum.min(most)));
    Ok(setrlimit(Resource::As, limit)?)
}

/// The socket to the pool arrives as standard input, and brings the control socket and the page. Tasks that read their
/// standard input get the end of file.
fn take_files() -> io::Result<(UnixStream, UnixStream, OwnedFd, Option<OwnedFd>)> {
    let work = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let ([control, page], more) = receive_files(&work)?;
    Ok((work, UnixStream::from(control), page, more.into_iter().next()))
}

/// The first thread (rule 2). Returns the exit code.
fn watch(worker: &Worker, mut control: UnixStream) -> i32 {
    // Cancelled jobs, a number of 8 bytes each.
    let mut job = [0; 8];
    let mut held = 0;
    let tick = Timespec::try_from(TICK).ok();
    loop {
        let timeout = tick.as_ref().filter(|_| worker.ticking.load(Ordering::Acquire));
        let mut files = [
            PollFd::new(&control, PollFlags::IN),
            PollFd::new(&worker.wake, PollFlags::IN),
        ];
        match poll(&mut files, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => die(),
        }
        let [heard, woken] = files.map(|file| !file.revents().is_empty());
        if woken {
            // What it holds does not matter.
            let _ = rustix::io::read(&worker.wake, &mut [0; 8]);
            if worker.executors.all_ended() {
                return 0;
            }
        }
        if heard {
            match control.read(&mut job[held..]) {
                Ok(0) => die(),
                Ok(count) => held += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => die(),
            }
            if held == job.len() {
                held = 0;
                worker.executors.raise(u64::from_le_bytes(job));
            }
        }
        if worker.ticking.load(Ordering::Acquire) {
            worker.outbox.flush();
            worker.weigh();
            worker.offer_some(usize::try_from(worker.outbox.page().idle()).unwrap_or(usize::MAX));
            worker.rest();
        }
    }
}

impl Worker {
    /// Stops ticking if nothing waits.
    fn rest(&self) {
        let waits = || {
            !self.outbox.is_empty()
                || self.nested.has_local()
                || (self.gauge.is_some() && self.executors.while_running(|| true))
        };
        if !waits() {
            self.ticking.store(false, Ordering::SeqCst);
            // Somebody may have come in between, and found it ticking.
            if waits() {
                self.ticking.store(true, Ordering::SeqCst);
            }
        }
    }
}
