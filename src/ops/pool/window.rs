//! The loops of pooling over one image or a few of its rows; vectorised over channels.
//!
//! A window of the stem's pooling is named by its output position; its nine taps are numbered in row-major order.

use super::PoolGeometry;
use crate::cpu::simd::vectorized;

/// Rows and columns of a window.
const SIDE: usize = 3;
const TAPS: usize = SIDE * SIDE;
/// Channels that are handled together: loaded before anything is stored, so that the compiler need not fear overlaps.
const LANES: usize = 16;
/// The winner of a window that does not exist.
const NO_TAP: f32 = -1.0;

/// The stem's pooling of one image.
pub(super) struct Stem {
    geometry: PoolGeometry,
}

/// A row of windows over one image.
#[derive(Clone, Copy)]
pub(super) struct WindowRow<'a> {
    /// `(height, width, channels)`.
    pub image: &'a [f32],
    /// Output row.
    pub row: usize,
    /// What a tap outside of the image reads, `(channels)`: less than any value.
    pub outside: &'a [f32],
}

impl Stem {
    pub fn new(geometry: &PoolGeometry) -> Self {
        Self { geometry: *geometry }
    }

    /// Values in one input row.
    pub fn row_len(&self) -> usize {
        self.geometry.width * self.geometry.channels
    }

    /// Values in one input image.
    pub fn image_len(&self) -> usize {
        self.geometry.height * self.row_len()
    }

    /// Values in one output image.
    pub fn out_len(&self) -> usize {
        self.geometry.out_height() * self.geometry.out_width() * self.geometry.channels
    }

    /// Values in one row of winners, which has a window that does not exist at its right end.
    pub fn winners_len(&self) -> usize {
        (self.geometry.out_width() + 1) * self.geometry.channels
    }

    /// The nine taps of the window in output column `column`.
    #[inline(always)]
    fn taps<'a>(&self, windows: WindowRow<'a>, column: usize) -> [&'a [f32]; TAPS] {
        let PoolGeometry { height, width, channels, .. } = self.geometry;
        std::array::from_fn(|tap| {
            // The padding of one is subtracted afterwards, to stay within unsigned numbers.
            let (row, column) = (2 * windows.row + tap / SIDE, 2 * column + tap % SIDE);
            if (1..=height).contains(&row) && (1..=width).contains(&column) {
                &windows.image[((row - 1) * width + column - 1) * channels..][..channels]
            } else {
                windows.outside
            }
        })
    }

    /// Maxima of a row of windows, `(out_width, channels)`.
    pub fn maxima(&self, windows: WindowRow<'_>, output: &mut [f32]) {
        let channels = self.geometry.channels;
        vectorized(
            #[inline(always)]
            || {
                for (column, output) in output.chunks_exact_mut(channels).enumerate() {
                    let taps = self.taps(windows, column).map(|tap| &tap[..channels]);
                    let output = &mut output[..channels];
                    for channel in 0..channels {
                        output[channel] = taps.iter().fold(f32::NEG_INFINITY, |max, tap| larger(max, tap[channel]));
                    }
                }
            },
        );
    }

    /// Which tap of each window holds the first maximum, `(out_width + 1, channels)`.
    fn winners(&self, windows: WindowRow<'_>, winners: &mut [f32]) {
        let channels = self.geometry.channels;
        if windows.row >= self.geometry.out_height() {
            winners.fill(NO_TAP);
            return;
        }
        let (winners, none) = winners.split_at_mut(self.geometry.out_width() * channels);
        none.fill(NO_TAP);
        vectorized(
            #[inline(always)]
            || {
                for (column, winners) in winners.chunks_exact_mut(channels).enumerate() {
                    let taps = self.taps(windows, column);
                    let (blocks, rest) = winners.as_chunks_mut::<LANES>();
                    let tap_blocks = taps.map(|tap| tap.as_chunks::<LANES>());
                    for (index, winners) in blocks.iter_mut().enumerate() {
                        *winners = first_maximum(tap_blocks.map(|(blocks, _)| &blocks[index]));
                    }
                    for (index, winner) in rest.iter_mut().enumerate() {
                        [*winner] = first_maximum(tap_blocks.map(|(_, rest)| std::array::from_ref(&rest[index])));
                    }
                }
            },
        );
    }

    /// Input gradient of the rows at the centre and the lower edge of the windows from `first` on, as many as `input_gradient`
    /// holds. `winners` is scratch for two rows of them.
    pub fn strip_backward(&self, first: WindowRow<'_>, output_gradient: &[f32], input_gradient: &mut [f32], winners: &mut [f32]) {
        let out_row_len = self.geometry.out_width() * self.geometry.channels;
        let (mut upper, mut lower) = winners.split_at_mut(self.winners_len());
        self.winners(first, upper);
        for (offset, rows) in input_gradient.chunks_mut(2 * self.row_len()).enumerate() {
            let row = first.row + offset;
            self.winners(WindowRow { row: row + 1, ..first }, lower);
            // A row of windows that does not exist has no winners: any gradient does for it.
            let next = (row + 1).min(self.geometry.out_height() - 1);
            let upper_windows = Windows { winners: upper, gradient: &output_gradient[row * out_row_len..][..out_row_len] };
            let lower_windows = Windows { winners: lower, gradient: &output_gradient[next * out_row_len..][..out_row_len] };
            self.gather(upper_windows, lower_windows, rows);
            std::mem::swap(&mut upper, &mut lower);
        }
    }

    /// Gradient of the two input rows (or the last one) at the centre and the lower edge of the upper windows.
    fn gather(&self, upper: Windows<'_>, lower: Windows<'_>, rows: &mut [f32]) {
        let PoolGeometry { width, channels, .. } = self.geometry;
        let (centre, edge) = rows.split_at_mut(self.row_len());
        let last = self.geometry.out_width() - 1;
        vectorized(
            #[inline(always)]
            || {
                for (column, output) in centre.chunks_mut(2 * channels).enumerate() {
                    let (left, right) = (upper.at(column, last, channels), upper.at(column + 1, last, channels));
                    let (even, odd) = output.split_at_mut(channels);
                    collect(even, [(4, left)]);
                    if 2 * column + 1 < width {
                        collect(odd, [(5, left), (3, right)]);
                    }
                }
                for (column, output) in edge.chunks_mut(2 * channels).enumerate() {
                    let (left, right) = (upper.at(column, last, channels), upper.at(column + 1, last, channels));
                    let (below, below_right) = (lower.at(column, last, channels), lower.at(column + 1, last, channels));
                    let (even, odd) = output.split_at_mut(channels);
                    collect(even, [(7, left), (1, below)]);
                    if 2 * column + 1 < width {
                        collect(odd, [(8, left), (6, right), (2, below), (0, below_right)]);
                    }
                }
            },
        );
    }
}

/// Winners `(out_width + 1, channels)` and gradient `(out_width, channels)` of a row of windows.
#[derive(Clone, Copy)]
struct Windows<'a> {
    winners: &'a [f32],
    gradient: &'a [f32],
}

impl<'a> Windows<'a> {
    /// The window in output column `column`, which may lie one past the `last`: that one has no winners.
    #[inline(always)]
    fn at(&self, column: usize, last: usize, channels: usize) -> Self {
        Self {
            winners: &self.winners[column * channels..][..channels],
            gradient: &self.gradient[column.min(last) * channels..][..channels],
        }
    }
}

/// Number of the tap that holds the first maximum, for each of a block of channels.
#[inline(always)]
fn first_maximum<const LANES: usize>(taps: [&[f32; LANES]; TAPS]) -> [f32; LANES] {
    let (mut max, mut winner) = (*taps[0], [0.0; LANES]);
    for (tap, values) in (1u8..).zip(&taps[1..]) {
        for lane in 0..LANES {
            winner[lane] = if values[lane] > max[lane] { f32::from(tap) } else { winner[lane] };
            max[lane] = larger(max[lane], values[lane]);
        }
    }
    winner
}

/// Sums the gradients of the windows in which the given tap won.
#[inline(always)]
fn collect<const N: usize>(output: &mut [f32], windows: [(u8, Windows<'_>); N]) {
    let windows = windows.map(|(tap, at)| (f32::from(tap), at.winners.as_chunks::<LANES>(), at.gradient.as_chunks::<LANES>()));
    let (blocks, rest) = output.as_chunks_mut::<LANES>();
    for (index, output) in blocks.iter_mut().enumerate() {
        *output = won(windows.map(|(tap, winners, gradient)| (tap, &winners.0[index], &gradient.0[index])));
    }
    for (index, output) in rest.iter_mut().enumerate() {
        [*output] = won(windows.map(|(tap, winners, gradient)| {
            (tap, std::array::from_ref(&winners.1[index]), std::array::from_ref(&gradient.1[index]))
        }));
    }
}

/// Sum over windows of the gradient where the winner is the tap, for each of a block of channels.
#[inline(always)]
fn won<const LANES: usize, const N: usize>(windows: [(f32, &[f32; LANES], &[f32; LANES]); N]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (tap, winners, gradient) in windows {
        for lane in 0..LANES {
            sums[lane] += if winners[lane] == tap { gradient[lane] } else { 0.0 };
        }
    }
    sums
}

/// `value` if it is larger than `max`: the form that compiles to one instruction.
#[inline(always)]
fn larger(max: f32, value: f32) -> f32 {
    if value > max { value } else { max }
}

/// Sum over the positions of one image.
pub(super) fn global_sum(image: &[f32], sums: &mut [f32]) {
    fold_positions(image, sums, 0.0, |sum, value| sum + value);
}

/// Maximum over the positions of one image.
pub(super) fn global_maximum(image: &[f32], maxima: &mut [f32]) {
    fold_positions(image, maxima, f32::NEG_INFINITY, larger);
}

#[inline(always)]
fn fold_positions(image: &[f32], output: &mut [f32], start: f32, combine: impl Fn(f32, f32) -> f32) {
    vectorized(
        #[inline(always)]
        || {
            output.fill(start);
            for position in image.chunks_exact(output.len()) {
                output.iter_mut().zip(position).for_each(|(output, &value)| *output = combine(*output, value));
            }
        },
    );
}

/// Gives each channel's gradient to the first position that holds its maximum. `maxima` is scratch, `(channels)`.
pub(super) fn global_maximum_backward(image: &[f32], gradient: &[f32], maxima: &mut [f32], input_gradient: &mut [f32]) {
    global_maximum(image, maxima);
    vectorized(
        #[inline(always)]
        || {
            let channels = gradient.len();
            for (output, position) in input_gradient.chunks_exact_mut(channels).zip(image.chunks_exact(channels)) {
                for (((output, max), &value), &gradient) in output.iter_mut().zip(maxima.iter()).zip(position).zip(gradient) {
                    *output = if value == *max { gradient } else { 0.0 };
                }
                // Nothing equals NaN: a channel whose maximum was found is given away.
                for (max, &value) in maxima.iter_mut().zip(position) {
                    *max = if value == *max { f32::NAN } else { *max };
                }
            }
        },
    );
}
