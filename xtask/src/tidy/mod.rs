//! `cargo xtask tidy`: the invariants of the architecture, as checks over the tree.
//!
//! - [`manifests`]: who may depend on what, and what every manifest must say.
//! - [`sources`]: first lines, lengths, unfinished code, and where `unsafe` may be.
//! - [`links`]: local files named by the documentation exist.

mod lexer;
mod links;
mod manifests;
mod sources;
mod unsafe_code;

use crate::{Error, command, test::Outcome};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// Path from the root of the workspace, with `/`.
    path: String,
    /// Line, from 1; 0 for the file as a whole.
    line: usize,
    message: String,
}

impl Violation {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// A group of rules, its name, and its check over the tree.
type Rule = (&'static str, fn(&Tree) -> Vec<Violation>);

const RULES: &[Rule] = &[
    ("par-core stays on the ground", manifests::ground),
    ("backends stay in their crate", manifests::backends),
    ("wings do not touch", manifests::floors),
    (
        "manifests share versions, lints and `publish = false`",
        manifests::shared,
    ),
    ("SQL and AMQP stay in the broker module", sources::broker),
    ("backends stay out of public signatures", sources::signatures),
    ("first lines", sources::first_lines),
    ("lengths", sources::lengths),
    ("nothing unfinished", sources::unfinished),
    ("unsafe is listed and explained", unsafe_code::unsafe_code),
    ("links of the documentation", links::local_files),
];

/// The files of the workspace that rules look at.
struct Tree {
    root: PathBuf,
    /// Paths from the root with `/`, sorted, and the text of each.
    files: Vec<(String, String)>,
}

impl Tree {
    /// Reads manifests, Rust sources and Markdown, leaving out build output and hidden folders.
    fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        walk(root, root, &mut files)?;
        files.sort();
        Ok(Self {
            root: root.to_path_buf(),
            files,
        })
    }

    fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .map(|(path, text)| (&**path, &**text))
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(root, &path, files)?;
            }
        } else if [".rs", ".toml", ".md"].iter().any(|end| name.ends_with(end)) {
            let short = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .replace('\\', "/");
            files.push((short, String::from_utf8_lossy(&fs::read(&path)?).into_owned()));
        }
    }
    Ok(())
}

/// Prints every violation.
///
/// # Errors
/// There is one, or the tree cannot be read.
pub(crate) fn run() -> Result<(), Error> {
    let outcome = outcome()?;
    println!("{} rules hold, {} are broken", outcome.passed, outcome.failed);
    if outcome.failed == 0 {
        Ok(())
    } else {
        Err("the tree is not tidy".into())
    }
}

/// Checks every rule, printing its violations, and counts the rules.
///
/// # Errors
/// The tree cannot be read.
pub(crate) fn outcome() -> Result<Outcome, Error> {
    let tree = Tree::read(&command::root())?;
    let mut outcome = Outcome::default();
    for (name, rule) in RULES {
        let violations = rule(&tree);
        if violations.is_empty() {
            outcome.passed += 1;
            continue;
        }
        outcome.failed += 1;
        outcome.notes.push(format!("{name}: {} places", violations.len()));
        println!("{name}:");
        violations.iter().for_each(|violation| println!("  {violation}"));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in a temporary folder with these files.
    pub(super) fn planted(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::read(folder.path()).unwrap();
        (folder, tree)
    }

    /// Paths and lines of what a rule finds among planted files.
    pub(super) fn found(rule: fn(&Tree) -> Vec<Violation>, files: &[(&str, &str)]) -> Vec<String> {
        let (_folder, tree) = planted(files);
        rule(&tree)
            .iter()
            .map(|violation| format!("{}:{}", violation.path, violation.line))
            .collect()
    }

    #[test]
    fn this_tree_is_tidy() {
        let tree = Tree::read(&command::root()).unwrap();
        assert!(tree.files.len() > 10, "the tree was not read");
        let violations: Vec<_> = RULES
            .iter()
            .flat_map(|(_, rule)| rule(&tree))
            .map(|violation| violation.to_string())
            .collect();
        assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    }

    #[test]
    fn build_output_and_hidden_folders_are_left_out() {
        let (_folder, tree) = planted(&[
            ("target/a.rs", ""),
            (".x/a.rs", ""),
            ("b/a.rs", "x"),
            ("b/a.txt", ""),
        ]);
        assert_eq!(tree.files, [("b/a.rs".to_owned(), "x".to_owned())]);
    }
}
