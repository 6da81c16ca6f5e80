//! `cargo xtask bench`: the workloads on every engine, beside the serial program, compared to the last bit.
//!
//! - [`pi`], [`mandelbrot`], [`wordcount`], [`sum`], [`dot`]: the workloads, as plain functions; [`tree`]: the order of adding.
//! - [`runner`]: what an engine must be able to run, and the serial program.
//! - [`engines`]: the engines that there are; [`ranks`]: the one whose workers a launcher starts; [`devices`]: those of `dot`.
//! - [`measure`]: times and traces; [`busy`]: what the workers did with their time; [`scaling`]: what limits them.
//! - [`report`]: the rows, the file and the table; [`page`] and [`plot`]: the same for a browser.

mod busy;
mod devices;
mod digest;
mod dot;
mod engines;
mod mandelbrot;
mod measure;
mod page;
mod philox;
mod pi;
mod plot;
#[cfg(feature = "amqp")]
mod rabbitmq;
#[cfg(feature = "mpi")]
pub(crate) mod ranks;
mod report;
mod runner;
mod scaling;
mod sum;
mod tree;
mod wordcount;

use crate::native::{NATIVE, Native};
use crate::{Error, command, setup};
use engines::{ENGINES, Engine, NATIVE_ENGINES};
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Measured, Setting};
use report::{Machine, Report, Trace};
use runner::{Jobs, Output, Runner, Serial, WORKLOADS, Workload};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    size: Size,
    /// Engines to measure; all that can run here where none is named
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    engines: Option<Vec<String>>,
    /// Numbers of workers; by default 1, 2, 4, .. up to the cores of the machine
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    workers: Option<Vec<usize>>,
    /// Show the report in the browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    setup: setup::Options,
}

/// How much to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Size {
    /// Smaller workloads and fewer repetitions: seconds instead of minutes
    #[arg(long)]
    quick: bool,
    /// Text for the word count: a file or a folder. Default: sources of the packages that cargo has unpacked
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
}

/// The workload that is traced: its rows differ most in what they cost.
const TRACED: &Workload = &WORKLOADS[1];

/// Measures, writes report.json, report.html and the picture into target/par-bench, and prints the table.
///
/// # Errors
/// A bad option, an engine that fails, a file that cannot be written, or two results that differ.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = choose_workers(options.workers.as_deref(), cores)?;
    if cfg!(debug_assertions) {
        let named = options.engines.as_deref().unwrap_or_default();
        are_engines(named)?;
        setup::before(&options.setup)?;
        can_run(named)?;
        return rerun_optimised();
    }
    let engines = choose_engines(options.engines.as_deref());
    let devices = options
        .engines
        .as_ref()
        .is_none_or(|names| names.iter().any(|name| name == devices::NAME));
    let repeats = options.size.repeats();
    let runs = (1 + engines.len() * workers.len()) * WORKLOADS.len() * (repeats + 1);
    let setting = options.size.setting(progress(runs as u64))?;
    println!("{}\n", setting.jobs);
    let folder = command::root().join("target").join("par-bench");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::new(
        format!("cargo xtask {}", arguments.join(" ")),
        Machine::here(cores),
    );
    let bench = Bench {
        setting: &setting,
        size: &options.size,
        workers: &workers,
        traced: widest(&workers, cores),
        folder: &folder,
    };
    bench.serial(&mut report)?;
    for engine in engines {
        bench.engine(engine, &mut report)?;
    }
    if devices {
        devices::measure(&setting, &mut report)?;
    }
    report.left_out.extend(benched().filter_map(Native::missing));
    setting.bar.finish_and_clear();
    report.conclude()?;
    let page = report.write(&folder)?;
    print!("{}", report.table());
    println!("report: {}", page.display());
    if options.open {
        open::that_detached(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    }
    report.check_digests()
}

/// The native features with which there is more to measure.
fn benched() -> impl Iterator<Item = &'static Native> {
    NATIVE.into_iter().filter(|native| native.benched)
}

/// Starts this command again as a release build, with the native features that can be used here: cargo runs xtask without both.
fn rerun_optimised() -> Result<(), Error> {
    let usable: Vec<_> = benched().filter(|native| native.missing().is_none()).collect();
    let features: Vec<_> = usable.iter().map(|native| native.feature).collect();
    let release = |verb: &str, features: &[&str]| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([verb, "--release", "--quiet", "--package", "xtask"]);
        cargo.arg(format!("--features={}", features.join(",")));
        cargo
            .arg("--manifest-path")
            .arg(command::root().join("Cargo.toml"));
        cargo
    };
    // What is installed may still be broken: the engines that need nothing are measured all the same.
    let features = match command::run(release("build", &features)) {
        Err(error) if !features.is_empty() => {
            println!("{error}\nmeasuring without {}", features.join(", "));
            Vec::new()
        }
        _ => features,
    };
    let mut cargo = release("run", &features);
    // The working directory stays the caller's, so that a relative --input means what it says.
    cargo.arg("--").args(std::env::args_os().skip(1));
    let status = cargo.status()?;
    // The release build has said what was wrong.
    if status.success() {
        Ok(())
    } else {
        std::process::exit(status.code().unwrap_or(1))
    }
}

impl Size {
    fn repeats(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    /// # Errors
    /// There is no text to count words of.
    fn setting(&self, bar: ProgressBar) -> Result<Setting, Error> {
        let mut jobs = Jobs::new(self.quick, self.input.as_deref())?;
        if self.quick && self.input.is_none() {
            jobs.text.shorten(16 << 20);
        }
        Ok(Setting {
            jobs,
            repeats: self.repeats(),
            bar,
        })
    }
}

/// The largest number of workers that have a core each, or else the smallest.
fn widest(workers: &[usize], cores: usize) -> usize {
    let on_cores = workers.iter().rfind(|count| **count <= cores);
    on_cores.or(workers.first()).copied().unwrap_or(1)
}

/// The engines of this build that are named; all of it where none is.
fn choose_engines(names: Option<&[String]>) -> Vec<&'static Engine> {
    let named = |engine: &&Engine| names.is_none_or(|names| names.iter().any(|name| name == engine.name));
    ENGINES.iter().filter(named).collect()
}

/// That every name is one of an engine.
fn are_engines(names: &[String]) -> Result<(), Error> {
    let plain = ENGINES.iter().map(|engine| engine.name);
    let native = NATIVE_ENGINES.iter().map(|(name, _)| *name);
    let mut known = vec![Serial::NAME, devices::NAME];
    for name in plain.chain(native) {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    match names.iter().find(|name| !known.contains(&&***name)) {
        None => Ok(()),
        Some(name) => Err(format!("unknown engine {name:?}: known are {}", known.join(", ")).into()),
    }
}

/// That every engine named has what it needs.
fn can_run(names: &[String]) -> Result<(), Error> {
    for (name, native) in NATIVE_ENGINES {
        if names.iter().any(|named| named == name)
            && let Some(missing) = native.missing()
        {
            return Err(format!("engine {name} cannot run here: {missing}").into());
        }
    }
    Ok(())
}

fn choose_workers(counts: Option<&[usize]>, cores: usize) -> Result<Vec<usize>, Error> {
    let mut counts = match counts {
        Some(counts) => counts.to_vec(),
        None => (0..usize::BITS)
            .map(|power| 1 << power)
            .take_while(|count| *count < cores)
            .chain([cores])
            .collect(),
    };
    if counts.contains(&0) {
        return Err("0 workers: expected at least 1".into());
    }
    counts.sort_unstable();
    counts.dedup();
    Ok(counts)
}

/// A run over engines and numbers of workers.
pub(crate) struct Bench<'a> {
    setting: &'a Setting,
    #[cfg_attr(
        not(feature = "mpi"),
        expect(dead_code, reason = "ranks are told by it what to measure")
    )]
    size: &'a Size,
    workers: &'a [usize],
    /// The number of workers that is traced.
    traced: usize,
    folder: &'a Path,
}

impl Bench<'_> {
    fn serial(&self, report: &mut Report) -> Result<(), Error> {
        for workload in WORKLOADS {
            let run = || (workload.run)(&Serial, &self.setting.jobs);
            let (timing, output) = self.setting.time(workload.name, Serial::NAME, None, run)?;
            report.add(workload.name, Serial::NAME, 1, &timing, output.digest())?;
            report.results.extend(output.words());
            if let Output::Rows(rows) = &output {
                let file = self.folder.join("mandelbrot.png");
                mandelbrot::write_png(&file, self.setting.jobs.view, rows)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        Ok(())
    }

    fn engine(&self, engine: &Engine, report: &mut Report) -> Result<(), Error> {
        for &count in self.workers {
            let name = (count == self.traced).then(|| format!("trace-{}.json", engine.name));
            let trace = name.as_ref().map(|name| self.folder.join(name));
            let measured = (engine.measure)(self, count, trace.as_deref())
                .map_err(|error| format!("{} with {count} workers: {error}", engine.name))?;
            for Measured {
                workload,
                timing,
                digest,
            } in measured
            {
                report.add(&workload, engine.name, count, &timing, digest)?;
            }
            report.traces.extend(name.map(|file| Trace {
                engine: engine.name.to_owned(),
                workload: TRACED.name.to_owned(),
                workers: count,
                file,
            }));
        }
        Ok(())
    }

    /// Every workload on a runner, and the trace of one.
    fn on(&self, runner: &dyn Runner, engine: &str, trace: Option<&Path>) -> Result<Vec<Measured>, Error> {
        let measured = self.setting.measure(runner, engine)?;
        if let Some(file) = trace {
            self.setting.trace(TRACED, runner, file)?;
        }
        Ok(measured)
    }
}

/// A bar on a terminal; nothing where standard error is a pipe or a file.
fn progress(runs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} {msg}");
    ProgressBar::new(runs).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_checked() {
        assert_eq!(choose_workers(None, 1).unwrap(), [1]);
        assert_eq!(choose_workers(None, 6).unwrap(), [1, 2, 4, 6]);
        assert_eq!(choose_workers(None, 8).unwrap(), [1, 2, 4, 8]);
        assert_eq!(choose_workers(Some(&[4, 1, 4]), 2).unwrap(), [1, 4]);
        assert_eq!(
            choose_workers(Some(&[1, 0]), 2).unwrap_err().to_string(),
            "0 workers: expected at least 1"
        );
    }

    #[test]
    fn unknown_engine_names_the_known() {
        let error = are_engines(&["abacus".to_owned()]).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown engine \"abacus\": known are serial"),
            "{error}"
        );
        are_engines(&["serial", "threads", "mpi", "devices"].map(str::to_owned)).unwrap();
        can_run(&["serial".to_owned()]).unwrap();
        assert!(choose_engines(Some(&["serial".to_owned()])).is_empty());
        assert_eq!(choose_engines(None).len(), ENGINES.len());
    }

    /// An engine whose word count is right and whose sum is off by one bit.
    struct Broken;

    impl Runner for Broken {
        fn pi(&self, blocks: u64) -> Result<u64, Error> {
            Serial.pi(blocks)
        }
        fn mandelbrot(&self, view: mandelbrot::View) -> Result<Vec<Vec<u32>>, Error> {
            Serial.mandelbrot(view)
        }
        fn wordcount(&self, batches: &[Vec<String>]) -> Result<wordcount::Counts, Error> {
            Serial.wordcount(batches)
        }
        fn sum(&self, numbers: u64) -> Result<f64, Error> {
            Serial.sum(numbers).map(f64::next_up)
        }
    }

    #[test]
    fn a_difference_of_one_bit_is_found_and_the_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text.md"), "to be or not to be").unwrap();
        let jobs = Jobs {
            blocks: 1,
            view: mandelbrot::View {
                width: 8,
                height: 8,
                limit: 20,
            },
            numbers: 2000,
            pairs: 3000,
            text: wordcount::find(Some(folder.path())).unwrap(),
        };
        let mut report = Report::new("test".to_owned(), Machine::here(2));
        let engine = Engine {
            name: "broken",
            measure: |bench, _, trace| bench.on(&Broken, "broken", trace),
        };
        let setting = Setting {
            jobs,
            repeats: 2,
            bar: ProgressBar::hidden(),
        };
        let bench = Bench {
            setting: &setting,
            size: &Size {
                quick: true,
                input: None,
            },
            workers: &[1, 2],
            traced: 2,
            folder: folder.path(),
        };
        bench.serial(&mut report).unwrap();
        bench.engine(&engine, &mut report).unwrap();
        report.conclude().unwrap();
        assert_eq!(report.rows.len(), 4 * 3);
        let error = report.check_digests().unwrap_err().to_string();
        assert!(
            error.contains("sum: serial gave") && error.contains("broken with 1 workers gave"),
            "{error}"
        );
        assert!(!error.contains("wordcount") && !error.contains("pi:"), "{error}");

        let page = std::fs::read_to_string(report.write(folder.path()).unwrap()).unwrap();
        let json = std::fs::read(folder.path().join("report.json")).unwrap();
        let back: Report = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, report);
        assert_eq!(page::page(&back).unwrap(), page);
        assert!(
            page.contains("results differ") && page.contains("trace-broken.json"),
            "{page}"
        );
        assert!(folder.path().join("mandelbrot.png").exists());
        let table = report.table();
        assert!(
            table.contains("be 2, to 2, not 1, or 1") && table.contains("broken"),
            "{table}"
        );
    }
}
