//! L2 normalisation of rows: `f = z / max(|z|, 1e-12)` (torch's `normalize`), and its gradient `dz = (g - f (f . g)) / |z|`.

use super::{In, Out};
use crate::backend::Storage;
use crate::error::Result;

/// Sizes of a row-wise operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGeometry {
    /// Number of rows.
    pub rows: usize,
    /// Length of a row.
    pub dim: usize,
}

/// Row-wise L2 normalisation.
pub trait L2Normalize: Storage {
    /// `output (rows, dim)` = unit rows, `norms (rows)` = the lengths before.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a span has not the length the geometry says.
    fn l2_normalize_forward(
        &self,
        geometry: &RowGeometry,
        input: In<'_, Self>,
        output: Out<'_, Self>,
        norms: Out<'_, Self>,
    ) -> Result<()>;

    /// Gradient with respect to the rows before normalisation, from the unit rows and their former lengths.
    ///
    /// # Errors
    /// As [`L2Normalize::l2_normalize_forward`].
    fn l2_normalize_backward(
        &self,
        geometry: &RowGeometry,
        output: In<'_, Self>,
        norms: In<'_, Self>,
        output_gradient: In<'_, Self>,
        input_gradient: Out<'_, Self>,
    ) -> Result<()>;
}
