//! Arrays on devices. The one device so far is the host's own processor, on one core.
//!
//! A [`Device`] makes [`Array`]s; element-wise maps and reductions run where the array lives, and a reduction has the same
//! bits as every other reduction of the toolkit. OpenCL and CUDA devices are still to come, behind the same types.
//!
//! ```
//! use par_gpu::{Device, Sum};
//! let device = &Device::list()[0];
//! let x = device.array(&[1.0f32, 2.0, 3.0]);
//! let y = device.array(&[10.0f32, 20.0, 30.0]);
//! let z = x.zip_map(&y, |x, y| 2.0 * x + 5.0 * y)?;
//! assert_eq!(z.to_vec(), [52.0, 104.0, 156.0]);
//! assert_eq!(z.reduce(Sum), 312.0);
//! # Ok::<(), par_gpu::ArrayError>(())
//! ```
//!
//! | PyCUDA, PyOpenCL | here |
//! |---|---|
//! | `cl.get_platforms()`, `drv.Device(i)` | [`Device::list`] |
//! | `gpuarray.to_gpu(a)`, `a.get()` | [`Device::array`], [`Array::to_vec`] |
//! | `ElementwiseKernel` | [`Array::map`], [`Array::zip_map`] |
//! | `ReductionKernel` | [`Array::reduce`] |

#![forbid(unsafe_code)]

pub use par_core;
pub use par_core::{Max, MaxLoc, Min, MinLoc, Product, Reduction, Sum};

/// What two arrays must have in common, and had not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayError {
    /// The lengths differ.
    #[error("arrays of {left} and {right} elements cannot be combined element by element")]
    Lengths {
        /// Elements of the left array.
        left: usize,
        /// Elements of the right array.
        right: usize,
    },
}

/// Something that holds arrays and computes on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    name: String,
}

impl Device {
    /// The devices of this machine; the host's processor is the first, and always there.
    pub fn list() -> Vec<Device> {
        vec![Device {
            name: "cpu".to_owned(),
        }]
    }

    /// What the device is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Copies `values` to the device.
    #[doc(alias = "to_gpu")]
    pub fn array<T: Copy>(&self, values: &[T]) -> Array<T> {
        Array {
            values: values.to_vec(),
        }
    }
}

/// Elements in the memory of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Array<T> {
    values: Vec<T>,
}

impl<T: Copy> Array<T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Copies the elements to the host.
    #[doc(alias = "get")]
    pub fn to_vec(&self) -> Vec<T> {
        self.values.clone()
    }

    /// A new array with `function` of each element.
    #[doc(alias = "ElementwiseKernel")]
    pub fn map<U: Copy>(&self, function: impl Fn(T) -> U) -> Array<U> {
        Array {
            values: self.values.iter().map(|value| function(*value)).collect(),
        }
    }

    /// A new array with `function` of the elements of two.
    ///
    /// # Errors
    /// [`ArrayError::Lengths`] if they have different numbers of elements.
    pub fn zip_map<U: Copy, V: Copy>(
        &self,
        other: &Array<U>,
        function: impl Fn(T, U) -> V,
    ) -> Result<Array<V>, ArrayError> {
        if self.len() != other.len() {
            return Err(ArrayError::Lengths {
                left: self.len(),
                right: other.len(),
            });
        }
        let pairs = self.values.iter().zip(&other.values);
        Ok(Array {
            values: pairs.map(|(left, right)| function(*left, *right)).collect(),
        })
    }

    /// Folds the elements, with the bits of every other reduction of the same values.
    #[doc(alias = "ReductionKernel")]
    pub fn reduce<R: Reduction<T>>(&self, reduction: R) -> R::Output {
        par_core::fold::reduce(&reduction, self.values.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_compute_what_slices_do_and_lengths_are_checked() {
        let device = Device::list().remove(0);
        assert_eq!(device.name(), "cpu");
        let numbers = device.array(&(0..400).map(f64::from).collect::<Vec<_>>());
        assert_eq!(
            numbers
                .zip_map(&numbers, |a, b| a * b)
                .expect("same length")
                .reduce(Sum),
            21_253_400.0
        );
        assert_eq!(numbers.map(|x| x as u32 % 7).reduce(Max), Some(6));
        let error = numbers
            .zip_map(&device.array(&[1u8]), |a, _| a)
            .expect_err("lengths")
            .to_string();
        assert_eq!(
            error,
            "arrays of 400 and 1 elements cannot be combined element by element"
        );
        assert!(device.array::<f32>(&[]).is_empty());
    }
}
