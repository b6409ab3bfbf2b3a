//! L2 normalisation on a GPU: `kernels/l2_normalize.cu`.

use super::{L2Normalize, RowGeometry};
use crate::device::Cuda;
use crate::device::cuda::{common_format, expect_full};
use crate::error::Result;
use crate::kernel_args::l2_normalize::{L2NormalizeBackwardParams, L2NormalizeParams, shape};
use crate::ops::{In, Out};

impl L2Normalize for Cuda {
    fn l2_normalize_forward(
        &self,
        geometry: &RowGeometry,
        input: In<'_, Self>,
        mut output: Out<'_, Self>,
        mut norms: Out<'_, Self>,
    ) -> Result<()> {
        geometry.check(&[("rows to normalise", input.len), ("unit rows", output.len)], norms.len)?;
        expect_full("norms", norms.read())?;
        if geometry.rows == 0 {
            return Ok(());
        }
        let params = L2NormalizeParams {
            input: self.address(input),
            output: self.address_mut(&mut output),
            norms: self.address_mut(&mut norms),
            rows: geometry.rows as u32,
            dim: geometry.dim as u32,
        };
        let name = format!("l2_normalize_forward_{}_{}", input.buffer.format().suffix(), output.buffer.format().suffix());
        // SAFETY: the spans have the lengths of this geometry, checked above; there is a kernel for each pair of formats that exists.
        unsafe { self.launch("l2_normalize", &name, shape(geometry.rows), params) }
    }

    fn l2_normalize_backward(
        &self,
        geometry: &RowGeometry,
        output: In<'_, Self>,
        norms: In<'_, Self>,
        output_gradient: In<'_, Self>,
        mut input_gradient: Out<'_, Self>,
    ) -> Result<()> {
        let lengths = [("unit rows", output.len), ("output gradient", output_gradient.len), ("input gradient", input_gradient.len)];
        geometry.check(&lengths, norms.len)?;
        expect_full("norms", norms)?;
        expect_full("output gradient of a normalisation", output_gradient)?;
        let format = common_format("normalisation", output, &[input_gradient.read()])?;
        if geometry.rows == 0 {
            return Ok(());
        }
        let params = L2NormalizeBackwardParams {
            output: self.address(output),
            norms: self.address(norms),
            output_gradient: self.address(output_gradient),
            input_gradient: self.address_mut(&mut input_gradient),
            rows: geometry.rows as u32,
            dim: geometry.dim as u32,
        };
        // SAFETY: the spans have the lengths of this geometry and the formats of this kernel, checked above.
        unsafe { self.launch("l2_normalize", &format!("l2_normalize_backward_{}", format.suffix()), shape(geometry.rows), params) }
    }
}
