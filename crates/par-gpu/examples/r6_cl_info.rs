//! Recipe: all OpenCL devices, and what each is.
//!
//! Run it with `cargo run -p par-gpu --features opencl --example r6_cl_info`.

use par_gpu::{Device, DeviceInfo};

fn main() {
    let devices = Device::list();
    let infos = devices
        .iter()
        .map(Device::info)
        .filter(|info| info.backend == "opencl");
    let infos: Vec<&DeviceInfo> = infos.collect();
    let mut platform = "";
    for info in &infos {
        if info.platform != platform {
            platform = &info.platform;
            println!("Platform - {platform}");
        }
        println!("  Device - {} ({})", info.model, info.name);
        println!("    Vendor: {}", info.vendor);
        println!("    Type: {}", info.kind);
        println!("    Version: {}, driver {}", info.version, info.driver);
        println!("    Clock Speed: {} MHz", info.clock_mhz);
        println!("    Compute Units: {}", info.compute_units);
        println!("    Local Memory: {} KiB", info.local_memory >> 10);
        println!("    Constant Memory: {} KiB", info.constant_memory >> 10);
        println!(
            "    Global Memory: {:.1} GiB",
            info.global_memory as f64 / f64::from(1 << 30)
        );
        println!(
            "    Max Allocation: {:.1} GiB",
            info.max_allocation as f64 / f64::from(1 << 30)
        );
        println!("    Max Work-Group Size: {}", info.max_work_group);
        println!("    f64: {}", if info.fp64 { "yes" } else { "no" });
    }
    if infos.is_empty() {
        println!("There is no OpenCL device.");
    }
    for problem in Device::problems() {
        println!("{problem}");
    }
}
