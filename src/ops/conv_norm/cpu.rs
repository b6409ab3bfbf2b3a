//! Convolution and batch norm on the CPU: every part of the convolution's output is normalised in place while it is in the cache.

use super::{BatchNormGeometry, ConvGeometry, ConvNorm, ConvNormInputs};
use crate::device::{Cpu, Span};
use crate::error::{Result, expect_len};
use crate::ops::Out;
use crate::ops::batch_norm::cpu::running_scale;
use crate::ops::batch_norm::tile::{Coefficients, normalize_in_place};
use crate::ops::conv;

impl ConvNorm for Cpu {
    fn conv_norm_eval(
        &self,
        (geometry, norm): (&ConvGeometry, &BatchNormGeometry),
        inputs: ConvNormInputs<'_, Self>,
        _between: Out<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()> {
        let ConvNormInputs { input, filter, affine, running, residual } = inputs;
        conv::check(geometry, input.len, filter.numbers().len, output.len)?;
        norm.check_forward(output.read(), &affine, residual, &output)?;
        expect_len("running mean", norm.channels, running.0.len)?;
        expect_len("running variance", norm.channels, running.1.len)?;
        let scale = running_scale(self, norm, &affine, running.1);
        let (mean, bias) = (running.0.as_slice(), affine.bias.as_slice());
        let coefficients = Coefficients { mean, scale: &scale, bias, relu: norm.relu };
        let residual = residual.map(Span::as_slice);
        let operands = (input.as_slice(), filter.operand(geometry));
        conv::forward(self, geometry, operands, output.into_slice(), &|start, values: &mut [f32]| {
            let residual = residual.map(|residual| &residual[start..][..values.len()]);
            normalize_in_place(&coefficients, values, residual);
        });
        Ok(())
    }
}
