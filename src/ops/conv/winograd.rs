//! Convolution with 3x3 filters, stride 1 and padding 1 by Winograd's F(4x4, 3x3): a quarter of the multiplications.
//!
//! Tiles of 4x4 pixels are transformed, multiplied as 36 matrix products and transformed back. Small filters stay in the second-level
//! cache and every task takes a block of tiles through all three stages; for large filters all tiles are transformed first, so that
//! each weight is read once. Scratch: four times the filter (for the filter gradient, per partial sum, of which there are at most
//! [`PARTIALS`]), per task [`BLOCK_TILES`] transformed tiles, or for large filters about [`CHUNK_NUMBERS`] numbers in all.

use super::tiles::{CHANNEL_MULTIPLE, FilterGradient, FilterPanel, Grid, OutputTiles, PLANE_GAP};
use super::transform::{PLANES, TILE};
use super::{ConvGeometry, Finish, Operand};
use crate::backend::{Cpu, IDENTITY_ROWS, OuterProduct, PANEL, RowsProduct};
use rayon::prelude::*;
use std::ops::Range;

/// Tiles that one task takes through all stages.
const BLOCK_TILES: usize = 16;

/// Tiles of one task where all tiles are transformed first.
const PLANE_TILES: usize = 64;

/// Filters of at most so many pairs of channels are multiplied block by block.
const SMALL_FILTER: usize = 128 * 128;

/// Fewest tiles for which transforming the filter pays.
const FEW_TILES: usize = 32;

/// Most numbers of transformed tiles held at once, where all tiles are transformed first.
const CHUNK_NUMBERS: usize = 1 << 23;

/// Partial sums of the filter gradient, at most.
const PARTIALS: usize = 8;

/// Fewest tiles worth a partial sum.
const PARTIAL_TILES: usize = 64;

/// Whether this algorithm is possible and takes fewer operations than multiplying tap by tap.
pub(super) fn fits(geometry: &ConvGeometry) -> bool {
    let ConvGeometry { batch, height, width, in_channels, out_channels, kernel, stride, padding } = *geometry;
    let possible = (kernel, stride, padding) == (3, 1, 1)
        && in_channels.is_multiple_of(CHANNEL_MULTIPLE)
        && out_channels.is_multiple_of(CHANNEL_MULTIPLE)
        && width.div_ceil(TILE) <= IDENTITY_ROWS;
    let tiles = height.div_ceil(TILE) * width.div_ceil(TILE);
    let products = (3 * height).saturating_sub(2) * (3 * width).saturating_sub(2);
    possible && batch * tiles >= FEW_TILES && 3 * tiles * PLANES < 2 * products
}

/// Distance between planes of `len` numbers.
fn plane_stride(len: usize) -> usize {
    len + PLANE_GAP
}

/// Length of a transformed filter: `(panels, PLANES, depth, PANEL)`.
fn transformed_len(depth: usize, columns: usize) -> usize {
    columns.div_ceil(PANEL) * PLANES * plane_stride(depth * PANEL)
}

/// Transforms a filter from `depth` to `columns` channels, or backwards.
fn transform_filter(filter: &[f32], (depth, columns): (usize, usize), rotated: bool, packed: &mut [f32]) {
    packed.par_chunks_exact_mut(PLANES * plane_stride(depth * PANEL)).enumerate().for_each(|(panel, planes)| {
        let (in_channels, out_channels) = if rotated { (columns, depth) } else { (depth, columns) };
        FilterPanel { filter, out_channels, in_channels, rotated, panel, planes }.run();
    });
}

/// Length of a filter in panels.
pub(super) fn panels_len(geometry: &ConvGeometry) -> usize {
    transformed_len(geometry.in_channels, geometry.out_channels)
}

/// Transforms a filter and packs what comes of it.
pub(super) fn pack_filter(geometry: &ConvGeometry, filter: &[f32], panels: &mut [f32]) {
    transform_filter(filter, (geometry.in_channels, geometry.out_channels), false, panels);
}

/// The convolution of `read` into `written`: forward, or the input gradient with the rotated filter.
struct Product<'a> {
    cpu: &'a Cpu,
    read: Grid,
    written: Grid,
    accumulate: bool,
    finish: Finish<'a>,
}

impl Product<'_> {
    fn run(&self, read: &[f32], filter: Operand<'_>, written: &mut [f32], rotated: bool) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        let transform = |filter: &[f32], packed: &mut [f32]| transform_filter(filter, (depth, columns), rotated, packed);
        self.cpu.run(|| {
            let packed = filter.panels(self.cpu, transformed_len(depth, columns), transform);
            if depth * columns <= SMALL_FILTER {
                self.by_blocks(read, &packed, written);
            } else {
                self.by_planes(read, &packed, written);
            }
        });
    }

    fn by_blocks(&self, read: &[f32], packed: &[f32], written: &mut [f32]) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        for_each_block(&self.written, written, |tiles, images| {
            let count = tiles.len();
            let mut transformed = self.cpu.scratch(PLANES * plane_stride(count * depth));
            let mut planes = self.cpu.scratch(PLANES * plane_stride(count * PANEL));
            self.read.transform_input(read, tiles.clone(), &mut transformed);
            for (index, panel) in packed.chunks_exact(PLANES * plane_stride(depth * PANEL)).enumerate() {
                let width = PANEL.min(columns - index * PANEL);
                let rights = panel.chunks_exact(plane_stride(depth * PANEL)).map(|right| &right[..depth * PANEL]);
                let operands = transformed.chunks_exact(plane_stride(count * depth)).zip(rights);
                for ((left, right), sums) in operands.zip(planes.chunks_exact_mut(plane_stride(count * PANEL))) {
                    RowsProduct {
                        left,
                        left_stride: depth,
                        right,
                        depth,
                        segments: (1, 0),
                        columns: width,
                        output_stride: PANEL,
                        accumulate: false,
                    }
                    .run_all(count, sums);
                }
                OutputTiles {
                    grid: &self.written,
                    tiles: tiles.clone(),
                    planes: &planes,
                    first_row: 0,
                    columns: PANEL,
                    first_channel: index * PANEL,
                    images,
                    accumulate: self.accumulate,
                }
                .run();
            }
            (self.finish)(self.written.start(tiles.start), images);
        });
    }

    fn by_planes(&self, read: &[f32], packed: &[f32], written: &mut [f32]) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        let image_len = self.written.image_len();
        let chunk = Chunk::of(self.read, written.len() / image_len, depth + columns);
        let mut transformed = self.cpu.scratch(plane_blocks_len(chunk.tiles, depth));
        let mut planes = self.cpu.scratch(PLANES * plane_stride(chunk.tiles * columns));
        let images = written.chunks_mut(chunk.images * image_len);
        let images = read.chunks(chunk.images * self.read.image_len()).zip(images);
        for (index, (read, written)) in images.enumerate() {
            let before = index * chunk.images * image_len;
            let count = written.len() / image_len * self.read.tiles_per_image();
            let transformed = &mut transformed[..plane_blocks_len(count, depth)];
            for_each_plane_block(transformed, count, |tiles, block| self.read.transform_input(read, tiles, block));
            let planes = &mut planes[..PLANES * plane_stride(count * columns)];
            planes.par_chunks_exact_mut(plane_stride(count * columns)).enumerate().for_each(|(plane, sums)| {
                for (index, panel) in packed.chunks_exact(PLANES * plane_stride(depth * PANEL)).enumerate() {
                    let right = &panel[plane * plane_stride(depth * PANEL)..][..depth * PANEL];
                    let width = PANEL.min(columns - index * PANEL);
                    let blocks = transformed.chunks_exact(plane_blocks_len(1, depth));
                    let sums = sums[..count * columns].chunks_mut(PLANE_TILES * columns);
                    for (block, sums) in blocks.zip(sums) {
                        let count = sums.len() / columns;
                        let left = &block[plane * plane_stride(PLANE_TILES * depth)..][..count * depth];
                        RowsProduct {
                            left,
                            left_stride: depth,
                            right,
                            depth,
                            segments: (1, 0),
                            columns: width,
                            output_stride: columns,
                            accumulate: false,
                        }
                        .run_all(count, &mut sums[index * PANEL..]);
                    }
                }
            });
            for_each_block(&self.written, written, |tiles, images| {
                let start = before + self.written.start(tiles.start);
                OutputTiles {
                    grid: &self.written,
                    first_row: tiles.start,
                    tiles,
                    planes,
                    columns,
                    first_channel: 0,
                    images: &mut *images,
                    accumulate: self.accumulate,
                }
                .run();
                (self.finish)(start, images);
            });
        }
    }
}

/// Images whose transformed tiles are held at once.
struct Chunk {
    images: usize,
    tiles: usize,
}

impl Chunk {
    fn of(grid: Grid, images: usize, channels: usize) -> Self {
        let per_image = grid.tiles_per_image();
        let images = (CHUNK_NUMBERS / (PLANES * channels * per_image)).clamp(1, images);
        Self { images, tiles: images * per_image }
    }
}

/// Splits images into runs of whole tile rows of about [`BLOCK_TILES`] tiles and calls `work` with the tiles and pixels of each.
fn for_each_block(grid: &Grid, images: &mut [f32], work: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    let (per_image, image_len) = (grid.tiles_per_image(), grid.image_len());
    let images_per_block = (BLOCK_TILES / per_image).max(1);
    let rows = (BLOCK_TILES / grid.columns()).max(1);
    let row_len = TILE * grid.width * grid.channels;
    images.par_chunks_mut(images_per_block * image_len).enumerate().for_each(|(index, images)| {
        let first = index * images_per_block * per_image;
        let count = images.len() / image_len * per_image;
        if images_per_block > 1 {
            return work(first..first + count, images);
        }
        images.par_chunks_mut(rows * row_len).enumerate().for_each(|(index, pixels)| {
            let start = index * rows * grid.columns();
            let end = count.min(start + rows * grid.columns());
            work(first + start..first + end, pixels);
        });
    });
}

/// Length of `count` transformed tiles in blocks of [`PLANE_TILES`]: `(block, PLANES, PLANE_TILES, channels)`.
fn plane_blocks_len(count: usize, channels: usize) -> usize {
    count.div_ceil(PLANE_TILES) * PLANES * plane_stride(PLANE_TILES * channels)
}

/// Calls `work` with the tiles and the place of each block of `count` transformed tiles.
fn for_each_plane_block(transformed: &mut [f32], count: usize, work: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    let block_len = transformed.len() / count.div_ceil(PLANE_TILES);
    transformed.par_chunks_exact_mut(block_len).enumerate().for_each(|(index, block)| {
        let first = index * PLANE_TILES;
        work(first..count.min(first + PLANE_TILES), block);
    });
}

/// Convolution of `input` into `output`, overwriting it.
pub(super) fn forward(
    cpu: &Cpu,
    geometry: &ConvGeometry,
    (input, filter): (&[f32], Operand<'_>),
    output: &mut [f32],
    finish: Finish<'_>,
) {
    let (read, written) = grids(geometry);
    Product { cpu, read, written, accumulate: false, finish }.run(input, filter, output, false);
}

/// Gradient with respect to the input, overwriting it or added to it.
pub(super) fn backward_input(
    cpu: &Cpu,
    geometry: &ConvGeometry,
    (gradient, filter): (&[f32], &[f32]),
    input_gradient: &mut [f32],
    accumulate: bool,
) {
    let (written, read) = grids(geometry);
    Product { cpu, read, written, accumulate, finish: &|_, _| {} }.run(gradient, Operand::new(filter), input_gradient, true);
}

/// Grids of the input and of the output.
fn grids(geometry: &ConvGeometry) -> (Grid, Grid) {
    let grid = |channels| Grid { height: geometry.height, width: geometry.width, channels };
    (grid(geometry.in_channels), grid(geometry.out_channels))
}

/// Gradient with respect to the filter.
pub(super) fn backward_filter(cpu: &Cpu, geometry: &ConvGeometry, input: &[f32], gradient: &[f32], filter_gradient: &mut [f32]) {
    let (read, written) = grids(geometry);
    let product = FilterProduct { cpu, read, written, batch: geometry.batch };
    let planes_len = PLANES * plane_stride(read.channels * written.channels);
    let small = read.channels * written.channels <= SMALL_FILTER;
    let partials = if small { PARTIALS.min(product.tiles() / PARTIAL_TILES).max(1) } else { 1 };
    let mut planes = cpu.scratch(partials * planes_len);
    cpu.run(|| {
        if small {
            product.by_blocks(input, gradient, &mut planes, partials);
        } else {
            product.by_planes(input, gradient, &mut planes);
        }
        let (sum, rest) = planes.split_at_mut(planes_len);
        if partials > 1 {
            super::add_parts(rest, sum);
        }
        let planes = &*sum;
        filter_gradient.par_chunks_exact_mut(9 * read.channels).enumerate().for_each(|(channel, gradient)| {
            FilterGradient { planes, channel, gradient }.run();
        });
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

    /// Sums over `count` tiles of one plane of a block of transformed inputs and gradients.
    fn multiply(&self, (inputs, gradients): (&[f32], &[f32]), plane: usize, count: usize, sums: &mut [f32], accumulate: bool) {
        let (rows, columns) = (self.written.channels, self.read.channels);
        let right = &inputs[plane * (inputs.len() / PLANES)..][..count * columns];
        let left = &gradients[plane * (gradients.len() / PLANES)..][..count * rows];
        OuterProduct { left, left_stride: rows, right, right_stride: columns, rows, columns, output_stride: columns, accumulate }
            .run_all(count, sums);
    }

    fn by_blocks(&self, input: &[f32], gradient: &[f32], planes: &mut [f32], partials: usize) {
        let (rows, columns) = (self.written.channels, self.read.channels);
        planes.par_chunks_exact_mut(PLANES * plane_stride(rows * columns)).enumerate().for_each(|(partial, planes)| {
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
                    self.multiply((&inputs, &gradients), plane, count, sums, first > start);
                }
            }
        });
    }

    fn by_planes(&self, input: &[f32], gradient: &[f32], planes: &mut [f32]) {
        let (rows, columns) = (self.written.channels, self.read.channels);
        let chunk = Chunk::of(self.read, self.batch, rows + columns);
        let mut inputs = self.cpu.scratch(plane_blocks_len(chunk.tiles, columns));
        let mut gradients = self.cpu.scratch(plane_blocks_len(chunk.tiles, rows));
        for first in (0..self.tiles()).step_by(chunk.tiles) {
            let count = chunk.tiles.min(self.tiles() - first);
            let moved = |tiles: Range<usize>| first + tiles.start..first + tiles.end;
            let inputs = &mut inputs[..plane_blocks_len(count, columns)];
            let gradients = &mut gradients[..plane_blocks_len(count, rows)];
            for_each_plane_block(inputs, count, |tiles, block| self.read.transform_input(input, moved(tiles), block));
            for_each_plane_block(gradients, count, |tiles, block| self.written.transform_gradient(gradient, moved(tiles), block));
            planes.par_chunks_exact_mut(plane_stride(rows * columns)).enumerate().for_each(|(plane, sums)| {
                let inputs = inputs.chunks_exact(plane_blocks_len(1, columns));
                for (block, operands) in inputs.zip(gradients.chunks_exact(plane_blocks_len(1, rows))).enumerate() {
                    let count = PLANE_TILES.min(count - block * PLANE_TILES);
                    self.multiply(operands, plane, count, sums, first + block > 0);
                }
            });
        }
    }
}
