//! Roles: the ways into a re-executed copy of this program, other than its `main`.
//!
//! A program that is started with the environment variable `PAR_PROCESS_ROLE` runs the function that is registered under that
//! name and ends with its code; its `main` never begins. So worker processes are the same program, under `cargo test`, in
//! examples, in benches and under a `main` that knows nothing of it.
//!
//! ```
//! par_process::role!("greeter", greet);
//!
//! fn greet() -> i32 {
//!     println!("hello from process {}", std::process::id());
//!     0
//! }
//!
//! // The attribute's `main` is not reached in the copy.
//! fn main() -> std::io::Result<()> {
//!     let output = par_process::role::command("greeter")?.output()?;
//!     assert!(String::from_utf8_lossy(&output.stdout).starts_with("hello from process "));
//!     Ok(())
//! }
//! ```
//!
//! Rules of the entry:
//!
//! 1. It runs once, before `main`: from the program's list of initialisers on Linux and macOS, or from [`init`] where there is no such list.
//! 2. The variable is removed before the role begins, so that what the role starts is not in the same role.
//! 3. The role ends the process: with its code, with 101 after a panic (as a `main` would), or with [`UNKNOWN_ROLE`].

use crate::before_main;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::panic;
use std::process::{self, Command};

/// The environment variable that names the role of a copy.
pub const ROLE_VARIABLE: &str = "PAR_PROCESS_ROLE";

/// The exit code of a copy whose role is not registered in this program.
pub const UNKNOWN_ROLE: i32 = 78;

/// What a copy of this program can be started as. Registered with [`role!`](crate::role!).
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// The name that [`command`] is given.
    pub name: &'static str,
    /// What runs instead of `main`; its value is the exit code of the process.
    pub main: fn() -> i32,
}

/// Where [`role!`](crate::role!) enters roles at link time.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static ROLES: [Role];

/// Registers a function as a role of this program: `par_process::role!("name", function)`, the function being an `fn() -> i32`
/// whose value is the exit code.
///
/// See the [module](mod@crate::role).
#[macro_export]
macro_rules! role {
    ($name:expr, $function:path) => {
        const _: () = {
            #[$crate::macro_support::linkme::distributed_slice($crate::role::ROLES)]
            #[linkme(crate = $crate::macro_support::linkme)]
            static ROLE: $crate::role::Role = $crate::role::Role {
                name: $name,
                main: $function,
            };
        };
    };
}

/// A command that runs a copy of this program in `role`. Add arguments, streams and environment as to any command.
///
/// On Linux the copy is of the image that runs now, also when its file was rebuilt or removed meanwhile.
///
/// # Errors
/// `NotFound` if no role of that name is registered; otherwise what the system says when it does not tell the path of the
/// running program.
pub fn command(role: &str) -> io::Result<Command> {
    if find(OsStr::new(role)).is_none() {
        return Err(io::Error::new(io::ErrorKind::NotFound, unknown(OsStr::new(role))));
    }
    let mut command = program()?;
    command.env(ROLE_VARIABLE, role);
    Ok(command)
}

#[cfg(target_os = "linux")]
fn program() -> io::Result<Command> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    // What `ps` shows should be the program's name.
    let name = env::args_os()
        .next()
        .or_else(|| env::current_exe().ok().map(OsString::from));
    if let Some(name) = name {
        command.arg0(name);
    }
    Ok(command)
}

#[cfg(not(target_os = "linux"))]
fn program() -> io::Result<Command> {
    env::current_exe().map(Command::new)
}

/// Enters the role that this process was started in, if it was started in one, and then does not return.
///
/// On Linux and macOS this has happened before `main`, and the call does nothing. Elsewhere it belongs at the top of `main`,
/// before anything else.
pub fn init() {
    let Some(name) = env::var_os(ROLE_VARIABLE) else {
        return;
    };
    before_main::remove_variable(ROLE_VARIABLE);
    before_main::ignore_sigpipe();
    let Some(role) = find(&name) else {
        eprintln!("par-process: {}", unknown(&name));
        process::exit(UNKNOWN_ROLE);
    };
    // The panic's text has been printed by its hook; nothing may unwind out of an initialiser.
    let code = panic::catch_unwind(role.main).unwrap_or(101);
    process::exit(code);
}

fn find(name: &OsStr) -> Option<&'static Role> {
    ROLES.iter().find(|role| OsStr::new(role.name) == name)
}

fn unknown(name: &OsStr) -> String {
    let mut known: Vec<&str> = ROLES.iter().map(|role| role.name).collect();
    known.sort_unstable();
    format!(
        "no role is named {name:?} in this program; it knows {}",
        known.join(", ")
    )
}
