//! The OpenCL backend: devices of every platform that the system's OpenCL library knows.
//!
//! [`sys`] loads the library and names its functions, [`vendors`] says which drivers are broken, [`result`] turns their statuses into errors, [`driver`] owns what they
//! make, [`source`] writes the programs, and [`device`] is the backend. Nothing but `sys` and `driver` is unsafe.

mod device;
mod driver;
mod result;
mod source;
mod sys;
mod vendors;

use crate::error::Problem;
pub(crate) use device::OpenCl;
use std::sync::{Mutex, PoisonError};

/// How to get a driver where there is none.
const INSTALL: &str = "install a driver, as `apt-get install pocl-opencl-icd`, which runs on any processor";

/// All devices, and what is broken or missing. Neither panics nor waits, whatever the drivers do that does not hang itself.
pub(crate) fn discover() -> (Vec<OpenCl>, Vec<Problem>) {
    // PoCL 3.1 says that it has no device while another thread asks it for the first time.
    static ASKING: Mutex<()> = Mutex::new(());
    let _asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    let problem = |why: String, install: &str| Problem {
        backend: "opencl",
        why,
        install: install.to_owned(),
    };
    let library = match sys::library() {
        Ok(library) => library,
        Err(why) => {
            let install =
                "install the loader and a driver, as `apt-get install ocl-icd-libopencl1 pocl-opencl-icd`";
            return (Vec::new(), vec![problem(why.clone(), install)]);
        }
    };
    let platforms = match driver::platforms(library) {
        Ok(platforms) => platforms,
        Err(error) => return (Vec::new(), vec![problem(error.to_string(), INSTALL)]),
    };
    let (mut devices, mut problems) = (Vec::new(), Vec::new());
    if platforms.is_empty() {
        problems.push(problem(vendors::explain(), INSTALL));
    } else {
        let broken = vendors::broken().into_iter();
        problems.extend(broken.map(|fault| problem(fault, "install that driver again, or remove the file")));
    }
    for platform in platforms {
        let name = platform.name();
        match platform.devices() {
            Ok(found) if found.is_empty() => {
                problems.push(problem(format!("the platform {name} has no device"), INSTALL));
            }
            Ok(found) => {
                for id in found {
                    match OpenCl::new(id, &name, devices.len()) {
                        Ok(device) => devices.push(device),
                        Err(error) => problems.push(problem(
                            format!("a device of the platform {name} cannot be used: {error}"),
                            "see the driver's own documentation",
                        )),
                    }
                }
            }
            Err(error) => problems.push(problem(
                format!("the platform {name} does not list its devices: {error}"),
                "see the driver's own documentation",
            )),
        }
    }
    (devices, problems)
}
