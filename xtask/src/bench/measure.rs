//! Running the workloads on something, timing them, and tracing one of them.

use super::busy::Busy;
use super::report::Timing;
use super::runner::{Jobs, Output, Runner, WORKLOADS, Workload};
use crate::Error;
use indicatif::ProgressBar;
use par_core::Observer;
use par_core::observe::ChromeTrace;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What is measured, and how often.
pub(crate) struct Setting {
    pub(crate) jobs: Jobs,
    /// Timed runs of each workload, after one that is not timed.
    pub(crate) repeats: usize,
    pub(crate) bar: ProgressBar,
}

/// A workload that was timed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) workload: String,
    pub(crate) timing: Timing,
    pub(crate) digest: String,
}

impl Setting {
    /// Every workload on a runner.
    ///
    /// # Errors
    /// What the runner fails with, or two runs that differ.
    pub(crate) fn measure(&self, runner: &dyn Runner, engine: &str) -> Result<Vec<Measured>, Error> {
        let busy = Arc::new(Busy::default());
        let busy = runner
            .observe(Arc::clone(&busy) as Arc<dyn Observer>)
            .then_some(&*busy);
        let one = |workload: &Workload| {
            let run = || (workload.run)(runner, &self.jobs);
            let (timing, output) = self.time(workload.name, engine, busy, run)?;
            Ok(Measured {
                workload: workload.name.to_owned(),
                timing,
                digest: output.digest(),
            })
        };
        WORKLOADS.iter().map(one).collect()
    }

    /// Runs a workload once to warm up and then as often as it is to be repeated, and returns the times of the latter.
    ///
    /// # Errors
    /// As [`measure`](Self::measure).
    pub(crate) fn time(
        &self,
        workload: &str,
        engine: &str,
        busy: Option<&Busy>,
        run: impl Fn() -> Result<Output, Error>,
    ) -> Result<(Timing, Output), Error> {
        self.bar.set_message(format!("{workload} on {engine}"));
        let first = run()?;
        self.bar.inc(1);
        let mut seconds = Vec::with_capacity(self.repeats);
        for _ in 0..self.repeats {
            busy.map(Busy::take);
            let started = Instant::now();
            let output = run()?;
            let took = started.elapsed().as_secs_f64();
            seconds.push((took, busy.map(|busy| busy.take().as_secs_f64())));
            self.bar.inc(1);
            if output.digest() != first.digest() {
                return Err(format!(
                    "{workload}: two runs gave {} and {}",
                    first.digest(),
                    output.digest()
                )
                .into());
            }
        }
        Ok((Timing::of(seconds)?, first))
    }

    /// Runs a workload once more and writes what the workers did into a file, in Chrome's trace format.
    ///
    /// # Errors
    /// What the runner fails with, or a file that cannot be written.
    pub(crate) fn trace(&self, workload: &Workload, runner: &dyn Runner, file: &Path) -> Result<(), Error> {
        let named = |error| format!("{}: {error}", file.display());
        let trace = File::create(file).and_then(|file| ChromeTrace::new(BufWriter::new(file)));
        let trace = Arc::new(trace.map_err(named)?);
        runner.observe(Arc::clone(&trace) as Arc<dyn Observer>);
        (workload.run)(runner, &self.jobs)?;
        let written = trace.finish().and_then(|mut out| out.flush());
        Ok(written.map_err(named)?)
    }
}
