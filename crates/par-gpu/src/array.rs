//! Arrays: elements in the memory of a device.

use crate::backend::{Backend, Memory};
use crate::device::Device;
use crate::element::Element;
use crate::error::Error;
use crate::memory::{self, HostBuffer};
use std::fmt;

/// Elements that a thread works on before it takes more.
pub(crate) const CHUNK: usize = 32 * par_core::fold::LEAF;

/// Elements in the memory of a device, with a shape.
///
/// ```
/// use par_gpu::{Device, Sum};
/// let x = Device::default().array(&[1.0f64, 2.0, 3.0, 4.0])?;
/// assert_eq!((x.len(), x.shape()), (4, &[4][..]));
/// assert_eq!(x.reduce(Sum)?, 10.0);
/// let square = x.reshape(&[2, 2])?;
/// assert_eq!(square.to_vec()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), par_gpu::Error>(())
/// ```
#[doc(alias = "GPUArray")]
#[doc(alias = "DeviceNDArray")]
#[doc(alias = "ndarray")]
pub struct Array<T: Element> {
    device: Device,
    shape: Vec<usize>,
    len: usize,
    storage: Storage<T>,
}

pub(crate) enum Storage<T> {
    Host(HostBuffer<T>),
    Device(Box<dyn Memory>),
}

impl<T: Element> Array<T> {
    pub(crate) fn new(device: &Device, shape: Vec<usize>, len: usize, storage: Storage<T>) -> Self {
        Array {
            device: device.clone(),
            shape,
            len,
            storage,
        }
    }

    pub(crate) fn from_slice(device: &Device, values: &[T]) -> Result<Self, Error> {
        let bytes = device.room_for::<T>(values.len())?;
        let storage = match device.backend() {
            Backend::Host(host) => {
                let buffer = HostBuffer::filled(&**host, values.len(), CHUNK, &|index, part| {
                    copy(values, index, part)
                });
                Storage::Host(buffer?)
            }
            Backend::Device(backend) => {
                let mut memory = backend.allocate(bytes.max(1))?;
                if bytes > 0 {
                    backend.write(&mut *memory, memory::bytes_of(values))?;
                }
                Storage::Device(memory)
            }
        };
        Ok(Array::new(device, vec![values.len()], values.len(), storage))
    }

    pub(crate) fn zeroed(device: &Device, len: usize) -> Result<Self, Error> {
        device.room_for::<T>(len)?;
        match device.backend() {
            Backend::Host(_) => {
                let buffer = HostBuffer::zeroed(device.name(), len)?;
                Ok(Array::new(device, vec![len], len, Storage::Host(buffer)))
            }
            // The host may have less room than the device.
            Backend::Device(_) => {
                let zeros = HostBuffer::zeroed(Device::cpu().name(), len)?;
                Array::from_slice(device, zeros.as_slice())
            }
        }
    }

    /// The device where it lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The extents; they multiply to the number of elements, which lie with the last extent running fastest.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The same elements with other extents.
    ///
    /// ```
    /// let x = par_gpu::Device::cpu().collect(0..6u32)?;
    /// let table = x.reshape(&[2, 3])?;
    /// assert_eq!(table.shape(), [2, 3]);
    /// let error = table.reshape(&[4, 2]).unwrap_err();
    /// assert_eq!(error.to_string(), "6 elements do not fill the shape [4, 2]");
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not multiply to the number of elements.
    pub fn reshape(mut self, shape: &[usize]) -> Result<Self, Error> {
        let product = shape
            .iter()
            .try_fold(1usize, |product, extent| product.checked_mul(*extent));
        if product != Some(self.len) {
            return Err(Error::Shape {
                len: self.len,
                shape: shape.to_vec(),
            });
        }
        self.shape = shape.to_vec();
        Ok(self)
    }

    /// Copies the elements to the host.
    ///
    /// # Errors
    /// What the driver says, also of work that was given to the device before.
    #[doc(alias = "get")]
    #[doc(alias = "copy_to_host")]
    #[doc(alias = "asnumpy")]
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        if let Storage::Host(buffer) = &self.storage {
            return Ok(buffer.as_slice().to_vec());
        }
        let mut values = vec![T::default(); self.len];
        self.copy_to(&mut values)?;
        Ok(values)
    }

    /// Copies the elements to a slice of the same length.
    ///
    /// ```
    /// let x = par_gpu::Device::default().array(&[1, 2, 3])?;
    /// let mut values = [0; 3];
    /// x.copy_to(&mut values)?;
    /// assert_eq!(values, [1, 2, 3]);
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] for another length, and what the driver says.
    #[doc(alias = "get")]
    pub fn copy_to(&self, values: &mut [T]) -> Result<(), Error> {
        self.same_length(values.len())?;
        match (&self.storage, self.device.backend()) {
            (Storage::Host(buffer), _) => values.copy_from_slice(buffer.as_slice()),
            (Storage::Device(memory), Backend::Device(backend)) if self.len > 0 => {
                backend.read(&**memory, memory::bytes_of_mut(values))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Overwrites the elements with those of a slice of the same length.
    ///
    /// ```
    /// let mut x = par_gpu::Device::default().zeros(2)?;
    /// x.copy_from(&[0.5f64, 0.25])?;
    /// assert_eq!(x.to_vec()?, [0.5, 0.25]);
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] for another length, and what the driver says.
    #[doc(alias = "set")]
    #[doc(alias = "copy_to_device")]
    pub fn copy_from(&mut self, values: &[T]) -> Result<(), Error> {
        self.same_length(values.len())?;
        match (&mut self.storage, self.device.backend()) {
            (Storage::Host(buffer), Backend::Host(host)) => {
                let elements = buffer.as_mut_slice();
                memory::write_parts(&**host, elements, CHUNK, &|index, part| copy(values, index, part))?;
            }
            (Storage::Device(memory), Backend::Device(backend)) if self.len > 0 => {
                backend.write(&mut **memory, memory::bytes_of(values))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn same_length(&self, found: usize) -> Result<(), Error> {
        if found == self.len {
            return Ok(());
        }
        Err(Error::Length {
            expected: self.len,
            found,
        })
    }

    /// Copies the elements to an array on another device, or on the same: the way to clone one.
    ///
    /// ```
    /// use par_gpu::Device;
    /// let x = Device::cpu().array(&[1u64, 2])?;
    /// for device in Device::list() {
    ///     let there = x.to_device(&device)?;
    ///     assert_eq!((there.device(), there.to_vec()?), (&device, vec![1, 2]));
    /// }
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Device::array`] and [`to_vec`](Self::to_vec).
    pub fn to_device(&self, device: &Device) -> Result<Array<T>, Error> {
        let copy = match &self.storage {
            Storage::Host(buffer) => device.array(buffer.as_slice()),
            Storage::Device(_) => device.array(&self.to_vec()?),
        };
        copy?.reshape(&self.shape)
    }

    /// The elements, where they are in the host's memory: on the cpu device.
    ///
    /// ```
    /// let x = par_gpu::Device::cpu().array(&[3, 4])?;
    /// assert_eq!(x.as_slice(), Some(&[3, 4][..]));
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    pub fn as_slice(&self) -> Option<&[T]> {
        match &self.storage {
            Storage::Host(buffer) => Some(buffer.as_slice()),
            Storage::Device(_) => None,
        }
    }

    pub(crate) fn storage(&self) -> &Storage<T> {
        &self.storage
    }

    pub(crate) fn storage_mut(&mut self) -> &mut Storage<T> {
        &mut self.storage
    }
}

fn copy<T: Element>(values: &[T], index: usize, part: &mut [T]) {
    let first = index * CHUNK;
    part.copy_from_slice(&values[first..first + part.len()]);
}

impl<T: Element> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array")
            .field("device", &self.device.name())
            .field("kind", &T::KIND)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}
