//! What a kernel cannot have is named.

use par_gpu::kernel;

#[kernel]
fn matches(x: i32) -> i32 {
    match x { 0 => 1, other => other }
}

#[kernel]
fn prints(x: f32) -> f32 {
    println!("{x}");
    x
}

#[kernel]
fn indexes(x: u32) -> u32 {
    [1u32, 2][x]
}

#[kernel]
fn borrows(x: f32) -> f32 {
    let y = &x;
    *y
}

#[kernel]
fn returns(x: f32) -> f32 {
    return x;
}

#[kernel]
fn closes(x: f32) -> f32 {
    let f = |y: f32| y;
    f(x)
}

#[kernel]
fn loops(x: f32) -> f32 {
    loop {}
}

#[kernel]
fn pairs(x: f32) -> f32 {
    (x, x).0
}

#[kernel]
fn asks(x: f32) -> f32 {
    x?
}

#[kernel]
fn unsafely(x: f32) -> f32 {
    unsafe { x }
}

#[kernel]
fn sine(x: f32) -> f32 {
    x.sin()
}

#[kernel]
fn recurses(x: u32) -> u32 {
    if x == 0 { 0 } else { recurses(x - 1) }
}

#[kernel]
fn divides(x: i32, y: i32) -> i32 {
    x / y
}

#[kernel]
fn assigns(x: f32) -> f32 {
    x = 1.0;
    x
}

#[kernel]
fn without_else(x: f32) -> f32 {
    let y = if x > 0.0 { x };
    y
}

#[kernel]
fn idle(x: f32) -> f32 {
    x + 1.0;
    x
}

#[kernel]
fn sometimes(x: f32) -> f32 {
    let mut y = x;
    #[cfg(windows)]
    y = 2.0;
    y
}

#[kernel]
fn sometimes_more(x: f32) -> f32 {
    let mut y = x;
    #[cfg(windows)]
    {
        y += 2.0;
    }
    y
}

#[kernel]
fn unnamed(x: f32) -> f32 {
    let mut y = x;
    for _ in 0..3_i32 {
        y = y * y;
    }
    y
}

#[kernel]
fn unused(x: f32) -> f32 {
    x.sqrt();
    x
}

#[kernel]
fn raw_recursion(x: u32) -> u32 {
    r#raw_recursion(x)
}

#[kernel]
fn by_path(x: f32) -> f32 {
    f32::max(x, 1.0)
}

/// Uses of what is wrong are not errors of their own.
fn main() -> Result<(), par_gpu::Error> {
    let device = par_gpu::Device::cpu();
    device.array(&[0.5])?.map::<sine>()?;
    let _ = sine(1.0);
    Ok(())
}
