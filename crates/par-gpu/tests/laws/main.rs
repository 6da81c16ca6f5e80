//! The laws of arrays on every device that is here, and a broken device for each law, which must fail it.

mod broken;

use par_gpu::Device;
use par_gpu::conformance::{LAWS, OnDevice, laws};

/// Runs every law, also after one failed, and fails with all that did.
fn keeps_all_laws(device: Device) {
    let name = device.name().to_owned();
    let subject = OnDevice(device);
    let mut failed = Vec::new();
    for (law, check) in LAWS.iter().zip(laws::<OnDevice>()) {
        if let Err(error) = par_gpu::par_core::catch(|| check(&subject)) {
            failed.push(format!("{law}: {error}"));
        }
    }
    assert!(
        failed.is_empty(),
        "{name} breaks {} laws:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn the_cpu_keeps_all_laws() {
    keeps_all_laws(Device::cpu());
}

/// On every device of OpenCL. Without one this fails: whoever asks for the feature has no other test of it.
#[cfg(feature = "opencl")]
#[test]
fn every_opencl_device_keeps_all_laws() {
    let devices = Device::list();
    let mut devices = devices
        .into_iter()
        .filter(|device| device.info().backend == "opencl")
        .peekable();
    assert!(
        devices.peek().is_some(),
        "there is no OpenCL device: apt-get install pocl-opencl-icd ocl-icd-opencl-dev\n{:?}",
        Device::problems()
    );
    devices.for_each(keeps_all_laws);
}
