//! The entry in the program's list of initialisers, and what is only sound there.
#![allow(unsafe_code)]

use crate::role;

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

/// The role of the workers of a [`ProcessPool`](crate::ProcessPool).
pub(crate) const WORKER: &str = "par-process-worker";

// An entry in a section of the linker counts as unsafe code, so that it stands here.
crate::role!(WORKER, crate::worker::main);
