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
