//! What a device runs and reads is said by this crate alone, unless somebody promises in so many words.

use par_gpu::{Argument, Arguments, Kernel, Source};

struct Mine;

impl Kernel for Mine {
    type Args = (f32,);
    type Output = f32;
    const SOURCE: &'static Source = panic!("it could say anything");

    fn call((x,): (f32,)) -> f32 {
        x
    }
}

struct Pointer;

impl Argument<f32> for Pointer {}

impl Arguments<(f32,)> for Pointer {}

fn main() {}
