//! A device of OpenCL as a backend: what it is, its kernels, and what it refuses.

use super::driver::{Buffer, DeviceId, Kernel, KernelArg, Queue};
use super::source;
use super::sys::*;
use crate::backend::{Arg, DeviceBackend, Fold, Launch, Memory};
use crate::device::{DeviceInfo, DeviceKind};
use crate::element::Value;
use crate::error::Error;
use par_core::ScanKind;
use par_core::fold::LEAF;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Work-items of a group: a multiple of what any device runs in step.
const GROUP: usize = 256;
/// Work-items of a group where each folds a leaf.
const LEAF_GROUP: usize = 64;

/// A device.
pub(crate) struct OpenCl {
    info: DeviceInfo,
    queue: Arc<Queue>,
    /// What it promises of `float` and `double`.
    single: cl_bitfield,
    double: cl_bitfield,
    kernels: Mutex<HashMap<Key, Arc<Kernel>>>,
}

/// What a compiled program depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    kernel: TypeId,
    form: Form,
    /// What each argument is: two bits.
    args: u32,
}

/// The loop around a kernel; for folds, whether they have a start.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Map,
    Fold(TypeId, bool),
    Scan(TypeId, bool, ScanKind),
}

impl OpenCl {
    /// The device of a platform, as number `index` of all.
    pub(super) fn new(id: DeviceId, platform: &str, index: usize) -> Result<Self, Error> {
        let name = format!("opencl:{index}");
        let number = |what| id.number(what);
        let ty = number(CL_DEVICE_TYPE);
        let kind = match ty {
            ty if ty & CL_DEVICE_TYPE_GPU != 0 => DeviceKind::Gpu,
            ty if ty & CL_DEVICE_TYPE_ACCELERATOR != 0 => DeviceKind::Accelerator,
            ty if ty & CL_DEVICE_TYPE_CPU != 0 => DeviceKind::Cpu,
            _ => DeviceKind::Other,
        };
        let unsupported = |why: &str| Error::Unsupported {
            device: name.clone(),
            why: why.to_owned(),
        };
        if number(CL_DEVICE_AVAILABLE) == 0 {
            return Err(unsupported("the driver says that it is not available"));
        }
        if number(CL_DEVICE_COMPILER_AVAILABLE) == 0 {
            return Err(unsupported("its driver has no compiler"));
        }
        let double = number(CL_DEVICE_DOUBLE_FP_CONFIG);
        let info = DeviceInfo {
            backend: "opencl",
            platform: platform.to_owned(),
            model: id.text(CL_DEVICE_NAME),
            vendor: id.text(CL_DEVICE_VENDOR),
            version: id.text(CL_DEVICE_VERSION),
            driver: id.text(CL_DRIVER_VERSION),
            kind,
            compute_units: number(CL_DEVICE_MAX_COMPUTE_UNITS) as usize,
            clock_mhz: number(CL_DEVICE_MAX_CLOCK_FREQUENCY) as u32,
            global_memory: number(CL_DEVICE_GLOBAL_MEM_SIZE),
            local_memory: number(CL_DEVICE_LOCAL_MEM_SIZE),
            constant_memory: number(CL_DEVICE_MAX_CONSTANT_BUFFER_SIZE),
            max_allocation: number(CL_DEVICE_MAX_MEM_ALLOC_SIZE),
            max_work_group: number(CL_DEVICE_MAX_WORK_GROUP_SIZE) as usize,
            fp64: double != 0,
            name: name.clone(),
        };
        Ok(OpenCl {
            queue: Queue::new(id, name)?,
            single: number(CL_DEVICE_SINGLE_FP_CONFIG),
            double,
            info,
            kernels: Mutex::default(),
        })
    }

    /// The kernel for a key, compiled where it is not there.
    fn kernel(&self, key: Key, source: impl FnOnce() -> String) -> Result<Arc<Kernel>, Error> {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(&key) {
            return Ok(Arc::clone(kernel));
        }
        let source = source();
        let options = exact(&source, self.single, self.double).map_err(|why| Error::Unsupported {
            device: self.info.name.clone(),
            why: why.to_owned(),
        })?;
        let kernel = Arc::new(self.queue.compile(&source, options, source::ENTRY)?);
        kernels.insert(key, Arc::clone(&kernel));
        Ok(kernel)
    }

    /// The buffer behind memory of this backend.
    fn buffer<'a>(&self, memory: &'a dyn Memory) -> Result<&'a Buffer, Error> {
        (memory as &dyn Any).downcast_ref().ok_or_else(|| self.foreign())
    }

    fn foreign(&self) -> Error {
        Error::Backend {
            device: self.info.name.clone(),
            how: "was given memory that is not its own".to_owned(),
        }
    }

    /// Runs a kernel: length and output, the launch's arguments, then what else there is.
    fn run(
        &self,
        kernel: &Kernel,
        launch: &Launch<'_>,
        out: &Buffer,
        more: &[KernelArg<'_>],
        items: usize,
        group: usize,
    ) -> Result<(), Error> {
        let len = (launch.len as u64).to_ne_bytes();
        let mut scalars = [[0u8; 8]; 8];
        let mut arguments = Vec::with_capacity(2 + launch.args.len() + more.len());
        arguments.push(KernelArg::Bytes(&len));
        arguments.push(KernelArg::Buffer(out));
        for (arg, bytes) in launch.args.iter().zip(&mut scalars) {
            match arg {
                Arg::Scalar(value) => arguments.push(KernelArg::Bytes(scalar(*value, bytes))),
                Arg::Array(memory, _) => arguments.push(KernelArg::Buffer(self.buffer(*memory)?)),
                Arg::Index | Arg::Output => {}
            }
        }
        for argument in more {
            arguments.push(match argument {
                KernelArg::Bytes(bytes) => KernelArg::Bytes(bytes),
                KernelArg::Buffer(buffer) => KernelArg::Buffer(buffer),
            });
        }
        kernel.run(&arguments, items, group)
    }
}

/// Without warnings: nobody but this crate could act on them, and some drivers print them.
const OPTIONS: &str = "-cl-std=CL1.2 -w";

/// Refuses a program that a device with these abilities would not compute to the last bit; else the compiler's options.
fn exact(source: &str, single: cl_bitfield, double: cl_bitfield) -> Result<&'static str, &'static str> {
    const NEEDED: cl_bitfield = CL_FP_DENORM | CL_FP_INF_NAN | CL_FP_ROUND_TO_NEAREST;
    if source::needs_fp64(source) {
        if double == 0 {
            return Err("it does not compute with f64");
        }
        if double & NEEDED != NEEDED {
            return Err("its f64 has no subnormal numbers, infinities or rounding to nearest");
        }
    }
    if source::needs_fp32(source) {
        if single & NEEDED != NEEDED {
            return Err("its f32 has no subnormal numbers, infinities or rounding to nearest");
        }
        if source::divides(source) {
            if single & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT == 0 {
                return Err("it does not round divisions and roots of f32 correctly");
            }
            return Ok("-cl-std=CL1.2 -w -cl-fp32-correctly-rounded-divide-sqrt");
        }
    }
    Ok(OPTIONS)
}

/// The bytes of a number, in that room.
fn scalar(value: Value, room: &mut [u8; 8]) -> &[u8] {
    fn put<'a>(room: &'a mut [u8; 8], bytes: &[u8]) -> &'a [u8] {
        let room = &mut room[..bytes.len()];
        room.copy_from_slice(bytes);
        room
    }
    match value {
        Value::F32(value) => put(room, &value.to_ne_bytes()),
        Value::F64(value) => put(room, &value.to_ne_bytes()),
        Value::I32(value) => put(room, &value.to_ne_bytes()),
        Value::U32(value) => put(room, &value.to_ne_bytes()),
        Value::I64(value) => put(room, &value.to_ne_bytes()),
        Value::U64(value) => put(room, &value.to_ne_bytes()),
        Value::Bool(value) => put(room, &[u8::from(value)]),
    }
}

fn key(launch: &Launch<'_>, form: Form) -> Key {
    let code = |arg: &Arg<'_>| match arg {
        Arg::Scalar(_) => 0,
        Arg::Array(..) => 1,
        Arg::Index => 2,
        Arg::Output => 3,
    };
    Key {
        kernel: launch.id,
        form,
        args: launch.args.iter().fold(0, |args, arg| args << 2 | code(arg)),
    }
}

impl DeviceBackend for OpenCl {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: usize) -> Result<Box<dyn Memory>, Error> {
        Ok(Box::new(self.queue.buffer(bytes)?))
    }

    fn write(&self, memory: &mut dyn Memory, bytes: &[u8]) -> Result<(), Error> {
        let buffer = (memory as &mut dyn Any)
            .downcast_mut()
            .ok_or_else(|| self.foreign())?;
        self.queue.write(buffer, bytes)
    }

    fn read(&self, memory: &dyn Memory, bytes: &mut [u8]) -> Result<(), Error> {
        self.queue.read(self.buffer(memory)?, bytes)
    }

    fn map(&self, launch: &Launch<'_>, out: &mut dyn Memory) -> Result<(), Error> {
        let kernel = self.kernel(key(launch, Form::Map), || source::map(launch))?;
        self.run(&kernel, launch, self.buffer(out)?, &[], launch.len, GROUP)
    }

    fn fold_leaves(&self, launch: &Launch<'_>, fold: &Fold, totals: &mut [u8]) -> Result<(), Error> {
        let form = Form::Fold(fold.id, fold.start.is_some());
        let kernel = self.kernel(key(launch, form), || source::fold_leaves(launch, fold))?;
        let on_device = self.queue.buffer(totals.len())?;
        let mut room = [0; 8];
        let start = fold.start.map(|value| KernelArg::Bytes(scalar(value, &mut room)));
        let leaves = launch.len.div_ceil(LEAF);
        self.run(&kernel, launch, &on_device, start.as_slice(), leaves, LEAF_GROUP)?;
        self.queue.read(&on_device, totals)
    }

    fn scan_leaves(
        &self,
        launch: &Launch<'_>,
        fold: &Fold,
        kind: ScanKind,
        prefixes: &[u8],
        out: &mut dyn Memory,
    ) -> Result<(), Error> {
        if kind == ScanKind::Exclusive && fold.start.is_none() {
            return Err(Error::Backend {
                device: self.info.name.clone(),
                how: "was given an exclusive scan without a start".to_owned(),
            });
        }
        let form = Form::Scan(fold.id, fold.start.is_some(), kind);
        let kernel = self.kernel(key(launch, form), || source::scan_leaves(launch, fold, kind))?;
        let mut before = self.queue.buffer(prefixes.len())?;
        self.queue.write(&mut before, prefixes)?;
        let mut room = [0; 8];
        let mut more = Vec::with_capacity(2);
        more.extend(fold.start.map(|value| KernelArg::Bytes(scalar(value, &mut room))));
        more.push(KernelArg::Buffer(&before));
        let leaves = launch.len.div_ceil(LEAF);
        self.run(&kernel, launch, self.buffer(out)?, &more, leaves, LEAF_GROUP)
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.queue.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: cl_bitfield =
        CL_FP_DENORM | CL_FP_INF_NAN | CL_FP_ROUND_TO_NEAREST | CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;

    #[test]
    fn devices_that_would_give_other_bits_refuse() {
        assert_eq!(exact("int x = a + b;", 0, 0), Ok(OPTIONS));
        assert_eq!(
            exact("double x = a + b;", FULL, 0),
            Err("it does not compute with f64")
        );
        let flushes = FULL & !CL_FP_DENORM;
        let why = exact("float x = a + b;", flushes, 0).expect_err("flushes");
        assert_eq!(
            why,
            "its f32 has no subnormal numbers, infinities or rounding to nearest"
        );
        let rough = FULL & !CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
        for source in ["float x = a * b;", "float x = a; int y = b / 7;"] {
            assert_eq!(exact(source, rough, 0), Ok(OPTIONS));
        }
        for source in ["float x = par_div_f32(a, b);", "float x = par_sqrt_f32(a);"] {
            let why = exact(source, rough, 0).expect_err("rough");
            assert_eq!(why, "it does not round divisions and roots of f32 correctly");
            assert!(
                exact(source, FULL, 0)
                    .expect("exact")
                    .ends_with("correctly-rounded-divide-sqrt")
            );
        }
        // Of double they are always exact.
        assert_eq!(exact("double x = par_div_f64(a, b);", rough, FULL), Ok(OPTIONS));
        // Names of the user's are no types.
        assert_eq!(exact("int k0_double(int v1_float) {}", 0, 0), Ok(OPTIONS));
    }

    /// The first device.
    fn device() -> OpenCl {
        let (mut devices, problems) = super::super::discover();
        assert!(
            !devices.is_empty(),
            "there is no OpenCL device: apt-get install pocl-opencl-icd ocl-icd-opencl-dev\n{problems:?}"
        );
        devices.remove(0)
    }

    #[test]
    fn what_the_compiler_says_is_in_the_error() {
        let queue = device().queue;
        let error = queue
            .compile("__kernel void f() { nonsense(); }", OPTIONS, "f")
            .err()
            .expect("nonsense");
        let text = error.to_string();
        assert!(
            text.contains("clBuildProgram failed with CL_BUILD_PROGRAM_FAILURE (-11)"),
            "{text}"
        );
        assert!(text.contains("nonsense"), "{text}");
        let error = queue
            .compile("__kernel void f() {}", OPTIONS, "g")
            .err()
            .expect("another name");
        assert!(
            error
                .to_string()
                .contains("clCreateKernel failed with CL_INVALID_KERNEL_NAME (-46)"),
            "{error}"
        );
    }

    #[test]
    fn memory_of_another_backend_and_bytes_without_room_are_refused() {
        struct Foreign;
        impl Memory for Foreign {}
        let device = device();
        let error = device.read(&Foreign, &mut [0]).expect_err("foreign");
        assert_eq!(
            error.to_string(),
            "the backend of \"opencl:0\" was given memory that is not its own"
        );
        let memory = device.allocate(4).expect("four bytes");
        let error = device.read(&*memory, &mut [0; 8]).expect_err("eight of four");
        assert!(
            error
                .to_string()
                .contains("copy 8 bytes to or from a buffer of 4"),
            "{error}"
        );
    }
}
