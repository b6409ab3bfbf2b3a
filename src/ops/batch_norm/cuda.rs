//! Batch normalisation on a GPU: `kernels/batch_norm.cu`.

use super::{Affine, BatchNorm, BatchNormBackward, BatchNormGeometry, BatchNormGradients, Statistics};
use crate::device::Cuda;
use crate::device::cuda::kernel::LaunchShape;
use crate::device::cuda::{DeviceMemory, common_format, expect_full};
use crate::error::{Result, expect_len};
use crate::kernel_args::batch_norm::{BatchNormParams, item_shape, range_shape, ranges};
use crate::ops::{In, Out};
use bytemuck::Zeroable;

fn params(geometry: &BatchNormGeometry) -> BatchNormParams {
    let (ranges, rows_per_range) = ranges(geometry.rows);
    BatchNormParams {
        rows: geometry.rows as u64,
        channels: geometry.channels as u32,
        ranges: ranges as u32,
        rows_per_range: rows_per_range as u32,
        epsilon: geometry.epsilon,
        momentum: geometry.momentum,
        relu: u32::from(geometry.relu),
        ..BatchNormParams::zeroed()
    }
}

/// Bytes of the partial sums.
fn partial_bytes(geometry: &BatchNormGeometry) -> usize {
    ranges(geometry.rows).0 * 2 * geometry.channels * size_of::<f32>()
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
        unsafe { self.batch_norm_kernel("fold", item_shape(geometry.channels), params)? };
        Ok(folded)
    }

    /// # Safety
    /// The addresses in `params` must be those of buffers as large as its sizes say.
    unsafe fn batch_norm_kernel(&self, name: &str, shape: LaunchShape, params: BatchNormParams) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.launch("batch_norm", &format!("batch_norm_{name}"), shape, params) }
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
        let partials = self.scratch(partial_bytes(geometry))?;
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
            partials: partials.address(),
            ..params(geometry)
        };
        // SAFETY: every span has the length of this geometry, checked above, and the partial sums have room.
        unsafe {
            let moments = format!("range_moments_{format}");
            self.batch_norm_kernel(&moments, range_shape(geometry.rows, geometry.channels), params)?;
            self.batch_norm_kernel("statistics", item_shape(geometry.channels), params)?;
            self.batch_norm_kernel(&format!("normalise_{format}"), item_shape(geometry.rows * geometry.channels), params)
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
        };
        // SAFETY: every span has the length of this geometry, checked above; the running statistics are only read in this mode.
        unsafe {
            self.batch_norm_kernel("freeze", item_shape(geometry.channels), params)?;
            self.batch_norm_kernel(&format!("normalise_{format}"), item_shape(geometry.rows * geometry.channels), params)
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
        };
        // SAFETY: every span has the length of this geometry, checked above; this kernel only reads the statistics.
        unsafe { self.batch_norm_kernel(&format!("normalise_{format}"), item_shape(geometry.rows * geometry.channels), params) }
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
        let format = common_format("batch norm", inputs.input, &spans)?.suffix();
        let partials = self.scratch(partial_bytes(geometry))?;
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
            partials: partials.address(),
            frozen: u32::from(inputs.frozen),
            ..params(geometry)
        };
        // SAFETY: every span has the length of this geometry, checked above, and the partial sums have room.
        unsafe {
            let sums = format!("range_gradients_{format}");
            self.batch_norm_kernel(&sums, range_shape(geometry.rows, geometry.channels), params)?;
            self.batch_norm_kernel("parameter_gradients", item_shape(geometry.channels), params)?;
            if geometry.rows == 0 {
                return Ok(());
            }
            self.batch_norm_kernel(&format!("input_gradient_{format}"), item_shape(geometry.rows * geometry.channels), params)
        }
    }
}

/// Suffix of the kernels for these activations.
fn formats(input: In<'_, Cuda>, residual: Option<In<'_, Cuda>>, output: &Out<'_, Cuda>) -> Result<&'static str> {
    let spans: Vec<_> = residual.into_iter().chain([output.read()]).collect();
    Ok(common_format("batch norm", input, &spans)?.suffix())
}
