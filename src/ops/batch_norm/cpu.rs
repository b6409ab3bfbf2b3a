//! Batch normalisation on the CPU, bound by memory: training reads the input twice and writes the output once, the backward pass
//! reads its inputs twice (once when frozen) and writes each gradient once.
//!
//! Rows are cut into tiles that depend on the shape only. A tile's mean and squared deviations are taken one after the other while
//! the tile is in the cache, so that no variance is a difference of large numbers, and tiles are combined in double precision.

use super::tile::{self, Coefficients, Factors, Forward, piece};
use super::{Affine, BatchNorm, BatchNormBackward, BatchNormGeometry, BatchNormGradients, Statistics};
use crate::device::{Cpu, Scratch, Span, SpanMut, Storage};
use crate::error::{Result, expect_len};
use crate::group::Group;
use rayon::prelude::*;

/// Values per tile: 64 KiB, read twice out of the second-level cache.
const TILE_VALUES: usize = 16 * 1024;
/// Fewer rows would make the tiles' sums a noticeable part of the traffic.
const MIN_TILE_ROWS: usize = 32;
/// More rows would let rounding grow in the 32-bit sums within a tile.
const MAX_TILE_ROWS: usize = 256;
/// Channels whose tiles are combined together, in double precision and in registers.
const LANES: usize = 32;

type Read<'a> = Span<'a, Vec<f32>>;

impl BatchNorm for Cpu {
    const RECOMPUTE: bool = true;

    fn batch_norm_train(
        &self,
        geometry: &BatchNormGeometry,
        input: Read<'_>,
        affine: Affine<'_, Self>,
        residual: Option<Read<'_>>,
        statistics: Statistics<'_, Self>,
        output: SpanMut<'_, Vec<f32>>,
    ) -> Result<()> {
        geometry.check_batch()?;
        geometry.check_forward(input, &affine, residual, &output)?;
        let tiles = Tiles::new(geometry);
        let Statistics { mean, inverse_deviation, running_mean, running_variance } = statistics;
        for (what, span) in [("mean", &mean), ("inverse deviation", &inverse_deviation), ("running mean", &running_mean)] {
            expect_len(what, tiles.channels, span.len)?;
        }
        expect_len("running variance", tiles.channels, running_variance.len)?;

        let mut scratch = self.scratch((2 * tiles.count() + 1) * tiles.channels);
        let (moments, scale) = scratch.split_at_mut(2 * tiles.count() * tiles.channels);
        let (mean, inverse_deviation) = (mean.into_slice(), inverse_deviation.into_slice());
        let (running_mean, running_variance) = (running_mean.into_slice(), running_variance.into_slice());
        let rows = tiles.rows * if geometry.synced { self.group().size() } else { 1 };
        self.run(|| {
            let input = input.as_slice();
            tiles.moments(input, moments);
            let all = if geometry.synced { Some(tiles.moments_of_all_ranks(self.group(), input, moments)?) } else { None };
            let combined = (mean.par_chunks_mut(LANES).zip(inverse_deviation.par_chunks_mut(LANES)))
                .zip(running_mean.par_chunks_mut(LANES).zip(running_variance.par_chunks_mut(LANES)));
            combined.enumerate().for_each(|(chunk, ((mean, inverse_deviation), (running_mean, running_variance)))| {
                let [offset, squares] = tiles.combine_moments(moments, chunk * LANES, mean.len());
                for lane in 0..mean.len() {
                    let channel = chunk * LANES + lane;
                    let own = [f64::from(input[channel]) + offset[lane], squares[lane]];
                    let [new_mean, squares] = all.as_ref().map_or(own, |all| all[channel]);
                    mean[lane] = new_mean as f32;
                    let variance = squares / rows as f64 + f64::from(geometry.epsilon);
                    inverse_deviation[lane] = variance.sqrt().recip() as f32;
                    let unbiased = squares / (rows - 1) as f64;
                    running_mean[lane] = average(running_mean[lane], new_mean, geometry.momentum);
                    running_variance[lane] = average(running_variance[lane], unbiased, geometry.momentum);
                }
            });
            multiply(affine.weight.as_slice(), inverse_deviation, scale);
            let coefficients = Coefficients { mean, scale, bias: affine.bias.as_slice(), relu: geometry.relu };
            tiles.normalize(&coefficients, input, residual.map(Span::as_slice), output.into_slice());
            Ok(())
        })
    }

    fn batch_norm_eval(
        &self,
        geometry: &BatchNormGeometry,
        input: Read<'_>,
        affine: Affine<'_, Self>,
        residual: Option<Read<'_>>,
        running: (Read<'_>, Read<'_>),
        output: SpanMut<'_, Vec<f32>>,
    ) -> Result<()> {
        geometry.check_forward(input, &affine, residual, &output)?;
        let tiles = Tiles::new(geometry);
        expect_len("running mean", tiles.channels, running.0.len)?;
        expect_len("running variance", tiles.channels, running.1.len)?;

        let scale = running_scale(self, geometry, &affine, running.1);
        let (mean, bias) = (running.0.as_slice(), affine.bias.as_slice());
        let coefficients = Coefficients { mean, scale: &scale, bias, relu: geometry.relu };
        self.run(|| tiles.normalize(&coefficients, input.as_slice(), residual.map(Span::as_slice), output.into_slice()));
        Ok(())
    }

    fn batch_norm_recompute(
        &self,
        geometry: &BatchNormGeometry,
        input: Read<'_>,
        affine: Affine<'_, Self>,
        (mean, inverse_deviation): (Read<'_>, Read<'_>),
        output: SpanMut<'_, Vec<f32>>,
    ) -> Result<()> {
        geometry.check_forward(input, &affine, None, &output)?;
        let tiles = Tiles::new(geometry);
        expect_len("mean", tiles.channels, mean.len)?;
        expect_len("inverse deviation", tiles.channels, inverse_deviation.len)?;

        let mut scale = self.scratch(tiles.channels);
        multiply(affine.weight.as_slice(), inverse_deviation.as_slice(), &mut scale);
        let (mean, bias) = (mean.as_slice(), affine.bias.as_slice());
        let coefficients = Coefficients { mean, scale: &scale, bias, relu: geometry.relu };
        self.run(|| tiles.normalize(&coefficients, input.as_slice(), None, output.into_slice()));
        Ok(())
    }

    fn batch_norm_backward(
        &self,
        geometry: &BatchNormGeometry,
        inputs: BatchNormBackward<'_, Self>,
        gradients: BatchNormGradients<'_, Self>,
    ) -> Result<()> {
        if !inputs.frozen {
            geometry.check_batch()?;
        }
        geometry.check_backward(&inputs, &gradients)?;
        let tiles = Tiles::new(geometry);

        let sums_len = 2 * tiles.count() * tiles.channels;
        let mut scratch = self.scratch(sums_len + 3 * tiles.channels);
        let (sums, factors) = scratch.split_at_mut(sums_len);
        let BatchNormGradients { input, residual, affine } = gradients;
        let (input, residual) = (input.into_slice(), residual.map(SpanMut::into_slice));
        let (weight, bias) = affine.into_slice().split_at_mut(tiles.channels);
        let inverse_deviation = inputs.inverse_deviation.as_slice();
        let forward = Forward {
            input: inputs.input.as_slice(),
            mask: geometry.relu.then(|| inputs.output.as_slice()),
            output_gradient: inputs.output_gradient.as_slice(),
            mean: inputs.mean.as_slice(),
        };
        multiply(inputs.weight.as_slice(), inverse_deviation, &mut factors[..tiles.channels]);
        self.run(|| {
            if inputs.frozen {
                // Constant statistics send nothing back to the input.
                factors[tiles.channels..].fill(0.0);
                tiles.gradients(&forward, factors, Outputs { input, residual, sums }, true);
                tiles.parameter_gradients(sums, inverse_deviation, weight, bias);
            } else {
                tiles.gradient_sums(&forward, sums);
                tiles.parameter_gradients(sums, inverse_deviation, weight, bias);
                if geometry.synced {
                    let (weight, bias) = gradients_of_all_ranks(self.group(), weight, bias)?;
                    tiles.statistics_factors(self.group().size(), inverse_deviation, (&weight, &bias), factors);
                } else {
                    tiles.statistics_factors(1, inverse_deviation, (weight, bias), factors);
                }
                tiles.gradients(&forward, factors, Outputs { input, residual, sums }, false);
            }
            Ok(())
        })
    }
}

/// What evaluation multiplies each channel by.
pub(in crate::ops) fn running_scale<'a>(
    cpu: &'a Cpu,
    geometry: &BatchNormGeometry,
    affine: &Affine<'_, Cpu>,
    variances: Read<'_>,
) -> Scratch<'a> {
    let mut scale = cpu.scratch(geometry.channels);
    let channels = scale.iter_mut().zip(variances.as_slice()).zip(affine.weight.as_slice());
    for ((scale, &variance), &weight) in channels {
        *scale = (f64::from(variance) + f64::from(geometry.epsilon)).sqrt().recip() as f32 * weight;
    }
    scale
}

/// Where the backward pass writes: gradients of input and residual, and the tiles' sums `(tiles, 2, channels)`.
struct Outputs<'a> {
    input: &'a mut [f32],
    residual: Option<&'a mut [f32]>,
    sums: &'a mut [f32],
}

/// The rows of an activation, cut into tiles that depend on its shape only.
struct Tiles {
    rows: usize,
    channels: usize,
    tile_rows: usize,
}

impl Tiles {
    fn new(geometry: &BatchNormGeometry) -> Self {
        let BatchNormGeometry { rows, channels, .. } = *geometry;
        Self { rows, channels, tile_rows: (TILE_VALUES / channels).clamp(MIN_TILE_ROWS, MAX_TILE_ROWS) }
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.tile_rows)
    }

    /// Values in every tile but the last.
    fn len(&self) -> usize {
        self.tile_rows * self.channels
    }

    /// Writes mean, as an offset from the first row, and squared deviations of every tile, `(tiles, 2, channels)`.
    fn moments(&self, input: &[f32], moments: &mut [f32]) {
        let origin = &input[..self.channels];
        let tiles = moments.par_chunks_mut(2 * self.channels).zip(input.par_chunks(self.len()));
        tiles.for_each(|(moments, input)| tile::moments(input, origin, moments));
    }

    /// Offset of the mean from the first row and sum of squared deviations over all tiles, of `lanes` channels from `first`.
    fn combine_moments(&self, moments: &[f32], first: usize, lanes: usize) -> [[f64; LANES]; 2] {
        let (mut mean, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let tiles = || {
            moments.chunks_exact(2 * self.channels).enumerate().map(|(tile, moments)| {
                let rows = self.tile_rows.min(self.rows - tile * self.tile_rows) as f64;
                (rows, &moments[first..][..lanes], &moments[self.channels + first..][..lanes])
            })
        };
        for (rows, means, _) in tiles() {
            for (sum, &mean) in mean.iter_mut().zip(means) {
                *sum += rows * f64::from(mean);
            }
        }
        mean.iter_mut().for_each(|mean| *mean /= self.rows as f64);
        for (rows, means, deviations) in tiles() {
            for (((sum, &mean), &tile_mean), &deviations) in squares.iter_mut().zip(&mean).zip(means).zip(deviations) {
                let offset = f64::from(tile_mean) - mean;
                *sum += f64::from(deviations) + rows * offset * offset;
            }
        }
        [mean, squares]
    }

    /// Mean and sum of squared deviations of each channel over the rows of all ranks, from the moments of this rank's tiles.
    fn moments_of_all_ranks(&self, group: &Group, input: &[f32], moments: &[f32]) -> Result<Vec<[f64; 2]>> {
        let mut own = vec![[0.0; 2]; self.channels];
        for (chunk, own) in own.chunks_mut(LANES).enumerate() {
            let [offset, squares] = self.combine_moments(moments, chunk * LANES, own.len());
            for (lane, own) in own.iter_mut().enumerate() {
                *own = [f64::from(input[chunk * LANES + lane]) + offset[lane], squares[lane]];
            }
        }
        let parts = group.gather_parts("the moments of a batch norm", &own)?;
        let rows = self.rows as f64;
        let of_channel = |channel: usize| {
            let parts = || parts.iter().skip(channel).step_by(self.channels);
            let mean = parts().map(|[mean, _]| mean).sum::<f64>() / group.size() as f64;
            [mean, parts().map(|[part, squares]| squares + rows * (part - mean).powi(2)).sum()]
        };
        Ok((0..self.channels).map(of_channel).collect())
    }

    fn normalize(&self, coefficients: &Coefficients<'_>, input: &[f32], residual: Option<&[f32]>, output: &mut [f32]) {
        output.par_chunks_mut(self.len()).zip(input.par_chunks(self.len())).enumerate().for_each(|(index, (output, input))| {
            let residual = residual.map(|residual| piece(residual, index, self.len()));
            tile::normalize(coefficients, input, residual, output);
        });
    }

    /// Writes the sums of every tile, `(tiles, 2, channels)`.
    fn gradient_sums(&self, forward: &Forward<'_>, sums: &mut [f32]) {
        sums.par_chunks_mut(2 * self.channels)
            .enumerate()
            .for_each(|(index, sums)| tile::gradient_sums(&forward.tile(index, self.len()), sums));
    }

    /// Gradients of scale and shift from the tiles' sums.
    fn parameter_gradients(&self, sums: &[f32], inverse_deviation: &[f32], weight: &mut [f32], bias: &mut [f32]) {
        let chunks = weight.par_chunks_mut(LANES).zip(bias.par_chunks_mut(LANES)).zip(inverse_deviation.par_chunks(LANES));
        chunks.enumerate().for_each(|(chunk, ((weight, bias), inverse_deviation))| {
            let (first, lanes) = (chunk * LANES, bias.len());
            let (mut gradient_sum, mut product_sum) = ([0.0; LANES], [0.0; LANES]);
            for sums in sums.chunks_exact(2 * self.channels) {
                let (gradients, products) = (&sums[first..][..lanes], &sums[self.channels + first..][..lanes]);
                for lane in 0..lanes {
                    gradient_sum[lane] += f64::from(gradients[lane]);
                    product_sum[lane] += f64::from(products[lane]);
                }
            }
            for lane in 0..lanes {
                bias[lane] = gradient_sum[lane] as f32;
                weight[lane] = (product_sum[lane] * f64::from(inverse_deviation[lane])) as f32;
            }
        });
    }

    /// Completes the factors `(3, channels)`, of which the first row is given, by what flows back through mean and variance.
    fn statistics_factors(&self, ranks: usize, inverse_deviation: &[f32], (weight, bias): (&[f32], &[f32]), factors: &mut [f32]) {
        let (gradient, rest) = factors.split_at_mut(self.channels);
        let (input, constant) = rest.split_at_mut(self.channels);
        for channel in 0..self.channels {
            let share = -gradient[channel] / (ranks * self.rows) as f32;
            input[channel] = share * weight[channel] * inverse_deviation[channel];
            constant[channel] = share * bias[channel];
        }
    }

    /// Writes the gradients of input and residual and, where the statistics are constants, the sums in the same pass over memory.
    fn gradients(&self, forward: &Forward<'_>, factors: &[f32], outputs: Outputs<'_>, frozen: bool) {
        let (gradient, rest) = factors.split_at(self.channels);
        let (input, constant) = rest.split_at(self.channels);
        let factors = Factors { gradient, input, constant };
        let work = |index: usize, (input, sums): (&mut [f32], &mut [f32]), residual: Option<&mut [f32]>| {
            let forward = forward.tile(index, self.len());
            if frozen {
                tile::gradient_sums(&forward, sums);
            }
            tile::gradients(&forward, &factors, input, residual);
        };
        let tiles = outputs.input.par_chunks_mut(self.len()).zip(outputs.sums.par_chunks_mut(2 * self.channels));
        match outputs.residual {
            None => tiles.enumerate().for_each(|(index, tile)| work(index, tile, None)),
            Some(residual) => {
                let tiles = tiles.zip(residual.par_chunks_mut(self.len())).enumerate();
                tiles.for_each(|(index, (tile, residual))| work(index, tile, Some(residual)));
            }
        }
    }
}

/// Gradients of scale and shift over the rows of all ranks, from those over this rank's.
fn gradients_of_all_ranks(group: &Group, weight: &[f32], bias: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
    let channels = weight.len();
    let parts = group.gather_parts("the gradients of a batch norm", &[weight, bias].concat())?;
    let sum = |place: usize| parts.iter().skip(place).step_by(2 * channels).copied().map(f64::from).sum::<f64>() as f32;
    Ok(((0..channels).map(sum).collect(), (channels..2 * channels).map(sum).collect()))
}

/// The running statistic after one more batch.
fn average(running: f32, new: f64, momentum: f32) -> f32 {
    (f64::from(running) + f64::from(momentum) * (new - f64::from(running))) as f32
}

fn multiply(left: &[f32], right: &[f32], product: &mut [f32]) {
    for ((product, &left), &right) in product.iter_mut().zip(left).zip(right) {
        *product = left * right;
    }
}
