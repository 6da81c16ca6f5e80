//! A task is a plain function.

#[par_core::task]
unsafe fn unsafe_one(x: u8) -> u8 {
    x
}

#[par_core::task]
extern "C" fn foreign(x: u8) -> u8 {
    x
}

#[par_core::task]
const fn constant(x: u8) -> u8 {
    x
}

#[par_core::task]
struct NotAFunction;

#[par_core::task]
fn other_parameters(#[cfg(unix)] _x: u8, y: u8) -> u8 {
    y
}

fn main() {}
