//! `cargo xtask recipes`: runs the examples of a table and checks what must be observed.

mod checks;
mod processes;
mod table;
mod tasks;
mod threads;

pub(crate) use table::RECIPES;

use crate::command::{self, Observed};
use crate::mpi::{self, Launcher};
use crate::native::Native;
use crate::{Error, test::Outcome};
use std::process::Command;
use std::time::Duration;

/// Which recipes to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Recipe ids; all of the table where none is given
    ids: Vec<String>,
}

/// An example program and what must be observed when it runs. The example has the recipe's id as its name.
pub(crate) struct Recipe {
    pub(crate) id: &'static str,
    pub(crate) package: &'static str,
    /// What must be observed, for people.
    pub(crate) observe: &'static str,
    /// Whether it was observed; the text says what was wrong.
    check: fn(&Observed) -> Result<(), String>,
    /// The feature that it needs: where it is missing, the recipe is skipped.
    native: Option<&'static Native>,
    /// The number of ranks, where it runs under the MPI launcher.
    ranks: Option<usize>,
}

impl Recipe {
    /// A program that default features build.
    const fn plain(
        id: &'static str,
        package: &'static str,
        observe: &'static str,
        check: fn(&Observed) -> Result<(), String>,
    ) -> Self {
        Recipe {
            id,
            package,
            observe,
            check,
            native: None,
            ranks: None,
        }
    }
}

/// No recipe here computes for long: past this, it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs the recipes and prints a line for each.
///
/// # Errors
/// An unknown id, or a recipe that fails.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let chosen = choose(&options.ids)?;
    let outcome = run_all(&chosen);
    println!(
        "{} recipes passed, {} failed, {} skipped",
        outcome.passed, outcome.failed, outcome.skipped
    );
    if outcome.failed == 0 {
        Ok(())
    } else {
        Err("a recipe failed".into())
    }
}

/// Runs every one of these recipes, printing a line for each.
pub(crate) fn run_all(recipes: &[&Recipe]) -> Outcome {
    let mut outcome = Outcome::default();
    for recipe in recipes {
        if let Some(missing) = recipe.native.and_then(Native::missing) {
            println!("skip  {}: {missing}", recipe.id);
            outcome.skipped += 1;
            outcome.notes.push(format!("{}: {missing}", recipe.id));
            continue;
        }
        match run_one(recipe) {
            Ok(()) => {
                println!("pass  {}: {}", recipe.id, recipe.observe);
                outcome.passed += 1;
            }
            Err(error) => {
                println!("FAIL  {}: {error}", recipe.id);
                outcome.failed += 1;
                outcome.notes.push(recipe.id.to_owned());
            }
        }
    }
    outcome
}

fn choose(ids: &[String]) -> Result<Vec<&'static Recipe>, Error> {
    if ids.is_empty() {
        return Ok(RECIPES.iter().collect());
    }
    ids.iter()
        .map(|id| {
            RECIPES.iter().find(|recipe| recipe.id == id).ok_or_else(|| {
                let known: Vec<_> = RECIPES.iter().map(|recipe| recipe.id).collect();
                format!("unknown recipe {id:?}: known are {}", known.join(", ")).into()
            })
        })
        .collect()
}

fn run_one(recipe: &Recipe) -> Result<(), Error> {
    let feature = recipe.native.map(|native| native.feature);
    let program = command::example(recipe.package, recipe.id, feature)?;
    let seen = match recipe.ranks {
        None => command::observe(Command::new(program), DEADLINE)?,
        Some(ranks) => {
            let mut command = Launcher::find()?.command(ranks, false);
            command.arg(program);
            mpi::observe(command, DEADLINE)?
        }
    };
    if seen.code != Some(0) {
        let end = seen
            .code
            .map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        return Err(format!("ended with {end}; standard error:\n{}", seen.stderr).into());
    }
    (recipe.check)(&seen).map_err(|wrong| {
        format!(
            "{wrong}\nexpected: {}\nstandard output:\n{}",
            recipe.observe, seen.stdout
        )
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_id_names_the_known() {
        let error = choose(&["r9_none".to_owned()]).err().unwrap().to_string();
        assert!(
            error.contains("\"r9_none\"") && error.contains("r1_metrics, r1_mapping, r2_define"),
            "{error}"
        );
        assert_eq!(choose(&["r3_pool".to_owned()]).unwrap()[0].id, "r3_pool");
        assert_eq!(choose(&[]).unwrap().len(), RECIPES.len());
    }
}
