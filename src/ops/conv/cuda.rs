//! Convolutions on a GPU, by cuDNN. A 16-bit gradient of a filter is made in 16 bit and then widened, as cuDNN has no precompiled engine
//! that writes it in 32.

use super::{ConvGeometry, Convolution, check};
use crate::backend::cuda::{common_format, expect_full, width};
use crate::backend::cudnn::{self, Direction, Operands};
use crate::backend::{Cuda, Workspace};
use crate::error::Result;
use crate::kernel::Format;
use crate::ops::{In, Out};

impl Cuda {
    /// # Safety
    /// The addresses must be those of tensors as large as the geometry says, in this format.
    unsafe fn convolution(&self, geometry: &ConvGeometry, format: Format, direction: Direction, operands: &Operands) -> Result<()> {
        let convolution = cudnn::Convolution { geometry: *geometry, format, direction };
        let cudnn = self.cudnn()?;
        let bytes = cudnn.workspace_bytes(&convolution)?;
        let memory = self.scratch(bytes).map_err(|error| error.allocating("a convolution's workspace", "--batch-size"))?;
        let workspace = Workspace { address: memory.address(), bytes };
        // SAFETY: the caller's promise; the workspace is used on this stream only.
        unsafe { self.put_convolution(convolution, *operands, workspace) }
    }
}

impl Convolution for Cuda {
    fn conv_forward(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        filter: In<'_, Self>,
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        check(geometry, input.len, filter.len, output.len)?;
        let format = common_format("convolution", input, &[output.read()])?;
        if geometry.batch == 0 {
            return Ok(());
        }
        let operands = Operands {
            input: self.address(input),
            filter: self.address_in(filter, format)?,
            output: self.address_mut(&mut output),
            ..Operands::default()
        };
        // SAFETY: lengths and formats were checked above.
        unsafe { self.convolution(geometry, format, Direction::Forward(None), &operands) }
    }

    fn conv_backward_input(
        &self,
        geometry: &ConvGeometry,
        output_gradient: In<'_, Self>,
        filter: In<'_, Self>,
        mut input_gradient: Out<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        check(geometry, input_gradient.len, filter.len, output_gradient.len)?;
        let format = common_format("convolution", output_gradient, &[input_gradient.read()])?;
        if geometry.batch == 0 {
            return Ok(());
        }
        let operands = Operands {
            input: self.address_mut(&mut input_gradient),
            filter: self.address_in(filter, format)?,
            output: self.address(output_gradient),
            ..Operands::default()
        };
        // SAFETY: lengths and formats were checked above.
        unsafe { self.convolution(geometry, format, Direction::InputGradient { accumulate }, &operands) }
    }

    fn conv_backward_filter(
        &self,
        geometry: &ConvGeometry,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        mut filter_gradient: Out<'_, Self>,
    ) -> Result<()> {
        check(geometry, input.len, filter_gradient.len, output_gradient.len)?;
        let format = common_format("convolution", input, &[output_gradient])?;
        expect_full("filter gradient", filter_gradient.read())?;
        let result = self.address_mut(&mut filter_gradient);
        if geometry.batch == 0 {
            return self.clear(result, filter_gradient.len * width(Format::F32));
        }
        let narrow = if format == Format::F32 { None } else { Some(self.scratch(geometry.filter_len() * width(format))?) };
        let target = narrow.as_ref().map_or(result, |narrow| narrow.address());
        let operands =
            Operands { input: self.address(input), filter: target, output: self.address(output_gradient), ..Operands::default() };
        // SAFETY: lengths and formats were checked above.
        unsafe { self.convolution(geometry, format, Direction::FilterGradient { full_precision: false }, &operands)? };
        match narrow {
            Some(narrow) => self.cast((narrow.address(), format), (result, Format::F32), filter_gradient.len),
            None => Ok(()),
        }
    }
}
