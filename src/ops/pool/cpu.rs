//! Poolings on the CPU: trait implementation and the division into tasks.

use super::window::{Stem, WindowRow, global_maximum, global_maximum_backward, global_sum};
use super::{GlobalPooling, Pool, PoolGeometry};
use crate::cpu::simd::vectorized;
use crate::device::{Cpu, Span, SpanMut};
use crate::error::{Error, Result, expect_len};
use rayon::prelude::*;

/// Window rows per task of the backward pass; the row below the last is found twice.
const STRIP: usize = 8;

impl Pool for Cpu {
    fn max_pool_forward(&self, geometry: &PoolGeometry, input: Span<'_, Vec<f32>>, output: SpanMut<'_, Vec<f32>>) -> Result<()> {
        expect_positions(geometry)?;
        expect_len("max pool input", geometry.input_len(), input.len)?;
        expect_len("max pool output", geometry.output_len(), output.len)?;
        let (stem, input) = (Stem::new(geometry), input.as_slice());
        let mut outside = self.scratch(geometry.channels);
        outside.fill(f32::NEG_INFINITY);
        let outside = &outside[..];
        self.run(|| {
            let rows = output.into_slice().par_chunks_exact_mut(geometry.out_width() * geometry.channels);
            rows.enumerate().for_each(|(index, output)| {
                let (image, row) = (index / geometry.out_height(), index % geometry.out_height());
                let image = &input[image * stem.image_len()..][..stem.image_len()];
                stem.maxima(WindowRow { image, row, outside }, output);
            });
        });
        Ok(())
    }

    fn max_pool_backward(
        &self,
        geometry: &PoolGeometry,
        input: Span<'_, Vec<f32>>,
        output_gradient: Span<'_, Vec<f32>>,
        input_gradient: SpanMut<'_, Vec<f32>>,
    ) -> Result<()> {
        expect_positions(geometry)?;
        expect_len("max pool input", geometry.input_len(), input.len)?;
        expect_len("max pool output gradient", geometry.output_len(), output_gradient.len)?;
        expect_len("max pool input gradient", geometry.input_len(), input_gradient.len)?;
        let (stem, input, output_gradient) = (Stem::new(geometry), input.as_slice(), output_gradient.as_slice());
        let strips = geometry.out_height().div_ceil(STRIP);
        let mut scratch = self.scratch(geometry.channels + geometry.batch * strips * 2 * stem.winners_len());
        let (outside, winners) = scratch.split_at_mut(geometry.channels);
        outside.fill(f32::NEG_INFINITY);
        let outside = &outside[..];
        self.run(|| {
            let images = input_gradient.into_slice().par_chunks_exact_mut(stem.image_len());
            let images = images.zip(winners.par_chunks_exact_mut(strips * 2 * stem.winners_len())).enumerate();
            images.for_each(|(index, (gradient, winners))| {
                let image = &input[index * stem.image_len()..][..stem.image_len()];
                let output_gradient = &output_gradient[index * stem.out_len()..][..stem.out_len()];
                let strips = gradient.par_chunks_mut(2 * STRIP * stem.row_len());
                let strips = strips.zip(winners.par_chunks_exact_mut(2 * stem.winners_len())).enumerate();
                strips.for_each(|(strip, (gradient, winners))| {
                    let first = WindowRow { image, row: strip * STRIP, outside };
                    stem.strip_backward(first, output_gradient, gradient, winners);
                });
            });
        });
        Ok(())
    }

    fn global_pool_forward(
        &self,
        geometry: &PoolGeometry,
        pooling: GlobalPooling,
        input: Span<'_, Vec<f32>>,
        output: SpanMut<'_, Vec<f32>>,
    ) -> Result<()> {
        expect_positions(geometry)?;
        expect_len("global pool input", geometry.input_len(), input.len)?;
        expect_len("global pool output", geometry.batch * geometry.channels, output.len)?;
        let positions = geometry.height * geometry.width;
        let images = input.as_slice().par_chunks_exact(positions * geometry.channels);
        self.run(|| {
            images.zip(output.into_slice().par_chunks_exact_mut(geometry.channels)).for_each(|(image, output)| match pooling {
                GlobalPooling::Avg => {
                    global_sum(image, output);
                    output.iter_mut().for_each(|value| *value /= positions as f32);
                }
                GlobalPooling::Max => global_maximum(image, output),
            });
        });
        Ok(())
    }

    fn global_pool_backward(
        &self,
        geometry: &PoolGeometry,
        pooling: GlobalPooling,
        input: Span<'_, Vec<f32>>,
        output_gradient: Span<'_, Vec<f32>>,
        input_gradient: SpanMut<'_, Vec<f32>>,
    ) -> Result<()> {
        expect_positions(geometry)?;
        let (channels, positions) = (geometry.channels, geometry.height * geometry.width);
        expect_len("global pool input", geometry.input_len(), input.len)?;
        expect_len("global pool output gradient", geometry.batch * channels, output_gradient.len)?;
        expect_len("global pool input gradient", geometry.input_len(), input_gradient.len)?;
        let images = input_gradient.into_slice().par_chunks_exact_mut(positions * channels);
        let images = images.zip(output_gradient.as_slice().par_chunks_exact(channels));
        let mut maxima = self.scratch(geometry.batch * channels);
        let inputs = input.as_slice().par_chunks_exact(positions * channels).zip(maxima.par_chunks_exact_mut(channels));
        self.run(|| {
            images.zip(inputs).for_each(|((input_gradient, gradient), (image, maxima))| match pooling {
                GlobalPooling::Avg => spread(gradient, positions, input_gradient),
                GlobalPooling::Max => global_maximum_backward(image, gradient, maxima, input_gradient),
            });
        });
        Ok(())
    }
}

/// Gradient of the mean over positions.
fn spread(gradient: &[f32], positions: usize, input_gradient: &mut [f32]) {
    let share = 1.0 / positions as f32;
    vectorized(
        #[inline(always)]
        || {
            for position in input_gradient.chunks_exact_mut(gradient.len()) {
                position.iter_mut().zip(gradient).for_each(|(value, gradient)| *value = gradient * share);
            }
        },
    );
}

pub(super) fn expect_positions(geometry: &PoolGeometry) -> Result<()> {
    if geometry.height > 0 && geometry.width > 0 && geometry.channels > 0 {
        return Ok(());
    }
    let found = format!("{} x {} x {}", geometry.height, geometry.width, geometry.channels);
    Err(Error::shape("pooling's height x width x channels", "at least 1 x 1 x 1", found))
}
