//! `cargo xtask mpi`: starts a program as ranks under the MPI launcher of this machine, with what root and few cores need.

use crate::Error;
use crate::command::{self, Observed};
use crate::family;
use crate::setup::needs::{MPI, in_path, is_root, version};
use rustix::process::Signal;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What to start.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of ranks
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=4096))]
    ranks: u16,
    /// The example to run
    #[arg(long, value_name = "NAME")]
    example: String,
    /// The crate that has the example
    #[arg(long, value_name = "CRATE", default_value = "par-mpi")]
    package: String,
    /// Seconds after which the ranks are ended
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u64,
    /// Arguments of the example, after `--`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// How long a launcher may take to end its ranks when it is asked to; then they are killed.
const GRACE: Duration = Duration::from_secs(3);

/// Builds the example, runs it on that many ranks and shows each line with its rank in front.
///
/// # Errors
/// No launcher, an example that does not build, ranks that fail or do not end within the limit.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let launcher = Launcher::find()?;
    let program = command::example(&options.package, &options.example, Some("mpi"))?;
    let mut command = launcher.command(usize::from(options.ranks), true);
    command.arg(program).args(&options.arguments);
    let status = follow(command, Duration::from_secs(options.limit), |line| {
        let Line { from, text } = line;
        let text = tagged(text);
        // A closed pipe on our side is no reason to stop the ranks: their exit code still counts.
        let _ = match from {
            From::Output => writeln!(std::io::stdout(), "{text}"),
            From::Error => writeln!(std::io::stderr(), "{text}"),
        };
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the ranks failed: {status}").into())
    }
}

/// The program that starts ranks.
pub(crate) struct Launcher {
    program: PathBuf,
    open_mpi: bool,
}

impl Launcher {
    /// The launcher of the search path.
    ///
    /// # Errors
    /// There is none; the text says what installs one.
    pub(crate) fn find() -> Result<Self, Error> {
        let found = ["mpiexec", "mpirun"].iter().find_map(|name| in_path(name));
        let program = found.ok_or_else(|| format!("no mpiexec: install MPI by {}", MPI.command()))?;
        let about = version(&[&program.to_string_lossy(), "--version"]).unwrap_or_default();
        let open_mpi = ["OpenRTE", "Open MPI", "PRTE"]
            .iter()
            .any(|name| about.contains(name));
        Ok(Launcher { program, open_mpi })
    }

    /// The launcher for that many ranks, to be followed by the program; `tags` puts the rank before each line.
    pub(crate) fn command(&self, ranks: usize, tags: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-n").arg(ranks.to_string());
        if self.open_mpi {
            if tags {
                command.arg("--tag-output");
            }
            // By the environment, as the options have other names in version 5, whose variables begin with PRTE.
            if is_root() {
                for prefix in ["OMPI", "PRTE"] {
                    command.env(format!("{prefix}_ALLOW_RUN_AS_ROOT"), "1");
                    command.env(format!("{prefix}_ALLOW_RUN_AS_ROOT_CONFIRM"), "1");
                }
            }
            command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
            command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
            // It waits a second between asking and killing ranks whose job has failed.
            command.env("OMPI_MCA_odls_base_sigkill_timeout", "0");
            // A rank has threads: bound to one core they would wait for each other.
            command.env("OMPI_MCA_hwloc_base_binding_policy", "none");
            command.env("PRTE_MCA_hwloc_default_binding_policy", "none");
        } else if tags {
            command.arg("-prepend-rank");
        }
        command
    }
}

/// Runs a launcher and keeps what its ranks print.
///
/// # Errors
/// As [`follow`].
pub(crate) fn observe(launcher: Command, limit: Duration) -> Result<Observed, Error> {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let status = follow(launcher, limit, |line| {
        let text = match line.from {
            From::Output => &mut stdout,
            From::Error => &mut stderr,
        };
        text.push_str(line.text);
        text.push('\n');
    })?;
    Ok(Observed {
        code: status.code(),
        stdout,
        stderr,
    })
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum From {
    Output,
    Error,
}

/// A line of a rank or of the launcher.
pub(crate) struct Line<'a> {
    pub(crate) from: From,
    pub(crate) text: &'a str,
}

/// Runs a launcher and hands on each line as it comes. Past the limit the launcher and all its ranks are ended.
///
/// # Errors
/// The launcher cannot be started, or the limit has passed.
pub(crate) fn follow(
    mut launcher: Command,
    limit: Duration,
    mut line: impl FnMut(Line<'_>),
) -> Result<ExitStatus, Error> {
    let started = Instant::now();
    let mut child = launcher
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What is typed on the terminal goes to this program, which then ends the ranks in order.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", launcher.get_program().to_string_lossy()))?;
    let (sender, lines) = mpsc::channel();
    read(child.stdout.take(), From::Output, sender.clone());
    read(child.stderr.take(), From::Error, sender);
    loop {
        match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok((from, text)) => line(Line { from, text: &text }),
            // Both pipes are closed: all ranks have ended, or are about to.
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(past(&mut child, limit)),
        }
    }
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() >= limit {
            return Err(past(&mut child, limit));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn past(child: &mut Child, limit: Duration) -> Error {
    end(child);
    format!("no end within {} s: the ranks were ended", limit.as_secs_f64()).into()
}

/// Hands on the lines of a pipe from a thread of its own.
fn read(pipe: Option<impl Read + Send + 'static>, from: From, sender: mpsc::Sender<(From, String)>) {
    std::thread::spawn(move || {
        let Some(pipe) = pipe else { return };
        for line in BufReader::new(pipe).split(b'\n') {
            // A broken pipe ends the output; nobody listens any more past the limit.
            let Ok(line) = line else { return };
            let text = String::from_utf8_lossy(&line).into_owned();
            if sender.send((from, text)).is_err() {
                return;
            }
        }
    });
}

/// Asks the launcher to end its ranks, and kills what is left of both after a while. Ranks have process groups of their own, so
/// they are found by their parents before the launcher is gone.
fn end(child: &mut Child) {
    let launcher = child.id();
    let ranks = family::descendants(launcher);
    family::signal(launcher, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < GRACE && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // It may have ended in between; then there is nothing to kill, and wait returns at once.
    let _ = child.kill();
    let _ = child.wait();
    family::kill(&ranks);
}

/// `[2] text`, of what OpenMPI writes as `[1,2]<stdout>:text`; other launchers write it so themselves.
fn tagged(line: &str) -> String {
    let parts = || {
        let (place, rest) = line.strip_prefix('[')?.split_once(']')?;
        let rank = place.split_once(',')?.1;
        rank.parse::<u32>().ok()?;
        let text = ["<stdout>:", "<stderr>:", "<stddiag>:"]
            .iter()
            .find_map(|tag| rest.strip_prefix(tag))?;
        Some(format!("[{rank}] {}", text.strip_prefix(' ').unwrap_or(text)))
    };
    parts().unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_stand_before_their_lines() {
        assert_eq!(tagged("[1,12]<stdout>:hello"), "[12] hello");
        assert_eq!(tagged("[1,0]<stderr>: oh"), "[0] oh");
        for other in ["plain", "[1] hello", "[a,b]<stdout>:x", "[1,2] no tag"] {
            assert_eq!(tagged(other), other);
        }
    }

    #[test]
    fn lines_come_from_both_pipes_and_the_code_is_told() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut seen = Vec::new();
        let status = follow(shell, Duration::from_secs(60), |line| {
            seen.push((line.from, line.text.to_owned()));
        })
        .unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(
            seen.contains(&(From::Output, "out".to_owned()))
                && seen.contains(&(From::Error, "err".to_owned()))
        );
    }

    /// As a launcher that does not listen, with a rank in a process group of its own.
    #[test]
    fn past_the_limit_nothing_is_left() {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "trap '' TERM; setsid sleep 600 & echo $!; wait; wait; sleep 600",
        ]);
        let mut rank = String::new();
        let limit = Duration::from_millis(500);
        let error = follow(shell, limit, |line| rank = line.text.to_owned()).unwrap_err();
        assert_eq!(error.to_string(), "no end within 0.5 s: the ranks were ended");
        let rank: u32 = rank.parse().unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{rank}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let until = Instant::now() + Duration::from_secs(60);
        while !gone() {
            assert!(Instant::now() < until, "process {rank} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
