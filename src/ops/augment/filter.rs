//! The two passes of a resize, each over one row: rows of bytes into one row of numbers, and that row into a row of the output.

use super::taps::Axis;
use super::{CHANNELS, DEVIATION, MEAN};

/// Lanes in which a pixel is filtered: its channels and one that is thrown away.
pub(super) const LANES: usize = 4;
/// Rows of bytes that are added in one pass.
const ROWS: usize = 4;
/// Pixels of a row that are added without a test in between, where there are many.
const BLOCK: usize = 4;
/// What a sum begins with: adding to it changes no bit of any number, which is not so of 0.0, and is left out by compilers.
const NOTHING: f32 = -0.0;
/// A black pixel, normalised.
const BLACK: [f32; LANES] = [-MEAN[0] / DEVIATION[0], -MEAN[1] / DEVIATION[1], -MEAN[2] / DEVIATION[2], 0.0];

/// Weighted sum of as many rows of bytes as there are weights, at least one, `stride` bytes apart.
#[inline(always)]
pub(super) fn mix_rows(bytes: &[u8], stride: usize, mut weights: &[f32], output: &mut [f32]) {
    while let [seen @ .., 0.0] = weights {
        weights = seen;
    }
    for (group, weights) in weights.chunks(ROWS).enumerate() {
        let bytes = &bytes[ROWS * group * stride..];
        match group {
            0 => add_group(bytes, stride, weights, |_| NOTHING, output),
            _ => add_group(bytes, stride, weights, |sum| sum, output),
        }
    }
}

#[inline(always)]
fn add_group(bytes: &[u8], stride: usize, weights: &[f32], start: impl Fn(f32) -> f32, output: &mut [f32]) {
    match *weights {
        [first, second, third, fourth] => add_rows(bytes, stride, [first, second, third, fourth], start, output),
        [first, second, third] => add_rows(bytes, stride, [first, second, third], start, output),
        [first, second] => add_rows(bytes, stride, [first, second], start, output),
        _ => add_rows(bytes, stride, [weights[0]], start, output),
    }
}

/// Adds rows of bytes to what `start` makes of the output's numbers.
#[inline(always)]
fn add_rows<const COUNT: usize>(
    bytes: &[u8],
    stride: usize,
    weights: [f32; COUNT],
    start: impl Fn(f32) -> f32,
    output: &mut [f32],
) {
    let len = output.len();
    let rows: [&[u8]; COUNT] = std::array::from_fn(|row| &bytes[row * stride..][..len]);
    for (index, output) in output.iter_mut().enumerate() {
        let mut sum = start(*output);
        for row in 0..COUNT {
            sum += weights[row] * f32::from(rows[row][index]);
        }
        *output = sum;
    }
}

/// Makes a row of the output, normalised and mirrored, out of a row of source pixels.
pub(super) struct RowFilter<'a> {
    /// Where an output pixel's source pixels begin in the row, in numbers.
    places: &'a [u32],
    /// Weights of its source pixels for each lane, with the normalisation's factor in them.
    weights: &'a [[f32; LANES]],
    taps: usize,
}

impl<'a> RowFilter<'a> {
    /// Numbers of scratch memory that a filter needs.
    pub fn scratch_len(axis: &Axis, size: usize) -> usize {
        size * (1 + LANES * axis.taps) + axis.taps
    }

    /// The filter along `axis` of rows that begin with its first pixel read.
    pub fn new(axis: &Axis, size: usize, flip: bool, scratch: &'a mut [f32]) -> Self {
        let (taps, origin) = (axis.taps, axis.read().start);
        let (places, rest) = scratch.split_at_mut(size);
        let (plain, rest) = rest.split_at_mut(taps);
        let (places, weights) = (bytemuck::cast_slice_mut(places), rest.as_chunks_mut().0);
        for (index, (place, weights)) in places.iter_mut().zip(weights.chunks_exact_mut(taps)).enumerate() {
            let index = if flip { size - 1 - index } else { index };
            *place = ((axis.first(index) - origin) * CHANNELS) as u32;
            axis.weigh(index, plain);
            for (lanes, weight) in weights.iter_mut().zip(&*plain) {
                let [red, green, blue] = DEVIATION.map(|deviation| weight * (1.0 / (255.0 * deviation)));
                *lanes = [red, green, blue, 0.0];
            }
        }
        Self { places, weights, taps }
    }

    /// Filters `row`, which ends with a number of padding.
    #[inline(always)]
    pub fn apply(&self, row: &[f32], output: &mut [f32]) {
        match self.taps {
            2 => self.apply_fixed::<2>(row, output),
            3 => self.apply_fixed::<3>(row, output),
            4 => self.apply_fixed::<4>(row, output),
            _ => self.apply_any(row, output),
        }
    }

    #[inline(always)]
    fn apply_fixed<const TAPS: usize>(&self, row: &[f32], output: &mut [f32]) {
        let size = output.len() / CHANNELS;
        let (places, weights) = (&self.places[..size], &self.weights.as_chunks::<TAPS>().0[..size]);
        write_pixels(size, output, |index| add_pixels(BLACK, &weights[index], &row[places[index] as usize..]));
    }

    #[inline(always)]
    fn apply_any(&self, row: &[f32], output: &mut [f32]) {
        write_pixels(self.places.len(), output, |index| {
            let (blocks, rest) = self.weights[index * self.taps..][..self.taps].as_chunks::<BLOCK>();
            let mut pixels = &row[self.places[index] as usize..];
            let mut sums = BLACK;
            for weights in blocks {
                sums = add_pixels(sums, weights, pixels);
                pixels = &pixels[BLOCK * CHANNELS..];
            }
            for weights in rest {
                sums = add_pixels(sums, std::array::from_ref(weights), pixels);
                pixels = &pixels[CHANNELS..];
            }
            sums
        });
    }
}

/// Writes one pixel after the other, the lane that is thrown away over the first of the next; the last pixel apart, so that compilers
/// see vectors in all others.
#[inline(always)]
fn write_pixels(count: usize, output: &mut [f32], pixel: impl Fn(usize) -> [f32; LANES]) {
    let last = count - 1;
    for index in 0..last {
        let output: &mut [f32; LANES] = output[index * CHANNELS..].first_chunk_mut().expect("a pixel follows");
        *output = pixel(index);
    }
    output[last * CHANNELS..].copy_from_slice(&pixel(last)[..CHANNELS]);
}

/// Adds weighted pixels, which are followed by a number of padding, to `sums`.
#[inline(always)]
fn add_pixels<const TAPS: usize>(mut sums: [f32; LANES], weights: &[[f32; LANES]; TAPS], pixels: &[f32]) -> [f32; LANES] {
    let pixels = &pixels[..TAPS * CHANNELS + LANES - CHANNELS];
    for tap in 0..TAPS {
        let pixel: &[f32; LANES] = pixels[tap * CHANNELS..].first_chunk().expect("a row ends with padding");
        for lane in 0..LANES {
            sums[lane] += weights[tap][lane] * pixel[lane];
        }
    }
    sums
}
