//! Fully connected layer: `output = input weight^T + bias`, weight `(out_features, in_features)` as torch stores it.

mod cuda;

use super::{In, Out};
use crate::cpu::gemm::{Matrix, MatrixMut, matmul};
use crate::device::{Cpu, Storage};
use crate::error::{Result, expect_len};
use rayon::prelude::*;

/// Sizes of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearGeometry {
    /// Rows of input and output.
    pub batch: usize,
    /// Columns of the input.
    pub in_features: usize,
    /// Columns of the output.
    pub out_features: usize,
}

/// Where [`Linear::linear_backward`] writes.
#[derive(Debug)]
pub struct LinearGradients<'a, B: Storage> {
    /// `(batch, in_features)`.
    pub input: Out<'a, B>,
    /// Gradient of the weight `(out_features, in_features)` and then of the bias `(out_features)`: neighbours in the flat gradient buffer.
    pub parameters: Out<'a, B>,
}

/// Fully connected layer and its gradients.
pub trait Linear: Storage {
    /// `output = input weight^T + bias`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a span has not the length the geometry says.
    fn linear_forward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        bias: In<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()>;

    /// Gradients of input, weight and bias, each overwritten.
    ///
    /// # Errors
    /// As [`Linear::linear_forward`].
    fn linear_backward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        output_gradient: In<'_, Self>,
        gradients: LinearGradients<'_, Self>,
    ) -> Result<()>;
}

impl LinearGeometry {
    fn check_forward(&self, input: usize, weight: usize, bias: usize, output: usize) -> Result<()> {
        expect_len("linear input", self.batch * self.in_features, input)?;
        expect_len("linear weight", self.out_features * self.in_features, weight)?;
        expect_len("linear bias", self.out_features, bias)?;
        expect_len("linear output", self.batch * self.out_features, output)
    }

    fn check_backward<B: Storage>(
        &self,
        input: usize,
        weight: usize,
        output_gradient: usize,
        gradients: &LinearGradients<'_, B>,
    ) -> Result<()> {
        expect_len("linear input", self.batch * self.in_features, input)?;
        expect_len("linear weight", self.out_features * self.in_features, weight)?;
        expect_len("linear output gradient", self.batch * self.out_features, output_gradient)?;
        expect_len("linear input gradient", self.batch * self.in_features, gradients.input.len)?;
        expect_len("linear parameter gradient", self.out_features * (self.in_features + 1), gradients.parameters.len)
    }
}

/// Rows or features of one task.
const TASK_ROWS: usize = 32;

impl Linear for Cpu {
    fn linear_forward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        bias: In<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()> {
        let LinearGeometry { in_features, out_features, .. } = *geometry;
        geometry.check_forward(input.len, weight.len, bias.len, output.len)?;
        let (input, weight, bias, output) = (input.as_slice(), weight.as_slice(), bias.as_slice(), output.into_slice());
        let weight = Matrix::new(weight, out_features, in_features).transposed();
        self.run(|| {
            output.par_chunks_mut((TASK_ROWS * out_features).max(1)).enumerate().for_each(|(task, output)| {
                output.chunks_exact_mut(out_features).for_each(|row| row.copy_from_slice(bias));
                let rows = output.len() / out_features;
                let input = Matrix::new(&input[task * TASK_ROWS * in_features..], rows, in_features);
                matmul(input, weight, MatrixMut::new(output, rows, out_features), true);
            });
        });
        Ok(())
    }

    fn linear_backward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        output_gradient: In<'_, Self>,
        gradients: LinearGradients<'_, Self>,
    ) -> Result<()> {
        let LinearGeometry { batch, in_features, out_features } = *geometry;
        geometry.check_backward(input.len, weight.len, output_gradient.len, &gradients)?;
        let (input, weight, gradient) = (input.as_slice(), weight.as_slice(), output_gradient.as_slice());
        let input_gradient = gradients.input.into_slice();
        let (weight_gradient, bias_gradient) = gradients.parameters.into_slice().split_at_mut(out_features * in_features);
        let weight = Matrix::new(weight, out_features, in_features);
        self.run(|| {
            input_gradient.par_chunks_mut((TASK_ROWS * in_features).max(1)).enumerate().for_each(|(task, output)| {
                let rows = output.len() / in_features;
                let gradient = Matrix::new(&gradient[task * TASK_ROWS * out_features..], rows, out_features);
                matmul(gradient, weight, MatrixMut::new(output, rows, in_features), false);
            });
            weight_gradient.par_chunks_mut((TASK_ROWS * in_features).max(1)).enumerate().for_each(|(task, output)| {
                let rows = output.len() / in_features;
                let features = Matrix {
                    data: &gradient[(task * TASK_ROWS).min(gradient.len())..],
                    rows,
                    columns: batch,
                    row_stride: 1,
                    column_stride: out_features,
                };
                matmul(features, Matrix::new(input, batch, in_features), MatrixMut::new(output, rows, in_features), false);
            });
        });
        bias_gradient.fill(0.0);
        for row in gradient.chunks_exact(out_features.max(1)) {
            bias_gradient.iter_mut().zip(row).for_each(|(sum, gradient)| *sum += gradient);
        }
        Ok(())
    }
}
