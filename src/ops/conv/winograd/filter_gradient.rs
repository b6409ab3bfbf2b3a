//! The filter gradient by Winograd's algorithm: sums over tiles of outer products of transformed gradients and transformed inputs.

use super::tiles::{FilterGradient, Grid};
use super::transform::PLANES;
use super::{BLOCK_TILES, Chunk, FILTER_PART, PLANE_TILES, for_each_plane_block, grids, plane_blocks_len, plane_stride};
use crate::cpu::gemm::OuterGemm;
use crate::device::Cpu;
use crate::ops::conv::{ConvGeometry, add_parts};
use crate::ops::heuristics::goes_by_blocks;
use rayon::prelude::*;
use std::ops::Range;

/// Partial sums of the filter gradient, at most.
const PARTIALS: usize = 8;

/// Fewest tiles worth a partial sum.
const PARTIAL_TILES: usize = 64;

/// Gradient with respect to the filter.
pub(in crate::ops::conv) fn backward_filter(
    cpu: &Cpu,
    geometry: &ConvGeometry,
    input: &[f32],
    gradient: &[f32],
    filter_gradient: &mut [f32],
) {
    let (read, written) = grids(geometry);
    let product = FilterProduct { cpu, read, written, batch: geometry.batch };
    cpu.run(|| {
        if goes_by_blocks(read.channels * written.channels) {
            product.by_blocks(input, gradient, filter_gradient);
        } else {
            product.by_planes(input, gradient, filter_gradient);
        }
    });
}

/// Transforms sums `(PLANES, channels, in_channels)` back into the filter gradient of these output channels.
fn transform_back(planes: &[f32], in_channels: usize, filter_gradient: &mut [f32]) {
    filter_gradient.par_chunks_exact_mut(9 * in_channels).enumerate().for_each(|(channel, gradient)| {
        FilterGradient { planes, channel, gradient }.run();
    });
}

/// Sums over tiles of the outer products of transformed gradients and transformed inputs.
struct FilterProduct<'a> {
    cpu: &'a Cpu,
    read: Grid,
    written: Grid,
    batch: usize,
}

impl FilterProduct<'_> {
    fn tiles(&self) -> usize {
        self.batch * self.read.tiles_per_image()
    }

    /// Sums over `count` tiles of one plane of a block of transformed inputs and gradients, for the output channels `rows`.
    fn multiply(
        &self,
        (inputs, gradients): (&[f32], &[f32]),
        (plane, count): (usize, usize),
        rows: Range<usize>,
        sums: (&mut [f32], bool),
    ) {
        let (left_stride, columns) = (self.written.channels, self.read.channels);
        let right = &inputs[plane * (inputs.len() / PLANES)..][..count * columns];
        let left = &gradients[plane * (gradients.len() / PLANES)..][..count * left_stride][rows.start..];
        let (sums, accumulate) = sums;
        OuterGemm {
            left,
            left_stride,
            right,
            right_stride: columns,
            rows: rows.len(),
            columns,
            output_stride: columns,
            accumulate,
        }
        .run_all(count, sums);
    }

    fn by_blocks(&self, input: &[f32], gradient: &[f32], filter_gradient: &mut [f32]) {
        let (rows, columns) = (self.written.channels, self.read.channels);
        let planes_len = PLANES * plane_stride(rows * columns);
        let partials = PARTIALS.min(self.tiles() / PARTIAL_TILES).max(1);
        let mut planes = self.cpu.scratch(partials * planes_len);
        planes.par_chunks_exact_mut(planes_len).enumerate().for_each(|(partial, planes)| {
            let mut inputs = self.cpu.scratch(PLANES * plane_stride(BLOCK_TILES * columns));
            let mut gradients = self.cpu.scratch(PLANES * plane_stride(BLOCK_TILES * rows));
            let start = partial * self.tiles() / partials;
            let last = (partial + 1) * self.tiles() / partials;
            for first in (start..last).step_by(BLOCK_TILES) {
                let tiles = first..last.min(first + BLOCK_TILES);
                let count = tiles.len();
                self.read.transform_input(input, tiles.clone(), &mut inputs);
                self.written.transform_gradient(gradient, tiles, &mut gradients);
                for (plane, sums) in planes.chunks_exact_mut(plane_stride(rows * columns)).enumerate() {
                    self.multiply((&inputs, &gradients), (plane, count), 0..rows, (sums, first > start));
                }
            }
        });
        let (sum, rest) = planes.split_at_mut(planes_len);
        if partials > 1 {
            add_parts(rest, sum);
        }
        transform_back(sum, columns, filter_gradient);
    }

    fn by_planes(&self, input: &[f32], gradient: &[f32], filter_gradient: &mut [f32]) {
        let (rows, columns) = (self.written.channels, self.read.channels);
        let chunk = Chunk::of(self.read, self.batch, rows + columns);
        // With several chunks of tiles a part would have to transform all of them again.
        let part = if chunk.tiles < self.tiles() { rows } else { (FILTER_PART / columns).clamp(1, rows) };
        let mut inputs = self.cpu.scratch(plane_blocks_len(chunk.tiles, columns));
        let mut gradients = self.cpu.scratch(plane_blocks_len(chunk.tiles, rows));
        let mut planes = self.cpu.scratch(PLANES * plane_stride(part * columns));
        for first in (0..self.tiles()).step_by(chunk.tiles) {
            let count = chunk.tiles.min(self.tiles() - first);
            let moved = |tiles: Range<usize>| first + tiles.start..first + tiles.end;
            let inputs = &mut inputs[..plane_blocks_len(count, columns)];
            let gradients = &mut gradients[..plane_blocks_len(count, rows)];
            for_each_plane_block(inputs, count, |tiles, block| self.read.transform_input(input, moved(tiles), block));
            for_each_plane_block(gradients, count, |tiles, block| self.written.transform_gradient(gradient, moved(tiles), block));
            for (index, filter_gradient) in filter_gradient.chunks_mut(part * 9 * columns).enumerate() {
                let rows = index * part..index * part + filter_gradient.len() / (9 * columns);
                let planes = &mut planes[..PLANES * plane_stride(rows.len() * columns)];
                self.multiply_part((inputs, gradients), rows, count, (planes, first > 0));
                if first + count == self.tiles() {
                    transform_back(planes, columns, filter_gradient);
                }
            }
        }
    }

    /// Every plane's sums over `count` tiles for the output channels `rows`.
    fn multiply_part(&self, (inputs, gradients): (&[f32], &[f32]), rows: Range<usize>, count: usize, sums: (&mut [f32], bool)) {
        let (planes, accumulate) = sums;
        let plane_len = planes.len() / PLANES;
        planes.par_chunks_exact_mut(plane_len).enumerate().for_each(|(plane, sums)| {
            let inputs = inputs.chunks_exact(plane_blocks_len(1, self.read.channels));
            let blocks = inputs.zip(gradients.chunks_exact(plane_blocks_len(1, self.written.channels)));
            for (block, operands) in blocks.enumerate() {
                let count = PLANE_TILES.min(count - block * PLANE_TILES);
                self.multiply(operands, (plane, count), rows.clone(), (&mut *sums, accumulate || block > 0));
            }
        });
    }
}
