//! `cargo xtask setup`: says what is installed, what is missing, and the command that installs it.

use crate::Error;
use std::process::Command;

/// A program that the default features need.
struct Tool {
    name: &'static str,
    why: &'static str,
    /// Program and arguments that print a version; the first that runs is taken.
    probes: &'static [&'static [&'static str]],
    install: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "Rust compiler",
        why: "builds everything",
        probes: &[&["rustc", "--version"]],
        install: "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh",
    },
    Tool {
        name: "rustfmt",
        why: "format check of `cargo xtask test`",
        probes: &[&["rustfmt", "--version"]],
        install: "rustup component add rustfmt",
    },
    Tool {
        name: "clippy",
        why: "lints of `cargo xtask test`",
        probes: &[&["cargo-clippy", "--version"]],
        install: "rustup component add clippy",
    },
    Tool {
        name: "C compiler",
        why: "builds the bundled SQLite of par-dist",
        probes: &[
            &["cc", "--version"],
            &["gcc", "--version"],
            &["clang", "--version"],
        ],
        install: "sudo apt-get install -y gcc libc6-dev   (Debian, Ubuntu; elsewhere: gcc or clang)",
    },
];

/// Prints a line for each tool.
///
/// # Errors
/// Something is missing; the lines printed say how to install it.
pub(crate) fn run() -> Result<(), Error> {
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|tool| !report(tool))
        .map(|tool| tool.name)
        .collect();
    if missing.is_empty() {
        println!("Nothing is missing for the default features.");
        return Ok(());
    }
    Err(format!("missing: {}", missing.join(", ")).into())
}

fn report(tool: &Tool) -> bool {
    match tool.probes.iter().find_map(|probe| version(probe)) {
        Some(version) => {
            println!("found    {}: {version}", tool.name);
            true
        }
        None => {
            println!(
                "missing  {} ({})\n         install: {}",
                tool.name, tool.why, tool.install
            );
            false
        }
    }
}

/// First line that the program prints about itself; None where it does not run.
fn version(probe: &[&str]) -> Option<String> {
    let (program, args) = probe.split_first()?;
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_is_found_and_nonsense_is_not() {
        assert!(version(&["rustc", "--version"]).unwrap().starts_with("rustc 1."));
        assert_eq!(version(&["no-such-program-at-all", "--version"]), None);
        assert_eq!(version(&["rustc", "--no-such-option"]), None);
        assert_eq!(version(&[]), None);
    }

    #[test]
    fn missing_tool_is_told() {
        let tool = Tool {
            name: "x",
            why: "y",
            probes: &[&["no-such-program-at-all"]],
            install: "z",
        };
        assert!(!report(&tool));
    }
}
