//! Every value has one of a few types, known where it stands.

use par_gpu::kernel;

#[kernel]
fn text(x: String) -> f32 {
    1.0
}

#[kernel]
fn nothing(x: f32) {
    let _y = x;
}

#[kernel]
fn none() -> f32 {
    1.0
}

#[kernel]
fn generic<T>(x: T) -> T {
    x
}

#[kernel]
async fn later(x: f32) -> f32 {
    x
}

#[kernel]
fn mixed(x: f32, y: f64) -> f64 {
    x + y
}

#[kernel]
fn unknown(x: f32) -> f32 {
    let half = 0.5;
    x * half
}

#[kernel]
fn whole(x: f32) -> f32 {
    x + 1
}

#[kernel]
fn negative(x: u32) -> u32 {
    -x
}

#[kernel]
fn too_large(x: i32) -> i32 {
    x + 3000000000
}

#[kernel]
fn infinite(x: f32) -> f32 {
    x + 1e39
}

#[kernel]
fn other_result(x: f32) -> f64 {
    x
}

struct Not;

#[kernel]
struct NoFunction;

#[kernel(speed = 3)]
fn options(x: f32) -> f32 {
    x
}

fn main() {}
