//! A kernel calls other kernels only, and fits its arguments.

use par_gpu::{Device, kernel, map};

fn plain(x: f32) -> f32 {
    x
}

#[kernel]
fn calls_plain(x: f32) -> f32 {
    plain(x)
}

#[kernel]
fn whole(x: f32) -> i32 {
    x as i32
}

#[kernel]
fn other_type(x: f32) -> f32 {
    let y: f32 = whole(x);
    y
}

#[kernel]
fn small(x: f32) -> bool {
    x < 1.0
}

fn main() {
    let x = Device::cpu().array(&[1.0f32]).unwrap();
    let _ = map::<whole>((&x, &x));
    let wide = Device::cpu().array(&[1.0f64]).unwrap();
    let _ = map::<whole>((&wide,));
    let _ = map::<small>((&x,));
    let _ = map::<Device>((&x,));
}
