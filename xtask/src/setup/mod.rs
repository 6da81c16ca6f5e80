//! `cargo xtask setup`: says what is installed and what is missing, and installs it where it can.

mod declined;
pub(crate) mod needs;

use crate::{Error, command};
use declined::Declined;
use needs::{Install, NEEDS, Need, in_path, is_root};
use std::io::{BufRead, IsTerminal, Write};
use std::process::Command;

/// How to set up.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)] // Part of the options of other commands as well.
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
    let missing = missing();
    let everything: Vec<_> = missing
        .iter()
        .copied()
        .filter(|need| need.by_packages())
        .collect();
    decline_or_not(&everything, offer(options, &everything)?)?;
    conclude()
}

/// The set-up before `bench` and `test`: as [`run`], but it says only what is missing, and asks for each thing once: what was
/// declined is offered again by `cargo xtask setup` alone.
///
/// # Errors
/// As [`run`].
pub(crate) fn before(options: &Options) -> Result<(), Error> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    missing.iter().for_each(|need| tell(need));
    let declined = Declined::of(&command::target());
    let new: Vec<_> = missing
        .into_iter()
        .filter(|need| need.by_packages() && (options.agrees() || !declined.has(need.name)))
        .collect();
    decline_or_not(&new, offer(options, &new)?)?;
    conclude()
}

/// Remembers what was declined.
fn decline_or_not(needs: &[&Need], offer: Offer) -> Result<(), Error> {
    if offer == Offer::Declined {
        Declined::of(&command::target()).add(needs.iter().map(|need| need.name))?;
    }
    Ok(())
}

impl Options {
    /// Whether nobody is to be asked.
    fn agrees(self) -> bool {
        self.yes || std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
    }
}

/// What became of an offer.
#[derive(Debug, PartialEq)]
enum Offer {
    /// There was nothing to offer, nobody to ask, or no package manager that this program knows.
    NotMade,
    Declined,
    /// Also where the package manager failed: it has said why.
    Agreed,
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

/// Installs what a package manager has, if the user agrees.
fn offer(options: &Options, needs: &[&Need]) -> Result<Offer, Error> {
    if needs.is_empty() || in_path("apt-get").is_none() {
        return Ok(Offer::NotMade);
    }
    if !options.agrees() {
        let mut input = std::io::stdin().lock();
        if !input.is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Offer::NotMade);
        }
        let names: Vec<_> = needs.iter().map(|need| need.name).collect();
        print!("Install {} with apt-get now? [y/N] ", names.join(", "));
        std::io::stdout().flush()?;
        let mut answer = String::new();
        input.read_line(&mut answer)?;
        if !["y", "yes"].contains(&&*answer.trim().to_lowercase()) {
            return Ok(Offer::Declined);
        }
    }
    // A machine without a network can still do all that needs no more than it has.
    if let Err(error) = install(needs) {
        println!("not installed: {error}");
    }
    Ok(Offer::Agreed)
}

/// Says what is missing in the end; only what the default features need is an error.
fn conclude() -> Result<(), Error> {
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
    fn who_said_yes_is_not_asked_and_nothing_is_not_offered() {
        assert!(Options { yes: true }.agrees());
        assert_eq!(offer(&Options { yes: true }, &[]).unwrap(), Offer::NotMade);
    }
}
