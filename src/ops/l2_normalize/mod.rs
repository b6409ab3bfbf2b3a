//! L2 normalisation of rows: `f = z / |z|`, and its gradient `dz = (g - f (f . g)) / |z|`.
//!
//! A row shorter than 1e-12 ([`SMALLEST_NORM`]) has no direction to speak of: its `f` and its `dz` are rows of zeros. (Torch's `normalize`
//! divides such a row by 1e-12, and its gradient too, which then is 1e12 times that of any other row.)
//!
//! ```
//! use xbm_fast::device::{Cpu, Span, SpanMut};
//! use xbm_fast::ops::l2_normalize::{L2Normalize, RowGeometry};
//!
//! let (cpu, geometry) = (Cpu::new(Some(1))?, RowGeometry { rows: 3, dim: 2 });
//! let (mut unit, mut norms, mut gradient) = (vec![0.0; 6], vec![0.0; 3], vec![f32::NAN; 6]);
//! let rows = vec![3.0, 4.0, 0.0, 0.0, 1e-13, 0.0];
//! cpu.l2_normalize_forward(&geometry, Span::all(&rows), SpanMut::all(&mut unit), SpanMut::all(&mut norms))?;
//! assert_eq!((&unit[..], norms[0]), (&[0.6, 0.8, 0.0, 0.0, 0.0, 0.0][..], 5.0));
//! let ones = vec![1.0; 6];
//! cpu.l2_normalize_backward(&geometry, Span::all(&unit), Span::all(&norms), Span::all(&ones), SpanMut::all(&mut gradient))?;
//! assert_eq!(gradient[2..], [0.0; 4]);
//! # Ok::<(), xbm_fast::Error>(())
//! ```

mod cuda;

use super::{In, Out};
use crate::cpu::dot::dot_f64;
use crate::cpu::simd::vectorized;
use crate::device::{Cpu, Storage};
use crate::error::{Error, Result, expect_len};
use rayon::prelude::*;

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
    /// `output (rows, dim)` = unit rows, or zeros for those shorter than [`SMALLEST_NORM`]; `norms (rows)` = the lengths before.
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

    /// Gradient with respect to the rows before normalisation, from the unit rows and their former lengths; zeros for rows shorter than
    /// [`SMALLEST_NORM`].
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

/// The length under which a row counts as a row of zeros.
pub const SMALLEST_NORM: f32 = 1e-12;

/// Independent partial sums of a dot product.
const LANES: usize = 8;

impl L2Normalize for Cpu {
    fn l2_normalize_forward(
        &self,
        geometry: &RowGeometry,
        input: In<'_, Self>,
        output: Out<'_, Self>,
        norms: Out<'_, Self>,
    ) -> Result<()> {
        geometry.check(&[("rows to normalise", input.len), ("unit rows", output.len)], norms.len)?;
        let (input, dim) = (input.as_slice(), geometry.dim);
        let rows = output.into_slice().par_chunks_exact_mut(dim).zip(input.par_chunks_exact(dim)).zip(norms.into_slice());
        self.run(|| {
            rows.with_min_len(geometry.rows_per_task()).for_each(|((unit, row), norm)| {
                vectorized(
                    #[inline(always)]
                    || {
                        *norm = dot_f64::<LANES>(row, row).sqrt() as f32;
                        if *norm < SMALLEST_NORM {
                            return unit.fill(0.0);
                        }
                        unit.iter_mut().zip(row).for_each(|(unit, value)| *unit = value / *norm);
                    },
                );
            });
        });
        Ok(())
    }

    fn l2_normalize_backward(
        &self,
        geometry: &RowGeometry,
        output: In<'_, Self>,
        norms: In<'_, Self>,
        output_gradient: In<'_, Self>,
        input_gradient: Out<'_, Self>,
    ) -> Result<()> {
        let lengths = [("unit rows", output.len), ("output gradient", output_gradient.len), ("input gradient", input_gradient.len)];
        geometry.check(&lengths, norms.len)?;
        let dim = geometry.dim;
        let inputs = output.as_slice().par_chunks_exact(dim).zip(output_gradient.as_slice().par_chunks_exact(dim));
        let rows = input_gradient.into_slice().par_chunks_exact_mut(dim).zip(inputs).zip(norms.as_slice());
        self.run(|| {
            rows.with_min_len(geometry.rows_per_task()).for_each(|((result, (unit, gradient)), &norm)| {
                vectorized(
                    #[inline(always)]
                    || {
                        if norm < SMALLEST_NORM {
                            return result.fill(0.0);
                        }
                        let radial = dot_f64::<LANES>(unit, gradient) as f32;
                        for ((result, unit), gradient) in result.iter_mut().zip(unit).zip(gradient) {
                            *result = (gradient - unit * radial) / norm;
                        }
                    },
                );
            });
        });
        Ok(())
    }
}

impl RowGeometry {
    /// Rows that are worth handing to another thread.
    fn rows_per_task(&self) -> usize {
        const VALUES_PER_TASK: usize = 32 * 1024;
        VALUES_PER_TASK.div_ceil(self.dim)
    }

    fn check(&self, matrices: &[(&str, usize)], norms: usize) -> Result<()> {
        if self.dim == 0 {
            return Err(Error::shape("row length", "at least 1", 0));
        }
        for &(what, len) in matrices {
            expect_len(what, self.rows * self.dim, len)?;
        }
        expect_len("norms", self.rows, norms)
    }
}
