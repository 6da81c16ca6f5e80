//! Running other programs: cargo with its output streamed and kept, and programs with a deadline.

use crate::{Error, family};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`; the compiled-in path serves a binary that was started by hand.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    let manifest = PathBuf::from(manifest);
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Cargo with these arguments, to be run in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Builds an example, with a feature of its crate where it needs one, and returns where cargo put it.
///
/// # Errors
/// It does not build; cargo has said why.
pub(crate) fn example(package: &str, name: &str, feature: Option<&str>) -> Result<PathBuf, Error> {
    let mut cargo = cargo(&["build", "--quiet", "--message-format=json-render-diagnostics"]);
    cargo
        .args(["--package", package, "--example", name])
        .args(feature.map(|feature| format!("--features={feature}")))
        .stderr(Stdio::inherit());
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(format!("the example {name} of {package} does not build").into());
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo named no executable".into())
}

/// Runs a command whose output goes to the terminal.
///
/// # Errors
/// The program cannot be started, or fails.
pub(crate) fn run(mut command: Command) -> Result<(), Error> {
    let status = command
        .status()
        .map_err(|error| format!("{}: {error}", shown(&command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed: {status}", shown(&command)).into())
    }
}

/// How long a command may say nothing. The longest build takes a third of it; a test that hangs must not take the others with it.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Runs a command, shows each line of its standard output as it comes, and hands it to `line`. Standard error goes to the
/// terminal. What it started is killed when it has said nothing for [`SILENCE`]: cargo then goes on with its next program. Returns
/// whether the program succeeded, and nothing was killed.
///
/// # Errors
/// The program cannot be started or waited for.
pub(crate) fn stream(command: Command, line: impl FnMut(&str)) -> Result<bool, Error> {
    stream_within(command, SILENCE, line)
}

fn stream_within(mut command: Command, silence: Duration, mut line: impl FnMut(&str)) -> Result<bool, Error> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", shown(&command)))?;
    let lines = lines(child.stdout.take());
    let mut hung = false;
    loop {
        match lines.recv_timeout(silence) {
            Ok(text) => {
                // A closed pipe on our side is no reason to stop the program: its result still counts.
                let _ = writeln!(std::io::stdout(), "{text}");
                line(&text);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hung = true;
                let started = family::descendants(child.id());
                eprintln!(
                    "{} said nothing for {} s; killed: {}",
                    shown(&command),
                    silence.as_secs_f64(),
                    started.len().max(1)
                );
                family::kill(&started);
                if started.is_empty() {
                    // It has ended and left the pipe to somebody else, or is itself what hangs.
                    let _ = child.kill();
                    break;
                }
            }
        }
    }
    Ok(child.wait()?.success() && !hung)
}

/// The lines of a pipe, read on a thread of its own.
fn lines(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for bytes in pipe
            .into_iter()
            .flat_map(|pipe| BufReader::new(pipe).split(b'\n'))
        {
            // A broken pipe ends the output; nobody listens any more once something hung.
            let Ok(bytes) = bytes else { return };
            if sender.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Observed {
    /// Exit code; None when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output, with what is not UTF-8 replaced.
    pub(crate) stdout: String,
    /// Standard error, with what is not UTF-8 replaced.
    pub(crate) stderr: String,
}

/// Runs a program and keeps its output; past the deadline it is killed.
///
/// # Errors
/// The program cannot be started, or did not end within the deadline.
pub(crate) fn observe(mut command: Command, deadline: Duration) -> Result<Observed, Error> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", shown(&command)))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let rest = || deadline.saturating_sub(started.elapsed());
    // Output is awaited before the exit status: a pipe closes at the end of the program, or of the last of its children.
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(rest()), stderr.recv_timeout(rest())) else {
        return Err(killed(&mut child, deadline));
    };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Observed {
                code: status.code(),
                stdout,
                stderr,
            });
        }
        if rest().is_zero() {
            return Err(killed(&mut child, deadline));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn killed(child: &mut Child, deadline: Duration) -> Error {
    // It may have ended in between; then there is nothing to kill, and wait returns at once.
    let _ = child.kill();
    let _ = child.wait();
    format!("no end within {} s: killed", deadline.as_secs_f64()).into()
}

/// Reads a pipe to its end on a thread of its own, so that neither pipe can fill up and stop the program.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A broken pipe ends the output; what came before is still worth checking.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_code_are_observed() {
        let seen = observe(shell("echo out; echo err >&2; exit 3"), Duration::from_secs(60)).unwrap();
        assert_eq!(
            (seen.code, &*seen.stdout, &*seen.stderr),
            (Some(3), "out\n", "err\n")
        );
    }

    #[test]
    fn deadline_kills() {
        let started = Instant::now();
        let error = observe(shell("exec sleep 600"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "no end within 0.05 s: killed");
        assert!(started.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn closed_output_does_not_outrun_the_deadline() {
        let error = observe(
            shell("exec >/dev/null 2>&1; exec sleep 600"),
            Duration::from_millis(50),
        )
        .unwrap_err();
        assert!(error.to_string().contains("killed"));
    }

    #[test]
    fn what_hangs_is_killed_and_the_rest_goes_on() {
        let mut lines = Vec::new();
        let script = "echo a; sleep 600; echo b";
        let silence = Duration::from_millis(300);
        assert!(!stream_within(shell(script), silence, |line| lines.push(line.to_owned())).unwrap());
        assert_eq!(lines, ["a", "b"]);
        // A program that is itself what hangs.
        assert!(!stream_within(shell("exec sleep 600"), silence, |_| ()).unwrap());
    }

    #[test]
    fn lines_are_streamed_and_failure_is_told() {
        let mut lines = Vec::new();
        assert!(
            !stream(shell("echo a; echo b; exit 1"), |line| lines
                .push(line.to_owned()))
            .unwrap()
        );
        assert_eq!(lines, ["a", "b"]);
        assert!(
            run(shell("exit 1"))
                .unwrap_err()
                .to_string()
                .starts_with("sh -c exit 1 failed")
        );
    }
}
