//! Starts this program under mpiexec, with a deadline after which nothing of it is left.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Says to this program that it is a rank, and what it is to run.
pub(crate) const PROGRAM: &str = "PAR_MPI_TEST_PROGRAM";
/// The folder in which ranks leave word.
const FOLDER: &str = "PAR_MPI_TEST_FOLDER";

/// Leaves word of the moment in which this rank does what it is about to do.
pub(crate) fn event() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Ok(folder) = std::env::var(FOLDER) {
        let _ = std::fs::write(PathBuf::from(folder).join("event"), now.as_micros().to_string());
    }
}

/// Leaves word of the number of this process.
pub(crate) fn sign_in() {
    if let Ok(folder) = std::env::var(FOLDER) {
        let me = std::process::id().to_string();
        let _ = std::fs::write(PathBuf::from(folder).join(format!("pid-{me}")), me);
    }
}

/// A program on ranks that is to be started.
pub(crate) struct Launch {
    program: &'static str,
    ranks: usize,
    launcher: bool,
    one_other: bool,
    deadline: Duration,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    in_time: bool,
    /// When the launcher had ended, and when no rank was left.
    at: SystemTime,
    gone: Option<SystemTime>,
    folder: TempDir,
}

/// What has become of the processes of the ranks.
pub(crate) struct Ranks {
    pub(crate) left: usize,
}

impl Launch {
    pub(crate) fn new(program: &'static str, ranks: usize) -> Self {
        Launch {
            program,
            ranks,
            launcher: true,
            one_other: false,
            deadline: Duration::from_secs(60),
        }
    }

    /// Without a launcher.
    pub(crate) fn alone(program: &'static str) -> Self {
        Launch {
            launcher: false,
            ..Launch::new(program, 1)
        }
    }

    pub(crate) fn deadline(self, deadline: Duration) -> Self {
        Launch { deadline, ..self }
    }

    /// The last rank runs another build.
    pub(crate) fn one_other(self) -> Self {
        Launch {
            one_other: true,
            ..self
        }
    }

    pub(crate) fn run(&self) -> Ended {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let me = std::env::current_exe().expect("this program has a path");
        let mut command = if self.launcher {
            let mut command = Command::new("mpiexec");
            let ranks = self.ranks - usize::from(self.one_other);
            command.arg("-n").arg(ranks.to_string()).arg(&me);
            if self.one_other {
                let other = folder.path().join("other");
                std::fs::copy(&me, &other).expect("room for a copy of this program");
                // What follows the end of a program is not read, but makes it another file.
                let mut file = File::options().append(true).open(&other).expect("the copy");
                std::io::Write::write_all(&mut file, b"another build").expect("room");
                drop(file);
                command.args([":", "-n", "1"]).arg(&other);
            }
            command
        } else {
            Command::new(&me)
        };
        let file = |name: &str| File::create(folder.path().join(name)).expect("a file for its output");
        let child = command
            .env(PROGRAM, self.program)
            .env(FOLDER, folder.path())
            // OpenMPI refuses to be started by root, as containers do, and more ranks than cores; others do not read these.
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .env("OMPI_MCA_hwloc_base_binding_policy", "none")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "mpiexec does not start: {error}; install an MPI library, such as \
                     `apt-get install libopenmpi-dev openmpi-bin libclang-dev`, or leave out the feature mpi"
                )
            });
        let mut running = Running {
            child,
            folder: folder.path().to_owned(),
        };
        let until = Instant::now() + self.deadline;
        let (mut status, mut signed, mut gone) = (None, false, None);
        while status.is_none() && Instant::now() < until {
            status = running.child.try_wait().expect("a child has a status");
            // The moment of the end is measured, that of the ranks and that of the launcher.
            let left = ranks_left(folder.path()).len();
            signed |= left > 0;
            if left > 0 {
                gone = None;
            } else if signed {
                gone = gone.or(Some(SystemTime::now()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let at = SystemTime::now();
        drop(running);
        let read = |name: &str| {
            let bytes = std::fs::read(folder.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ended {
            code: status.and_then(|status| status.code()),
            out: read("out"),
            err: read("err"),
            in_time: status.is_some(),
            at,
            gone,
            folder,
        }
    }
}

/// A launcher that is ended with everything that it has started, however the test ends.
struct Running {
    child: Child,
    folder: PathBuf,
}

/// The processes that have signed in and are still there.
fn ranks_left(folder: &std::path::Path) -> Vec<Pid> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.file_name().to_str()?.strip_prefix("pid-")?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| {
            // The number may be that of another by now.
            let name = std::fs::read_to_string(format!("/proc/{}/environ", pid.as_raw_nonzero()));
            name.is_ok_and(|all| all.contains(&format!("{FOLDER}={}", folder.display())))
        })
        .collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // Asked first: it ends its ranks.
            let _ = kill_process_group(group, Signal::TERM);
            let until = Instant::now() + Duration::from_secs(5);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
        for pid in ranks_left(&self.folder) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn assert_ok(&self) {
        assert!(self.code == Some(0), "it should have ended well\n{self}");
    }

    /// How long after the event no rank was left, and the launcher had ended.
    pub(crate) fn since_event(&self) -> Option<(Duration, Duration)> {
        let text = std::fs::read_to_string(self.folder.path().join("event")).ok()?;
        let event = UNIX_EPOCH + Duration::from_micros(text.parse().ok()?);
        let ended = self.at.duration_since(event).ok()?;
        let gone = self.gone.and_then(|gone| gone.duration_since(event).ok());
        Some((gone.unwrap_or(ended), ended))
    }

    pub(crate) fn ranks(&self) -> Ranks {
        Ranks {
            left: ranks_left(self.folder.path()).len(),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended { code, out, err, .. } = self;
        let late = if self.in_time {
            ""
        } else {
            ", as it did not end in time"
        };
        write!(
            f,
            "exit code {code:?}{late}\n--- output\n{out}\n--- errors\n{err}"
        )
    }
}
