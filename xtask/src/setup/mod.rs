//! `cargo xtask setup`: says what is installed and what is missing, and installs it where it can.

mod needs;

use crate::{Error, command};
use needs::{Install, NEEDS, Need, in_path};
use std::io::{BufRead, IsTerminal, Write};
use std::process::Command;

/// How to set up.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Install what is missing without asking; CI=true in the environment means the same
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Says what there is, and installs what is missing if the user agrees.
///
/// # Errors
/// The default features lack something that could not be installed; the lines printed say what to do.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    for need in NEEDS {
        match (need.probe)() {
            Some(version) => println!("found    {}: {version}", need.name),
            None => tell(need),
        }
    }
    settle(options)
}

fn tell(need: &Need) {
    println!(
        "missing  {} ({})\n         install: {}",
        need.name,
        need.why,
        need.command()
    );
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().copied().filter(|need| !need.met()).collect()
}

/// Installs what a package manager has, if the user agrees; only what the default features need is an error where it stays
/// missing.
fn settle(options: &Options) -> Result<(), Error> {
    let packages: Vec<_> = missing()
        .into_iter()
        .filter(|need| matches!(need.install, Install::Packages { .. }))
        .collect();
    if !packages.is_empty() && in_path("apt-get").is_some() {
        // A machine without a network can still do all that needs no more than it has.
        if agrees(options, &packages)?
            && let Err(error) = install(&packages)
        {
            println!("not installed: {error}");
        }
    }
    let missing = missing();
    let names = |required: bool| -> Vec<_> {
        let these = missing.iter().filter(|need| need.required == required);
        these.map(|need| need.name).collect()
    };
    let (needed, optional) = (names(true), names(false));
    if !needed.is_empty() {
        return Err(format!("missing: {}", needed.join(", ")).into());
    }
    if optional.is_empty() {
        println!("Nothing is missing.");
    } else {
        println!(
            "The default features have all they need. Without: {}.",
            optional.join(", ")
        );
    }
    Ok(())
}

/// Whether to install: by option or environment, or by what the user answers on a terminal. Elsewhere nobody can be asked.
fn agrees(options: &Options, needs: &[&Need]) -> Result<bool, Error> {
    if options.yes || std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1") {
        return Ok(true);
    }
    let mut input = std::io::stdin().lock();
    if !input.is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(false);
    }
    let names: Vec<_> = needs.iter().map(|need| need.name).collect();
    print!("Install {} with apt-get now? [y/N] ", names.join(", "));
    std::io::stdout().flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&&*answer.trim().to_lowercase()))
}

/// As root, or through sudo, which asks for the password where it needs one.
fn install(needs: &[&Need]) -> Result<(), Error> {
    let script = script(needs);
    let mut shell = if is_root() {
        Command::new("sh")
    } else if in_path("sudo").is_some() {
        let mut sudo = Command::new("sudo");
        if !std::io::stdin().is_terminal() {
            sudo.arg("-n");
        }
        sudo.arg("sh");
        sudo
    } else {
        return Err("this user is not root, and there is no sudo".into());
    };
    shell.arg("-c").arg(&script);
    println!("running: {script}");
    command::run(shell).map_err(|_| "apt-get failed: its output above says why".into())
}

/// The packages, without those that are recommended, and without starting a server: tests start their own.
fn script(needs: &[&Need]) -> String {
    let packages: Vec<_> = needs
        .iter()
        .flat_map(|need| match &need.install {
            Install::Packages { apt, .. } => *apt,
            Install::Command(_) => &[],
        })
        .copied()
        .collect();
    let packages = packages.join(" ");
    let apt = "DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300";
    format!(
        "set -e; policy=/usr/sbin/policy-rc.d; \
         if [ ! -e $policy ]; then printf '#!/bin/sh\\nexit 101\\n' > $policy; chmod +x $policy; trap 'rm -f '$policy EXIT; fi; \
         {apt} update; {apt} install -y --no-install-recommends {packages}"
    )
}

/// Whether this process may do everything.
fn is_root() -> bool {
    needs::version(&["id", "-u"]).is_some_and(|id| id == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_installs_all_packages_and_starts_no_server() {
        let script = script(&[&needs::MPI, &needs::RABBITMQ]);
        assert!(
            script.ends_with("libopenmpi-dev openmpi-bin rabbitmq-server"),
            "{script}"
        );
        assert!(
            script.contains("exit 101") && script.contains("update;"),
            "{script}"
        );
    }

    #[test]
    fn who_said_yes_is_not_asked() {
        assert!(agrees(&Options { yes: true }, &[&needs::MPI]).unwrap());
    }
}
