//! Devices: which there are, and what each is.

use crate::array::Array;
use crate::backend::{Backend, DeviceBackend, HostBackend};
use crate::cpu::Cpu;
use crate::element::Element;
use crate::error::{Error, Problem};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Something that holds arrays and computes on them. Clones are the same device.
///
/// ```
/// use par_gpu::Device;
/// for device in Device::list() {
///     let info = device.info();
///     println!("{}: {} ({}), {} compute units", info.backend, info.model, info.kind, info.compute_units);
/// }
/// for problem in Device::problems() {
///     println!("not here: {problem}");
/// }
/// assert_eq!(Device::list()[0], Device::cpu());
/// ```
#[derive(Clone)]
pub struct Device {
    backend: Backend,
}

/// The kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A processor of the host.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// Another card for computing.
    Accelerator,
    /// Something else.
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
            DeviceKind::Accelerator => "accelerator",
            DeviceKind::Other => "other",
        })
    }
}

/// What a device is. Sizes are in bytes; what a backend does not say is 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The backend: `cpu`, `opencl`.
    pub backend: &'static str,
    /// What it is called in messages: the backend, with a number where it has several devices.
    pub name: String,
    /// The driver's platform, with its version; the host itself for the cpu.
    pub platform: String,
    /// The name that its maker gave it.
    pub model: String,
    /// Its maker.
    pub vendor: String,
    /// The version of the interface that it offers.
    pub version: String,
    /// The version of its driver.
    pub driver: String,
    /// The kind.
    pub kind: DeviceKind,
    /// How many parts of it compute at the same time.
    pub compute_units: usize,
    /// The highest clock frequency, in MHz.
    pub clock_mhz: u32,
    /// Memory for arrays.
    pub global_memory: u64,
    /// Memory that a work-group shares.
    pub local_memory: u64,
    /// Memory for constants.
    pub constant_memory: u64,
    /// The most that one array may have.
    pub max_allocation: u64,
    /// The most work-items of a work-group.
    pub max_work_group: usize,
    /// Whether it computes with `f64`.
    pub fp64: bool,
}

/// The cpu device, for which no driver is asked.
fn cpu() -> &'static Device {
    static CPU: OnceLock<Device> = OnceLock::new();
    CPU.get_or_init(|| Device::of_host(Arc::new(Cpu::new())))
}

/// What was found, once for the whole program: drivers do not like to be asked twice.
fn found() -> &'static (Vec<Device>, Vec<Problem>) {
    static FOUND: OnceLock<(Vec<Device>, Vec<Problem>)> = OnceLock::new();
    FOUND.get_or_init(|| {
        #[allow(unused_mut, reason = "what fills them is optional")]
        let (mut devices, mut problems) = (vec![cpu().clone()], Vec::new());
        #[cfg(feature = "opencl")]
        {
            let (backends, troubles) = crate::opencl::discover();
            devices.extend(
                backends
                    .into_iter()
                    .map(|backend| Device::of_device(Arc::new(backend))),
            );
            problems.extend(troubles);
        }
        (devices, problems)
    })
}

impl Device {
    /// The devices of all backends; the host's processor is the first, and always there.
    ///
    /// They are looked for once in a program. What is broken or missing is not listed: [`problems`](Self::problems) says
    /// what that is.
    #[doc(alias = "get_platforms")]
    pub fn list() -> Vec<Device> {
        found().0.clone()
    }

    /// What is not in the list and might have been, why, and how to get it.
    pub fn problems() -> Vec<Problem> {
        found().1.clone()
    }

    /// The host's processor, all its cores. No driver is loaded or asked for it.
    pub fn cpu() -> Device {
        cpu().clone()
    }

    /// A device of a backend that is not part of this crate, whose memory is the host's.
    pub fn of_host(backend: Arc<dyn HostBackend>) -> Device {
        Device {
            backend: Backend::Host(backend),
        }
    }

    /// A device of a backend that is not part of this crate, with memory of its own.
    pub fn of_device(backend: Arc<dyn DeviceBackend>) -> Device {
        Device {
            backend: Backend::Device(backend),
        }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// What it is.
    #[doc(alias = "get_attributes")]
    pub fn info(&self) -> &DeviceInfo {
        match &self.backend {
            Backend::Host(host) => host.info(),
            Backend::Device(device) => device.info(),
        }
    }

    /// What it is called: `cpu`, `opencl:0`.
    pub fn name(&self) -> &str {
        &self.info().name
    }

    /// Copies `values` to the device.
    ///
    /// ```
    /// let x = par_gpu::Device::default().array(&[1.5f32, -2.0])?;
    /// assert_eq!(x.to_vec()?, [1.5, -2.0]);
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`], and what the driver says.
    #[doc(alias = "to_gpu")]
    #[doc(alias = "to_device")]
    #[doc(alias = "asarray")]
    pub fn array<T: Element>(&self, values: &[T]) -> Result<Array<T>, Error> {
        Array::from_slice(self, values)
    }

    /// An array of that many zeros.
    ///
    /// ```
    /// let x = par_gpu::Device::default().zeros::<u32>(6)?.reshape(&[2, 3])?;
    /// assert_eq!((x.shape(), x.to_vec()?), (&[2, 3][..], vec![0; 6]));
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`array`](Self::array).
    #[doc(alias = "empty")]
    #[doc(alias = "device_array")]
    pub fn zeros<T: Element>(&self, len: usize) -> Result<Array<T>, Error> {
        Array::zeroed(self, len)
    }

    /// An array of what an iterator yields.
    ///
    /// ```
    /// let squares = par_gpu::Device::cpu().collect((0..4u32).map(|x| x * x))?;
    /// assert_eq!(squares.to_vec()?, [0, 1, 4, 9]);
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`array`](Self::array).
    #[doc(alias = "arange")]
    pub fn collect<T: Element>(&self, values: impl IntoIterator<Item = T>) -> Result<Array<T>, Error> {
        Array::from_slice(self, &values.into_iter().collect::<Vec<_>>())
    }

    /// Waits for all work that was given to the device. Reading an array waits by itself: this is for those who measure.
    ///
    /// ```
    /// use par_gpu::{Device, kernel, update};
    ///
    /// #[kernel]
    /// fn doubled(x: f32) -> f32 { x + x }
    ///
    /// let device = Device::default();
    /// let mut x = device.array(&[1.0f32; 1000])?;
    /// let start = std::time::Instant::now();
    /// update::<doubled>(&mut x, ())?;
    /// device.synchronize()?;
    /// println!("{:?}", start.elapsed());
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the driver says.
    #[doc(alias = "finish")]
    pub fn synchronize(&self) -> Result<(), Error> {
        match &self.backend {
            Backend::Host(_) => Ok(()),
            Backend::Device(device) => device.synchronize(),
        }
    }

    /// Refuses what no array of the device may have.
    pub(crate) fn room_for<T: Element>(&self, len: usize) -> Result<usize, Error> {
        let (bytes, limit) = (len as u128 * size_of::<T>() as u128, self.info().max_allocation);
        usize::try_from(bytes)
            .ok()
            .filter(|&bytes| bytes as u64 <= limit)
            .ok_or_else(|| Error::TooLarge {
                device: self.name().to_owned(),
                bytes,
                limit,
            })
    }
}

/// The device to take when nobody says which: the first graphics processor or accelerator, else the cpu. A driver that
/// runs OpenCL on the host's processor is not taken, as the cpu device is faster.
impl Default for Device {
    fn default() -> Self {
        let (devices, _) = found();
        let card = |device: &&Device| matches!(device.info().kind, DeviceKind::Gpu | DeviceKind::Accelerator);
        devices.iter().find(card).unwrap_or(&devices[0]).clone()
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        match (&self.backend, &other.backend) {
            (Backend::Host(one), Backend::Host(two)) => Arc::ptr_eq(one, two),
            (Backend::Device(one), Backend::Device(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Eq for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.name()).finish()
    }
}
