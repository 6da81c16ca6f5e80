//! Other programs: replacing this one by another, and calling one for its output.

use crate::sentinel;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Replaces the running program by another. On success nothing after the call ever runs: no destructor, and no code at exit.
/// Every [`Process`](crate::Process) and pool of this program ends.
///
/// # Errors
/// Always: what the system says if the program cannot be started.
///
/// ```
/// let error = par_process::exec(std::process::Command::new("/no/such/program"));
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// ```
#[doc(alias = "execvp")]
pub fn exec(mut program: Command) -> io::Error {
    program.exec()
}

/// Calls a program with an empty standard input, waits for its end, at most for `timeout`, and collects its output.
///
/// # Errors
/// `TimedOut` if it has not ended in time, or others hold its output open after its end: it is killed, and its output dropped.
/// Otherwise what the system says if it cannot be started.
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
///
/// let mut echo = Command::new("echo");
/// echo.arg("hello");
/// let output = par_process::run(echo, Some(Duration::from_secs(60)))?;
/// assert!(output.status.success());
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "subprocess.run")]
pub fn run(mut program: Command, timeout: Option<Duration>) -> io::Result<Output> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = output(&mut child, until);
    if output.is_err() {
        // What matters is the first error; it may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    output
}

fn output(child: &mut Child, until: Option<Instant>) -> io::Result<Output> {
    let stdout = collect(child.stdout.take())?;
    let stderr = collect(child.stderr.take())?;
    let status = wait(child, until)?;
    Ok(Output {
        status,
        stdout: collected(&stdout, until)?,
        stderr: collected(&stderr, until)?,
    })
}

/// Reads a pipe on a thread of its own, so that neither of two can fill up and stop the program.
fn collect(pipe: Option<impl Read + Send + 'static>) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = channel();
    thread::Builder::new()
        .name("par-process output".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
            // Past its deadline nobody wants it.
            let _ = sender.send(read.map(|_| bytes));
        })?;
    Ok(receiver)
}

fn collected(output: &Receiver<io::Result<Vec<u8>>>, until: Option<Instant>) -> io::Result<Vec<u8>> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    match until {
        Some(until) => output
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .map_err(late)?,
        None => output.recv().map_err(io::Error::other)?,
    }
}

fn wait(child: &mut Child, until: Option<Instant>) -> io::Result<ExitStatus> {
    let Some(until) = until else {
        return child.wait();
    };
    if sentinel::wait(&[sentinel::of(child)?.as_fd()], Some(until))?.is_empty() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    child.wait()
}
