//! The README's program in a crate of its own, outside the workspace, that depends on one wing: what a new user would do.

use crate::Error;
use crate::command::{self, cargo};
use crate::test::Outcome;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The wing that the program needs, and the only dependency of its crate.
const WING: &str = "par-process";

/// Builds and runs the program; it must succeed and print what the README says it prints.
///
/// # Errors
/// The README has no program, or the crate cannot be written.
pub(crate) fn outcome() -> Result<Outcome, Error> {
    let root = command::root();
    let readme = fs::read_to_string(root.join("README.md"))?;
    let (program, expected) = blocks(&readme)?;
    let folder = command::target().join("user-crate");
    write_crate(&folder, &root, program)?;
    let mut run = cargo(&["run", "--quiet", "--manifest-path"]);
    run.arg(folder.join("Cargo.toml"));
    // The dependencies were built for the workspace before; a folder of their own would build them again.
    run.env("CARGO_TARGET_DIR", command::target());
    let seen = command::observe(run, Duration::from_secs(600))?;
    let mut outcome = Outcome::default();
    if seen.code == Some(0) && seen.stdout.trim() == expected.trim() {
        println!("the README's program runs in a crate that depends on {WING} alone");
        outcome.passed = 1;
    } else {
        print!("{}{}", seen.stdout, seen.stderr);
        outcome.failed = 1;
        let note = format!(
            "exit code {:?}, printed {:?}, expected {expected:?}",
            seen.code, seen.stdout
        );
        outcome.notes.push(note);
    }
    Ok(outcome)
}

/// The first Rust block of the README, and the text block after it: a program and what it prints.
fn blocks(readme: &str) -> Result<(&str, &str), Error> {
    let block = |text: &'static str, from: usize| {
        let start = readme[from..].find(text).map(|at| from + at + text.len())?;
        let end = start + readme[start..].find("```")?;
        Some((start, end))
    };
    let (start, end) = block("```rust\n", 0).ok_or("README.md has no ```rust block")?;
    let (from, to) = block("```text\n", end).ok_or("README.md has no ```text block after its program")?;
    Ok((&readme[start..end], &readme[from..to]))
}

fn write_crate(folder: &Path, root: &Path, program: &str) -> Result<(), Error> {
    let wing = root.join("crates").join(WING);
    let manifest = format!(
        "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n{WING} = {{ path = {wing:?} }}\n\n[workspace]\n"
    );
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/main.rs"), program)?;
    // The versions that the workspace was tested with, which are on this machine already.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_and_its_output_are_found() {
        let readme = "# x\n```sh\ncargo\n```\n```rust\nfn main() {}\n```\nprints\n```text\nhello\n```\n";
        assert_eq!(blocks(readme).expect("both"), ("fn main() {}\n", "hello\n"));
        assert!(blocks("nothing").is_err_and(|e| e.to_string().contains("```rust")));
    }
}
