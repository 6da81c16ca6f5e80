//! Unmodified Celery from pip, in a virtual environment of its own, for tests: programs of Python, and a worker.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The app of the Python side.
const DEMO: &str = r#"
import os
from celery import Celery
app = Celery("demo", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.result_accept_content = app.conf.accept_content = ["json", "msgpack", "yaml"]

@app.task(name="py.mul")
def mul(a, b):
    return a * b

@app.task(name="py.fail")
def fail(text):
    raise ValueError(text)

@app.task(name="py.request", bind=True)
def request(self, *args, **kwargs):
    return [list(args), kwargs, self.request.id, self.request.root_id, self.request.retries]
"#;

/// An environment with Celery, and a folder with the app.
pub(crate) struct Celery {
    python: PathBuf,
    folder: tempfile::TempDir,
    broker: String,
    backend: String,
}

impl Celery {
    pub(crate) fn new(broker: &str, backend: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("demo.py"), DEMO)?;
        Ok(Celery {
            python: environment()?,
            folder,
            broker: broker.to_owned(),
            backend: backend.to_owned(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command
            .current_dir(self.folder.path())
            .env("BROKER", &self.broker)
            .env("BACKEND", &self.backend)
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program with the app; what it prints, as JSON.
    pub(crate) fn run(&self, program: &str) -> Result<serde_json::Value> {
        let text =
            format!("import json, time\nfrom demo import *\nfrom celery import chain, signature\n{program}");
        let output = self.command().args(["-c", &text]).output()?;
        if !output.status.success() {
            return Err(Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(Error::other)
    }

    /// A worker of Celery's for a queue, ready.
    pub(crate) fn worker(&self, queue: &str) -> Result<CeleryWorker> {
        self.worker_with(queue, &["-P", "solo"])
    }

    /// With arguments of its own.
    pub(crate) fn worker_with(&self, queue: &str, arguments: &[&str]) -> Result<CeleryWorker> {
        let log = self.folder.path().join("worker.log");
        let output = std::fs::File::create(&log)?;
        let mut child = self
            .command()
            .args(["-m", "celery", "-A", "demo", "worker", "-Q", queue, "-l", "INFO"])
            .args(arguments)
            .args(["--without-gossip", "--without-mingle"])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let until = Instant::now() + Duration::from_secs(60);
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        while !text().contains(" ready.") {
            if Instant::now() > until || child.try_wait()?.is_some() {
                let _ = child.kill();
                return Err(Error::other(format!("Celery's worker is not ready: {}", text())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(CeleryWorker(child))
    }
}

/// A worker's process, which does not outlive the test.
pub(crate) struct CeleryWorker(Child);

impl Drop for CeleryWorker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the environment once, for all tests of this build.
fn environment() -> Result<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("celery-5-all");
    let python = place.join("bin/python");
    let done = place.join("done");
    let run = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::other(format!(
            "{}: Celery's environment needs Python with venv: apt-get install -y python3-venv",
            String::from_utf8_lossy(&output.stderr)
        )))
    };
    // Others may be about to make it as well.
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))?;
    let lock = std::fs::File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("celery-5-all.lock"))?;
    lock.lock()?;
    if !done.exists() {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&place))?;
        run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "celery[redis,msgpack,yaml]>=5.5,<6",
        ]))?;
        std::fs::write(done, "")?;
    }
    Ok(python)
}
