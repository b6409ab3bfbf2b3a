//! A convolution and the batch norm after it, whose statistics are constants: a scale and a bias for each channel, which both
//! backends apply, with residual and ReLU, before the convolution's output leaves the chip (a GPU where cuDNN can) or the cache.

mod cpu;
mod cuda;

use super::batch_norm::{Affine, BatchNorm, BatchNormGeometry};
use super::conv::{ConvGeometry, Convolution, Filter};
use super::{In, Out};
use crate::error::Result;

/// What is read.
#[derive(Debug)]
pub struct ConvNormInputs<'a, B: Convolution> {
    /// `(batch, height, width, in_channels)`.
    pub input: In<'a, B>,
    /// `(out_channels, kernel, kernel, in_channels)`.
    pub filter: &'a Filter<'a, B>,
    /// Scale and shift of the batch norm.
    pub affine: Affine<'a, B>,
    /// Mean and variance that it normalises by.
    pub running: (In<'a, B>, In<'a, B>),
    /// Added before the ReLU, of the output's size.
    pub residual: Option<In<'a, B>>,
}

/// Convolution and batch norm in one.
pub trait ConvNorm: Convolution + BatchNorm {
    /// `output = norm(convolution(input))` with [`BatchNorm::batch_norm_eval`]'s norm. `between` has the output's size and room for what
    /// comes between the two; what it holds afterwards is undefined.
    ///
    /// # Errors
    /// Those of [`Convolution::conv_forward`] and of [`BatchNorm::batch_norm_eval`].
    fn conv_norm_eval(
        &self,
        geometry: (&ConvGeometry, &BatchNormGeometry),
        inputs: ConvNormInputs<'_, Self>,
        between: Out<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()>;
}

fn one_after_the_other<B: Convolution + BatchNorm>(
    backend: &B,
    (conv, norm): (&ConvGeometry, &BatchNormGeometry),
    inputs: ConvNormInputs<'_, B>,
    mut between: Out<'_, B>,
    output: Out<'_, B>,
) -> Result<()> {
    let ConvNormInputs { input, filter, affine, running, residual } = inputs;
    backend.conv_forward(conv, input, filter.numbers(), between.reborrow())?;
    backend.batch_norm_eval(norm, between.read(), affine, residual, running, output)
}
