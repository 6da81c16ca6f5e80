//! The engine whose workers are MPI ranks: this program starts itself anew under the launcher, and reads what rank 0 measured.

use super::engines::MPI;
use super::measure::Measured;
use super::{Bench, Size, TRACED};
use crate::Error;
use crate::mpi::{self, Launcher};
use indicatif::ProgressBar;
use par_mpi::MpiPool;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ranks that measure for longer than this hang.
const LIMIT: Duration = Duration::from_secs(3600);

/// The hidden command that the ranks run.
pub(crate) const COMMAND: &str = "bench-ranks";

/// What the ranks are told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    size: Size,
    /// Where rank 0 writes what it measured
    #[arg(long)]
    out: PathBuf,
    /// Where it writes the trace of one run
    #[arg(long)]
    trace: Option<PathBuf>,
}

/// Measures on that many workers, and one rank more, which is the pool.
///
/// # Errors
/// The ranks failed, with what they said.
pub(super) fn measure(
    bench: &Bench<'_>,
    workers: usize,
    trace: Option<&Path>,
) -> Result<Vec<Measured>, Error> {
    let Bench { setting, size, .. } = bench;
    setting.bar.set_message(format!("all on {MPI}"));
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("measured.json");
    let mut command = Launcher::find()?.command(workers + 1, false);
    command.arg(std::env::current_exe()?).arg(COMMAND);
    if size.quick {
        command.arg("--quick");
    }
    if let Some(input) = &size.input {
        command.arg("--input").arg(input);
    }
    command.arg("--out").arg(&out);
    if let Some(trace) = trace {
        command.arg("--trace").arg(trace);
    }
    let seen = mpi::observe(command, LIMIT)?;
    if seen.code != Some(0) {
        return Err(format!("the ranks failed\n{}{}", seen.stdout, seen.stderr).into());
    }
    let measured: Vec<Measured> = serde_json::from_slice(&fs::read(out)?)?;
    setting.bar.inc((measured.len() * (setting.repeats + 1)) as u64);
    Ok(measured)
}

/// What each rank runs: rank 0 measures, the others work for it.
///
/// # Errors
/// MPI, the pool or the file failed.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    par_mpi::world(|pool| rank_0(options, pool))?.unwrap_or(Ok(()))
}

fn rank_0(options: &Options, pool: &MpiPool) -> Result<(), Error> {
    let setting = options.size.setting(ProgressBar::hidden())?;
    let measured = setting.measure(pool, MPI)?;
    if let Some(trace) = &options.trace {
        setting.trace(TRACED, pool, trace)?;
    }
    Ok(fs::write(&options.out, serde_json::to_vec(&measured)?)?)
}
