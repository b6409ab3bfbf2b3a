//! The loops of batch normalisation over one tile, `(rows, channels)` values that fit the cache; vectorised over channels.

use crate::cpu::simd::vectorized;

/// Channels of a block.
const LANES: usize = 16;

/// What the forward pass does to each channel: `(value - mean) * scale + bias`, then perhaps a ReLU.
pub(in crate::ops) struct Coefficients<'a> {
    pub mean: &'a [f32],
    pub scale: &'a [f32],
    pub bias: &'a [f32],
    pub relu: bool,
}

/// What the backward pass reads of one tile, or of all of them.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a> {
    pub input: &'a [f32],
    /// The output where a ReLU followed.
    pub mask: Option<&'a [f32]>,
    pub output_gradient: &'a [f32],
    /// Mean per channel.
    pub mean: &'a [f32],
}

/// The input's gradient per channel: `gradient * g + input * (x - mean) + constant`.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    pub gradient: &'a [f32],
    pub input: &'a [f32],
    pub constant: &'a [f32],
}

impl<'a> Forward<'a> {
    /// The `index`-th piece of `len` values.
    pub fn tile(&self, index: usize, len: usize) -> Self {
        let part = |values: &'a [f32]| piece(values, index, len);
        Self { input: part(self.input), mask: self.mask.map(part), output_gradient: part(self.output_gradient), mean: self.mean }
    }

    /// The output gradient's rows beside those of the mask; without a ReLU the gradient stands in for the mask.
    #[inline(always)]
    fn rows(&self) -> impl Iterator<Item = ((&'a [f32], &'a [f32]), &'a [f32])> {
        let channels = self.mean.len();
        let mask = self.mask.unwrap_or(self.output_gradient);
        (self.input.chunks_exact(channels).zip(self.output_gradient.chunks_exact(channels))).zip(mask.chunks_exact(channels))
    }
}

/// The `index`-th piece of `len` values; the last may be shorter.
pub(super) fn piece(values: &[f32], index: usize, len: usize) -> &[f32] {
    let start = index * len;
    &values[start..values.len().min(start + len)]
}

/// Mean of each channel as an offset from `origin`, and the sum of squared deviations from it, `(2, channels)`. The origin, a row of
/// the input, keeps the offsets small where the mean is large.
pub(super) fn moments(input: &[f32], origin: &[f32], moments: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            let rows = input.len() / origin.len();
            let (offset, squares) = moments.split_at_mut(origin.len());
            offset.fill(0.0);
            add_rows(input, (origin, origin), offset, |value, origin, _| value - origin);
            offset.iter_mut().for_each(|offset| *offset /= rows as f32);
            squares.fill(0.0);
            add_rows(input, (origin, offset), squares, |value, origin, offset| {
                let deviation = (value - origin) - offset;
                deviation * deviation
            });
        },
    );
}

/// Adds `term(value, constant, constant)` of every row to `sums`, four rows for each load and store of a sum.
#[inline(always)]
fn add_rows(input: &[f32], constants: (&[f32], &[f32]), sums: &mut [f32], term: impl Fn(f32, f32, f32) -> f32) {
    let channels = sums.len();
    let quartets = input.chunks_exact(4 * channels);
    let rest = quartets.remainder();
    for quartet in quartets {
        let (upper, lower) = quartet.split_at(2 * channels);
        let ((first, second), (third, fourth)) = (upper.split_at(channels), lower.split_at(channels));
        let rows = first.iter().zip(second).zip(third).zip(fourth);
        let channels = sums.iter_mut().zip(constants.0.iter().zip(constants.1));
        for ((sum, (&left, &right)), (((&first, &second), &third), &fourth)) in channels.zip(rows) {
            *sum += (term(first, left, right) + term(second, left, right)) + (term(third, left, right) + term(fourth, left, right));
        }
    }
    for row in rest.chunks_exact(channels) {
        let channels = sums.iter_mut().zip(constants.0.iter().zip(constants.1));
        for ((sum, (&left, &right)), &value) in channels.zip(row) {
            *sum += term(value, left, right);
        }
    }
}

/// The forward pass, given the statistics.
pub(super) fn normalize(coefficients: &Coefficients<'_>, input: &[f32], residual: Option<&[f32]>, output: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            let channels = coefficients.mean.len();
            let rows = output.chunks_exact_mut(channels).zip(input.chunks_exact(channels));
            for (index, (output, input)) in rows.enumerate() {
                output.copy_from_slice(input);
                normalize_row(coefficients, output, residual.map(|residual| &residual[index * channels..][..channels]));
            }
        },
    );
}

/// As [`normalize`], in place.
pub(in crate::ops) fn normalize_in_place(coefficients: &Coefficients<'_>, values: &mut [f32], residual: Option<&[f32]>) {
    vectorized(
        #[inline(always)]
        || {
            let channels = coefficients.mean.len();
            for (index, row) in values.chunks_exact_mut(channels).enumerate() {
                normalize_row(coefficients, row, residual.map(|residual| &residual[index * channels..][..channels]));
            }
        },
    );
}

#[inline(always)]
fn normalize_row(coefficients: &Coefficients<'_>, row: &mut [f32], residual: Option<&[f32]>) {
    let Coefficients { mean, scale, bias, relu } = *coefficients;
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    let ((mean, mean_rest), (scale, scale_rest), (bias, bias_rest)) = (mean.as_chunks(), scale.as_chunks(), bias.as_chunks());
    let (residual, residual_rest) = residual.map(|residual| residual.as_chunks()).unzip();
    normalize_blocks::<LANES>(blocks, (mean, scale, bias), residual, relu);
    let singles = (mean_rest.as_chunks().0, scale_rest.as_chunks().0, bias_rest.as_chunks().0);
    let residual = residual_rest.map(|residual: &[f32]| residual.as_chunks().0);
    normalize_blocks::<1>(rest.as_chunks_mut().0, singles, residual, relu);
}

/// Block by block, as in [`add_gradients`].
#[inline(always)]
fn normalize_blocks<const LANES: usize>(
    values: &mut [[f32; LANES]],
    (mean, scale, bias): (Blocks<'_, LANES>, Blocks<'_, LANES>, Blocks<'_, LANES>),
    residual: Option<Blocks<'_, LANES>>,
    relu: bool,
) {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    for (index, block) in values.iter_mut().enumerate() {
        let (mut values, mean, scale, bias) = (*block, mean[index], scale[index], bias[index]);
        let residual = residual.map_or([0.0; LANES], |residual| residual[index]);
        for lane in 0..LANES {
            let value = (values[lane] - mean[lane]) * scale[lane] + bias[lane] + residual[lane];
            // Not `f32::max`, which would hide a NaN.
            values[lane] = if value < floor { floor } else { value };
        }
        *block = values;
    }
}

/// Sums over the tile of `g` and of `g (x - mean)` for each channel, `(2, channels)`, where `g` is the masked output gradient.
pub(super) fn gradient_sums(forward: &Forward<'_>, sums: &mut [f32]) {
    match forward.mask {
        Some(_) => masked_gradient_sums::<true>(forward, sums),
        None => masked_gradient_sums::<false>(forward, sums),
    }
}

fn masked_gradient_sums<const RELU: bool>(forward: &Forward<'_>, sums: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            sums.fill(0.0);
            let (gradient_sum, product_sum) = sums.split_at_mut(forward.mean.len());
            let (gradient_sums, gradient_rest) = gradient_sum.as_chunks_mut();
            let (product_sums, product_rest) = product_sum.as_chunks_mut();
            let (mean, mean_rest) = forward.mean.as_chunks::<LANES>();
            for ((input, gradient), mask) in forward.rows() {
                let (input, input_rest) = input.as_chunks();
                let (gradient, gradient_end) = gradient.as_chunks();
                let (mask, mask_rest) = mask.as_chunks();
                add_gradients::<RELU, LANES>((input, mean), (gradient, mask), (gradient_sums, product_sums));
                let singles = (input_rest.as_chunks().0, mean_rest.as_chunks().0);
                let gradient = (gradient_end.as_chunks().0, mask_rest.as_chunks().0);
                let sums = (gradient_rest.as_chunks_mut().0, product_rest.as_chunks_mut().0);
                add_gradients::<RELU, 1>(singles, gradient, sums);
            }
        },
    );
}

/// Blocks of channels of one row.
type Blocks<'a, const LANES: usize> = &'a [[f32; LANES]];

/// Adds one row to the sums, block by block: all of a block is loaded before any is stored, so that the compiler need not fear
/// overlaps of so many slices.
#[inline(always)]
fn add_gradients<const RELU: bool, const LANES: usize>(
    (input, mean): (Blocks<'_, LANES>, Blocks<'_, LANES>),
    (gradient, mask): (Blocks<'_, LANES>, Blocks<'_, LANES>),
    (sums, products): (&mut [[f32; LANES]], &mut [[f32; LANES]]),
) {
    for (index, (sum_block, product_block)) in sums.iter_mut().zip(products).enumerate() {
        let (input, mean, gradient, mask) = (input[index], mean[index], gradient[index], mask[index]);
        let (mut sum, mut product) = (*sum_block, *product_block);
        for lane in 0..LANES {
            let gradient = masked::<RELU>(gradient[lane], mask[lane]);
            sum[lane] += gradient;
            product[lane] += gradient * (input[lane] - mean[lane]);
        }
        (*sum_block, *product_block) = (sum, product);
    }
}

/// The gradients of the input and of the residual branch.
pub(super) fn gradients(forward: &Forward<'_>, factors: &Factors<'_>, input_gradient: &mut [f32], residual: Option<&mut [f32]>) {
    match forward.mask {
        Some(_) => masked_gradients::<true>(forward, factors, input_gradient),
        None => masked_gradients::<false>(forward, factors, input_gradient),
    }
    let Some(residual) = residual else { return };
    let Some(mask) = forward.mask else {
        residual.copy_from_slice(forward.output_gradient);
        return;
    };
    vectorized(
        #[inline(always)]
        || {
            for ((residual, &gradient), &mask) in residual.iter_mut().zip(forward.output_gradient).zip(mask) {
                *residual = masked::<true>(gradient, mask);
            }
        },
    );
}

fn masked_gradients<const RELU: bool>(forward: &Forward<'_>, factors: &Factors<'_>, input_gradient: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            let channel = || (forward.mean.iter().zip(factors.gradient)).zip(factors.input.iter().zip(factors.constant));
            for (output, ((input, gradient), mask)) in input_gradient.chunks_exact_mut(forward.mean.len()).zip(forward.rows()) {
                let values = output.iter_mut().zip(input).zip(gradient.iter().zip(mask));
                for (((output, &value), (&gradient, &mask)), ((&mean, &factor), (&input, &constant))) in values.zip(channel()) {
                    *output = factor * masked::<RELU>(gradient, mask) + (input * (value - mean) + constant);
                }
            }
        },
    );
}

/// The gradient behind the ReLU, which passed where its output is positive.
#[inline(always)]
fn masked<const RELU: bool>(gradient: f32, output: f32) -> f32 {
    if RELU && output <= 0.0 { 0.0 } else { gradient }
}
