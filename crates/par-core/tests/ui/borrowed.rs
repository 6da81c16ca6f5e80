//! Arguments and results are owned.

#[par_core::task]
fn text(x: &str, y: &[u32]) -> usize {
    x.len() + y.len()
}

#[par_core::task]
fn inside(x: Vec<(u8, &std::path::Path)>) -> &'static str {
    let _ = x;
    "static"
}

#[par_core::task]
fn changes(x: &mut Vec<u8>) {
    x.clear();
}

fn main() {}
