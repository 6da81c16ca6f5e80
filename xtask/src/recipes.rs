//! `cargo xtask recipes`: runs the examples of a table and checks what must be observed.

use crate::command::{self, Observed};
use crate::mpi::{self, Launcher};
use crate::native::{MPI_RANKS, Native, OPENCL_DEVICES};
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

pub(crate) const RECIPES: &[Recipe] = &[
    Recipe::plain(
        "r1_metrics",
        "par-core",
        "Amdahl P=0.9 gives 5.263 at p=10 and 10 at p=inf; Gustafson p=10 alpha=0.1 gives 9.1; bad input is refused",
        r1_metrics,
    ),
    Recipe::plain(
        "r1_mapping",
        "par-sync",
        "a table with the columns mapping, answer, messages, idle and the rows block, cyclic, dynamic, hierarchical, stealing; one answer for all",
        r1_mapping,
    ),
    Recipe::plain(
        "r2_define",
        "par-sync",
        "five lines that end in 0 to 4, each once, in any order",
        r2_define,
    ),
    Recipe::plain(
        "r1_exec",
        "par-process",
        "the called program's line, and that of the program that replaces this one; the line after that never runs",
        r1_exec,
    ),
    Recipe::plain(
        "r3_spawn",
        "par-process",
        "`called function in process: i` for 0 to 4, each once, in any order",
        r3_spawn,
    ),
    Recipe::plain(
        "r3_name",
        "par-process",
        "the children print the given name and the default name Process-2",
        r3_name,
    ),
    Recipe::plain(
        "r3_daemon",
        "par-process",
        "the daemon's last line is never printed and it may have no children; the other process is waited for",
        r3_daemon,
    ),
    Recipe::plain(
        "r3_kill",
        "par-process",
        "alive: false before, true while running, false after; exit code -15",
        r3_kill,
    ),
    Recipe::plain(
        "r3_subclass",
        "par-process",
        "MyProcess-1 to MyProcess-5 run with 0 to 4",
        r3_subclass,
    ),
    Recipe::plain(
        "r3_pool",
        "par-process",
        "a line `map: 0 1 4 .. 9801`, in order; every other line of 100 numbers is the same",
        r3_pool,
    ),
    Recipe::plain(
        "r3_pipe",
        "par-process",
        "the squares of 0 to 9, one a line, then the end of the pipe",
        r3_pipe,
    ),
    Recipe::plain(
        "r3_queue",
        "par-process",
        "two consumers get 0 to 9, each once; the queue is empty in the end, and all tasks are done",
        r3_queue,
    ),
    Recipe::plain(
        "r3_sync",
        "par-process",
        "p1 and p2 pass the barrier together, p3 and p4 do not wait for it; then the event, the condition and the semaphore have done theirs",
        r3_sync,
    ),
    Recipe::plain(
        "r3_manager",
        "par-process",
        "ten processes fill one dictionary: 0 to 9 with their doubles",
        r3_manager,
    ),
    Recipe {
        native: Some(&MPI_RANKS),
        ranks: Some(5),
        ..Recipe::plain(
            "r3_mpi_hello",
            "par-mpi",
            "`hello from rank r of 5` for 0 to 4, each once, in any order",
            r3_mpi_hello,
        )
    },
    Recipe::plain(
        "r4_futures",
        "par-async",
        "the same ten results serially, on threads and on processes, each with its seconds",
        r4_futures,
    ),
    Recipe::plain(
        "r5_scoop_mapreduce",
        "par-dist",
        "332833500 from the serial program and from the workers",
        r5_scoop_mapreduce,
    ),
    Recipe::plain(
        "r6_reduction",
        "par-gpu",
        "21253400 on every device",
        r6_reduction,
    ),
    Recipe {
        native: Some(&OPENCL_DEVICES),
        ..Recipe::plain(
            "r6_cl_info",
            "par-gpu",
            "a platform, and each device with its type, clock, compute units, memories, largest allocation and work group",
            r6_cl_info,
        )
    },
];

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

fn r3_mpi_hello(seen: &Observed) -> Result<(), String> {
    let mut lines: Vec<_> = seen.stdout.lines().collect();
    lines.sort_unstable();
    let expected: Vec<_> = (0..5)
        .map(|rank| format!("hello from rank {rank} of 5"))
        .collect();
    if lines == expected {
        Ok(())
    } else {
        Err(format!("seen {lines:?}, not each rank once"))
    }
}

/// Lines `serial: [results] in 0.123 s`, and the same for threads and processes.
fn r4_futures(seen: &Observed) -> Result<(), String> {
    let mut all = Vec::new();
    for how in ["serial", "threads", "processes"] {
        let line = seen
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(how)?.strip_prefix(": "))
            .ok_or_else(|| format!("no line `{how}: ..`"))?;
        let (results, seconds) = line
            .strip_suffix(" s")
            .and_then(|line| line.split_once(" in "))
            .ok_or_else(|| format!("{how}: no time after the results"))?;
        if !seconds.parse::<f64>().is_ok_and(|seconds| seconds >= 0.0) {
            return Err(format!("{how}: {seconds:?} is no time"));
        }
        if numbers(results).len() != 10 {
            return Err(format!("{how}: not ten results: {results}"));
        }
        all.push(results);
    }
    if all.iter().all(|other| *other == all[0]) {
        Ok(())
    } else {
        Err(format!("different results: {all:?}"))
    }
}

fn r3_pipe(seen: &Observed) -> Result<(), String> {
    let squares = (0..10).map(|number: u64| (number * number).to_string());
    let lines: Vec<_> = squares.chain(["End".to_owned()]).collect();
    lines_are(seen, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn r3_queue(seen: &Observed) -> Result<(), String> {
    let got = |line: &&str| line.starts_with("first got ") || line.starts_with("second got ");
    let mut items: Vec<_> = seen.stdout.lines().filter(got).flat_map(numbers).collect();
    items.sort_unstable();
    if items != (0..10).collect::<Vec<_>>() {
        return Err(format!("not each of 0 to 9 was got once: {items:?}"));
    }
    for line in ["size 0, empty true", "all tasks are done"] {
        if !seen.stdout.lines().any(|seen| seen == line) {
            return Err(format!("no line {line:?}"));
        }
    }
    Ok(())
}

/// p2 comes to the barrier 300 ms late: p1 passes no earlier than that, and the others have not waited.
fn r3_sync(seen: &Observed) -> Result<(), String> {
    let time = |who: &str| {
        let line = seen.stdout.lines().find(|line| line.starts_with(who));
        line.and_then(|line| numbers(line).last().copied())
            .ok_or_else(|| format!("no line of {who}"))
    };
    let (p1, p2) = (time("p1")?, time("p2")?);
    let others = time("p3")?.min(time("p4")?);
    if p1.abs_diff(p2) > 200 || others + 100 > p1.min(p2) {
        return Err(format!(
            "p1 at {p1}, p2 at {p2}, the first of the others at {others}"
        ));
    }
    for line in ["4 lines", "3 done, 0 left", "1 permit free"] {
        if !seen.stdout.lines().any(|seen| seen == line) {
            return Err(format!("no line {line:?}"));
        }
    }
    Ok(())
}

fn r3_manager(seen: &Observed) -> Result<(), String> {
    let pairs: Vec<_> = (0..10).map(|key| format!("{key}: {}", 2 * key)).collect();
    lines_are(seen, &[&format!("{{{}}}", pairs.join(", "))])
}

fn r6_reduction(seen: &Observed) -> Result<(), String> {
    let lines: Vec<_> = seen.stdout.lines().filter(|line| !line.is_empty()).collect();
    match lines.iter().find(|line| !numbers(line).contains(&21_253_400)) {
        None if !lines.is_empty() => Ok(()),
        None => Err("no line".to_owned()),
        Some(line) => Err(format!("not 21253400: {line:?}")),
    }
}

fn r6_cl_info(seen: &Observed) -> Result<(), String> {
    let rows = [
        "Platform - ",
        "Device - ",
        "Type: ",
        "Clock Speed: ",
        "Compute Units: ",
        "Local Memory: ",
        "Constant Memory: ",
        "Global Memory: ",
        "Max Allocation: ",
        "Max Work-Group Size: ",
    ];
    match rows.iter().find(|row| !seen.stdout.contains(**row)) {
        None => Ok(()),
        Some(row) => Err(format!("no row {row:?}")),
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
