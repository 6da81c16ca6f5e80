//! Tasks in child processes: one at a time in each, told and asked through a pipe; and what becomes of those that die.
//!
//! 1. The worker has the connection to the broker, and what was leased; a child has nothing that could be lost with it.
//! 2. A child runs this very program, and finds the code of a task by where it lies in it.
//! 3. A child sees the end of its worker as the end of the pipe, and ends.

use super::arguments::{Code, outcome_of};
use super::broker::{Ask, Proxy, answer};
use super::context::{Ran, RunInfo, TaskContext, within};
use super::control::{Cancelled, Control, Said};
use super::instance::{App, Spec};
use super::message::Body;
use par_core::engine::Initializer;
use par_process::{Connection, Pipe, Process};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// What a child is told.
#[derive(Serialize, Deserialize)]
enum ToChild {
    Run(RunInfo, Initializer),
    Cancel(Cancelled),
    Answer(Result<Value, String>),
}

/// What a child says.
#[derive(Serialize, Deserialize)]
enum FromChild {
    Ask(Ask),
    Ran(Ran),
}

/// Longer than the longest message of a task, whose text is escaped once more.
const LONGEST: u64 = 1 << 30;

fn send(to: &Connection, what: &impl Serialize) -> Result<(), String> {
    let bytes = serde_json::to_vec(what).map_err(|error| error.to_string())?;
    to.send_bytes(&bytes).map_err(|error| error.to_string())
}

fn receive<T: DeserializeOwned>(from: &Connection) -> Result<T, String> {
    let bytes = from.recv_bytes().map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// When a child is replaced by a new one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wear {
    pub(super) tasks: Option<u64>,
    /// In bytes, resident.
    pub(super) memory: Option<u64>,
}

/// The child of a thread of the worker.
pub(super) struct Child {
    spec: Spec,
    wear: Wear,
    running: Option<Running>,
}

struct Running {
    process: Process,
    pipe: Arc<Connection>,
    tasks: u64,
}

/// How long a child may take to end once its pipe is closed: it has nothing to do.
const GOODBYE: Duration = Duration::from_secs(5);

impl Child {
    /// Starts it.
    pub(super) fn start(spec: &Spec, wear: Wear) -> Result<Self, String> {
        let running = Some(Running::start(spec)?);
        let spec = spec.clone();
        Ok(Child { spec, wear, running })
    }

    /// Runs a task; an error says how the child died.
    pub(super) fn run(&mut self, context: &TaskContext, code: Code, body: &Body) -> Result<Ran, String> {
        let running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.spec)?,
        };
        let ran = running.run(context, code, body);
        context.control.done();
        match ran {
            Ok((running, ran)) if !running.is_worn(self.wear) => {
                self.running = Some(running);
                Ok(ran)
            }
            Ok((_, ran)) => Ok(ran),
            Err(how) => Err(how),
        }
    }
}

impl Running {
    fn start(spec: &Spec) -> Result<Self, String> {
        let (mut near, mut far) = Pipe::duplex().map_err(|error| error.to_string())?;
        near.set_longest(LONGEST);
        far.set_longest(LONGEST);
        let spec = serde_json::to_string(spec).map_err(|error| error.to_string())?;
        let process = Process::of_fn((spec, far), serve)
            .daemon(true)
            .ignore_interrupts()
            .name("par-dist-child")
            .start()
            .map_err(|error| error.to_string())?;
        Ok(Running {
            process,
            pipe: Arc::new(near),
            tasks: 0,
        })
    }

    fn run(mut self, context: &TaskContext, code: Code, body: &Body) -> Result<(Self, Ran), String> {
        let work = (code.elsewhere)(&body.args, &body.kwargs).map_err(|error| error.to_string())?;
        self.tasks += 1;
        if send(&self.pipe, &ToChild::Run(context.run.clone(), work)).is_err() {
            return Err(self.death());
        }
        let (pipe, process) = (Arc::clone(&self.pipe), self.process.clone());
        context.control.hear(move |said| match said {
            // Where that fails, it has ended by itself.
            Said::Cancel(why) => drop(send(&pipe, &ToChild::Cancel(why))),
            Said::End => drop(process.kill()),
        });
        loop {
            match receive(&self.pipe) {
                Ok(FromChild::Ran(ran)) => return Ok((self, ran)),
                Ok(FromChild::Ask(ask)) => {
                    let app = &context.app;
                    let answer = answer(&*app.transport(), &*app.results(), ask);
                    if send(&self.pipe, &ToChild::Answer(answer)).is_err() {
                        return Err(self.death());
                    }
                }
                Err(_) => return Err(self.death()),
            }
        }
    }

    /// How it ended, or is ended now.
    fn death(&self) -> String {
        if let Ok(None) | Err(_) = self.process.join_timeout(GOODBYE) {
            let _ = self.process.kill();
        }
        match self.process.join() {
            Ok(code) if code < 0 => format!("the process was ended by signal {}", -code),
            Ok(code) => format!("the process ended with code {code}"),
            Err(error) => format!("the process is lost: {error}"),
        }
    }

    fn is_worn(&self, wear: Wear) -> bool {
        wear.tasks.is_some_and(|most| self.tasks >= most)
            || wear
                .memory
                .is_some_and(|most| resident(self.process.pid()).is_some_and(|bytes| bytes > most))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of the pipe, after this, is the end of the child; one that does not see it is killed. A thread waits for that, so that no
        // task does.
        let process = self.process.clone();
        let wait = move || {
            if let Ok(None) | Err(_) = process.join_timeout(GOODBYE) {
                let _ = process.kill();
                let _ = process.join();
            }
        };
        // Without a thread, it is left to end by itself.
        let _ = std::thread::Builder::new()
            .name("par-dist-goodbye".to_owned())
            .spawn(wait);
    }
}

/// What a process has in memory, in bytes: the second number of its statm (proc(5)), in pages.
fn resident(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// A child's way to ask, one question at a time.
struct Line {
    pipe: Arc<Connection>,
    answers: Mutex<Receiver<Result<Value, String>>>,
}

impl Line {
    fn ask(&self, ask: Ask) -> Result<Value, String> {
        let answers = self.answers.lock();
        send(&self.pipe, &FromChild::Ask(ask))?;
        answers
            .recv()
            .unwrap_or_else(|_| Err("the worker is gone".to_owned()))
    }
}

/// What a child does.
fn serve((spec, pipe): (String, Connection)) {
    let spec: Spec = match serde_json::from_str(&spec) {
        Ok(spec) => spec,
        Err(error) => {
            eprintln!("a child of a worker cannot read what it is: {error}");
            std::process::exit(1);
        }
    };
    let pipe = Arc::new(pipe);
    let (runs, run) = channel();
    let (answers, answered) = channel();
    let control: Arc<Mutex<Arc<Control>>> = Arc::default();
    let reader = {
        let (pipe, control) = (Arc::clone(&pipe), Arc::clone(&control));
        move || listen(&pipe, &control, &runs, &answers)
    };
    let started = std::thread::Builder::new()
        .name("par-dist-child".to_owned())
        .spawn(reader);
    if let Err(error) = started {
        eprintln!("a child of a worker has no thread to listen with: {error}");
        std::process::exit(1);
    }
    let line = Line {
        pipe: Arc::clone(&pipe),
        answers: Mutex::new(answered),
    };
    let reply_to = spec.reply_to.clone();
    let proxy = Arc::new(Proxy {
        ask: move |ask| line.ask(ask),
        reply_to,
    });
    let app = App::of_spec(spec, Arc::clone(&proxy) as _, proxy);
    for (run, work, control) in run {
        let app = app.clone();
        let context = TaskContext { app, run, control };
        let ran = within(context, || outcome_of(&work));
        if send(&pipe, &FromChild::Ran(ran)).is_err() {
            return;
        }
    }
}

type Work = (RunInfo, Initializer, Arc<Control>);

/// Hears what the worker says, until it is gone (rule 3).
fn listen(
    pipe: &Connection,
    control: &Mutex<Arc<Control>>,
    runs: &Sender<Work>,
    answers: &Sender<Result<Value, String>>,
) {
    loop {
        let heard = match receive(pipe) {
            // A word to the task before must not reach this one, nor the other way round.
            Ok(ToChild::Run(run, work)) => {
                let fresh = Arc::new(Control::default());
                *control.lock() = Arc::clone(&fresh);
                runs.send((run, work, fresh)).is_ok()
            }
            Ok(ToChild::Cancel(why)) => {
                control.lock().cancel(why);
                true
            }
            Ok(ToChild::Answer(answer)) => answers.send(answer).is_ok(),
            Err(_) => false,
        };
        if !heard {
            // Whatever runs here, nobody waits for it.
            std::process::exit(0);
        }
    }
}
