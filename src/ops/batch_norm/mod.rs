//! Batch normalisation over NHWC activations, fused with an optional residual add and ReLU:
//! `output = relu(weight * (input - mean) / sqrt(variance + epsilon) + bias + residual)`. Torch's semantics: the biased variance
//! normalises, the unbiased one enters the running variance.

pub(super) mod cpu;
pub(crate) mod cuda;
pub(super) mod tile;

use super::{In, Out};
use crate::device::Storage;
use crate::error::{Error, Result, expect_len};

/// Sizes and constants of a batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormGeometry {
    /// Batch times height times width.
    pub rows: usize,
    /// Channels, the fastest dimension.
    pub channels: usize,
    /// Added to the variance; torch's default is `1e-5`.
    pub epsilon: f32,
    /// Weight of the new value in the running statistics; torch's default is 0.1.
    pub momentum: f32,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// Whether the statistics in training are those of the rows of all ranks, which have as many each; see [`crate::group`]. Gradients
    /// of scale and shift are those of this rank's rows even then.
    pub synced: bool,
}

/// The learned scale and shift, `(channels)` each.
#[derive(Debug)]
pub struct Affine<'a, B: Storage> {
    /// Scale (torch's `weight`).
    pub weight: In<'a, B>,
    /// Shift (torch's `bias`).
    pub bias: In<'a, B>,
}

/// What the forward pass in training mode writes beside its output, `(channels)` each.
#[derive(Debug)]
pub struct Statistics<'a, B: Storage> {
    /// Mean of this batch, kept for the backward pass.
    pub mean: Out<'a, B>,
    /// `1 / sqrt(variance + epsilon)` of this batch, kept for the backward pass.
    pub inverse_deviation: Out<'a, B>,
    /// Exponential average of the means; updated.
    pub running_mean: Out<'a, B>,
    /// Exponential average of the unbiased variances; updated.
    pub running_variance: Out<'a, B>,
}

/// What the backward pass reads. In frozen mode `mean` and `inverse_deviation` hold the running statistics' values and are constants.
#[derive(Debug)]
pub struct BatchNormBackward<'a, B: Storage> {
    /// Input of the forward pass `(rows, channels)`.
    pub input: In<'a, B>,
    /// Output of the forward pass, whose sign is the ReLU's mask `(rows, channels)`; without a ReLU it is not read.
    pub output: In<'a, B>,
    /// Gradient of the output `(rows, channels)`.
    pub output_gradient: In<'a, B>,
    /// Scale `(channels)`.
    pub weight: In<'a, B>,
    /// Mean used by the forward pass `(channels)`.
    pub mean: In<'a, B>,
    /// Inverse deviation used by the forward pass `(channels)`.
    pub inverse_deviation: In<'a, B>,
    /// Whether the statistics were constants (frozen batch norm) rather than functions of the input.
    pub frozen: bool,
}

/// Where the backward pass writes; everything is overwritten.
#[derive(Debug)]
pub struct BatchNormGradients<'a, B: Storage> {
    /// Gradient of the input `(rows, channels)`.
    pub input: Out<'a, B>,
    /// Gradient of the residual branch, the masked output gradient `(rows, channels)`; `None` without a residual.
    pub residual: Option<Out<'a, B>>,
    /// Gradients of the scale and then of the shift `(2, channels)`: neighbours in the flat gradient buffer.
    pub affine: Out<'a, B>,
}

impl BatchNormGeometry {
    /// Fails on fewer than two rows: their variance is no statistic.
    fn check_batch(&self) -> Result<()> {
        if self.rows >= 2 {
            return Ok(());
        }
        Err(Error::shape("batch norm rows in training mode", "at least 2", self.rows))
    }

    pub(super) fn check_forward<B: Storage>(
        &self,
        input: In<'_, B>,
        affine: &Affine<'_, B>,
        residual: Option<In<'_, B>>,
        output: &Out<'_, B>,
    ) -> Result<()> {
        let values = self.values()?;
        expect_len("batch norm input", values, input.len)?;
        expect_len("batch norm output", values, output.len)?;
        expect_len("batch norm weight", self.channels, affine.weight.len)?;
        expect_len("batch norm bias", self.channels, affine.bias.len)?;
        residual.map_or(Ok(()), |residual| expect_len("batch norm residual", values, residual.len))
    }

    fn check_backward<B: Storage>(&self, inputs: &BatchNormBackward<'_, B>, gradients: &BatchNormGradients<'_, B>) -> Result<()> {
        let values = self.values()?;
        expect_len("batch norm input", values, inputs.input.len)?;
        expect_len("batch norm output", values, inputs.output.len)?;
        expect_len("batch norm output gradient", values, inputs.output_gradient.len)?;
        expect_len("batch norm weight", self.channels, inputs.weight.len)?;
        expect_len("batch norm mean", self.channels, inputs.mean.len)?;
        expect_len("batch norm inverse deviation", self.channels, inputs.inverse_deviation.len)?;
        expect_len("batch norm input gradient", values, gradients.input.len)?;
        expect_len("batch norm scale and shift gradient", 2 * self.channels, gradients.affine.len)?;
        gradients.residual.as_ref().map_or(Ok(()), |residual| expect_len("batch norm residual gradient", values, residual.len))
    }

    fn values(&self) -> Result<usize> {
        if self.channels == 0 {
            return Err(Error::shape("batch norm channels", "at least 1", 0));
        }
        Ok(self.rows * self.channels)
    }
}

/// Batch normalisation in its three modes.
pub trait BatchNorm: Storage {
    /// Activation recomputation (Chen and others, <https://arxiv.org/abs/1604.06174>): whether outputs that
    /// [`BatchNorm::batch_norm_recompute`] gives are not kept for the backward pass, as memory is dearer here than a pass over it.
    const RECOMPUTE: bool;

    /// Normalises by the statistics of this batch and updates the running ones.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a span has not the length the geometry says, or fewer than two rows.
    fn batch_norm_train(
        &self,
        geometry: &BatchNormGeometry,
        input: In<'_, Self>,
        affine: Affine<'_, Self>,
        residual: Option<In<'_, Self>>,
        statistics: Statistics<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()>;

    /// Normalises by given statistics: evaluation, and frozen batch norm in training.
    ///
    /// # Errors
    /// As [`BatchNorm::batch_norm_train`].
    fn batch_norm_eval(
        &self,
        geometry: &BatchNormGeometry,
        input: In<'_, Self>,
        affine: Affine<'_, Self>,
        residual: Option<In<'_, Self>>,
        running: (In<'_, Self>, In<'_, Self>),
        output: Out<'_, Self>,
    ) -> Result<()>;

    /// Recomputes the output of [`BatchNorm::batch_norm_train`] without a residual, to the same bits, from the mean and the inverse
    /// deviation that it left behind.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a span has not the length the geometry says.
    fn batch_norm_recompute(
        &self,
        geometry: &BatchNormGeometry,
        input: In<'_, Self>,
        affine: Affine<'_, Self>,
        statistics: (In<'_, Self>, In<'_, Self>),
        output: Out<'_, Self>,
    ) -> Result<()>;

    /// Gradients of input, residual, scale and shift.
    ///
    /// # Errors
    /// As [`BatchNorm::batch_norm_train`].
    fn batch_norm_backward(
        &self,
        geometry: &BatchNormGeometry,
        inputs: BatchNormBackward<'_, Self>,
        gradients: BatchNormGradients<'_, Self>,
    ) -> Result<()>;
}
