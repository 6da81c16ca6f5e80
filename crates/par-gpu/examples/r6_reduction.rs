//! Recipe: a dot product by a map and a reduction, on the default device and on every other that there is.
//!
//! Run it with `cargo run -p par-gpu --example r6_reduction`, with `--features opencl` for OpenCL devices too.

use par_gpu::{Device, Error, Sum, kernel, map_reduce};

/// The map expression; the reduce expression is `Sum`.
#[kernel]
fn times(x: f64, y: f64) -> f64 {
    x * y
}

fn dot(device: &Device) -> Result<f64, Error> {
    let a = device.collect((0..400u16).map(f64::from))?;
    let b = device.collect((0..400u16).map(f64::from))?;
    map_reduce::<times, _>((&a, &b), Sum)
}

fn main() -> Result<(), Error> {
    println!("{}", dot(&Device::default())?);
    for device in Device::list() {
        match dot(&device) {
            Ok(value) => println!("{}: {value}", device.name()),
            // Some graphics cards have no f64.
            Err(error @ Error::Unsupported { .. }) => println!("{error}"),
            Err(error) => return Err(error),
        }
    }
    for problem in Device::problems() {
        eprintln!("not here: {problem}");
    }
    Ok(())
}
