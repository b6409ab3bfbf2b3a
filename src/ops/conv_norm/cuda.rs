//! Convolution and batch norm on a GPU: one graph of cuDNN in 16 bit, where it has an engine for it; else one after the other.

use super::{BatchNormGeometry, ConvGeometry, ConvNorm, ConvNormInputs, one_after_the_other};
use crate::device::Cuda;
use crate::device::cuda::kernel::Format;
use crate::device::cuda::{common_format, expect_full};
use crate::device::cudnn::{Direction, Fusion, Operands};
use crate::error::{Result, expect_len};
use crate::ops::batch_norm::cuda::Folded;
use crate::ops::conv::check;
use crate::ops::{In, Out};

impl ConvNorm for Cuda {
    fn conv_norm_eval(
        &self,
        (conv, norm): (&ConvGeometry, &BatchNormGeometry),
        inputs: ConvNormInputs<'_, Self>,
        between: Out<'_, Self>,
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        check(conv, inputs.input.len, inputs.filter.numbers().len, output.len)?;
        expect_len("batch norm after a convolution", conv.output_len(), norm.rows * norm.channels)?;
        let spans: Vec<In<'_, Self>> = inputs.residual.into_iter().chain([output.read()]).collect();
        let format = common_format("convolution", inputs.input, &spans)?;
        let direction = Direction::Forward(Some(Fusion { residual: inputs.residual.is_some(), relu: norm.relu }));
        if format == Format::F32 || conv.batch == 0 || !self.offers(conv, format, direction)? {
            return one_after_the_other(self, (conv, norm), inputs, between, output);
        }
        inputs.residual.map_or(Ok(()), |residual| expect_len("batch norm residual", output.len, residual.len))?;
        for span in [inputs.affine.weight, inputs.affine.bias, inputs.running.0, inputs.running.1] {
            expect_len("batch norm parameters", norm.channels, span.len)?;
            expect_full("batch norm parameters", span)?;
        }
        let Folded { scale, bias } = self.fold(norm, &inputs.affine, inputs.running)?;
        let operands = Operands {
            input: self.address(inputs.input),
            filter: self.address_in(inputs.filter.numbers(), format)?,
            output: self.address_mut(&mut output),
            scale: scale.address(),
            bias: bias.address(),
            residual: inputs.residual.map_or(0, |residual| self.address(residual)),
        };
        // SAFETY: lengths and formats were checked above.
        unsafe { self.convolution(conv, format, direction, operands) }
    }
}
