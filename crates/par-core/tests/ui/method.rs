//! A task is a free function.

struct Table;

impl Table {
    #[par_core::task]
    fn look_up(&self, key: u8) -> u8 {
        key
    }
}

fn main() {}
