//! `cargo xtask recipes`: runs the examples of a table and checks what must be observed.

use crate::command::{self, Observed};
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
}

/// No recipe here computes for long: past this, it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) const RECIPES: &[Recipe] = &[
    Recipe {
        id: "r1_metrics",
        package: "par-core",
        observe: "Amdahl P=0.9 gives 5.263 at p=10 and 10 at p=inf; Gustafson p=10 alpha=0.1 gives 9.1; bad input is refused",
        check: r1_metrics,
    },
    Recipe {
        id: "r1_mapping",
        package: "par-sync",
        observe: "a table with the columns mapping, answer, messages, idle and the rows block, cyclic, dynamic, hierarchical, stealing; one answer for all",
        check: r1_mapping,
    },
    Recipe {
        id: "r2_define",
        package: "par-sync",
        observe: "five lines that end in 0 to 4, each once, in any order",
        check: r2_define,
    },
    Recipe {
        id: "r1_exec",
        package: "par-process",
        observe: "the called program's line, and that of the program that replaces this one; the line after that never runs",
        check: r1_exec,
    },
    Recipe {
        id: "r3_spawn",
        package: "par-process",
        observe: "`called function in process: i` for 0 to 4, each once, in any order",
        check: r3_spawn,
    },
    Recipe {
        id: "r3_name",
        package: "par-process",
        observe: "the children print the given name and the default name Process-2",
        check: r3_name,
    },
    Recipe {
        id: "r3_daemon",
        package: "par-process",
        observe: "the daemon's last line is never printed and it may have no children; the other process is waited for",
        check: r3_daemon,
    },
    Recipe {
        id: "r3_kill",
        package: "par-process",
        observe: "alive: false before, true while running, false after; exit code -15",
        check: r3_kill,
    },
    Recipe {
        id: "r3_subclass",
        package: "par-process",
        observe: "MyProcess-1 to MyProcess-5 run with 0 to 4",
        check: r3_subclass,
    },
    Recipe {
        id: "r3_pool",
        package: "par-process",
        observe: "a line `map: 0 1 4 .. 9801`, in order; every other line of 100 numbers is the same",
        check: r3_pool,
    },
    Recipe {
        id: "r5_scoop_mapreduce",
        package: "par-dist",
        observe: "332833500 from the serial program and from the workers",
        check: r5_scoop_mapreduce,
    },
];

/// Runs the recipes and prints a line for each.
///
/// # Errors
/// An unknown id, or a recipe that fails.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let chosen = choose(&options.ids)?;
    let outcome = run_all(&chosen);
    println!("{} recipes passed, {} failed", outcome.passed, outcome.failed);
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
    let seen = command::observe(
        Command::new(command::example(recipe.package, recipe.id, None)?),
        DEADLINE,
    )?;
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

fn r1_metrics(seen: &Observed) -> Result<(), String> {
    let expected = [
        "Amdahl P=0.9 p=10 5.263",
        "Amdahl P=0.9 p=inf 10.000",
        "Gustafson p=10 alpha=0.1 9.100",
        "refused: a parallel run took -1 seconds: expected a finite time above 0, within range of the serial time",
    ];
    match expected
        .iter()
        .find(|line| !seen.stdout.lines().any(|seen| seen == **line))
    {
        Some(line) => Err(format!("no line {line:?}")),
        None => Ok(()),
    }
}

fn r1_mapping(seen: &Observed) -> Result<(), String> {
    let table: Vec<Vec<&str>> = seen
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    let column = |name: &str| {
        table
            .iter()
            .find(|row| row.first() == Some(&"mapping"))
            .and_then(|header| header.iter().position(|title| *title == name))
            .ok_or_else(|| format!("no column {name}"))
    };
    let (answer, messages, idle) = (column("answer")?, column("messages")?, column("idle")?);
    let mut answers = Vec::new();
    for mapping in ["block", "cyclic", "dynamic", "hierarchical", "stealing"] {
        let row = table
            .iter()
            .find(|row| row.first() == Some(&mapping))
            .ok_or_else(|| format!("no row {mapping}"))?;
        row.get(messages)
            .and_then(|cell| cell.parse::<u64>().ok())
            .ok_or_else(|| format!("{mapping}: no number of messages"))?;
        row.get(idle).ok_or_else(|| format!("{mapping}: no idle time"))?;
        answers.push(*row.get(answer).ok_or_else(|| format!("{mapping}: no answer"))?);
    }
    if answers.iter().all(|other| *other == answers[0]) {
        Ok(())
    } else {
        Err(format!("different answers: {answers:?}"))
    }
}

fn r2_define(seen: &Observed) -> Result<(), String> {
    let mut ends: Vec<u32> = seen
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().last().and_then(|word| word.parse().ok()))
        .collect();
    ends.sort_unstable();
    if ends == [0, 1, 2, 3, 4] {
        Ok(())
    } else {
        Err(format!("lines ended in {ends:?}"))
    }
}

/// The lines in any order, as processes print when they do.
fn lines_are(seen: &Observed, expected: &[&str]) -> Result<(), String> {
    let sorted = |mut lines: Vec<&str>| {
        lines.sort_unstable();
        lines.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = sorted(seen.stdout.lines().collect());
    if lines == sorted(expected.to_vec()) {
        Ok(())
    } else {
        Err(format!("other lines than {expected:?}"))
    }
}

fn r1_exec(seen: &Observed) -> Result<(), String> {
    let mut lines = seen.stdout.lines();
    match (lines.next(), lines.next_back()) {
        (Some("called"), Some("this process is now another program")) => Ok(()),
        other => Err(format!("first and last line {other:?}")),
    }
}

fn r3_spawn(seen: &Observed) -> Result<(), String> {
    let lines: Vec<_> = (0..5)
        .map(|index| format!("called function in process: {index}"))
        .collect();
    lines_are(seen, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn r3_name(seen: &Observed) -> Result<(), String> {
    lines_are(seen, &["this is foo_process", "this is Process-2"])
}

fn r3_daemon(seen: &Observed) -> Result<(), String> {
    lines_are(
        seen,
        &[
            "background begins",
            "background starts a process: false",
            "main ends",
            "foreground begins",
            "foreground ends",
        ],
    )
}

fn r3_kill(seen: &Observed) -> Result<(), String> {
    lines_are(
        seen,
        &[
            "before: false",
            "running: true",
            "joined: false",
            "exit code: -15",
        ],
    )
}

fn r3_subclass(seen: &Observed) -> Result<(), String> {
    let lines: Vec<_> = (0..5)
        .map(|number| format!("MyProcess-{} runs with {number}", number + 1))
        .collect();
    lines_are(seen, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn r3_pool(seen: &Observed) -> Result<(), String> {
    let squares: Vec<u64> = (0..100).map(|i| i * i).collect();
    let mut map_seen = false;
    for line in seen.stdout.lines() {
        let numbers = numbers(line);
        let is_map = line.starts_with("map:");
        if (is_map || numbers.len() >= 100) && numbers != squares {
            return Err(format!("not the squares in order: {line:?}"));
        }
        map_seen |= is_map;
    }
    if map_seen {
        Ok(())
    } else {
        Err("no line `map: ..`".to_owned())
    }
}

fn r5_scoop_mapreduce(seen: &Observed) -> Result<(), String> {
    let count = seen
        .stdout
        .lines()
        .filter(|line| numbers(line).contains(&332_833_500))
        .count();
    if count >= 2 {
        Ok(())
    } else {
        Err(format!("332833500 on {count} lines, not on 2 or more"))
    }
}

/// The whole numbers of a line, whatever stands between them.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stdout: &str) -> Observed {
        Observed {
            code: Some(0),
            stdout: stdout.to_owned(),
            stderr: String::new(),
        }
    }

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

    #[test]
    fn checks_pass_on_what_must_be_seen_and_fail_otherwise() {
        assert!(
            r2_define(&seen(
                "function 3\nfunction 0\nfunction 1\nfunction 2\nfunction 4\ndone"
            ))
            .is_ok()
        );
        assert!(
            r2_define(&seen(
                "function 3\nfunction 0\nfunction 1\nfunction 2\nfunction 3"
            ))
            .is_err()
        );

        let squares = (0..100u64)
            .map(|i| (i * i).to_string())
            .collect::<Vec<_>>()
            .join(" ");
        assert!(r3_pool(&seen(&format!("map: {squares}\nimap: {squares}\napply: 81"))).is_ok());
        assert!(r3_pool(&seen(&format!("imap: {squares}"))).is_err());
        assert!(r3_pool(&seen(&format!("map: {squares}\nimap: 7 {squares}"))).is_err());

        assert!(r5_scoop_mapreduce(&seen("serial 332833500\nmap_reduce 332833500")).is_ok());
        assert!(r5_scoop_mapreduce(&seen("serial 332833500\nmap_reduce 33283350")).is_err());
        assert!(r1_metrics(&seen("Amdahl P=0.9 p=10 5.263")).is_err());

        let rows = |last: &str| {
            format!(
                "mapping answer messages idle\nblock 7 4 0.1\ncyclic 7 4 0.1\ndynamic 7 9 0.1\nhierarchical 7 6 0\nstealing {last}"
            )
        };
        assert!(r1_mapping(&seen(&rows("7 2 0.3"))).is_ok());
        assert!(
            r1_mapping(&seen(&rows("8 2 0.3")))
                .unwrap_err()
                .contains("different")
        );
        assert!(r1_mapping(&seen(&rows("7"))).is_err());
        assert!(r1_mapping(&seen("nothing")).is_err());
    }
}
