//! The functions of OpenCL 1.2 that are used here, loaded when the program first asks for devices.
//!
//! Signatures and numbers are those of the Khronos headers, cl.h and cl_platform.h.

#![allow(non_camel_case_types, reason = "the names of the OpenCL headers")]

use libloading::Library;
use std::error::Error;
use std::ffi::{OsStr, c_char, c_void};
use std::sync::OnceLock;

pub(super) type cl_int = i32;
pub(super) type cl_uint = u32;
pub(super) type cl_bool = u32;
pub(super) type cl_bitfield = u64;

/// Handles of the driver's objects, each a pointer to what only it knows.
macro_rules! handles {
    ($($name:ident)*) => {$(
        pub(super) type $name = *mut c_void;
    )*};
}
handles!(cl_platform_id cl_device_id cl_context cl_command_queue cl_mem cl_program cl_kernel);

pub(super) const CL_SUCCESS: cl_int = 0;
pub(super) const CL_DEVICE_NOT_FOUND: cl_int = -1;
pub(super) const CL_PLATFORM_NOT_FOUND_KHR: cl_int = -1001;
pub(super) const CL_TRUE: cl_bool = 1;
pub(super) const CL_MEM_READ_WRITE: cl_bitfield = 1;

pub(super) const CL_PLATFORM_VERSION: cl_uint = 0x0901;
pub(super) const CL_PLATFORM_NAME: cl_uint = 0x0902;

pub(super) const CL_DEVICE_TYPE_ALL: cl_bitfield = 0xffff_ffff;
pub(super) const CL_DEVICE_TYPE_CPU: cl_bitfield = 1 << 1;
pub(super) const CL_DEVICE_TYPE_GPU: cl_bitfield = 1 << 2;
pub(super) const CL_DEVICE_TYPE_ACCELERATOR: cl_bitfield = 1 << 3;

pub(super) const CL_DEVICE_TYPE: cl_uint = 0x1000;
pub(super) const CL_DEVICE_MAX_COMPUTE_UNITS: cl_uint = 0x1002;
pub(super) const CL_DEVICE_MAX_WORK_GROUP_SIZE: cl_uint = 0x1004;
pub(super) const CL_DEVICE_MAX_CLOCK_FREQUENCY: cl_uint = 0x100c;
pub(super) const CL_DEVICE_MAX_MEM_ALLOC_SIZE: cl_uint = 0x1010;
pub(super) const CL_DEVICE_SINGLE_FP_CONFIG: cl_uint = 0x101b;
pub(super) const CL_DEVICE_GLOBAL_MEM_SIZE: cl_uint = 0x101f;
pub(super) const CL_DEVICE_MAX_CONSTANT_BUFFER_SIZE: cl_uint = 0x1020;
pub(super) const CL_DEVICE_LOCAL_MEM_SIZE: cl_uint = 0x1023;
pub(super) const CL_DEVICE_AVAILABLE: cl_uint = 0x1027;
pub(super) const CL_DEVICE_COMPILER_AVAILABLE: cl_uint = 0x1028;
pub(super) const CL_DEVICE_NAME: cl_uint = 0x102b;
pub(super) const CL_DEVICE_VENDOR: cl_uint = 0x102c;
pub(super) const CL_DRIVER_VERSION: cl_uint = 0x102d;
pub(super) const CL_DEVICE_VERSION: cl_uint = 0x102f;
pub(super) const CL_DEVICE_DOUBLE_FP_CONFIG: cl_uint = 0x1032;

pub(super) const CL_FP_DENORM: cl_bitfield = 1 << 0;
pub(super) const CL_FP_INF_NAN: cl_bitfield = 1 << 1;
pub(super) const CL_FP_ROUND_TO_NEAREST: cl_bitfield = 1 << 2;
pub(super) const CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT: cl_bitfield = 1 << 7;

pub(super) const CL_PROGRAM_BUILD_LOG: cl_uint = 0x1183;
pub(super) const CL_KERNEL_WORK_GROUP_SIZE: cl_uint = 0x11b0;

/// A function of the library for each line.
macro_rules! functions {
    ($($field:ident $symbol:literal ($($ty:ty),*);)*) => {
        /// The loaded library.
        pub(super) struct OpenClLibrary {
            $(pub(super) $field: unsafe extern "system" fn($($ty),*) -> cl_int,)*
            pub(super) create_context: unsafe extern "system" fn(
                *const isize, cl_uint, *const cl_device_id, *const c_void, *mut c_void, *mut cl_int,
            ) -> cl_context,
            pub(super) create_queue:
                unsafe extern "system" fn(cl_context, cl_device_id, cl_bitfield, *mut cl_int) -> cl_command_queue,
            pub(super) create_buffer:
                unsafe extern "system" fn(cl_context, cl_bitfield, usize, *mut c_void, *mut cl_int) -> cl_mem,
            pub(super) create_program: unsafe extern "system" fn(
                cl_context, cl_uint, *const *const c_char, *const usize, *mut cl_int,
            ) -> cl_program,
            pub(super) create_kernel: unsafe extern "system" fn(cl_program, *const c_char, *mut cl_int) -> cl_kernel,
            /// Keeps the functions where they are.
            _library: Library,
        }

        fn load(library: Library) -> Result<OpenClLibrary, libloading::Error> {
            // SAFETY: the symbols are those of OpenCL, and the types are those of its headers.
            unsafe {
                Ok(OpenClLibrary {
                    $($field: *library.get(concat!($symbol, "\0").as_bytes())?,)*
                    create_context: *library.get(b"clCreateContext\0")?,
                    create_queue: *library.get(b"clCreateCommandQueue\0")?,
                    create_buffer: *library.get(b"clCreateBuffer\0")?,
                    create_program: *library.get(b"clCreateProgramWithSource\0")?,
                    create_kernel: *library.get(b"clCreateKernel\0")?,
                    _library: library,
                })
            }
        }
    };
}

functions! {
    get_platforms "clGetPlatformIDs" (cl_uint, *mut cl_platform_id, *mut cl_uint);
    get_platform_info "clGetPlatformInfo" (cl_platform_id, cl_uint, usize, *mut c_void, *mut usize);
    get_devices "clGetDeviceIDs" (cl_platform_id, cl_bitfield, cl_uint, *mut cl_device_id, *mut cl_uint);
    get_device_info "clGetDeviceInfo" (cl_device_id, cl_uint, usize, *mut c_void, *mut usize);
    release_context "clReleaseContext" (cl_context);
    release_queue "clReleaseCommandQueue" (cl_command_queue);
    release_buffer "clReleaseMemObject" (cl_mem);
    build_program "clBuildProgram" (cl_program, cl_uint, *const cl_device_id, *const c_char, *const c_void, *mut c_void);
    get_build_info "clGetProgramBuildInfo" (cl_program, cl_device_id, cl_uint, usize, *mut c_void, *mut usize);
    release_program "clReleaseProgram" (cl_program);
    set_kernel_arg "clSetKernelArg" (cl_kernel, cl_uint, usize, *const c_void);
    get_kernel_group_info "clGetKernelWorkGroupInfo" (cl_kernel, cl_device_id, cl_uint, usize, *mut c_void, *mut usize);
    release_kernel "clReleaseKernel" (cl_kernel);
    enqueue_kernel "clEnqueueNDRangeKernel" (
        cl_command_queue, cl_kernel, cl_uint, *const usize, *const usize, *const usize, cl_uint, *const c_void, *mut c_void
    );
    enqueue_read "clEnqueueReadBuffer" (
        cl_command_queue, cl_mem, cl_bool, usize, usize, *mut c_void, cl_uint, *const c_void, *mut c_void
    );
    enqueue_write "clEnqueueWriteBuffer" (
        cl_command_queue, cl_mem, cl_bool, usize, usize, *const c_void, cl_uint, *const c_void, *mut c_void
    );
    finish "clFinish" (cl_command_queue);
}

/// The library of this system, or why there is none.
pub(super) fn library() -> Result<&'static OpenClLibrary, &'static String> {
    static LIBRARY: OnceLock<Result<OpenClLibrary, String>> = OnceLock::new();
    LIBRARY.get_or_init(open).as_ref()
}

fn open() -> Result<OpenClLibrary, String> {
    const NAMES: &[&str] = if cfg!(target_os = "windows") {
        &["OpenCL.dll"]
    } else if cfg!(target_os = "macos") {
        &["/System/Library/Frameworks/OpenCL.framework/OpenCL"]
    } else {
        &["libOpenCL.so.1", "libOpenCL.so"]
    };
    let named = std::env::var_os("PAR_OPENCL_LIBRARY").filter(|name| !name.is_empty());
    let names: Vec<&OsStr> = match &named {
        Some(name) => vec![name],
        None => NAMES.iter().map(OsStr::new).collect(),
    };
    let mut why = String::new();
    for name in names {
        let shown = name.display();
        // SAFETY: an OpenCL library may be loaded at any time; what else a library of that name does is its owner's affair.
        match unsafe { Library::new(name) } {
            Ok(library) => {
                return load(library)
                    .map_err(|error| format!("{shown} is not an OpenCL 1.2 library: {}", reason(&error)));
            }
            Err(error) if why.is_empty() => why = format!("{shown} cannot be loaded: {}", reason(&error)),
            Err(_) => {}
        }
    }
    Err(why)
}

/// Whether a library can be loaded at all, and why not.
pub(super) fn try_to_load(name: &str) -> Result<(), String> {
    // SAFETY: the OpenCL loader was told to load it, and has done so or failed.
    let library = unsafe { Library::new(name) };
    library.map(drop).map_err(|error| reason(&error))
}

/// What the system says: the error itself names the failed function only.
fn reason(error: &libloading::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
