//! The engines that the benchmarks know, and the workloads as tasks that run on any of them.

use super::Bench;
use super::mandelbrot::{self, View};
use super::measure::Measured;
use super::runner::Runner;
use super::wordcount::{self, Counts};
use super::{pi, sum};
use crate::Error;
use crate::native::{AMQP, MPI_RANKS, Native};
use par_async::AsyncPool;
use par_core::{Observer, Plan, Pool, Sum};
use par_dist::ClusterPool;
use par_process::ProcessPool;
use par_sync::ThreadPool;
use std::path::Path;
use std::sync::Arc;

/// An engine: its name, and how the workloads are measured on it, with a number of workers.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) measure: Measure,
}

/// Starts the workers, measures, writes a trace where a file is named for it, and ends the workers.
pub(crate) type Measure = fn(&Bench<'_>, usize, Option<&Path>) -> Result<Vec<Measured>, Error>;

/// The engines of this build.
pub(crate) const ENGINES: &[Engine] = &[
    Engine {
        name: "threads",
        measure: |bench, workers, trace| bench.on(&ThreadPool::new(workers)?, "threads", trace),
    },
    Engine {
        name: "processes",
        measure: |bench, workers, trace| bench.on(&ProcessPool::new(workers)?, "processes", trace),
    },
    Engine {
        name: "cluster",
        measure: |bench, workers, trace| bench.on(&ClusterPool::new(workers)?, "cluster", trace),
    },
    Engine {
        name: "async",
        measure: |bench, workers, trace| bench.on(&AsyncPool::new(workers)?, "async", trace),
    },
    #[cfg(feature = "amqp")]
    Engine {
        name: RABBITMQ,
        measure: super::rabbitmq::measure,
    },
    #[cfg(feature = "mpi")]
    Engine {
        name: MPI,
        measure: super::ranks::measure,
    },
];

pub(crate) const MPI: &str = "mpi";
pub(crate) const RABBITMQ: &str = "rabbitmq";

/// Engines that are in this build only where a native feature can be used.
pub(crate) const NATIVE_ENGINES: &[(&str, &Native)] = &[(MPI, &MPI_RANKS), (RABBITMQ, &AMQP)];

#[par_core::task(idempotent)]
fn pi_block(block: u64) -> u64 {
    pi::hits(block)
}

#[par_core::task(idempotent)]
fn mandelbrot_row(view: View, row: u32) -> Vec<u32> {
    mandelbrot::row(view, row)
}

#[par_core::task(idempotent)]
fn count_words(batch: Vec<String>) -> Counts {
    wordcount::count(&batch)
}

#[par_core::task(idempotent)]
fn sum_value(index: u64) -> f64 {
    sum::value(index)
}

#[par_core::reduction(identity = Counts::default())]
fn merge(earlier: Counts, later: Counts) -> Counts {
    earlier.merge(later)
}

impl<E: ?Sized + par_core::engine::Engine> Runner for Pool<E> {
    fn pi(&self, blocks: u64) -> Result<u64, Error> {
        Ok(self.map_reduce::<pi_block, _>(0..blocks, Sum)?)
    }

    fn mandelbrot(&self, view: View) -> Result<Vec<Vec<u32>>, Error> {
        Ok(self.map::<mandelbrot_row>((0..view.height).map(|row| (view, row)))?)
    }

    fn wordcount(&self, batches: &[Vec<String>]) -> Result<Counts, Error> {
        // A leaf for each item: workers combine what they counted, and one table a claim comes back instead of one a batch.
        let combining = self.with_plan(Plan::default().leaf(1));
        Ok(combining.map_reduce::<count_words, _>(batches.iter().cloned(), merge {})?)
    }

    fn sum(&self, numbers: u64) -> Result<f64, Error> {
        Ok(self.map_reduce::<sum_value, _>(0..numbers, Sum)?)
    }

    fn observe(&self, observer: Arc<dyn Observer>) -> bool {
        self.observer(observer);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::runner::{Jobs, Serial, WORKLOADS};
    use super::*;

    /// The trait layer and the plain loops give the same bits; engines are held to the same by `bench` itself.
    #[test]
    fn reference_engine_agrees_with_the_serial_program() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "one two"), ("b", "two three \u{ff}"), ("c", "three")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let jobs = Jobs {
            blocks: 3,
            view: View {
                width: 16,
                height: 12,
                limit: 30,
            },
            numbers: 5000,
            pairs: 0,
            text: wordcount::find(Some(folder.path())).unwrap(),
        };
        let pool = par_core::SerialPool::new(1).unwrap();
        for workload in WORKLOADS {
            let here = (workload.run)(&Serial, &jobs).unwrap().digest();
            let there = (workload.run)(&pool, &jobs).unwrap().digest();
            assert_eq!(here, there, "{}", workload.name);
        }
    }
}
