//! `cargo xtask test`: everything that can run here, a table of it, and one line of totals.

use crate::command::{self, cargo};
use crate::native::{NATIVE, Native};
use crate::{Error, recipes, setup, tidy, user};
use std::process::Command;
use std::time::Instant;

/// What came of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// What failed, or why something was skipped.
    pub(crate) notes: Vec<String>,
}

/// Where a step's numbers come from.
#[derive(Clone, Copy)]
enum Work {
    /// Cargo, whose `test result:` lines are counted.
    Tests(&'static [&'static str]),
    /// Cargo, as one check that passes or fails.
    Check(&'static [&'static str]),
    /// A function of this program.
    Inside(fn() -> Result<Outcome, Error>),
    /// What a native feature adds, where it can run.
    Native(&'static Native),
}

const STEPS: &[(&str, Work)] = &[
    ("unit and integration tests", Work::Tests(UNIT)),
    (
        "doc tests",
        Work::Tests(&["test", "--workspace", "--doc", "--no-fail-fast"]),
    ),
    (
        "examples build",
        Work::Check(&["build", "--workspace", "--examples"]),
    ),
    ("clippy", Work::Check(CLIPPY)),
    ("format", Work::Check(FMT)),
    ("watched locks", Work::Inside(watched)),
    ("loom models", Work::Inside(models)),
    ("tidy", Work::Inside(tidy::outcome)),
    ("recipes", Work::Inside(all_recipes)),
    ("a user's crate", Work::Inside(user::outcome)),
    ("packages", Work::Check(PACKAGE)),
];

/// All targets but benches: those without a harness would measure, for minutes. The lints build them.
const UNIT: &[&str] = &[
    "test",
    "--workspace",
    "--lib",
    "--bins",
    "--tests",
    "--examples",
    "--no-fail-fast",
];

const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
const FMT: &[&str] = &["fmt", "--all", "--check"];

/// What `.cargo/config.toml` says about patches lets it find the crates that `publish = false` keeps out of the registry.
const PACKAGE: &[&str] = &[
    "package",
    "--workspace",
    "--no-verify",
    "--allow-dirty",
    "--quiet",
];

/// Sets up, then runs every step, also after one failed; the last line printed is `N passed, N failed, N skipped`.
///
/// # Errors
/// What the default features need is missing. (If a step fails, the program ends here.)
pub(crate) fn run(options: &setup::Options) -> Result<(), Error> {
    setup::before(options)?;
    let mut rows = Vec::new();
    let native = NATIVE
        .iter()
        .map(|native| (native.qualified() + native.beside, Work::Native(native)));
    let steps = STEPS.iter().map(|(name, work)| ((*name).to_owned(), *work));
    for (name, work) in steps.chain(native) {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = perform(&work).unwrap_or_else(|error| Outcome {
            failed: 1,
            notes: vec![error.to_string()],
            ..Outcome::default()
        });
        rows.push((name, outcome, started.elapsed().as_secs_f64()));
    }
    print!("{}", table(&rows));
    let total = total(rows.iter().map(|row| &row.1));
    // A failure still ends with this line on standard output, so the exit code is set without more words.
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if total.failed == 0 {
        Ok(())
    } else {
        std::process::exit(1)
    }
}

/// The lints of the whole workspace.
///
/// # Errors
/// A warning.
pub(crate) fn clippy() -> Result<(), Error> {
    command::run(cargo(CLIPPY))
}

/// The format of the whole workspace.
///
/// # Errors
/// A file that `cargo fmt` would change.
pub(crate) fn fmt() -> Result<(), Error> {
    command::run(cargo(FMT))
}

fn perform(work: &Work) -> Result<Outcome, Error> {
    match work {
        Work::Inside(function) => function(),
        Work::Check(args) => {
            let mut check = Outcome::default();
            if command::stream(cargo(args), |_| ())? {
                check.passed = 1;
            } else {
                check.failed = 1;
                check.notes.push(format!("cargo {} failed", args[0]));
            }
            Ok(check)
        }
        Work::Tests(args) => tests(cargo(args)),
        Work::Native(native) => self::native(native),
    }
}

fn tests(cargo: Command) -> Result<Outcome, Error> {
    let mut counts = Outcome::default();
    let success = command::stream(cargo, |line| count(line, &mut counts))?;
    Ok(settle(counts, success))
}

/// The tests of par-sync with its detector of deadlocks and its statistics compiled in, and its lints.
fn watched() -> Result<Outcome, Error> {
    const BOTH: &str = "deadlock,statistics";
    const fn lints(features: &str) -> [&str; 9] {
        [
            "clippy",
            "--package",
            "par-sync",
            "--features",
            features,
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]
    }
    const LINTS: [[&str; 9]; 3] = [lints(BOTH), lints("deadlock"), lints("statistics")];
    let of = |kind| {
        tests(cargo(&[
            "test",
            "--package",
            "par-sync",
            "--features",
            BOTH,
            kind,
            "--no-fail-fast",
        ]))
    };
    let lints = LINTS.iter().map(|lints| perform(&Work::Check(lints)));
    let outcomes: Vec<Outcome> = lints
        .chain([of("--tests"), of("--doc")])
        .collect::<Result<_, _>>()?;
    Ok(total(outcomes.iter()))
}

/// The protocols of these crates under every interleaving that loom tries. Other flags build everything again, so in a folder of
/// their own.
fn models() -> Result<Outcome, Error> {
    let of = |args: &[&str]| {
        let mut cargo = cargo(&[&["test", "--lib", "--package"], args].concat());
        cargo
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", command::target().join("loom"));
        tests(cargo)
    };
    let outcomes = [
        of(&["par-sync"])?,
        of(&["par-process", "--release", "--", "models"])?,
    ];
    Ok(total(outcomes.iter()))
}

/// Adds what a line of libtest's output says: a summary, or a test that failed or was ignored.
fn count(line: &str, counts: &mut Outcome) {
    if let Some(summary) = line.trim_start().strip_prefix("test result: ") {
        let number = |label: &str| {
            summary
                .split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(label))
                .find_map(|digits| digits.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        counts.passed += number("passed");
        counts.failed += number("failed");
        counts.skipped += number("ignored");
    } else if let Some(test) = line.strip_prefix("test ")
        && let Some(name) = test.strip_suffix(" ... FAILED")
    {
        counts.notes.push(format!("failed: {name}"));
    } else if let Some(test) = line.strip_prefix("test ")
        && let Some((name, "ignored")) = test
            .rsplit_once(" ... ")
            .map(|(n, end)| (n, &end[..end.len().min(7)]))
    {
        counts.notes.push(format!("ignored: {name}"));
    }
}

/// A run of tests that failed without a failed test did not compile, crashed or was killed: that is a failure too.
fn settle(mut counts: Outcome, success: bool) -> Outcome {
    if !success && counts.failed == 0 {
        counts.failed = 1;
        counts
            .notes
            .push("cargo failed before the tests could end: see its output above".to_owned());
    } else if success && counts.passed == 0 {
        counts.failed = 1;
        counts.notes.push("no test ran".to_owned());
    }
    counts
}

fn all_recipes() -> Result<Outcome, Error> {
    Ok(recipes::run_all(&recipes::RECIPES.iter().collect::<Vec<_>>()))
}

/// The lints and the tests of a native feature; a skip, with the command that changes it, where it cannot run here.
fn native(native: &Native) -> Result<Outcome, Error> {
    if let Some(missing) = native.missing() {
        println!("skipped: {missing}");
        return Ok(Outcome {
            skipped: 1,
            notes: vec![missing],
            ..Outcome::default()
        });
    }
    // The benchmarks of this program use the feature too, and have no test that runs with it.
    let mut features = native.qualified();
    let mut lints = cargo(&["clippy", "--package", native.package]);
    if native.benched {
        features += &format!(",xtask/{}", native.feature);
        lints.args(["--package", "xtask"]);
    }
    lints.args(["--all-targets", "--features", &features, "--", "-D", "warnings"]);
    let of = |args: &[&str]| {
        let mut cargo = cargo(&["test", "--package", native.package, "--features", native.feature]);
        cargo.arg("--no-fail-fast").args(args);
        tests(cargo)
    };
    let mut outcomes = Vec::new();
    // Others of the same feature have the same code.
    let is_first = native.beside.is_empty();
    if is_first {
        let clean = command::stream(lints, |_| ())?;
        outcomes.push(Outcome {
            passed: u64::from(clean),
            failed: u64::from(!clean),
            notes: (!clean)
                .then(|| "cargo clippy failed".to_owned())
                .into_iter()
                .collect(),
            ..Outcome::default()
        });
    }
    if is_first && !native.tests.is_empty() {
        outcomes.push(of(&["--doc"])?);
    }
    if !native.tests.is_empty() {
        outcomes.push(of(native.tests)?);
    }
    Ok(total(outcomes.iter()))
}

fn total<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Outcome {
    outcomes.fold(Outcome::default(), |mut sum, outcome| {
        sum.passed += outcome.passed;
        sum.failed += outcome.failed;
        sum.skipped += outcome.skipped;
        sum.notes.extend(outcome.notes.iter().cloned());
        sum
    })
}

fn table(rows: &[(String, Outcome, f64)]) -> String {
    let names = rows.iter().map(|(name, ..)| name.chars().count());
    let wide = names.max().unwrap_or(0).max("what ran".len());
    let mut text = format!(
        "\n{:<wide$} {:>7} {:>7} {:>8} {:>8}  notes\n",
        "what ran", "passed", "failed", "skipped", "seconds"
    );
    for (name, outcome, seconds) in rows {
        let Outcome {
            passed,
            failed,
            skipped,
            notes,
        } = outcome;
        let first = notes.first().map_or("", String::as_str);
        text += &format!("{name:<wide$} {passed:>7} {failed:>7} {skipped:>8} {seconds:>8.1}  {first}");
        text.truncate(text.trim_end().len());
        text.push('\n');
        for note in notes.iter().skip(1) {
            text += &format!("{:<before$}  {note}\n", "", before = wide + 34);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[&str]) -> Outcome {
        let mut counts = Outcome::default();
        lines.iter().for_each(|line| count(line, &mut counts));
        counts
    }

    #[test]
    fn libtest_lines_are_counted() {
        let counts = counted(&[
            "running 5 tests",
            "test a::b ... ok",
            "test c ... FAILED",
            "test d ... ignored, needs a server",
            "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.03s",
            "test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
        ]);
        assert_eq!((counts.passed, counts.failed, counts.skipped), (13, 1, 1));
        assert_eq!(counts.notes, ["failed: c", "ignored: d"]);
    }

    #[test]
    fn failure_without_a_failed_test_counts() {
        assert_eq!(settle(counted(&[]), false).failed, 1);
        assert_eq!(
            settle(counted(&["test result: ok. 4 passed; 0 failed;"]), false).failed,
            1
        );
        assert_eq!(
            settle(counted(&["test result: FAILED. 4 passed; 2 failed;"]), false).failed,
            2
        );
        assert_eq!(
            settle(counted(&["test result: ok. 4 passed; 0 failed;"]), true).failed,
            0
        );
        assert_eq!(
            settle(counted(&["test result: ok. 0 passed; 0 failed;"]), true).failed,
            1
        );
    }

    #[test]
    fn table_has_a_row_a_step_and_a_line_a_note() {
        let notes = vec!["first".to_owned(), "second".to_owned()];
        let outcome = Outcome {
            passed: 2,
            failed: 1,
            skipped: 0,
            notes,
        };
        let rows = [
            ("doc tests".to_owned(), outcome, 1.25),
            (
                "format".to_owned(),
                Outcome {
                    passed: 1,
                    ..Outcome::default()
                },
                0.5,
            ),
        ];
        let text = table(&rows);
        assert_eq!(text.lines().count(), 5);
        assert!(
            text.contains("first\n") && text.contains("second\n") && text.lines().all(|l| l == l.trim_end())
        );
        let total = total(rows.iter().map(|row| &row.1));
        assert_eq!((total.passed, total.failed, total.skipped), (3, 1, 0));
    }
}
