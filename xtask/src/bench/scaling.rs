//! What a workload's times on an engine say: the fitted laws, and what limits it in words.

use super::busy;
use super::report::Row;
use crate::Error;
use par_core::metrics::{AmdahlFit, Metrics, UslFit, fit_amdahl, fit_usl};
use serde::{Deserialize, Serialize};

/// How one workload scales on one engine, by its least disturbed runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scaling {
    pub(crate) workload: String,
    pub(crate) engine: String,
    /// Amdahl's law, of the counts of workers that have a core each; None with fewer than one such count above 1.
    pub(crate) amdahl: Option<AmdahlFit>,
    /// The universal scalability law; None with fewer than two such counts above 1.
    pub(crate) usl: Option<UslFit>,
    /// What limits the engine.
    pub(crate) verdict: String,
}

impl Scaling {
    /// Of the rows of one workload on one engine, by rising workers, beside the serial program's time.
    ///
    /// # Errors
    /// Times that no metrics can be made of.
    pub(crate) fn of(rows: &[&Row], serial: f64, cores: usize) -> Result<Self, Error> {
        let first = rows.first().ok_or("no row to make metrics of")?;
        let points = rows.iter().map(|row| (row.workers, row.seconds_minimum));
        let metrics = Metrics::new(serial, points)?.with_cores(cores);
        let mut verdict = metrics.verdict().to_string();
        // More workers than cores would be told to wait by the machine, not by the engine.
        let on_cores: Vec<_> = rows.iter().filter(|row| row.workers <= cores).collect();
        if let Some(row) = on_cores.last()
            && let Some(busy) = row.busy
        {
            verdict += "; ";
            verdict += &busy::in_words(row.workers, row.seconds_minimum, busy, serial);
        }
        let speedups: Vec<_> = on_cores.iter().map(|row| (row.workers, row.speedup)).collect();
        Ok(Self {
            workload: first.workload.clone(),
            engine: first.engine.clone(),
            amdahl: fit_amdahl(&speedups).ok(),
            usl: fit_usl(&speedups).ok(),
            verdict,
        })
    }
}
