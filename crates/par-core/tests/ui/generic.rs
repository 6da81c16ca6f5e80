//! A task has one type, for workers find it by name.

#[par_core::task]
fn of_a_type<T>(x: T) -> T {
    x
}

#[par_core::task]
fn of_a_lifetime<'a>(x: std::borrow::Cow<'a, str>) -> usize {
    x.len()
}

#[par_core::task]
fn of_a_number<const N: usize>(x: [u8; N]) -> u8 {
    x[0]
}

fn main() {}
