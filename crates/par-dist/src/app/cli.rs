//! [`cli`]: the commands of a program around an [`App`]: `worker`, `call`, `result`, `revoke`, `purge` and `status`.

use super::health::Health;
use super::instance::App;
use super::{AppError, ResultError, Worker};
use clap::{Parser, Subcommand};
use serde_json::{Map, Value};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Workers and calls of an app", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs tasks until it gets a signal: at the first, TERM or INT, it ends what runs and gives the rest back; at the second it ends at once.
    Worker {
        /// How many tasks run at a time [default: the number of processors]
        #[arg(short, long)]
        concurrency: Option<usize>,
        /// The queues whose tasks it runs, separated by commas [default: that of the app]
        #[arg(short = 'Q', long, value_delimiter = ',')]
        queues: Vec<String>,
        /// What runs them: threads, processes or, with the feature `async`, async [default: threads]
        #[arg(short = 'P', long)]
        pool: Option<String>,
        /// How many tasks are leased ahead for each that runs [default: 4]
        #[arg(long)]
        prefetch: Option<usize>,
        /// A child process is replaced after so many tasks
        #[arg(long)]
        max_tasks_per_child: Option<u64>,
        /// A child process is replaced when it has more than so many KiB in memory
        #[arg(long)]
        max_memory_per_child: Option<u64>,
        /// Tells at http://ADDRESS/health how it is, such as 127.0.0.1:8080
        #[arg(long)]
        health: Option<std::net::SocketAddr>,
        /// Logs as lines of JSON
        #[arg(long)]
        json: bool,
        /// The least that is logged: error, warn, info, debug or trace
        #[arg(short, long, default_value = "info")]
        loglevel: tracing::Level,
        /// The longest time in seconds to wait for what runs, once it is to end
        #[arg(long, default_value_t = 3600.0)]
        drain: f64,
    },
    /// Sends a task, and prints its id.
    Call {
        task: String,
        /// The arguments by position, a list in JSON
        #[arg(short, long, default_value = "[]")]
        args: String,
        /// The arguments by name, a map in JSON
        #[arg(short, long, default_value = "{}")]
        kwargs: String,
        /// The queue
        #[arg(long)]
        queue: Option<String>,
        /// Seconds to wait before it runs
        #[arg(long)]
        countdown: Option<f64>,
        /// Seconds to wait for its value, which is printed as JSON
        #[arg(long)]
        wait: Option<f64>,
    },
    /// Prints the value of a task as JSON.
    Result {
        id: String,
        /// Seconds to wait for it
        #[arg(long, default_value_t = 0.0)]
        wait: f64,
    },
    /// A task is not to run; with --terminate it is ended, if it runs already.
    Revoke {
        id: String,
        #[arg(long)]
        terminate: bool,
    },
    /// Drops all tasks of a queue that no worker has.
    Purge {
        /// [default: that of the app]
        queue: Option<String>,
    },
    /// Prints how many tasks wait in queues.
    Status {
        /// [default: that of the app]
        queues: Vec<String>,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Result(#[from] ResultError),
    #[error("{option} is no {expected}: {reason}")]
    Json {
        option: &'static str,
        expected: &'static str,
        reason: String,
    },
    #[error("cannot listen to signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// Runs the command that the program was called with: the `main` of a program around an app.
///
/// ```no_run
/// use par_dist::app::{App, cli};
/// use par_dist::task;
///
/// #[task]
/// fn add(a: i64, b: i64) -> i64 { a + b }
///
/// fn main() -> std::process::ExitCode {
///     match App::builder("demo").broker("/var/tmp/jobs.db").task::<add>().build() {
///         Ok(app) => cli(&app), // demo worker -c 4; demo call demo::add --args '[2, 3]' --wait 10
///         Err(error) => {
///             eprintln!("{error}");
///             std::process::ExitCode::FAILURE
///         }
///     }
/// }
/// ```
#[doc(alias = "start")]
pub fn cli(app: &App) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // To whom, and whether it is one, it knows.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match run(app, arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error}", app.name());
            ExitCode::FAILURE
        }
    }
}

fn seconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time).unwrap_or(if time > 0.0 { Duration::MAX } else { Duration::ZERO })
}

fn json<T: serde::de::DeserializeOwned>(
    option: &'static str,
    expected: &'static str,
    text: &str,
) -> Result<T, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Json {
        option,
        expected,
        reason: error.to_string(),
    })
}

fn run(app: &App, command: Command) -> Result<ExitCode, CliError> {
    let own = || app.inner.config.queue.clone();
    match command {
        Command::Worker {
            concurrency,
            queues,
            pool,
            prefetch,
            max_tasks_per_child,
            max_memory_per_child,
            health,
            json,
            loglevel,
            drain,
        } => {
            log(json, loglevel);
            let mut worker = app.worker();
            if let Some(pool) = pool {
                let mode = serde_json::from_value(Value::from(pool)).map_err(|error| AppError::Option {
                    option: "pool",
                    reason: error.to_string(),
                })?;
                worker = worker.mode(mode);
            }
            if let Some(concurrency) = concurrency {
                worker = worker.concurrency(concurrency);
            }
            if let Some(prefetch) = prefetch {
                worker = worker.prefetch(prefetch);
            }
            if !queues.is_empty() {
                worker = worker.queues(queues.iter().map(String::as_str));
            }
            if let Some(tasks) = max_tasks_per_child {
                worker = worker.tasks_per_child(tasks);
            }
            if let Some(kib) = max_memory_per_child {
                worker = worker.memory_per_child(kib.saturating_mul(1024));
            }
            return serve(app, worker, health, seconds(drain));
        }
        Command::Call {
            task,
            args,
            kwargs,
            queue,
            countdown,
            wait,
        } => {
            let args: Vec<Value> = json("--args", "list in JSON", &args)?;
            let kwargs: Map<String, Value> = json("--kwargs", "map in JSON", &kwargs)?;
            let mut call = app.call_by_name(&task, args, kwargs);
            if let Some(queue) = queue {
                call = call.queue(&queue);
            }
            if let Some(countdown) = countdown {
                call = call.countdown(seconds(countdown));
            }
            let sent = call.send()?;
            // This program ends at once, whatever the app says of waiting.
            app.flush()?;
            match wait {
                None => println!("{}", sent.id()),
                Some(wait) => println!("{}", sent.get(seconds(wait))?),
            }
        }
        Command::Result { id, wait } => println!("{}", app.result::<Value>(&id).get(seconds(wait))?),
        Command::Revoke { id, terminate } => {
            let task = app.result::<Value>(&id);
            let told = if terminate {
                task.terminate()
            } else {
                task.revoke()
            };
            told.map_err(AppError::from)?;
        }
        Command::Purge { queue } => {
            let queue = queue.unwrap_or_else(own);
            println!("{} tasks dropped from {queue}", app.purge(&queue)?);
        }
        Command::Status { queues } => {
            let queues = if queues.is_empty() { vec![own()] } else { queues };
            for queue in queues {
                println!("{queue}: {} tasks wait", app.waiting(&queue)?);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the program has its own, that one stays.
fn log(json: bool, level: tracing::Level) {
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level);
    let _ = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.try_init()
    };
}

/// Runs a worker until it gets a signal.
fn serve(
    app: &App,
    worker: Worker,
    health: Option<std::net::SocketAddr>,
    drain: Duration,
) -> Result<ExitCode, CliError> {
    let signals = Arc::new(AtomicUsize::new(0));
    let mut hear = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let count = Arc::clone(&signals);
    std::thread::Builder::new()
        .name("par-dist-signals".to_owned())
        .spawn(move || {
            for _ in hear.forever() {
                // What still runs is lost, or run again, as its way to acknowledge says.
                if count.fetch_add(1, Ordering::SeqCst) > 0 {
                    std::process::exit(130);
                }
            }
        })?;
    let banner = worker.banner();
    let worker = worker.start()?;
    let health = health
        .map(|address| Health::start(&worker, address))
        .transpose()?;
    eprintln!("{banner}");
    if let Some(health) = &health {
        eprintln!("health:      http://{}/health", health.address());
    }
    eprintln!("{} ready.", app.name());
    while signals.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{}: ends what runs; once more to end at once", app.name());
    drop(health);
    if worker.stop_within(drain) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}: something runs still", app.name());
    Ok(ExitCode::FAILURE)
}
