//! What the driver makes, owned: platforms, devices, queues, buffers, kernels. Every call of the driver is here.
//!
//! 1. A handle is released once, when its owner is dropped; whoever needs it for longer holds the owner.
//! 2. Work given to a queue keeps the driver's objects alive by itself (OpenCL counts references), so buffers and kernels may
//!    be dropped before it is done. Memory of the host may not: reads and writes wait.
//! 3. Arguments of a kernel are set and the kernel enqueued under one lock ([`Kernel::run`]), as they belong to the kernel.

use super::result::{check, check_room, failed};
use super::sys::*;
use crate::backend;
use crate::error::Error;
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

type Lib = &'static OpenClLibrary;

/// A platform: a driver, with its devices.
pub(super) struct Platform {
    lib: Lib,
    id: cl_platform_id,
}

/// All platforms.
pub(super) fn platforms(lib: Lib) -> Result<Vec<Platform>, Error> {
    // SAFETY: `list` gives as much room as it says.
    let ids = list(|room, ids, count| unsafe { (lib.get_platforms)(room, ids, count) });
    match ids {
        Err(CL_PLATFORM_NOT_FOUND_KHR) => Ok(Vec::new()),
        Err(status) => Err(failed("opencl", "clGetPlatformIDs", status)),
        Ok(ids) => Ok(ids.into_iter().map(|id| Platform { lib, id }).collect()),
    }
}

/// The handles that a query answers with: their number is asked for first. Fewer may come then.
fn list(ask: impl Fn(cl_uint, *mut *mut c_void, *mut cl_uint) -> cl_int) -> Result<Vec<*mut c_void>, cl_int> {
    /// No system has more; a broken driver must not make us allocate without bound.
    const MOST: cl_uint = 1024;
    let mut count = 0;
    match ask(0, null_mut(), &mut count) {
        CL_SUCCESS => {}
        status => return Err(status),
    }
    let room = count.min(MOST);
    if room == 0 {
        return Ok(Vec::new());
    }
    let mut ids = vec![null_mut(); room as usize];
    match ask(room, ids.as_mut_ptr(), &mut count) {
        CL_SUCCESS => {}
        status => return Err(status),
    }
    ids.truncate(count.min(room) as usize);
    ids.retain(|id| !id.is_null());
    Ok(ids)
}

/// The bytes that a query answers with: its size is asked for first.
fn query(ask: impl Fn(usize, *mut c_void, *mut usize) -> cl_int) -> Result<Vec<u8>, cl_int> {
    /// No answer is longer; a broken driver must not make us allocate without bound.
    const MOST: usize = 16 << 20;
    let mut size = 0;
    match ask(0, null_mut(), &mut size) {
        CL_SUCCESS if size <= MOST => {}
        CL_SUCCESS => return Err(-30),
        status => return Err(status),
    }
    let mut bytes = vec![0u8; size];
    match ask(size, bytes.as_mut_ptr().cast(), null_mut()) {
        CL_SUCCESS => Ok(bytes),
        status => Err(status),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_matches(['\0', ' ', '\n'])
        .to_owned()
}

impl Platform {
    fn info(&self, what: cl_uint) -> String {
        // SAFETY: `query` gives as much room as it says.
        let answer = query(|size, out, needed| unsafe {
            (self.lib.get_platform_info)(self.id, what, size, out, needed)
        });
        answer.map(|bytes| text(&bytes)).unwrap_or_default()
    }

    pub(super) fn name(&self) -> String {
        let (name, version) = (self.info(CL_PLATFORM_NAME), self.info(CL_PLATFORM_VERSION));
        format!("{name} ({version})")
    }

    pub(super) fn devices(&self) -> Result<Vec<DeviceId>, Error> {
        // SAFETY: `list` gives as much room as it says.
        let ids = list(|room, ids, count| unsafe {
            (self.lib.get_devices)(self.id, CL_DEVICE_TYPE_ALL, room, ids, count)
        });
        match ids {
            Err(CL_DEVICE_NOT_FOUND) => Ok(Vec::new()),
            Err(status) => Err(failed("opencl", "clGetDeviceIDs", status)),
            Ok(ids) => Ok(ids.into_iter().map(|id| DeviceId { lib: self.lib, id }).collect()),
        }
    }
}

/// A device as the driver names it.
#[derive(Clone, Copy)]
pub(super) struct DeviceId {
    lib: Lib,
    id: cl_device_id,
}

// SAFETY: the handle of a device names it for the whole program, on every thread.
unsafe impl Send for DeviceId {}
// SAFETY: as above.
unsafe impl Sync for DeviceId {}

impl DeviceId {
    fn info(&self, what: cl_uint) -> Vec<u8> {
        // SAFETY: `query` gives as much room as it says.
        let answer = query(|size, out, needed| unsafe {
            (self.lib.get_device_info)(self.id, what, size, out, needed)
        });
        answer.unwrap_or_default()
    }

    pub(super) fn text(&self, what: cl_uint) -> String {
        text(&self.info(what))
    }

    /// A number of four or eight bytes; 0 where the driver does not say.
    pub(super) fn number(&self, what: cl_uint) -> u64 {
        let bytes = self.info(what);
        match bytes.len() {
            4 => bytes
                .try_into()
                .map_or(0, |bytes| u64::from(u32::from_ne_bytes(bytes))),
            8 => bytes.try_into().map_or(0, u64::from_ne_bytes),
            _ => 0,
        }
    }
}

/// A context with one device and one queue, in which work is done in order.
pub(super) struct Queue {
    lib: Lib,
    device: DeviceId,
    context: cl_context,
    queue: cl_command_queue,
    name: String,
}

// SAFETY: OpenCL's functions may be called from any thread on any object, but for the arguments of kernels (rule 3).
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    pub(super) fn new(device: DeviceId, name: String) -> Result<Arc<Self>, Error> {
        let (lib, mut status) = (device.lib, CL_SUCCESS);
        // SAFETY: one device, no properties and no callback.
        let context = unsafe { (lib.create_context)(null(), 1, &device.id, null(), null_mut(), &mut status) };
        check(&name, "clCreateContext", status)?;
        // SAFETY: the context was made for the device.
        let queue = unsafe { (lib.create_queue)(context, device.id, 0, &mut status) };
        if status != CL_SUCCESS {
            // SAFETY: made above, and not used any more.
            unsafe { (lib.release_context)(context) };
            return Err(failed(&name, "clCreateCommandQueue", status));
        }
        Ok(Arc::new(Queue {
            lib,
            device,
            context,
            queue,
            name,
        }))
    }

    fn check(&self, call: &'static str, status: cl_int) -> Result<(), Error> {
        check(&self.name, call, status)
    }

    pub(super) fn buffer(self: &Arc<Self>, bytes: usize) -> Result<Buffer, Error> {
        let mut status = CL_SUCCESS;
        // SAFETY: no memory of the host is handed over.
        let id = unsafe {
            (self.lib.create_buffer)(self.context, CL_MEM_READ_WRITE, bytes, null_mut(), &mut status)
        };
        check_room(&self.name, "clCreateBuffer", status, bytes)?;
        Ok(Buffer {
            queue: Arc::clone(self),
            id,
            bytes,
        })
    }

    pub(super) fn write(&self, buffer: &mut Buffer, bytes: &[u8]) -> Result<(), Error> {
        self.fits(buffer, bytes.len())?;
        let (from, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: within both, and it waits until the slice has been read.
        let status = unsafe {
            (self.lib.enqueue_write)(
                self.queue,
                buffer.id,
                CL_TRUE,
                0,
                len,
                from,
                0,
                null(),
                null_mut(),
            )
        };
        check_room(&self.name, "clEnqueueWriteBuffer", status, buffer.bytes)
    }

    pub(super) fn read(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<(), Error> {
        self.fits(buffer, bytes.len())?;
        let (into, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: within both, and it waits until the slice has been written.
        let status = unsafe {
            (self.lib.enqueue_read)(
                self.queue,
                buffer.id,
                CL_TRUE,
                0,
                len,
                into,
                0,
                null(),
                null_mut(),
            )
        };
        check_room(&self.name, "clEnqueueReadBuffer", status, buffer.bytes)
    }

    fn fits(&self, buffer: &Buffer, bytes: usize) -> Result<(), Error> {
        if bytes <= buffer.bytes {
            return Ok(());
        }
        Err(Error::Backend {
            device: self.name.clone(),
            how: format!(
                "was asked to copy {bytes} bytes to or from a buffer of {}",
                buffer.bytes
            ),
        })
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        // SAFETY: the queue is this object's own.
        self.check("clFinish", unsafe { (self.lib.finish)(self.queue) })
    }

    /// Compiles a program and takes its kernel of that name.
    pub(super) fn compile(
        self: &Arc<Self>,
        source: &str,
        options: &str,
        kernel: &str,
    ) -> Result<Kernel, Error> {
        let (text, len) = (source.as_ptr().cast(), source.len());
        let mut status = CL_SUCCESS;
        // SAFETY: one string, with its length.
        let program = unsafe { (self.lib.create_program)(self.context, 1, &text, &len, &mut status) };
        self.check("clCreateProgramWithSource", status)?;
        let made = self.kernel_of(program, options, kernel);
        // SAFETY: made above; a kernel keeps its program by itself.
        unsafe { (self.lib.release_program)(program) };
        made
    }

    fn kernel_of(
        self: &Arc<Self>,
        program: cl_program,
        options: &str,
        kernel: &str,
    ) -> Result<Kernel, Error> {
        let c_string = |text: &str| CString::new(text).map_err(|_| failed(&self.name, "clBuildProgram", -30));
        let (options, name) = (c_string(options)?, c_string(kernel)?);
        let device = self.device.id;
        // SAFETY: the context's own device, no callback.
        let status =
            unsafe { (self.lib.build_program)(program, 1, &device, options.as_ptr(), null(), null_mut()) };
        if status != CL_SUCCESS {
            // SAFETY: `query` gives as much room as it says.
            let log = query(|size, out, needed| unsafe {
                (self.lib.get_build_info)(program, device, CL_PROGRAM_BUILD_LOG, size, out, needed)
            });
            return Err(Error::Driver {
                device: self.name.clone(),
                call: "clBuildProgram",
                status: super::result::name(status),
                log: log.map(|bytes| text(&bytes)).unwrap_or_default(),
            });
        }
        let mut status = CL_SUCCESS;
        // SAFETY: a program that was built.
        let id = unsafe { (self.lib.create_kernel)(program, name.as_ptr(), &mut status) };
        self.check("clCreateKernel", status)?;
        // SAFETY: `query` gives as much room as it says.
        let most = query(|size, out, needed| unsafe {
            (self.lib.get_kernel_group_info)(id, device, CL_KERNEL_WORK_GROUP_SIZE, size, out, needed)
        });
        let most = most
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(1, usize::from_ne_bytes);
        Ok(Kernel {
            queue: Arc::clone(self),
            id,
            most_items: most.max(1),
            arguments: Mutex::new(()),
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: this object's own, and released once; what is still at work is finished by the driver.
        unsafe {
            (self.lib.release_queue)(self.queue);
            (self.lib.release_context)(self.context);
        }
    }
}

/// Memory of a device.
pub(super) struct Buffer {
    queue: Arc<Queue>,
    id: cl_mem,
    bytes: usize,
}

// SAFETY: as for `Queue`; the order of the queue keeps readers and writers apart.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl backend::Memory for Buffer {}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: this object's own, and released once.
        unsafe { (self.queue.lib.release_buffer)(self.id) };
    }
}

/// An argument of a kernel.
pub(super) enum KernelArg<'a> {
    /// A number, by its bytes.
    Bytes(&'a [u8]),
    /// Memory of a device.
    Buffer(&'a Buffer),
}

/// A compiled kernel.
pub(super) struct Kernel {
    queue: Arc<Queue>,
    id: cl_kernel,
    /// The most work-items of a group that runs it.
    most_items: usize,
    /// See rule 3.
    arguments: Mutex<()>,
}

// SAFETY: as for `Queue`; its arguments are set under the lock.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// Gives the kernel to the queue: `items` work-items, rounded up to whole groups of at most `group`.
    ///
    /// Types and sizes of the arguments are those of the program that this crate wrote for them; a number of another
    /// size is refused by the driver.
    pub(super) fn run(&self, arguments: &[KernelArg<'_>], items: usize, group: usize) -> Result<(), Error> {
        let queue = &*self.queue;
        let group = group.min(self.most_items);
        let global = items.next_multiple_of(group);
        let mut bytes = 0usize;
        let lock = self.arguments.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, argument) in arguments.iter().enumerate() {
            let (size, value): (usize, *const c_void) = match argument {
                KernelArg::Bytes(bytes) => (bytes.len(), bytes.as_ptr().cast()),
                KernelArg::Buffer(buffer) => {
                    bytes = bytes.saturating_add(buffer.bytes);
                    (size_of::<cl_mem>(), (&raw const buffer.id).cast())
                }
            };
            // SAFETY: the driver copies that many bytes from there.
            let status = unsafe { (queue.lib.set_kernel_arg)(self.id, index as cl_uint, size, value) };
            queue.check("clSetKernelArg", status)?;
        }
        // SAFETY: one dimension, no events. Entries of this crate stay within their buffers, which have an element for each index
        // (only `Place` makes launches, and it compares shapes), and kernels within their values (`crate::Kernel` is unsafe to implement).
        let status = unsafe {
            (queue.lib.enqueue_kernel)(
                queue.queue,
                self.id,
                1,
                null(),
                &global,
                &group,
                0,
                null(),
                null_mut(),
            )
        };
        drop(lock);
        check_room(&queue.name, "clEnqueueNDRangeKernel", status, bytes)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: this object's own, and released once.
        unsafe { (self.queue.lib.release_kernel)(self.id) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_the_second_answer_holds() {
        let handle = |number: usize| std::ptr::without_provenance_mut::<c_void>(number);
        // Says that there are `said`, then gives `given`.
        let driver = |said: cl_uint, given: cl_uint| {
            move |room: cl_uint, ids: *mut *mut c_void, count: *mut cl_uint| {
                let given = if ids.is_null() { said } else { given.min(room) };
                for index in 0..if ids.is_null() { 0 } else { given } {
                    // SAFETY: within the room that is said.
                    unsafe { *ids.add(index as usize) = handle(index as usize + 1) };
                }
                // SAFETY: a number that is there.
                unsafe { *count = given };
                CL_SUCCESS
            }
        };
        let numbers =
            |ids: Result<Vec<*mut c_void>, cl_int>| ids.map(|ids| ids.iter().map(|id| id.addr()).collect());
        assert_eq!(numbers(list(driver(0, 0))), Ok(vec![]));
        assert_eq!(numbers(list(driver(2, 2))), Ok(vec![1, 2]));
        assert_eq!(numbers(list(driver(3, 1))), Ok(vec![1]), "no null handle is left");
        let many = list(driver(cl_uint::MAX, cl_uint::MAX)).expect("a bounded number");
        assert_eq!(many.len(), 1024);
        assert_eq!(list(|_, _, _| CL_DEVICE_NOT_FOUND), Err(CL_DEVICE_NOT_FOUND));
    }
}
