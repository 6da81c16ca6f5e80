//! Options are checked.

#[par_core::task(nmae = "x")]
fn unknown() {}

#[par_core::task(idempotent, idempotent)]
fn twice() {}

#[par_core::task(name = "")]
fn blank() {}

#[par_core::task(name = 7)]
fn no_text() {}

fn main() {}
