//! Statuses of OpenCL as errors: the one place where a number becomes a name.

use super::sys::{CL_SUCCESS, cl_int};
use crate::error::Error;

/// The device has no room for a buffer: said when it is made, or when it is first used.
const CL_MEM_OBJECT_ALLOCATION_FAILURE: cl_int = -4;

/// The name of a status in the header, with the number.
pub(super) fn name(status: cl_int) -> String {
    let name = match status {
        -1 => "CL_DEVICE_NOT_FOUND",
        -2 => "CL_DEVICE_NOT_AVAILABLE",
        -3 => "CL_COMPILER_NOT_AVAILABLE",
        CL_MEM_OBJECT_ALLOCATION_FAILURE => "CL_MEM_OBJECT_ALLOCATION_FAILURE",
        -5 => "CL_OUT_OF_RESOURCES",
        -6 => "CL_OUT_OF_HOST_MEMORY",
        -11 => "CL_BUILD_PROGRAM_FAILURE",
        -14 => "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
        -30 => "CL_INVALID_VALUE",
        -32 => "CL_INVALID_PLATFORM",
        -33 => "CL_INVALID_DEVICE",
        -34 => "CL_INVALID_CONTEXT",
        -36 => "CL_INVALID_COMMAND_QUEUE",
        -38 => "CL_INVALID_MEM_OBJECT",
        -43 => "CL_INVALID_BUILD_OPTIONS",
        -44 => "CL_INVALID_PROGRAM",
        -45 => "CL_INVALID_PROGRAM_EXECUTABLE",
        -46 => "CL_INVALID_KERNEL_NAME",
        -48 => "CL_INVALID_KERNEL",
        -49 => "CL_INVALID_ARG_INDEX",
        -50 => "CL_INVALID_ARG_VALUE",
        -51 => "CL_INVALID_ARG_SIZE",
        -52 => "CL_INVALID_KERNEL_ARGS",
        -54 => "CL_INVALID_WORK_GROUP_SIZE",
        -55 => "CL_INVALID_WORK_ITEM_SIZE",
        -61 => "CL_INVALID_BUFFER_SIZE",
        -63 => "CL_INVALID_GLOBAL_WORK_SIZE",
        -1001 => "CL_PLATFORM_NOT_FOUND_KHR",
        _ => return format!("status {status}"),
    };
    format!("{name} ({status})")
}

/// An error, unless the status is success.
pub(super) fn check(device: &str, call: &'static str, status: cl_int) -> Result<(), Error> {
    if status == CL_SUCCESS {
        return Ok(());
    }
    Err(failed(device, call, status))
}

pub(super) fn failed(device: &str, call: &'static str, status: cl_int) -> Error {
    Error::Driver {
        device: device.to_owned(),
        call,
        status: name(status),
        log: String::new(),
    }
}

/// As [`check`], where the status may say that there is no room for so many bytes. `CL_OUT_OF_RESOURCES` is left as it is: drivers
/// also say it of a kernel that is too large, or that crashed.
pub(super) fn check_room(
    device: &str,
    call: &'static str,
    status: cl_int,
    bytes: usize,
) -> Result<(), Error> {
    if status == CL_MEM_OBJECT_ALLOCATION_FAILURE {
        return Err(Error::OutOfMemory {
            device: device.to_owned(),
            bytes,
        });
    }
    check(device, call, status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_so_is_a_lack_of_room() {
        let room = check_room("opencl:0", "clCreateBuffer", -4, 12).expect_err("no room");
        assert_eq!(room.to_string(), "\"opencl:0\" has no room for 12 bytes");
        let crash = check_room("opencl:0", "clEnqueueReadBuffer", -5, 12).expect_err("a crash");
        assert_eq!(
            crash.to_string(),
            "\"opencl:0\": clEnqueueReadBuffer failed with CL_OUT_OF_RESOURCES (-5)"
        );
        assert_eq!(check_room("opencl:0", "clFinish", CL_SUCCESS, 0), Ok(()));
    }
}
