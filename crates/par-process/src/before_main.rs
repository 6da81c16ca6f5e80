//! The entry in the program's list of initialisers, and what is only sound there.
#![allow(unsafe_code)]

use crate::role;
use std::sync::OnceLock;

/// Called by the loader before `main`. The standard library's own entry, which keeps the arguments, has a priority and comes
/// earlier; ours has none.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg(any(target_os = "linux", target_os = "macos"))]
// SAFETY: the section holds pointers to functions that the loader calls once, with C's calling convention and arguments that
// may be ignored; this is such a pointer, and the function does not unwind.
static ENTRY: extern "C" fn() = {
    extern "C" fn entry() {
        role::init();
    }
    entry
};

/// Removes a variable from the environment of this process.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: called at the start of the process, by the loader or as the first line of `main`, before there is another
    // thread that could read the environment.
    unsafe { std::env::remove_var(name) };
}

/// A write to a closed pipe is an error, not a death: what the standard library arranges before `main`.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: ignoring a signal installs no handler, and nothing else depends on this one yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// An interrupt from the keyboard reaches the whole group of processes; this one leaves it to its parent.
pub(crate) fn ignore_interrupt() {
    // SAFETY: ignoring a signal installs no handler, and nothing of this process depends on this one.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Has the function called when the process ends in peace: at the end of `main`, or by `exit`. The first call counts.
pub(crate) fn at_exit(function: fn()) {
    static FUNCTION: OnceLock<fn()> = OnceLock::new();
    extern "C" fn call() {
        if let Some(function) = FUNCTION.get() {
            // The panic's text has been printed by its hook; nothing may unwind out of here.
            let _ = std::panic::catch_unwind(function);
        }
    }
    if FUNCTION.set(function).is_ok() {
        // SAFETY: `call` has C's calling convention and does not unwind. The function is of this program, which is never unloaded.
        unsafe { libc::atexit(call) };
    }
}

/// The role of a [`Process`](crate::Process).
pub(crate) const CHILD: &str = "par-process-child";

/// The role of the workers of a [`ProcessPool`](crate::ProcessPool).
pub(crate) const WORKER: &str = "par-process-worker";

// Entries in a section of the linker count as unsafe code, so that they stand here.
crate::role!(WORKER, crate::worker::main);
crate::role!(CHILD, crate::process::child::main);
