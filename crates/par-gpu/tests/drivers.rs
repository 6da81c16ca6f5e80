//! Missing and broken drivers of OpenCL: each in a child process, as drivers are looked for once in a program.

use par_gpu::{Device, Sum};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Says to this test, when it is a child, that it should only print what it finds.
const CHILD: &str = "PAR_GPU_DRIVERS_CHILD";

/// What a child found: names of devices, and the problems.
fn found_with(variables: &[(&str, &OsStr)]) -> (Vec<String>, Vec<String>) {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args([
            "--exact",
            "drivers_that_are_missing_or_broken_are_said_at_once",
            "--nocapture",
        ])
        .env_remove("OCL_ICD_VENDORS")
        .env_remove("PAR_OPENCL_LIBRARY")
        .env(CHILD, "1")
        .envs(variables.iter().copied());
    let started = Instant::now();
    let output = child.output().expect("a child");
    let took = started.elapsed();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{variables:?}: {text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(took < Duration::from_secs(8), "{variables:?} took {took:?}");
    let lines = |prefix: &str| {
        // The test harness writes its own words before the first line.
        let found = text.lines().filter_map(|line| line.split_once(prefix));
        found.map(|(_, rest)| rest.to_owned()).collect::<Vec<_>>()
    };
    (lines("device="), lines("problem="))
}

fn print_what_is_found() {
    // The cpu device is there before any driver is loaded, which may take its time.
    let sum = |device: Device| {
        let x = device.array(&[1.0f64, 2.0, 4.0]).expect("an array");
        assert_eq!(x.reduce(Sum).expect("a sum"), 7.0);
    };
    let loaded = || std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains("libOpenCL"));
    sum(Device::cpu());
    assert!(!loaded(), "the cpu device loads OpenCL");
    let devices = Device::list();
    assert!(
        devices.len() == 1 || loaded() || !cfg!(target_os = "linux"),
        "this test sees whether OpenCL is loaded"
    );
    for device in devices {
        println!("\ndevice={}", device.name());
    }
    for problem in Device::problems() {
        println!("\nproblem={problem}");
    }
    sum(Device::default());
}

/// A vendors folder with a file that names this library.
fn vendors(folder: &Path, library: &str) -> std::path::PathBuf {
    let place = folder.join(library.replace(['/', '.'], "_"));
    std::fs::create_dir(&place).expect("a folder");
    std::fs::write(place.join("some.icd"), format!("{library}\n")).expect("a file");
    place
}

#[test]
fn drivers_that_are_missing_or_broken_are_said_at_once() {
    if std::env::var_os(CHILD).is_some() {
        print_what_is_found();
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let only_problem = |variable: &str, value: &OsStr| {
        let (devices, mut problems) = found_with(&[(variable, value)]);
        assert_eq!(devices, ["cpu"], "{value:?}");
        assert_eq!(problems.len(), 1, "{value:?}: {problems:?}");
        problems.remove(0)
    };

    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let problem = only_problem("OCL_ICD_VENDORS", empty.as_os_str());
    assert!(
        problem.starts_with("opencl: the OpenCL library knows no platform"),
        "{problem}"
    );
    assert!(problem.contains("names no driver"), "{problem}");
    assert!(problem.contains("apt-get install pocl-opencl-icd"), "{problem}");

    let missing = vendors(folder.path(), "libno-such-driver.so.1");
    let problem = only_problem("OCL_ICD_VENDORS", missing.as_os_str());
    assert!(problem.contains("libno-such-driver.so.1, named in"), "{problem}");
    assert!(problem.contains("cannot be loaded"), "{problem}");
    // With the system's own reason.
    assert!(problem.contains("cannot open shared object file"), "{problem}");

    let no_driver = vendors(folder.path(), "libm.so.6");
    let problem = only_problem("OCL_ICD_VENDORS", no_driver.as_os_str());
    assert!(problem.contains("libm.so.6, named in"), "{problem}");
    assert!(problem.contains("it is no driver, or a broken one"), "{problem}");

    let problem = only_problem("PAR_OPENCL_LIBRARY", OsStr::new("libno-such-loader.so.1"));
    assert!(
        problem.contains("libno-such-loader.so.1 cannot be loaded"),
        "{problem}"
    );
    assert!(
        problem.contains("apt-get install ocl-icd-libopencl1 pocl-opencl-icd"),
        "{problem}"
    );
    let problem = only_problem("PAR_OPENCL_LIBRARY", OsStr::new("libm.so.6"));
    assert!(
        problem.contains("libm.so.6 is not an OpenCL 1.2 library"),
        "{problem}"
    );
    assert!(problem.contains("undefined symbol: clGet"), "{problem}");

    let by_default = found_with(&[]);
    let (devices, problems) = &by_default;
    assert!(
        devices.iter().any(|name| name.starts_with("opencl:")),
        "there is no OpenCL device: apt-get install pocl-opencl-icd ocl-icd-opencl-dev\n{problems:?}"
    );
    // An empty variable is none.
    assert_eq!(found_with(&[("PAR_OPENCL_LIBRARY", OsStr::new(""))]), by_default);

    // A driver that cannot be loaded is said beside one that can.
    let mixed = vendors(folder.path(), "libno-other-driver.so.1");
    for entry in std::fs::read_dir("/etc/OpenCL/vendors").expect("a folder of drivers") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), mixed.join(entry.file_name())).expect("a copy");
    }
    let (found, problems) = found_with(&[("OCL_ICD_VENDORS", mixed.as_os_str())]);
    assert_eq!(&found, devices);
    let said = |problem: &&String| problem.contains("libno-other-driver.so.1, named in");
    assert_eq!(problems.iter().filter(said).count(), 1, "{problems:?}");
}
