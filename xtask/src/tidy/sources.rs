//! Rules over Rust sources: first lines, lengths, unfinished code, broker crates, and where `unsafe` may be.

use super::lexer::code_only;
use super::{Tree, Violation};

/// Lines of a file without its tests, at most.
const LONGEST: usize = 600;

/// Rust sources of the workspace, but for those that are written to fail to compile.
pub(super) fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.ending(".rs").filter(|(path, _)| {
        (path.starts_with("crates/") || path.starts_with("xtask/")) && !path.contains("/tests/ui/")
    })
}

/// A file's first line is `//!` and says what lives there.
pub(super) fn first_lines(tree: &Tree) -> Vec<Violation> {
    sources(tree)
        .filter(|(_, text)| {
            let first = text.lines().next().unwrap_or_default();
            first
                .strip_prefix("//!")
                .is_none_or(|rest| rest.trim().is_empty())
        })
        .map(|(path, _)| Violation::new(path, 1, "the first line must be `//!` and say what lives here"))
        .collect()
}

/// No file is too long, its tests apart.
pub(super) fn lengths(tree: &Tree) -> Vec<Violation> {
    sources(tree)
        .filter(|(path, _)| !path.contains("/tests/") && !path.ends_with("/tests.rs"))
        .filter_map(|(path, text)| {
            let lines = without_tests(text);
            (lines > LONGEST)
                .then(|| Violation::new(path, 0, format!("{lines} lines without tests: at most {LONGEST}")))
        })
        .collect()
}

/// Number of lines outside test modules. A module ends at the first brace in the column where its attribute begins.
fn without_tests(text: &str) -> usize {
    let mut lines = text.lines();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() != "#[cfg(test)]" {
            count += 1;
            continue;
        }
        let item = lines.find(|next| !next.trim_start().starts_with("#["));
        if item.is_some_and(|item| item.trim_start().starts_with("mod ") && item.ends_with('{')) {
            let _ = lines.find(|next| next.trim_end() == format!("{}}}", " ".repeat(indent)));
        }
    }
    count
}

/// Nothing is left to be done, and no test is switched off.
pub(super) fn unfinished(tree: &Tree) -> Vec<Violation> {
    in_code(tree, |line| {
        let found = ["todo!(", "unimplemented!(", "#[ignore"]
            .into_iter()
            .find(|pattern| line.contains(pattern))?;
        Some(format!("`{found}` is not for a tree that others use"))
    })
}

/// In par-dist, only the broker modules name what speaks SQL or AMQP; and its tests, which look into brokers from outside, and examples, whose
/// databases are the user's.
pub(super) fn broker(tree: &Tree) -> Vec<Violation> {
    let mut violations = in_code(tree, |line| {
        let found = ["rusqlite", "lapin", "sqlx", "amq_protocol"]
            .into_iter()
            .find(|name| has_word(line, name))?;
        Some(format!("`{found}` belongs in the broker module of par-dist"))
    });
    violations.retain(|violation| {
        let inside = violation.path.strip_prefix("crates/par-dist/src/").unwrap_or("");
        let looks = ["tests/", "benches/", "examples/"].iter().any(|folder| {
            violation
                .path
                .strip_prefix("crates/par-dist/")
                .is_some_and(|path| path.starts_with(folder))
        });
        !(looks
            || inside == "broker.rs"
            || inside.starts_with("broker/")
            || inside.starts_with("app/broker/"))
    });
    violations
}

/// Backend crates, and the names of the modules whose public signatures may show their types.
const SHOWN_BY: &[(&str, &[&str])] = &[
    ("cudarc", &["cudarc", "cuda"]),
    ("cust", &["cust"]),
    ("lapin", &["lapin", "amqp"]),
    ("mpi", &["mpi"]),
    ("ocl", &["ocl", "opencl"]),
    ("rusqlite", &["rusqlite", "sqlite"]),
];

/// No public signature shows a backend's type, written with its path, outside a module named for the backend.
pub(super) fn signatures(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in sources(tree) {
        let module = path.split_once("/src/").map_or(path, |(_, module)| module);
        let code = code_only(text);
        for (index, line) in code
            .lines()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with("pub "))
        {
            let shown = SHOWN_BY.iter().find(|(backend, modules)| {
                names_path(line, backend) && !modules.iter().any(|name| has_word(module, name))
            });
            violations.extend(shown.map(|(backend, _)| {
                let message = format!("a public signature shows `{backend}` outside a module named for it");
                Violation::new(path, index + 1, message)
            }));
        }
    }
    violations
}

/// Whether a path such as `backend::Type` stands in a line.
fn names_path(line: &str, backend: &str) -> bool {
    let mut before = line.split("::").collect::<Vec<_>>();
    before.pop();
    before
        .iter()
        .any(|part| part.rsplit(|c: char| !is_word(c)).next() == Some(backend))
}

fn in_code(tree: &Tree, rule: impl Fn(&str) -> Option<String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in sources(tree) {
        for (index, line) in code_only(text).lines().enumerate() {
            if let Some(message) = rule(line) {
                violations.push(Violation::new(path, index + 1, message));
            }
        }
    }
    violations
}

pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !is_word(c)).any(|other| other == word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    const LIB: &str = "crates/x/src/lib.rs";

    #[test]
    fn first_line_says_what() {
        assert_eq!(found(first_lines, &[(LIB, "//! What.\n")]).len(), 0);
        for bad in ["", "//!\n", "use std::fs;\n//! What.\n", "// What.\n"] {
            assert_eq!(
                found(first_lines, &[(LIB, bad)]),
                ["crates/x/src/lib.rs:1"],
                "{bad:?}"
            );
        }
        assert_eq!(
            found(first_lines, &[("crates/x/tests/ui/a.rs", "fn main() {}")]).len(),
            0
        );
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let lines = |n: usize| "x();\n".repeat(n);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(500));
        assert_eq!(found(lengths, &[(LIB, &lines(LONGEST + 1))]).len(), 1);
        assert_eq!(found(lengths, &[(LIB, &(lines(LONGEST) + &tests))]).len(), 0);
        assert_eq!(
            found(lengths, &[(LIB, &(lines(LONGEST - 200) + &tests + &lines(201)))]).len(),
            1
        );
        assert_eq!(
            found(
                lengths,
                &[(LIB, &format!("#[cfg(test)]\nmod tests;\n{}", lines(LONGEST + 1)))]
            )
            .len(),
            1
        );
        assert_eq!(
            found(lengths, &[("crates/x/tests/long.rs", &lines(LONGEST + 100))]).len(),
            0
        );
    }

    #[test]
    fn unfinished_code_is_found_outside_text() {
        for bad in ["todo!()", "unimplemented!(\"x\")", "#[ignore = \"slow\"]"] {
            assert_eq!(
                found(unfinished, &[(LIB, &format!("//! X\n{bad}"))]),
                ["crates/x/src/lib.rs:2"]
            );
        }
        assert_eq!(
            found(unfinished, &[(LIB, "// todo!()\nlet x = \"todo!()\";")]).len(),
            0
        );
    }

    #[test]
    fn broker_crates_stay_in_the_broker() {
        let code = "//! X\nuse rusqlite::Connection;";
        assert_eq!(found(broker, &[("crates/par-dist/src/queue.rs", code)]).len(), 1);
        assert_eq!(found(broker, &[("crates/par-dist/src/broker.rs", code)]).len(), 0);
        assert_eq!(
            found(broker, &[("crates/par-dist/src/broker/sqlite.rs", code)]).len(),
            0
        );
        for place in ["src/app/broker/file.rs", "tests/faults.rs", "benches/app.rs"] {
            let path = format!("crates/par-dist/{place}");
            assert_eq!(found(broker, &[(&path, code)]).len(), 0, "{place}");
        }
        assert_eq!(found(broker, &[(LIB, "use lapin::Channel;")]).len(), 1);
        assert_eq!(found(broker, &[(LIB, "fn rusqlite_free() {}")]).len(), 0);
    }

    #[test]
    fn backends_stay_out_of_signatures() {
        let shows = "//! X\npub fn device(&self) -> ocl::Device {}";
        assert_eq!(
            found(signatures, &[("crates/par-gpu/src/array.rs", shows)]),
            ["crates/par-gpu/src/array.rs:2"]
        );
        assert_eq!(
            found(signatures, &[("crates/par-gpu/src/opencl.rs", shows)]).len(),
            0
        );
        assert_eq!(
            found(
                signatures,
                &[("crates/par-mpi/src/rank.rs", "pub use mpi::Rank;")]
            )
            .len(),
            1
        );
        let hides = "pub(crate) fn device() -> ocl::Device {}\nuse ocl::Device;\npub fn f(x: par_mpi::X) {}";
        assert_eq!(
            found(signatures, &[("crates/par-gpu/src/array.rs", hides)]).len(),
            0
        );
    }
}
