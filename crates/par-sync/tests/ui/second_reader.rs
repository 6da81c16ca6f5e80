//! Where there is one reader, there is no second.
use par_sync::csp;

fn main() {
    let (_out, into) = csp::any2one::<u32>();
    let _second = into.clone();
}
