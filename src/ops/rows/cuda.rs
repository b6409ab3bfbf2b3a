//! Rows by number on a GPU: `kernels/rows.cu`.

use super::{Rows, check};
use crate::device::Cuda;
use crate::device::cuda::expect_full;
use crate::error::Result;
use crate::kernel_args::rows::{RowsParams, integers_shape, shape};
use crate::ops::{In, IntegersOut, Out, RowsIn, RowsOut};

impl Rows for Cuda {
    fn gather_rows(&self, dim: usize, input: In<'_, Self>, indices: &[i32], mut output: Out<'_, Self>) -> Result<()> {
        check(dim, output.len, indices, input.len)?;
        expect_full("gathered rows", output.read())?;
        if indices.is_empty() {
            return Ok(());
        }
        let staged = self.stage_values(indices)?;
        let params = RowsParams {
            input: self.address(input),
            output: self.address_mut(&mut output),
            indices: staged.address(),
            rows: indices.len() as u32,
            dim: dim as u32,
        };
        let name = format!("gather_rows_{}", input.buffer.format().suffix());
        // SAFETY: both matrices have the rows that the indices name, checked above.
        unsafe { self.launch("rows", &name, shape(indices.len()), params) }
    }

    fn gather_stored_rows(&self, dim: usize, input: RowsIn<'_, Self>, indices: &[i32], output: Out<'_, Self>) -> Result<()> {
        self.gather_rows(dim, input, indices, output)
    }

    fn scatter_rows(&self, dim: usize, input: In<'_, Self>, indices: &[i32], mut output: RowsOut<'_, Self>) -> Result<()> {
        check(dim, input.len, indices, output.len)?;
        if indices.is_empty() {
            return Ok(());
        }
        let staged = self.stage_values(indices)?;
        let params = RowsParams {
            input: self.address(input),
            output: self.address_mut(&mut output),
            indices: staged.address(),
            rows: indices.len() as u32,
            dim: dim as u32,
        };
        let name = format!("scatter_rows_{}_{}", input.buffer.format().suffix(), output.buffer.format().suffix());
        // SAFETY: both matrices have the rows that the indices name, checked above; there is a kernel for each pair of formats that exists.
        unsafe { self.launch("rows", &name, shape(indices.len()), params) }
    }

    fn scatter_integers(&self, values: &[i32], indices: &[i32], output: IntegersOut<'_, Self>) -> Result<()> {
        check(1, values.len(), indices, output.len)?;
        if indices.is_empty() {
            return Ok(());
        }
        let (staged, numbers) = (self.stage_values(indices)?, self.stage_values(values)?);
        let params = RowsParams {
            input: numbers.address(),
            output: self.integers(output.read()),
            indices: staged.address(),
            rows: indices.len() as u32,
            dim: 1,
        };
        // SAFETY: the output has the places that the indices name, checked above.
        unsafe { self.launch("rows", "scatter_integers", integers_shape(indices.len()), params) }
    }
}
