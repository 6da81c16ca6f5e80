//! Types of arguments and results have names.

#[par_core::task]
fn takes(x: impl Iterator<Item = u8>) -> u64 {
    x.count() as u64
}

#[par_core::task]
fn gives(n: u8) -> impl Iterator<Item = u8> {
    0..n
}

#[par_core::task]
fn never() -> ! {
    std::process::exit(1)
}

fn main() {}
