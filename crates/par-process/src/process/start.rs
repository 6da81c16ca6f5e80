//! Starting a process, from a thread that lives as long as the program (rule 1).

use super::birth::{BIRTH, Birth, CRY, Cry, LONGEST_CRY};
use super::builder::ProcessBuilder;
use super::child::current_process;
use super::{Inner, Process, State, family};
use crate::before_main::CHILD;
use crate::files::send_files;
use crate::protocol::Image;
use crate::{role, sentinel};
use par_core::{StartError, wire};
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// How long a child may take until it answers: it has nothing to do before. Past this, the system does not run it.
const FIRST_WORD: Duration = Duration::from_secs(60);

/// Counts the children of this process, for their default names.
static CHILDREN: AtomicU32 = AtomicU32::new(0);

pub(super) fn start(builder: ProcessBuilder) -> Result<Process, StartError> {
    let option = |option, reason: String| StartError::Option { option, reason };
    let me = current_process();
    if me.is_daemon() {
        let reason = format!("{} is a daemon, and daemons may not have children", me.name());
        return Err(option("daemon", reason));
    }
    let work = builder
        .work
        .map_err(|error| option("input", format!("it does not encode: {error}")))?;
    let mut identity = me.identity().to_vec();
    identity.push(CHILDREN.fetch_add(1, Ordering::Relaxed) + 1);
    let name = builder.name.unwrap_or_else(|| {
        let numbers: Vec<_> = identity.iter().map(u32::to_string).collect();
        format!("{}-{}", builder.kind, numbers.join(":"))
    });
    let refused = |source| StartError::Io {
        what: format!("cannot start process {name}"),
        source,
    };
    let birth = Birth {
        image: Image::own().map_err(refused)?,
        name: name.clone(),
        identity,
        daemon: builder.daemon.unwrap_or(me.is_daemon()),
        ignores_interrupts: builder.ignores_interrupts,
        parent_name: me.name().to_owned(),
        parent_pid: me.pid(),
        work,
        files: builder.files.len(),
    };
    let payload = wire::to_bytes(&birth).map_err(|error| option("input", error.to_string()))?;
    let (control, theirs) = UnixStream::pair().map_err(refused)?;
    let mut command = role::command(CHILD).map_err(refused)?;
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    for (variable, value) in builder.environment {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    if let Some(folder) = builder.folder {
        command.current_dir(folder);
    }
    if let Some(stdout) = builder.stdout {
        command.stdout(stdout);
    }
    if let Some(stderr) = builder.stderr {
        command.stderr(stderr);
    }
    let mut child = spawn(command).map_err(refused)?;
    match introduce(&control, &payload, &builder.files).and_then(|()| sentinel::of(&child)) {
        Ok(sentinel) => {
            let process = Process {
                inner: Arc::new(Inner {
                    name,
                    daemon: birth.daemon,
                    pid: child.id(),
                    sentinel,
                    state: Mutex::new(State { child, status: None }),
                    _control: control,
                }),
            };
            family::add(&process);
            Ok(process)
        }
        Err(error) => {
            // What matters is why it could not be used; it may have ended by itself.
            let _ = child.kill();
            let status = child.wait();
            let source = match status {
                Ok(status) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    io::Error::other(format!("it ended before it began: {status}"))
                }
                _ => error,
            };
            Err(refused(source))
        }
    }
}

/// Tells the child who it is, and hears whether it can be that.
fn introduce(mut control: &UnixStream, birth: &[u8], files: &[OwnedFd]) -> io::Result<()> {
    control.set_write_timeout(Some(FIRST_WORD))?;
    control.set_read_timeout(Some(FIRST_WORD))?;
    wire::write_frame(&mut control, BIRTH, birth).map_err(io::Error::other)?;
    if !files.is_empty() {
        let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
        send_files(control, &files)?;
    }
    let mut payload = Vec::new();
    let kind = wire::read_frame(&mut control, LONGEST_CRY, &mut payload).map_err(io::Error::other)?;
    let cry = match kind {
        Some(CRY) => wire::from_bytes::<Cry>(&payload).map_err(io::Error::other)?,
        Some(kind) => Err(format!("its first word is a frame of kind {kind}")),
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    cry.map_err(io::Error::other)
}

/// A command, and where the child or the error goes.
type Order = (Command, Sender<io::Result<Child>>);

/// Rule 1.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let spawner = match SPAWNER.get() {
        Some(spawner) => spawner,
        None => {
            let (sender, orders) = channel::<Order>();
            thread::Builder::new()
                .name("par-process start".to_owned())
                .spawn(move || {
                    for (mut command, answer) in orders {
                        // Whoever ordered it waits for the answer.
                        let _ = answer.send(command.spawn());
                    }
                })?;
            // Another thread may have been quicker; the thread above then ends at once.
            SPAWNER.get_or_init(|| Mutex::new(sender))
        }
    };
    let (answer, child) = channel();
    spawner.lock().send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
