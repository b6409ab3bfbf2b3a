//! Batch normalisation on a GPU: `kernels/batch_norm.cu`.

use super::{Affine, BatchNorm, BatchNormBackward, BatchNormGeometry, BatchNormGradients, Statistics};
use crate::device::Cuda;
use crate::device::cuda::kernel::{Format, LaunchShape};
use crate::device::cuda::{DeviceMemory, common_format, expect_full};
use crate::error::{Result, expect_len};
use crate::kernel_args::batch_norm::BatchNormParams;
use crate::ops::{In, Out};
use bytemuck::Zeroable;

fn params(geometry: &BatchNormGeometry) -> BatchNormParams {
    BatchNormParams {
        rows: geometry.rows as u64,
        channels: geometry.channels as u32,
        epsilon: geometry.epsilon,
        momentum: geometry.momentum,
        relu: u32::from(geometry.relu),
        ..BatchNormParams::zeroed()
    }
}

/// A batch norm of constant statistics as `input * scale + bias`, both `(channels)` f32.
pub(crate) struct Folded {
    pub scale: DeviceMemory,
    pub bias: DeviceMemory,
}

impl Cuda {
    /// Folds statistics, scale and shift, whose lengths and formats the caller has checked.
    pub(crate) fn fold(
        &self,
        geometry: &BatchNormGeometry,
        affine: &Affine<'_, Self>,
        running: (In<'_, Self>, In<'_, Self>),
    ) -> Result<Folded> {
        let bytes = geometry.channels * size_of::<f32>();
        let folded = Folded { scale: self.scratch(bytes)?, bias: self.scratch(bytes)? };
        let params = BatchNormParams {
            weight: self.address(affine.weight),
            bias: self.address(affine.bias),
            running_mean: self.address(running.0),
            running_variance: self.address(running.1),
            inverse_deviation: folded.scale.address(),
            mean: folded.bias.address(),
            ..params(geometry)
        };
        // SAFETY: every span has one number for each channel, and so have the results.
        unsafe { self.batch_norm_kernel("fold", params.channel_shape(), params)? };
        Ok(folded)
    }

    /// # Safety
    /// The addresses in `params` must be those of buffers as large as its sizes say.
    unsafe fn batch_norm_kernel(&self, name: &str, shape: LaunchShape, params: BatchNormParams) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.launch("batch_norm", &format!("batch_norm_{name}"), shape, params) }
    }

    /// One of the kernels that go through all rows.
    ///
    /// # Safety
    /// As of [`Cuda::batch_norm_kernel`].
    unsafe fn batch_norm_rows(&self, name: &str, format: Format, params: BatchNormParams) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.batch_norm_kernel(&format!("{name}_{}", format.suffix()), params.range_shape(), params) }
    }
}

impl BatchNorm for Cuda {
    const RECOMPUTE: bool = false;

    fn batch_norm_train(
        &self,
        geometry: &BatchNormGeometry,
        input: In<'_, Self>,
        affine: Affine<'_, Self>,
        residual: Option<In<'_, Self>>,
        mut statistics: Statistics<'_, Self>,
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        geometry.check_batch()?;
        geometry.check_forward(input, &affine, residual, &output)?;
        for span in [&statistics.mean, &statistics.inverse_deviation, &statistics.running_mean, &statistics.running_variance] {
            expect_len("batch norm statistics", geometry.channels, span.len)?;
            expect_full("batch norm statistics", span.read())?;
        }
        let format = formats(input, residual, &output)?;
        expect_full("batch norm weight", affine.weight)?;
        expect_full("batch norm bias", affine.bias)?;
        let params = BatchNormParams {
            input: self.address(input),
            residual: residual.map_or(0, |residual| self.address(residual)),
            result: self.address_mut(&mut output),
            weight: self.address(affine.weight),
            bias: self.address(affine.bias),
            mean: self.address_mut(&mut statistics.mean),
            inverse_deviation: self.address_mut(&mut statistics.inverse_deviation),
            running_mean: self.address_mut(&mut statistics.running_mean),
            running_variance: self.address_mut(&mut statistics.running_variance),
            ..params(geometry)
        }
        .divided(format);
        let partials = self.scratch(params.partial_bytes())?;
        let params = BatchNormParams { partials: partials.address(), ..params };
        // SAFETY: every span has the length of this geometry, checked above, and the partial sums have room.
        unsafe {
            self.batch_norm_rows("range_moments", format, params)?;
            self.batch_norm_kernel("statistics", params.sum_shape(), params)?;
            self.batch_norm_rows("normalise", format, params)
        }
    }

    fn batch_norm_eval(
        &self,
        geometry: &BatchNormGeometry,
        input: In<'_, Self>,
        affine: Affine<'_, Self>,
        residual: Option<In<'_, Self>>,
        running: (In<'_, Self>, In<'_, Self>),
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        geometry.check_forward(input, &affine, residual, &output)?;
        expect_len("running mean", geometry.channels, running.0.len)?;
        expect_len("running variance", geometry.channels, running.1.len)?;
        let format = formats(input, residual, &output)?;
        for span in [affine.weight, affine.bias, running.0, running.1] {
            expect_full("batch norm parameters", span)?;
        }
        if geometry.rows == 0 {
            return Ok(());
        }
        let bytes = geometry.channels * size_of::<f32>();
        let (mean, inverse_deviation) = (self.scratch(bytes)?, self.scratch(bytes)?);
        let params = BatchNormParams {
            input: self.address(input),
            residual: residual.map_or(0, |residual| self.address(residual)),
            result: self.address_mut(&mut output),
            weight: self.address(affine.weight),
            bias: self.address(affine.bias),
            mean: mean.address(),
            inverse_deviation: inverse_deviation.address(),
            running_mean: self.address(running.0),
            running_variance: self.address(running.1),
            ..params(geometry)
        }
        .divided(format);
        // SAFETY: every span has the length of this geometry, checked above; the running statistics are only read in this mode.
        unsafe {
            self.batch_norm_kernel("freeze", params.channel_shape(), params)?;
            self.batch_norm_rows("normalise", format, params)
        }
    }

    fn batch_norm_recompute(
        &self,
        geometry: &BatchNormGeometry,
        input: In<'_, Self>,
        affine: Affine<'_, Self>,
        (mean, inverse_deviation): (In<'_, Self>, In<'_, Self>),
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        geometry.check_forward(input, &affine, None, &output)?;
        expect_len("mean", geometry.channels, mean.len)?;
        expect_len("inverse deviation", geometry.channels, inverse_deviation.len)?;
        let format = formats(input, None, &output)?;
        for span in [affine.weight, affine.bias, mean, inverse_deviation] {
            expect_full("batch norm parameters", span)?;
        }
        if geometry.rows == 0 {
            return Ok(());
        }
        let params = BatchNormParams {
            input: self.address(input),
            result: self.address_mut(&mut output),
            weight: self.address(affine.weight),
            bias: self.address(affine.bias),
            mean: self.address(mean),
            inverse_deviation: self.address(inverse_deviation),
            ..params(geometry)
        }
        .divided(format);
        // SAFETY: every span has the length of this geometry, checked above; this kernel only reads the statistics.
        unsafe { self.batch_norm_rows("normalise", format, params) }
    }

    fn batch_norm_backward(
        &self,
        geometry: &BatchNormGeometry,
        inputs: BatchNormBackward<'_, Self>,
        mut gradients: BatchNormGradients<'_, Self>,
    ) -> Result<()> {
        if !inputs.frozen {
            geometry.check_batch()?;
        }
        geometry.check_backward(&inputs, &gradients)?;
        for span in [inputs.weight, inputs.mean, inputs.inverse_deviation, gradients.affine.read()] {
            expect_full("batch norm parameters", span)?;
        }
        let mut spans = vec![inputs.output, inputs.output_gradient, gradients.input.read()];
        spans.extend(gradients.residual.as_ref().map(|residual| residual.read()));
        let format = common_format("batch norm", inputs.input, &spans)?;
        let affine = self.address_mut(&mut gradients.affine);
        let params = BatchNormParams {
            input: self.address(inputs.input),
            output: self.address(inputs.output),
            output_gradient: self.address(inputs.output_gradient),
            result: self.address_mut(&mut gradients.input),
            residual_gradient: gradients.residual.as_mut().map_or(0, |residual| self.address_mut(residual)),
            weight: self.address(inputs.weight),
            mean: self.address(inputs.mean),
            inverse_deviation: self.address(inputs.inverse_deviation),
            weight_gradient: affine,
            bias_gradient: affine + (geometry.channels * size_of::<f32>()) as u64,
            frozen: u32::from(inputs.frozen),
            ..params(geometry)
        }
        .divided(format);
        let partials = self.scratch(params.partial_bytes())?;
        let params = BatchNormParams { partials: partials.address(), ..params };
        // SAFETY: every span has the length of this geometry, checked above, and the partial sums have room.
        unsafe {
            self.batch_norm_rows("range_gradients", format, params)?;
            self.batch_norm_kernel("parameter_gradients", params.sum_shape(), params)?;
            if geometry.rows == 0 {
                return Ok(());
            }
            self.batch_norm_rows("input_gradient", format, params)
        }
    }
}

/// The format of all these activations.
fn formats(input: In<'_, Cuda>, residual: Option<In<'_, Cuda>>, output: &Out<'_, Cuda>) -> Result<Format> {
    let spans: Vec<_> = residual.into_iter().chain([output.read()]).collect();
    common_format("batch norm", input, &spans)
}
