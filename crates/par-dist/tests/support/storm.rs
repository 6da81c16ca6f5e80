//! Workers in processes of their own, which are killed in the middle of their work; and the checker that counts what became of each task.

use par_dist::app::{App, AppBuilder, TaskOptions};
use par_dist::task;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// On a server the dead are noticed by that.
const LEASE: Duration = Duration::from_secs(3);

// Declared as the worker's program has them; their bodies run there only.
#[task(name = "test.early")]
pub(crate) fn early(log: String, number: u64, millis: u64) -> u64 {
    let _ = (log, millis);
    number
}

#[task(name = "test.late")]
pub(crate) fn late(log: String, number: u64, millis: u64) -> u64 {
    let _ = (log, millis);
    number
}

pub(crate) fn tasks(app: AppBuilder) -> AppBuilder {
    let late_options = TaskOptions {
        acks_late: true,
        ..TaskOptions::default()
    };
    app.task::<early>().task_with::<late>(late_options)
}

/// A broker, and a folder with a log.
pub(crate) struct Place {
    _folder: tempfile::TempDir,
    pub(crate) broker: String,
    pub(crate) log: PathBuf,
}

impl Place {
    /// On a file in its own folder, or on a server.
    pub(crate) fn on(server: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Place::text(&folder.path().join("jobs.db"));
        Place {
            broker: server.map_or(file, str::to_owned),
            log: folder.path().join("log"),
            _folder: folder,
        }
    }

    pub(crate) fn text(path: &Path) -> String {
        path.to_str().expect("utf-8").to_owned()
    }

    pub(crate) fn app(&self) -> App {
        tasks(App::builder("test").broker(&self.broker).lease(LEASE))
            .build()
            .expect("an app")
    }

    pub(crate) fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often each task began, and ended.
    pub(crate) fn runs(&self) -> HashMap<u64, (usize, usize)> {
        let mut runs: HashMap<u64, (usize, usize)> = HashMap::new();
        for line in self.log() {
            let Some((what, number)) = line.split_once(' ') else {
                continue;
            };
            let run = runs.entry(number.parse().expect("a number")).or_default();
            match what {
                "begin" => run.0 += 1,
                _ => run.1 += 1,
            }
        }
        runs
    }

    pub(crate) fn worker(&self) -> Worker {
        self.worker_with(&[])
    }

    /// At its third task, at that place.
    pub(crate) fn worker_that_dies(&self, at: &str) -> Worker {
        self.worker_with(&[("DIE_AT", at)])
    }

    /// With these variables in its environment.
    pub(crate) fn worker_with(&self, variables: &[(&str, &str)]) -> Worker {
        let child = Command::new(env!("CARGO_BIN_EXE_par-dist-app-worker"))
            .arg(&self.broker)
            .arg(&self.log)
            .env("PAR_DIST_LEASE", LEASE.as_secs_f64().to_string())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .spawn()
            .expect("a worker");
        Worker(child)
    }
}

/// A worker's process, which does not outlive the test.
pub(crate) struct Worker(pub(crate) Child);

impl Worker {
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it ends");
    }

    /// In peace.
    pub(crate) fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("it ends").success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the runs of tasks say about the delivery mode: none lost, and none begun twice unless it may be.
pub(crate) fn check(count: u64, runs: &HashMap<u64, (usize, usize)>, twice: bool) -> Result<(), String> {
    for number in 0..count {
        match runs.get(&number) {
            None | Some((_, 0)) if twice => return Err(format!("task {number} is lost")),
            Some((begun, _)) if *begun > 1 && !twice => {
                return Err(format!("task {number} was begun {begun} times"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Kills one of three workers after the other, each in the middle of its work, until all tasks have begun.
fn storm(place: &Place, count: u64, drained: impl FnOnce()) -> usize {
    let mut workers: Vec<Worker> = (0..3).map(|_| place.worker()).collect();
    let (start, mut kills) = (Instant::now(), 0);
    let begun = |place: &Place| {
        place
            .log()
            .iter()
            .filter(|line| line.starts_with("begin"))
            .count() as u64
    };
    let mut seen = 0;
    while begun(place) < count {
        assert!(
            start.elapsed() < PATIENCE,
            "only {} of {count} have begun",
            begun(place)
        );
        // Whenever some more have begun, one dies.
        if begun(place) >= seen + 12 {
            seen = begun(place);
            let at = kills % workers.len();
            workers[at].kill();
            workers[at] = place.worker();
            kills += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Those that are left do what is left.
    drained();
    workers.into_iter().for_each(Worker::stop);
    kills
}

/// Of tasks that acknowledge late none is lost, however many workers are killed.
pub(crate) fn storm_loses_nothing(server: Option<&str>, drained: impl FnOnce(&Place)) {
    const COUNT: u64 = 150;
    let place = Place::on(server);
    let (app, log) = (place.app(), Place::text(&place.log));
    let calls = (0..COUNT).map(|number| {
        let call = app.call::<late>((log.clone(), number, 4));
        // Some wait for their times meanwhile, longer and shorter.
        match number % 3 {
            0 => call.countdown(Duration::from_millis(number * 7)),
            _ => call,
        }
    });
    let sent = app.send_all(calls).expect("sent");
    let kills = storm(&place, COUNT, || drained(&place));
    assert!(kills >= 5, "{kills}");
    // The heir of the last that was killed may have to run some once more.
    let heir = place.worker();
    for (number, result) in (0..).zip(&sent) {
        assert_eq!(result.get(PATIENCE).expect("a value"), number);
    }
    heir.stop();
    assert_eq!(check(COUNT, &place.runs(), true), Ok(()));
}

/// Workers die before a task runs, while it runs, and between its result and its acknowledgement.
///
/// On RabbitMQ an acknowledgement may be on its way when its worker dies: what was acknowledged early is then begun once more.
pub(crate) fn deaths_at_named_places(server: Option<&str>) {
    let is_told_at_once = server.is_none_or(|server| !server.starts_with("amqp"));
    const COUNT: u64 = 12;
    for at in ["before", "running", "after"] {
        for is_late in [true, false] {
            let place = Place::on(server);
            let (app, log) = (place.app(), Place::text(&place.log));
            let calls = (0..COUNT).map(|number| match is_late {
                true => app.call::<late>((log.clone(), number, 1)),
                false => app.call::<early>((log.clone(), number, 1)),
            });
            let sent = app.send_all(calls).expect("sent");
            let mut dies = place.worker_that_dies(at);
            // Whose end would let it stop in peace.
            let stdin = dies.0.stdin.take();
            assert!(!dies.0.wait().expect("it ends").success(), "{at}");
            drop(stdin);
            let heir = place.worker();
            let start = Instant::now();
            // Two threads: what was begun early by the one that died is lost with it, and nothing else.
            let may_be_lost = if is_late { 0 } else { 2 };
            let ready = || sent.iter().filter(|one| one.state().expect("known").is_ready());
            while ready().count() < sent.len() - may_be_lost {
                assert!(start.elapsed() < PATIENCE, "{at}: more is lost than may be");
                std::thread::sleep(Duration::from_millis(5));
            }
            heir.stop();
            let runs = place.runs();
            let most = runs.values().map(|(begun, _)| *begun).max().unwrap_or(0);
            if is_late {
                assert_eq!(check(COUNT, &runs, true), Ok(()), "{at}");
            } else {
                assert!(most == 1 || !is_told_at_once, "{at}: begun {most} times");
            }
        }
    }
}
