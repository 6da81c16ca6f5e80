//! Local workers, seen from their pool: processes of this program, supervised by one thread.
//!
//! 1. A worker is tied to its pool by a socket, which is its standard input until it has taken it. Either end sees at once that
//!    the other has died: the pool's end closes with the pool's process, the worker then ends itself.
//! 2. The worker says `Ready` once it has joined the broker and run its initialiser, and leases nothing before it hears `Go`.
//! 3. The supervisor starts all workers, so that the signal of a parent's death, which follows the starting thread, means the
//!    pool's end. It reaps them, buries them in the broker, and starts others in their places within the budget.

use crate::child::{FromPool, FromWorker, LOCAL_WORKER, Setup};
use crate::node::Node;
use par_core::engine::Refused;
use par_core::{Event, StartError, TaskError, wire};
use parking_lot::{Condvar, Mutex};
use rustix::process::Signal;
use std::collections::HashMap;
use std::io::Read;
use std::net::Shutdown as Close;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::broker::PeerId;

/// When it is looked again for what was to be killed and had not begun: it may have begun before its worker heard.
const AGAIN: Duration = Duration::from_millis(50);
/// How long workers may take to start.
const START: Duration = Duration::from_secs(60);
/// Messages between pool and worker are small.
const FRAME: u64 = 64 << 20;

/// What the supervisor is told.
enum Order {
    Said {
        slot: usize,
        pid: u32,
        what: FromWorker,
    },
    /// The socket of a worker closed.
    Gone {
        slot: usize,
        pid: u32,
    },
    /// Kill the workers that run this job then.
    Kill {
        job: u64,
        at: Instant,
    },
    /// Kill all of them now.
    KillAll,
    /// Let them finish what they run, and end.
    Stop,
}

/// The local workers of a pool.
pub(crate) struct Local {
    orders: Sender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
    state: Arc<Shared>,
    node: Arc<Node>,
}

/// What the supervisor shows.
struct Shared {
    slots: Mutex<HashMap<usize, Slot>>,
    view: Mutex<View>,
    changed: Condvar,
}

#[derive(Default)]
struct View {
    ready: usize,
    alive: usize,
    failed: Option<StartError>,
}

impl Local {
    /// Starts `workers` workers and waits until they are ready.
    pub(crate) fn start(
        node: &Arc<Node>,
        workers: usize,
        restarts: u32,
        setup: Setup,
    ) -> Result<Self, StartError> {
        let (orders, received) = channel();
        let state = Arc::new(Shared {
            slots: Mutex::default(),
            view: Mutex::default(),
            changed: Condvar::new(),
        });
        let supervisor = Supervisor {
            node: Arc::clone(node),
            setup,
            restarts,
            budget: restarts,
            stopping: false,
            orders: orders.clone(),
            state: Arc::clone(&state),
            kills: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("par-supervisor".to_owned())
            .spawn(move || supervisor.run(workers, &received))
            .map_err(|source| StartError::Io {
                what: "cannot start the supervisor of the workers".to_owned(),
                source,
            })?;
        let local = Local {
            orders,
            thread: Mutex::new(Some(thread)),
            state,
            node: Arc::clone(node),
        };
        let until = Instant::now() + START;
        let failed = {
            let mut view = local.state.view.lock();
            loop {
                if let Some(error) = view.failed.take() {
                    break Some(error);
                }
                if view.ready == workers {
                    break None;
                }
                if local.state.changed.wait_until(&mut view, until).timed_out() {
                    let text = format!(
                        "{} of {workers} worker(s) were ready after {} s",
                        view.ready,
                        START.as_secs()
                    );
                    break Some(StartError::Unavailable(text));
                }
            }
        };
        match failed {
            None => Ok(local),
            Some(error) => {
                local.kill_all();
                local.stop(None);
                Err(error)
            }
        }
    }

    /// Kills the workers that run the job.
    pub(crate) fn kill_job(&self, job: u64) {
        kill_holders(&self.node, &self.state, job);
        let _ = self.orders.send(Order::Kill {
            job,
            at: Instant::now() + AGAIN,
        });
    }

    /// Kills all workers; they are not replaced.
    pub(crate) fn kill_all(&self) {
        let _ = self.orders.send(Order::KillAll);
    }

    /// Lets the workers finish what they run, until `deadline`; then kills them. All have ended after that.
    pub(crate) fn stop(&self, deadline: Option<Instant>) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        let _ = self.orders.send(Order::Stop);
        {
            let mut view = self.state.view.lock();
            while view.alive > 0 && !thread.is_finished() {
                match deadline {
                    None => {
                        self.state.changed.wait_for(&mut view, Duration::from_millis(100));
                    }
                    Some(at) => {
                        if self.state.changed.wait_until(&mut view, at).timed_out() {
                            let _ = self.orders.send(Order::KillAll);
                            break;
                        }
                    }
                }
            }
        }
        // Killed processes end, so this does.
        let _ = thread.join();
    }
}

struct Slot {
    child: Child,
    socket: UnixStream,
    peer: Option<PeerId>,
    /// Killed by this pool on purpose: that is not the worker's fault.
    killed: Option<&'static str>,
    /// Why it could not start.
    failed: Option<String>,
}

struct Supervisor {
    node: Arc<Node>,
    setup: Setup,
    restarts: u32,
    budget: u32,
    stopping: bool,
    orders: Sender<Order>,
    state: Arc<Shared>,
    kills: Vec<(u64, Instant)>,
}

impl Supervisor {
    fn run(mut self, workers: usize, orders: &Receiver<Order>) {
        for slot in 0..workers {
            if let Err(error) = self.spawn(slot) {
                self.show(|view| view.failed = Some(error));
                self.stopping = true;
                break;
            }
        }
        while !(self.stopping && self.state.slots.lock().is_empty()) {
            let next = self.kills.iter().map(|(_, at)| *at).min();
            let order = match next {
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(Order::Said { slot, pid, what }) => self.said(slot, pid, what),
                Ok(Order::Gone { slot, pid }) => self.gone(slot, pid),
                Ok(Order::Kill { job, at }) => self.kills.push((job, at)),
                Ok(Order::KillAll) => {
                    self.stopping = true;
                    self.state
                        .slots
                        .lock()
                        .values_mut()
                        .for_each(|slot| kill(slot, "it was killed by the shutdown of its pool"));
                }
                Ok(Order::Stop) => {
                    self.stopping = true;
                    self.state
                        .slots
                        .lock()
                        .values()
                        .for_each(|slot| tell(&slot.socket, &FromPool::Stop));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Never: this thread holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => self.stopping = true,
            }
            self.kill_due();
        }
    }

    fn show(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.state.view.lock());
        self.state.changed.notify_all();
    }

    fn spawn(&mut self, slot: usize) -> Result<(), StartError> {
        let refused = |source| StartError::Io {
            what: format!("cannot start worker {slot}"),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(refused)?;
        let child = par_process::role::command(LOCAL_WORKER)
            .map_err(refused)?
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // What is sent to the group of the pool, such as Ctrl-C, leaves its workers to their pool: it may want to drain, and if it
            // dies they have a folder to remove.
            .process_group(0)
            .spawn()
            .map_err(refused)?;
        let pid = child.id();
        self.node.adopt(pid);
        let reader = ours.try_clone().map_err(refused);
        let told = ours.try_clone().map_err(refused);
        let socket = ours;
        self.state.slots.lock().insert(
            slot,
            Slot {
                child,
                socket,
                peer: None,
                killed: None,
                failed: None,
            },
        );
        self.show(|view| view.alive += 1);
        let reader = reader?;
        let orders = self.orders.clone();
        thread::Builder::new()
            .name("par-worker-socket".to_owned())
            .spawn(move || listen(reader, slot, pid, &orders))
            .map_err(refused)?;
        let setup = FromPool::Setup(Box::new(Setup {
            index: slot,
            ..self.setup.clone()
        }));
        tell(&told?, &setup);
        Ok(())
    }

    fn said(&mut self, slot: usize, pid: u32, what: FromWorker) {
        let mut slots = self.state.slots.lock();
        let Some(held) = slots.get_mut(&slot).filter(|held| held.child.id() == pid) else {
            return;
        };
        match what {
            FromWorker::Ready { peer } => {
                let peer = PeerId(peer);
                held.peer = Some(peer);
                self.node.set_index(peer, slot);
                tell(&held.socket, &FromPool::Go);
                self.show(|view| view.ready += 1);
                drop(slots);
                let up = Event::WorkerUp {
                    worker: slot,
                    pid: Some(pid),
                };
                self.node.client.observers.emit(|| up);
            }
            FromWorker::Initializer(error) => {
                self.show(|view| view.failed = Some(StartError::Initializer { worker: slot, error }));
            }
            FromWorker::Failed(text) => {
                held.failed = Some(text.clone());
                self.show(|view| {
                    view.failed = Some(StartError::Unavailable(format!("worker {slot}: {text}")))
                });
            }
        }
    }

    fn gone(&mut self, slot: usize, pid: u32) {
        let mine = {
            let mut slots = self.state.slots.lock();
            let same = slots.get(&slot).is_some_and(|held| held.child.id() == pid);
            same.then(|| slots.remove(&slot)).flatten()
        };
        let Some(mut held) = mine else { return };
        // Usually it has ended; one that only closed its socket cannot be told anything any more.
        let _ = held.socket.shutdown(Close::Both);
        let status = reap(&mut held.child);
        self.node.disown(pid);
        let reason = match (held.killed, held.failed) {
            (Some(reason), _) => format!("worker process {pid}: {reason}"),
            (None, Some(text)) => format!("worker process {pid} did not start: {text}"),
            (None, None) => format!("worker process {pid} {}", describe(status)),
        };
        if let Some(peer) = held.peer {
            // At once, instead of when somebody looks around next.
            let _ = self.node.broker.bury(peer, &reason);
            self.node.broker.wake();
        }
        let ready = held.peer.is_some();
        self.show(|view| {
            view.alive -= 1;
            view.ready -= usize::from(ready && view.ready > 0);
        });
        if self.stopping {
            return;
        }
        let lost = Event::WorkerLost {
            worker: slot,
            reason: reason.clone(),
        };
        self.node.client.observers.emit(|| lost);
        if held.killed.is_none() {
            if self.budget == 0 {
                return self.break_down(&format!(
                    "{} restart(s) are used up; the last worker: {reason}",
                    self.restarts
                ));
            }
            self.budget -= 1;
        }
        if let Err(error) = self.spawn(slot) {
            self.break_down(&error.to_string());
        }
    }

    /// Past the budget: every wait says so.
    fn break_down(&mut self, reason: &str) {
        self.stopping = true;
        self.state
            .slots
            .lock()
            .values_mut()
            .for_each(|slot| kill(slot, "its pool is broken"));
        self.show(|view| {
            view.failed.get_or_insert_with(|| {
                StartError::Unavailable(format!("the workers do not start: {reason}"))
            });
        });
        let client = &self.node.client;
        client.refuse(Refused::Broken(reason.to_owned()));
        let broken = TaskError::Broken(reason.to_owned());
        client.fail_waiting(&broken);
        client.give_up(|_| broken.clone());
    }

    fn kill_due(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .kills
            .iter()
            .filter(|(_, at)| *at <= now)
            .map(|(job, _)| *job)
            .collect();
        self.kills.retain(|(_, at)| *at > now);
        for job in due {
            kill_holders(&self.node, &self.state, job);
        }
    }
}

fn kill_holders(node: &Node, state: &Shared, job: u64) {
    // Under the lock, so that nobody is killed whose process number has become another's.
    let mut slots = state.slots.lock();
    for (peer, begun) in node.broker.holders(job).unwrap_or_default() {
        if begun && let Some(slot) = slots.values_mut().find(|slot| slot.peer == Some(peer)) {
            kill(slot, "it was killed to end a task");
        }
    }
}

fn kill(slot: &mut Slot, why: &'static str) {
    slot.killed.get_or_insert(why);
    // One that has ended already is as good.
    let _ = slot.child.kill();
}

/// Waits for a process whose socket is closed; kills it if it goes on without.
fn reap(child: &mut Child) -> Option<ExitStatus> {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    child.wait().ok()
}

fn describe(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}{}", meaning(signal)),
            (None, Some(code)) => format!("exited with code {code}"),
            (None, None) => "ended".to_owned(),
        },
        None => "ended".to_owned(),
    }
}

/// What a signal usually says.
fn meaning(signal: i32) -> &'static str {
    match Signal::from_named_raw(signal) {
        Some(Signal::ABORT) => " (SIGABRT: it aborted)",
        Some(Signal::KILL) => " (SIGKILL: by hand, or by the system for want of memory)",
        Some(Signal::SEGV) => " (SIGSEGV: a stack that overflowed, or a bad access)",
        Some(Signal::TERM) => " (SIGTERM)",
        _ => "",
    }
}

fn tell(mut socket: &UnixStream, what: &FromPool) {
    let Ok(bytes) = wire::to_bytes(what) else { return };
    // A worker that is gone is noticed by its reader.
    let _ = wire::write_frame(&mut socket, 0, &bytes);
}

/// Hands on what a worker says, until its socket closes.
fn listen(mut socket: impl Read, slot: usize, pid: u32, orders: &Sender<Order>) {
    let mut payload = Vec::new();
    while let Ok(Some(_)) = wire::read_frame(&mut socket, FRAME, &mut payload) {
        let Ok(what) = wire::from_bytes(&payload) else {
            break;
        };
        if orders.send(Order::Said { slot, pid, what }).is_err() {
            return;
        }
    }
    let _ = orders.send(Order::Gone { slot, pid });
}
