//! Arguments and results cross to other processes: serde both ways, and `Send`.

struct Plain;

#[par_core::task]
fn takes(_x: Plain) {}

#[par_core::task]
fn takes_two(_n: u8, _x: Plain) {}

#[par_core::task]
fn keeps(_x: std::rc::Rc<u8>) {}

#[par_core::task]
fn gives() -> Plain {
    Plain
}

#[par_core::task]
fn fails() -> Result<u8, Plain> {
    Err(Plain)
}

fn main() {}
