//! Fully connected layers on a GPU, by cuBLASLt. The gradient of the bias is a product with a row of ones.

use super::{Linear, LinearGeometry, LinearGradients};
use crate::device::Cuda;
use crate::device::cublaslt::{ALIGNMENT, Matmul, Matrices};
use crate::device::cuda::kernel::Format;
use crate::device::cuda::{common_format, expect_full, width};
use crate::error::Result;
use crate::ops::{In, Out};

impl Linear for Cuda {
    fn linear_forward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        bias: In<'_, Self>,
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        geometry.check_forward(input.len, weight.len, bias.len, output.len)?;
        let format = common_format("linear", input, &[output.read()])?;
        let LinearGeometry { batch, in_features, out_features } = *geometry;
        if batch == 0 || out_features == 0 {
            return Ok(());
        }
        let packed = Matmul::packed([batch, out_features, in_features], format).right_transposed();
        let product = Matmul { output: format, bias: true, ..packed };
        let matrices = Matrices {
            left: self.address(input),
            right: self.address_in(weight, format)?,
            output: self.address_mut(&mut output),
            bias: self.address_in(bias, format)?,
        };
        // SAFETY: lengths and formats were checked above.
        unsafe { self.matmul(&product, 1.0, &matrices) }
    }

    fn linear_backward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        output_gradient: In<'_, Self>,
        mut gradients: LinearGradients<'_, Self>,
    ) -> Result<()> {
        geometry.check_backward(input.len, weight.len, output_gradient.len, &gradients)?;
        let format = common_format("linear", input, &[output_gradient, gradients.input.read()])?;
        expect_full("linear parameter gradient", gradients.parameters.read())?;
        let LinearGeometry { batch, in_features, out_features } = *geometry;
        let parameters = self.address_mut(&mut gradients.parameters);
        if batch == 0 || out_features == 0 || in_features == 0 {
            self.clear(parameters, gradients.parameters.len * width(Format::F32))?;
            return self.clear(self.address(gradients.input.read()), gradients.input.len * width(format));
        }
        let gradient = self.address(output_gradient);
        let to_input = Matmul { output: format, ..Matmul::packed([batch, in_features, out_features], format) };
        let to_weight = Matmul::packed([out_features, in_features, batch], format).left_transposed();
        let to_bias = Matmul::packed([1, out_features, batch], format);
        let (right, left) = (self.address_in(weight, format)?, self.address(input));
        let input_gradient = self.address_mut(&mut gradients.input);
        let bias_gradient = parameters + (out_features * in_features * width(Format::F32)) as u64;
        // A bias may follow its matrix at any number; matrix products begin on 16 bytes.
        let bias_bytes = out_features * width(Format::F32);
        let sums = if bias_gradient.is_multiple_of(ALIGNMENT) { None } else { Some(self.scratch(bias_bytes)?) };
        let sums_address = sums.as_ref().map_or(bias_gradient, |sums| sums.address());
        let ones = self.ones(batch, format)?;
        // SAFETY: lengths and formats were checked above.
        unsafe {
            self.matmul(&to_input, 1.0, &Matrices { left: gradient, right, output: input_gradient, bias: 0 })?;
            self.matmul(&to_weight, 1.0, &Matrices { left: gradient, right: left, output: parameters, bias: 0 })?;
            self.matmul(&to_bias, 1.0, &Matrices { left: ones, right: gradient, output: sums_address, bias: 0 })?;
        }
        if sums.is_some() { self.copy_bytes(sums_address, bias_gradient, bias_bytes) } else { Ok(()) }
    }
}
