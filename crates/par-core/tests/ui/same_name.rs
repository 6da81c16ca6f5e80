//! A task takes its name as a type, too.

#[allow(non_camel_case_types)]
struct area {}

#[par_core::task]
fn area(x: u8) -> u8 {
    x
}

fn main() {}
