//! [`cli`]: the commands of a program around an [`App`]: `worker`, `call`, `result`, `purge` and `status`.

use super::builder::App;
use super::{AppError, ResultError};
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
        /// How many tasks are leased ahead for each that runs
        #[arg(long, default_value_t = 4)]
        prefetch: usize,
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
            prefetch,
            drain,
        } => {
            return worker(app, concurrency, &queues, prefetch, seconds(drain));
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
            match wait {
                None => println!("{}", sent.id()),
                Some(wait) => println!("{}", sent.get(seconds(wait))?),
            }
        }
        Command::Result { id, wait } => println!("{}", app.result::<Value>(&id).get(seconds(wait))?),
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

fn worker(
    app: &App,
    concurrency: Option<usize>,
    queues: &[String],
    prefetch: usize,
    drain: Duration,
) -> Result<ExitCode, CliError> {
    // Where the program has its own, that one stays.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).try_init();
    let signals = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let count = Arc::clone(&signals);
        let mut hear = signal_hook::iterator::Signals::new([signal])?;
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
    }
    let mut worker = app.worker().prefetch(prefetch);
    if let Some(concurrency) = concurrency {
        worker = worker.concurrency(concurrency);
    }
    if !queues.is_empty() {
        worker = worker.queues(queues.iter().map(String::as_str));
    }
    let banner = worker.banner();
    let worker = worker.start()?;
    eprintln!("{banner}\n{} ready.", app.name());
    while signals.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{}: ends what runs; once more to end at once", app.name());
    if worker.stop_within(drain) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}: something runs still", app.name());
    Ok(ExitCode::FAILURE)
}
