//! A process, seen from inside: the role that the copy of the program runs, and what it knows of itself and its parent.

use super::birth::{BIRTH, Birth, CRY, Cry, LONGEST_BIRTH};
use crate::before_main::ignore_interrupt;
use crate::channel::transit;
use crate::files::receive_some;
use crate::protocol::Image;
use par_core::engine::Initializer;
use par_core::wire;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread;

/// The process that runs this code; made by [`current_process`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentProcess {
    name: String,
    identity: Vec<u32>,
    daemon: bool,
}

impl CurrentProcess {
    /// Its name; `MainProcess` where it was not started as a [`Process`](super::Process).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that the system knows it by.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Whether it is a daemon, which ends with its parent and may have no children.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }

    pub(super) fn identity(&self) -> &[u32] {
        &self.identity
    }
}

/// The process that started this one; made by [`parent_process`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentProcess {
    name: String,
    pid: u32,
}

impl ParentProcess {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that the system knows it by.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended yet. (A child learns of that by its own end, mostly.)
    pub fn is_alive(&self) -> bool {
        getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(self.pid))
    }
}

static SELF: OnceLock<(CurrentProcess, Option<ParentProcess>)> = OnceLock::new();

fn known() -> &'static (CurrentProcess, Option<ParentProcess>) {
    SELF.get_or_init(|| {
        let main = CurrentProcess {
            name: "MainProcess".to_owned(),
            identity: Vec::new(),
            daemon: false,
        };
        (main, None)
    })
}

/// The process that runs this code.
///
/// ```
/// assert_eq!(par_process::current_process().name(), "MainProcess");
/// assert!(par_process::parent_process().is_none());
/// ```
pub fn current_process() -> &'static CurrentProcess {
    &known().0
}

/// The process that started this one as a [`Process`](super::Process); `None` in the main process.
pub fn parent_process() -> Option<&'static ParentProcess> {
    known().1.as_ref()
}

/// The role's `main`.
pub(crate) fn main() -> i32 {
    // A parent that cannot be followed so is followed by the socket alone.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let (work, files) = match enter() {
        Ok(entered) => entered,
        Err(text) => {
            eprintln!("par-process: this copy of the program is a child process, and cannot be one: {text}");
            return 1;
        }
    };
    match transit::with(files, || work.run()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("process {}: {error}", current_process().name());
            1
        }
    }
}

/// Hears who this process is and what it is to do, with the open files that this names.
fn enter() -> Result<(Initializer, Vec<OwnedFd>), String> {
    let text = |error: io::Error| error.to_string();
    // The control socket arrives as standard input; tasks that read theirs get the end of file.
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(text)?;
    let mut control = UnixStream::from(control);
    let null = File::open("/dev/null").map_err(text)?;
    rustix::stdio::dup2_stdin(null).map_err(|error| error.to_string())?;
    let mut payload = Vec::new();
    let kind =
        wire::read_frame(&mut control, LONGEST_BIRTH, &mut payload).map_err(|error| error.to_string())?;
    if kind != Some(BIRTH) {
        return Err("its standard input is not the socket of a parent".to_owned());
    }
    let cry = adopt(&payload).and_then(|(work, files)| match files {
        0 => Ok((work, Vec::new())),
        files => receive_some(&control, files)
            .map(|files| (work, files))
            .map_err(|error| format!("the files of its input: {error}")),
    });
    let answer = cry.as_ref().map(|_| ()).map_err(Clone::clone);
    let bytes = wire::to_bytes::<Cry>(&answer).map_err(|error| error.to_string())?;
    wire::write_frame(&mut control, CRY, &bytes).map_err(|error| error.to_string())?;
    let entered = cry?;
    thread::Builder::new()
        .name("par-process parent".to_owned())
        .spawn(move || follow(control))
        .map_err(text)?;
    Ok(entered)
}

fn adopt(payload: &[u8]) -> Result<(Initializer, usize), String> {
    let birth: Birth = wire::from_bytes(payload).map_err(|error| format!("its birth: {error}"))?;
    let own = Image::own().map_err(|error| format!("which program it runs: {error}"))?;
    if own != birth.image {
        return Err(format!(
            "it runs another program than its parent: {own:?}, not {:?}",
            birth.image
        ));
    }
    if birth.ignores_interrupts {
        ignore_interrupt();
    }
    let me = CurrentProcess {
        name: birth.name,
        identity: birth.identity,
        daemon: birth.daemon,
    };
    let parent = ParentProcess {
        name: birth.parent_name,
        pid: birth.parent_pid,
    };
    match SELF.set((me, Some(parent))) {
        Ok(()) => Ok((birth.work, birth.files)),
        Err(_) => Err("something asked for the current process before it was known".to_owned()),
    }
}

/// Ends this process with its parent, which says nothing more.
fn follow(mut control: UnixStream) {
    loop {
        match control.read(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => crate::die(),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_core::Data;

    fn birth<I: Data>(image: Image, function: fn(I), input: &I) -> Vec<u8> {
        let birth = Birth {
            image,
            name: "test".to_owned(),
            identity: vec![1],
            daemon: false,
            ignores_interrupts: false,
            parent_name: "MainProcess".to_owned(),
            parent_pid: std::process::id(),
            work: Initializer::of_fn(function, input).expect("encodes"),
            files: 0,
        };
        wire::to_bytes(&birth).expect("encodes")
    }

    #[test]
    fn a_child_of_another_program_says_so_with_both() {
        let own = Image::own().expect("this program");
        let text = adopt(&birth(own.altered(), |_: u8| (), &1)).expect_err("it runs another program");
        assert!(
            text.starts_with("it runs another program than its parent: Image { ")
                && text.matches("Image { ").count() == 2,
            "{text}"
        );
    }

    #[test]
    fn a_birth_that_makes_no_sense_is_refused() {
        let mut bytes = birth(
            Image::own().expect("this program"),
            |_: String| (),
            &"input".to_owned(),
        );
        bytes.truncate(bytes.len() - 3);
        for bytes in [&bytes[..], b"", &[0xff; 64]] {
            let text = adopt(bytes).expect_err("no birth");
            assert!(text.starts_with("its birth: "), "{text}");
        }
    }
}
