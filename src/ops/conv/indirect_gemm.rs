//! Indirect convolution (Dukhan, The Indirect Convolution Algorithm, 2019, <https://arxiv.org/abs/1907.02129>): one matrix product a filter
//! tap over the pairs of pixels that the tap connects, found through a table of row numbers, without an im2col copy of the image.
//!
//! Pixels that meet the padding are never multiplied, which matters where the images are a few pixels wide. Scratch: the packed
//! filter (as many numbers as the filter) and, where the pixels are few, a copy of the result.

use super::{ConvGeometry, Finish, Operand};
use crate::cpu::gemm::{IndexedGemm, IndexedRow, Matrix, OuterGemm, PANEL, pack_panel, packed_len};
use crate::device::Cpu;
use crate::ops::heuristics::splits_channels;
use rayon::prelude::*;
use std::ops::Range;

/// Pairs collected before they are multiplied: many, as only the first of them are not asked for in advance.
const PAIRS: usize = 1920;

/// Pixels of one task, at most and at least.
const TASK_PIXELS: Range<usize> = 32..480;

/// Tasks that keep a many-core machine busy.
const TASKS: usize = 16;

/// Numbers of the filter gradient that one task sums up: half of the second-level cache is left to the operands.
const TASK_FILTER: usize = 1 << 15;

/// Fewest pixels worth a partial sum of the filter gradient.
const PARTIAL_PIXELS: usize = 512;

/// Images of one side of the convolution.
#[derive(Clone, Copy)]
struct ImageShape {
    height: usize,
    width: usize,
    channels: usize,
}

/// Which pixel is read for which pixel written: the convolution forward or, transposed, its input gradient.
struct PixelMap {
    geometry: ConvGeometry,
    read: ImageShape,
    written: ImageShape,
    transposed: bool,
    /// Whether to add to what is written.
    accumulate: bool,
}

impl PixelMap {
    fn forward(geometry: &ConvGeometry, accumulate: bool) -> Self {
        let read = ImageShape { height: geometry.height, width: geometry.width, channels: geometry.in_channels };
        let written = ImageShape { height: geometry.out_height(), width: geometry.out_width(), channels: geometry.out_channels };
        Self { geometry: *geometry, read, written, transposed: false, accumulate }
    }

    fn backward(geometry: &ConvGeometry, accumulate: bool) -> Self {
        let Self { read, written, .. } = Self::forward(geometry, accumulate);
        Self { geometry: *geometry, read: written, written: read, transposed: true, accumulate }
    }

    fn taps(&self) -> usize {
        self.geometry.kernel * self.geometry.kernel
    }

    fn written_rows(&self) -> usize {
        self.geometry.batch * self.written.height
    }

    /// The row (or column) read for `position`, if it is none of the padding.
    fn source(&self, position: usize, offset: usize, limit: usize) -> Option<usize> {
        let ConvGeometry { stride, padding, .. } = self.geometry;
        let source = if self.transposed {
            let position = (position + padding).checked_sub(offset)?;
            if position % stride != 0 {
                return None;
            }
            position / stride
        } else {
            (position * stride + offset).checked_sub(padding)?
        };
        (source < limit).then_some(source)
    }

    /// The taps, first one that reaches every pixel written if there is one, with whether each adds to what is there.
    fn ordered_taps(&self, accumulate: bool) -> impl Iterator<Item = (usize, bool)> {
        let covers = |offset: usize, written: usize, read: usize| (0..written).all(|at| self.source(at, offset, read).is_some());
        let kernel = self.geometry.kernel;
        let row = (0..kernel).find(|&row| covers(row, self.written.height, self.read.height));
        let column = (0..kernel).find(|&column| covers(column, self.written.width, self.read.width));
        let first = row.zip(column).map(|(row, column)| row * kernel + column);
        let rest = (0..self.taps()).filter(move |&tap| Some(tap) != first).map(|tap| (tap, true));
        first.map(|tap| (tap, accumulate)).into_iter().chain(rest)
    }

    /// Zeros `written` where no tap overwrites all of it.
    fn clear(&self, written: &mut [f32]) {
        if self.ordered_taps(false).all(|(_, accumulate)| accumulate) {
            written.fill(0.0);
        }
    }

    /// Calls `multiply` with the pairs that `tap` connects, in blocks; `to` counts from the first of the written `rows`.
    fn pairs(&self, tap: usize, rows: Range<usize>, mut multiply: impl FnMut(&[IndexedRow])) {
        let (tap_row, tap_column) = (tap / self.geometry.kernel, tap % self.geometry.kernel);
        let mut block = [IndexedRow::default(); PAIRS];
        let mut filled = 0;
        for row in rows.clone() {
            let (image, y) = (row / self.written.height, row % self.written.height);
            let Some(source_row) = self.source(y, tap_row, self.read.height) else { continue };
            let from = (image * self.read.height + source_row) * self.read.width;
            let to = (row - rows.start) * self.written.width;
            for x in 0..self.written.width {
                let Some(source) = self.source(x, tap_column, self.read.width) else { continue };
                block[filled] = IndexedRow { from: (from + source) as u32, to: (to + x) as u32 };
                filled += 1;
                if filled == PAIRS {
                    multiply(&block);
                    filled = 0;
                }
            }
        }
        if filled > 0 {
            multiply(&block[..filled]);
        }
    }

    /// The filter of one tap as right operand: a row per channel read, a column per channel written.
    fn right<'a>(&self, filter: &'a [f32], tap: usize) -> Matrix<'a> {
        let in_channels = self.geometry.in_channels;
        let outputs = self.taps() * in_channels;
        let (row_stride, column_stride) = if self.transposed { (outputs, 1) } else { (1, outputs) };
        let data = &filter[tap * in_channels..];
        Matrix { data, rows: self.read.channels, columns: self.written.channels, row_stride, column_stride }
    }

    /// Length of a filter in panels: `(taps, panels, depth, PANEL)`.
    fn panels_len(&self) -> usize {
        self.taps() * packed_len(self.read.channels, self.written.channels)
    }

    fn pack(&self, filter: &[f32], packed: &mut [f32]) {
        let (depth, panels) = (self.read.channels, self.written.channels.div_ceil(PANEL));
        packed.par_chunks_exact_mut(PANEL * depth).enumerate().for_each(|(index, panel)| {
            pack_panel(self.right(filter, index / panels), index % panels, panel);
        });
    }

    fn run(&self, cpu: &Cpu, (read, filter): (&[f32], Operand<'_>), written: &mut [f32], finish: Finish<'_>) {
        let pixels = self.written_rows() * self.written.width;
        if splits_channels(pixels, self.written.channels) {
            self.split_channels(cpu, (read, filter), written, finish);
        } else {
            self.split_pixels(cpu, (read, filter), written, finish);
        }
    }

    fn split_pixels(&self, cpu: &Cpu, (read, filter): (&[f32], Operand<'_>), written: &mut [f32], finish: Finish<'_>) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        let panels = columns.div_ceil(PANEL);
        let pixels = self.written_rows() * self.written.width;
        let task_rows = (pixels / TASKS).clamp(TASK_PIXELS.start, TASK_PIXELS.end).div_ceil(self.written.width);
        cpu.run(|| {
            let packed = filter.panels(cpu, self.panels_len(), |filter, packed| self.pack(filter, packed));
            let chunk = task_rows * self.written.width * columns;
            written.par_chunks_mut(chunk).enumerate().for_each(|(task, written)| {
                let first = task * task_rows;
                let rows = first..first + written.len() / (self.written.width * columns);
                if !self.accumulate {
                    self.clear(written);
                }
                for (tap, accumulate) in self.ordered_taps(self.accumulate) {
                    let right = &packed[tap * panels * PANEL * depth..][..panels * PANEL * depth];
                    let product = IndexedGemm { accumulate, ..IndexedGemm::dense(read, right, depth, columns) };
                    self.pairs(tap, rows.clone(), |pairs| product.run(pairs, written));
                }
                finish(task * chunk, written);
            });
        });
    }

    fn split_channels(&self, cpu: &Cpu, (read, filter): (&[f32], Operand<'_>), written: &mut [f32], finish: Finish<'_>) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        let pixels = self.written_rows() * self.written.width;
        let panels = columns.div_ceil(PANEL);
        let mut results = cpu.scratch(panels * pixels * PANEL);
        cpu.run(|| {
            results.par_chunks_exact_mut(pixels * PANEL).enumerate().for_each(|(index, result)| {
                self.clear(result);
                for (tap, accumulate) in self.ordered_taps(false) {
                    let pack = |filter: &[f32], panel: &mut [f32]| pack_panel(self.right(filter, tap), index, panel);
                    let right = &filter.panel(tap * panels + index, PANEL * depth).panels(cpu, PANEL * depth, pack);
                    let product = IndexedGemm { accumulate, ..IndexedGemm::dense(read, right, depth, PANEL) };
                    self.pairs(tap, 0..self.written_rows(), |pairs| product.run(pairs, result));
                }
            });
            written.par_chunks_exact_mut(columns).with_min_len(PANEL).enumerate().for_each(|(pixel, written)| {
                for (written, result) in written.chunks_mut(PANEL).zip(results.chunks_exact(pixels * PANEL)) {
                    let result = &result[pixel * PANEL..][..written.len()];
                    if self.accumulate {
                        written.iter_mut().zip(result).for_each(|(written, result)| *written += result);
                    } else {
                        written.copy_from_slice(result);
                    }
                }
                finish(pixel * columns, written);
            });
        });
    }
}

/// Length of a filter in panels.
pub(super) fn panels_len(geometry: &ConvGeometry) -> usize {
    PixelMap::forward(geometry, false).panels_len()
}

/// Packs a filter, each tap a matrix.
pub(super) fn pack_filter(geometry: &ConvGeometry, filter: &[f32], panels: &mut [f32]) {
    PixelMap::forward(geometry, false).pack(filter, panels);
}

/// Convolution of `input` into `output`, overwriting it.
pub(super) fn forward(cpu: &Cpu, geometry: &ConvGeometry, operands: (&[f32], Operand<'_>), output: &mut [f32], finish: Finish<'_>) {
    PixelMap::forward(geometry, false).run(cpu, operands, output, finish);
}

/// Gradient with respect to the input, overwriting it or added to it.
pub(super) fn backward_input(
    cpu: &Cpu,
    geometry: &ConvGeometry,
    (gradient, filter): (&[f32], &[f32]),
    input_gradient: &mut [f32],
    accumulate: bool,
) {
    PixelMap::backward(geometry, accumulate).run(cpu, (gradient, Operand::new(filter)), input_gradient, &|_, _| {});
}

/// Gradient with respect to the filter: partial sums over ranges of output rows, added in their order.
pub(super) fn backward_filter(cpu: &Cpu, geometry: &ConvGeometry, input: &[f32], gradient: &[f32], filter_gradient: &mut [f32]) {
    let map = PixelMap::forward(geometry, false);
    let taps = map.taps();
    let (rows, columns) = (geometry.out_channels, geometry.in_channels);
    let task_channels = (TASK_FILTER / (taps * columns)).max(2 * PANEL).min(rows);
    let channel_tasks = rows.div_ceil(task_channels);
    let pixels = map.written_rows() * map.written.width;
    let partials = TASKS.div_ceil(channel_tasks).min(pixels / PARTIAL_PIXELS).max(1);
    let partial_rows = map.written_rows().div_ceil(partials);
    let accumulate = |index: usize, first_channel: usize, output: &mut [f32]| {
        output.fill(0.0);
        let first = (index * partial_rows).min(map.written_rows());
        let last = (first + partial_rows).min(map.written_rows());
        let left = &gradient[first * map.written.width * rows + first_channel..];
        let output_stride = taps * columns;
        let product = OuterGemm {
            left,
            left_stride: rows,
            right: input,
            right_stride: columns,
            rows: output.len() / output_stride,
            columns,
            output_stride,
            accumulate: true,
        };
        for tap in 0..taps {
            map.pairs(tap, first..last, |pairs| product.run(pairs, &mut output[tap * columns..]));
        }
    };
    let chunk = task_channels * taps * columns;
    let mut sums = cpu.scratch(if partials == 1 { 0 } else { partials * geometry.filter_len() });
    cpu.run(|| {
        if partials == 1 {
            let tasks = filter_gradient.par_chunks_mut(chunk).enumerate();
            tasks.for_each(|(task, output)| accumulate(0, task * task_channels, output));
            return;
        }
        sums.par_chunks_exact_mut(geometry.filter_len()).enumerate().for_each(|(index, sums)| {
            sums.par_chunks_mut(chunk).enumerate().for_each(|(task, output)| accumulate(index, task * task_channels, output));
        });
        let (first, rest) = sums.split_at(geometry.filter_len());
        filter_gradient.copy_from_slice(first);
        super::add_parts(rest, filter_gradient);
    });
}
