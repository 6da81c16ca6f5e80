//! Command line of the workspace: set-up, build, tests, benchmarks, recipes and documentation.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod ci;
mod command;
mod doc;
mod family;
mod mpi;
mod native;
mod recipes;
mod setup;
mod test;
mod tidy;
mod user;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Any failure of a command, as text for the terminal.
type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Works on the par workspace", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is installed and what is missing, and install it where that is agreed to
    Setup(setup::Options),
    /// Build every crate with its default features
    Build,
    /// Run everything that can run here, and end with a table and one line of totals
    Test(setup::Options),
    /// Measure the workloads on every engine, beside the serial program
    Bench(bench::Options),
    /// Run examples by recipe id, and check what must be observed
    Recipes(recipes::Options),
    /// Run an example as ranks under the MPI launcher of this machine
    Mpi(mpi::Options),
    /// What a rank of `bench` runs
    #[cfg(feature = "mpi")]
    #[command(hide = true)]
    BenchRanks(bench::ranks::Options),
    /// Build the documentation, with warnings as errors
    Doc,
    /// Check the rules of the architecture over the whole tree
    Tidy,
    /// What continuous integration runs: formatting, lints, then everything in `test`
    Ci,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(options) => setup::run(&options),
        Command::Build => build::run(),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Recipes(options) => recipes::run(&options),
        Command::Mpi(options) => mpi::run(&options),
        #[cfg(feature = "mpi")]
        Command::BenchRanks(options) => bench::ranks::run(&options),
        Command::Doc => doc::run(),
        Command::Tidy => tidy::run(),
        Command::Ci => ci::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
