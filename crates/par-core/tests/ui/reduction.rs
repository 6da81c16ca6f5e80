//! A reduction is a function of two values of one type, with an identity.

#[par_core::reduction]
fn no_identity(a: u8, b: u8) -> u8 {
    a.max(b)
}

#[par_core::reduction(identity = 0)]
fn of_one(a: u8) -> u8 {
    a
}

#[par_core::reduction(identity = 0)]
fn of_two_types(a: u8, _b: u16) -> u8 {
    a
}

#[par_core::reduction(identity = "none")]
fn other_identity(a: u8, b: u8) -> u8 {
    a.max(b)
}

#[par_core::reduction(identity = 0)]
async fn waits(a: u8, b: u8) -> u8 {
    a.max(b)
}

fn main() {}
