//! Convolution by im2row, of images with few channels, such as the first layer of a network: in a padded copy of the image, what one row of the
//! filter meets is one run of `kernel * in_channels` numbers, so that a row of taps is one matrix product.
//!
//! Scratch: per task the padded rows it reads; the filter, and per partial sum its gradient.

use super::{ConvGeometry, Finish, Operand};
use crate::cpu::gemm::{IndexedGemm, IndexedRow, Matrix, OuterGemm, pack, packed_len};
use crate::device::Cpu;
use rayon::prelude::*;
use std::ops::Range;

/// Output pixels of one task, about.
const TASK_PIXELS: usize = 512;

/// Partial sums of the filter gradient, at most.
const PARTIALS: usize = 16;

/// Pixels multiplied at once.
const PAIRS: usize = 120;

/// Rows of one image with the padding around them.
struct PaddedRows<'a> {
    geometry: &'a ConvGeometry,
    image: usize,
    /// Rows of the output.
    rows: Range<usize>,
}

impl PaddedRows<'_> {
    fn padded_width(geometry: &ConvGeometry) -> usize {
        geometry.width + 2 * geometry.padding
    }

    /// Numbers that `rows` rows of the output read, with the padding.
    fn len(geometry: &ConvGeometry, rows: usize) -> usize {
        ((rows - 1) * geometry.stride + geometry.kernel) * Self::padded_width(geometry) * geometry.in_channels
    }

    fn copy(&self, input: &[f32], padded: &mut [f32]) {
        let ConvGeometry { height, width, in_channels, stride, padding, .. } = *self.geometry;
        let row_len = width * in_channels;
        for (index, padded) in padded.chunks_exact_mut(Self::padded_width(self.geometry) * in_channels).enumerate() {
            let row = (self.rows.start * stride + index).checked_sub(padding).filter(|&row| row < height);
            let Some(row) = row else {
                padded.fill(0.0);
                continue;
            };
            let (left, rest) = padded.split_at_mut(padding * in_channels);
            let (middle, right) = rest.split_at_mut(row_len);
            left.fill(0.0);
            middle.copy_from_slice(&input[(self.image * height + row) * row_len..][..row_len]);
            right.fill(0.0);
        }
    }

    /// Calls `multiply` with blocks of pixels of the padded rows and of the rows of the output, for one row of taps.
    fn pairs(&self, tap_row: usize, mut multiply: impl FnMut(&[IndexedRow])) {
        let (out_width, stride) = (self.geometry.out_width(), self.geometry.stride);
        let pixels = self.rows.len() * out_width;
        let mut block = [IndexedRow::default(); PAIRS];
        for first in (0..pixels).step_by(PAIRS) {
            let count = PAIRS.min(pixels - first);
            for (pair, pixel) in block.iter_mut().zip(first..first + count) {
                let row = pixel / out_width * stride + tap_row;
                let from = row * Self::padded_width(self.geometry) + pixel % out_width * stride;
                *pair = IndexedRow { from: from as u32, to: pixel as u32 };
            }
            multiply(&block[..count]);
        }
    }
}

/// Rows of the output of one task.
fn task_rows(geometry: &ConvGeometry) -> usize {
    TASK_PIXELS.div_ceil(geometry.out_width()).min(geometry.out_height())
}

/// Numbers of a row of the filter's matrix: one output channel.
fn row_len(geometry: &ConvGeometry) -> usize {
    geometry.kernel * geometry.kernel * geometry.in_channels
}

/// Length of a filter in panels.
pub(super) fn panels_len(geometry: &ConvGeometry) -> usize {
    packed_len(row_len(geometry), geometry.out_channels)
}

/// Packs a filter, all its taps one matrix.
pub(super) fn pack_filter(geometry: &ConvGeometry, filter: &[f32], panels: &mut [f32]) {
    pack(Matrix::new(filter, geometry.out_channels, row_len(geometry)).transposed(), panels);
}

/// Convolution of `input` into `output`, overwriting it.
pub(super) fn forward(
    cpu: &Cpu,
    geometry: &ConvGeometry,
    (input, filter): (&[f32], Operand<'_>),
    output: &mut [f32],
    finish: Finish<'_>,
) {
    let ConvGeometry { in_channels, out_channels, kernel, .. } = *geometry;
    let run = kernel * in_channels;
    let panels = filter.panels(cpu, panels_len(geometry), |filter, panels| pack_filter(geometry, filter, panels));
    let (rows, row_len) = (task_rows(geometry), geometry.out_width() * out_channels);
    cpu.run(|| {
        output.par_chunks_exact_mut(geometry.out_height() * row_len).enumerate().for_each(|(image, output)| {
            output.par_chunks_mut(rows * row_len).enumerate().for_each(|(task, output)| {
                let padded_rows = PaddedRows { geometry, image, rows: task * rows..task * rows + output.len() / row_len };
                let mut padded = cpu.scratch(PaddedRows::len(geometry, padded_rows.rows.len()));
                padded_rows.copy(input, &mut padded);
                let product = IndexedGemm {
                    left_stride: in_channels,
                    segments: (kernel, PaddedRows::padded_width(geometry) * in_channels),
                    ..IndexedGemm::dense(&padded, &panels, run, out_channels)
                };
                padded_rows.pairs(0, |pairs| product.run(pairs, output));
                finish((image * geometry.out_height() + padded_rows.rows.start) * row_len, output);
            });
        });
    });
}

/// Gradient with respect to the filter: partial sums over ranges of images, added in their order.
pub(super) fn backward_filter(cpu: &Cpu, geometry: &ConvGeometry, input: &[f32], gradient: &[f32], filter_gradient: &mut [f32]) {
    let ConvGeometry { batch, in_channels, out_channels, kernel, .. } = *geometry;
    let (run, filter_len) = (kernel * in_channels, geometry.filter_len());
    let partials = PARTIALS.min(batch).max(1);
    let mut sums = cpu.scratch(partials * filter_len);
    cpu.run(|| {
        sums.par_chunks_exact_mut(filter_len).enumerate().for_each(|(partial, sums)| {
            sums.fill(0.0);
            for image in (partial * batch / partials)..((partial + 1) * batch / partials) {
                add_image(cpu, geometry, image, (input, gradient), sums);
            }
        });
        let (first, rest) = sums.split_at_mut(filter_len);
        super::add_parts(rest, first);
        for (channel, gradient) in filter_gradient.chunks_exact_mut(kernel * run).enumerate() {
            for (tap, gradient) in gradient.iter_mut().enumerate() {
                *gradient = first[tap * out_channels + channel];
            }
        }
    });
}

/// Adds the part of one image to the filter gradient, here `(kernel, kernel, in_channels, out_channels)` for the long rows.
fn add_image(cpu: &Cpu, geometry: &ConvGeometry, image: usize, (input, gradient): (&[f32], &[f32]), sums: &mut [f32]) {
    let ConvGeometry { in_channels, out_channels, kernel, .. } = *geometry;
    let run = kernel * in_channels;
    let (out_height, rows) = (geometry.out_height(), task_rows(geometry));
    let mut padded = cpu.scratch(PaddedRows::len(geometry, rows));
    for first in (0..out_height).step_by(rows) {
        let padded_rows = PaddedRows { geometry, image, rows: first..out_height.min(first + rows) };
        let padded = &mut padded[..PaddedRows::len(geometry, padded_rows.rows.len())];
        padded_rows.copy(input, padded);
        let right = &gradient[(image * out_height + first) * geometry.out_width() * out_channels..];
        for (tap_row, sums) in sums.chunks_exact_mut(run * out_channels).enumerate() {
            let product = OuterGemm {
                left: padded,
                left_stride: in_channels,
                right,
                right_stride: out_channels,
                rows: run,
                columns: out_channels,
                output_stride: out_channels,
                accumulate: true,
            };
            padded_rows.pairs(tap_row, |pairs| {
                let mut exchanged = [IndexedRow::default(); PAIRS];
                for (exchanged, pair) in exchanged.iter_mut().zip(pairs) {
                    *exchanged = IndexedRow { from: pair.to, to: pair.from };
                }
                product.run(&exchanged[..pairs.len()], sums);
            });
        }
    }
}
