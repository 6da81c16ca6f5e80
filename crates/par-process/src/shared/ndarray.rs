//! Views of shared arrays as those of `ndarray`, without copies (feature `ndarray`).

use super::FrozenArray;
use crate::sync::MutexGuard;
use bytemuck::Pod;
use ndarray::{ArrayView, ArrayViewMut, Dimension, ShapeError, StrideShape};

/// Refuses shapes that are not as large as the array: an array that was meant to be seen whole.
fn whole<D: Dimension>(shape: &StrideShape<D>, length: usize) -> Result<(), ShapeError> {
    let incompatible = ndarray::ErrorKind::IncompatibleShape;
    (shape.size() == length)
        .then_some(())
        .ok_or_else(|| ShapeError::from_kind(incompatible))
}

impl<T: Pod + Send + Sync> FrozenArray<T> {
    /// The values as an array of this shape.
    ///
    /// # Errors
    /// When the shape has another number of elements.
    ///
    /// ```
    /// use par_process::FrozenArray;
    ///
    /// let table = FrozenArray::from_slice(&[1, 2, 3, 4])?;
    /// assert_eq!(table.array_view((2, 2))?.column(1).sum(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn array_view<D: Dimension>(
        &self,
        shape: impl Into<StrideShape<D>>,
    ) -> Result<ArrayView<'_, T, D>, ShapeError> {
        let shape = shape.into();
        whole(&shape, self.len())?;
        ArrayView::from_shape(shape, self)
    }
}

impl<T: Pod + Send + Sync> MutexGuard<'_, [T]> {
    /// The values as an array of this shape.
    ///
    /// # Errors
    /// When the shape has another number of elements.
    pub fn array_view<D: Dimension>(
        &self,
        shape: impl Into<StrideShape<D>>,
    ) -> Result<ArrayView<'_, T, D>, ShapeError> {
        let shape = shape.into();
        whole(&shape, self.len())?;
        ArrayView::from_shape(shape, self)
    }

    /// The values as an array of this shape, to be written.
    ///
    /// # Errors
    /// When the shape has another number of elements.
    ///
    /// ```
    /// use par_process::SharedArray;
    ///
    /// let matrix = SharedArray::<f64>::zeroed(6)?;
    /// let mut guard = matrix.lock()?;
    /// guard.array_view_mut((2, 3))?.row_mut(1).fill(1.0);
    /// assert_eq!(*guard, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn array_view_mut<D: Dimension>(
        &mut self,
        shape: impl Into<StrideShape<D>>,
    ) -> Result<ArrayViewMut<'_, T, D>, ShapeError> {
        let shape = shape.into();
        whole(&shape, self.len())?;
        ArrayViewMut::from_shape(shape, self)
    }
}
