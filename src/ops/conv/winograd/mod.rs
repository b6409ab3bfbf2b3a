//! Convolution with 3x3 filters, stride 1 and padding 1 by Winograd's F(4x4, 3x3), a quarter of the multiplications (Lavin and Gray, Fast
//! Algorithms for Convolutional Neural Networks, <https://arxiv.org/abs/1509.09308>).
//!
//! Tiles of 4x4 pixels are transformed, multiplied as 36 matrix products and transformed back. Small filters stay in the second-level
//! cache and every task takes a block of tiles through all three stages; for large filters all tiles are transformed first, and then meet
//! the filter part by part. Scratch: four times the filter or the part (for the gradient of a small filter, per partial sum), per task
//! [`BLOCK_TILES`] transformed tiles, or for large filters about [`CHUNK_NUMBERS`] numbers.

mod filter_gradient;
mod tiles;
mod transform;

pub(super) use filter_gradient::backward_filter;

use super::{ConvGeometry, Finish, Operand};
use crate::cpu::gemm::{IDENTITY_ROWS, IndexedGemm, PANEL};
use crate::device::Cpu;
use crate::ops::heuristics::{WINOGRAD_PRODUCTS, WINOGRAD_TILE, goes_by_blocks};
use rayon::prelude::*;
use std::ops::Range;
use tiles::{CHANNEL_MULTIPLE, FilterPanel, Grid, OutputTiles, PLANE_GAP};
use transform::{PLANES, TILE};

/// Tiles that one task takes through all stages.
const BLOCK_TILES: usize = 16;

/// Tiles of one task where all tiles are transformed first.
const PLANE_TILES: usize = 64;

/// Pairs of channels of the part of a large filter that is transformed and multiplied at once.
const FILTER_PART: usize = 256 * 256;

/// Most numbers of transformed tiles held at once, where all tiles are transformed first.
const CHUNK_NUMBERS: usize = 1 << 23;

const _: () = assert!(TILE == WINOGRAD_TILE && PLANES == WINOGRAD_PRODUCTS, "the heuristics count this algorithm's products");

/// Whether this algorithm can be used at all.
pub(super) fn is_possible(geometry: &ConvGeometry) -> bool {
    let ConvGeometry { width, in_channels, out_channels, kernel, stride, padding, .. } = *geometry;
    (kernel, stride, padding) == (3, 1, 1)
        && in_channels.is_multiple_of(CHANNEL_MULTIPLE)
        && out_channels.is_multiple_of(CHANNEL_MULTIPLE)
        && width.div_ceil(TILE) <= IDENTITY_ROWS
}

/// Distance between planes of `len` numbers.
fn plane_stride(len: usize) -> usize {
    len + PLANE_GAP
}

/// Length of a transformed panel of a filter of `depth` rows: `(PLANES, depth, PANEL)`.
fn panel_len(depth: usize) -> usize {
    PLANES * plane_stride(depth * PANEL)
}

/// Transforms panels, from the given one on, of a filter from `depth` to `columns` channels, or the other way round.
fn transform_filter(filter: &[f32], (depth, columns): (usize, usize), rotated: bool, first_panel: usize, packed: &mut [f32]) {
    let (in_channels, out_channels) = if rotated { (columns, depth) } else { (depth, columns) };
    packed.par_chunks_exact_mut(panel_len(depth)).enumerate().for_each(|(index, planes)| {
        FilterPanel { filter, out_channels, in_channels, rotated, panel: first_panel + index, planes }.run();
    });
}

/// Length of a filter in panels.
pub(super) fn panels_len(geometry: &ConvGeometry) -> usize {
    geometry.out_channels.div_ceil(PANEL) * panel_len(geometry.in_channels)
}

/// Transforms a filter and packs what comes of it.
pub(super) fn pack_filter(geometry: &ConvGeometry, filter: &[f32], panels: &mut [f32]) {
    transform_filter(filter, (geometry.in_channels, geometry.out_channels), false, 0, panels);
}

/// The convolution of `read` into `written`: forward, or the input gradient with the rotated filter.
struct Product<'a> {
    cpu: &'a Cpu,
    read: Grid,
    written: Grid,
    /// Whether by the rotated filter.
    rotated: bool,
    accumulate: bool,
    finish: Finish<'a>,
}

impl Product<'_> {
    fn run(&self, read: &[f32], filter: Operand<'_>, written: &mut [f32]) {
        self.cpu.run(|| {
            if goes_by_blocks(self.read.channels * self.written.channels) {
                self.by_blocks(read, filter, written);
            } else {
                self.by_planes(read, filter, written);
            }
        });
    }

    /// Panels of the filter's columns.
    fn panels(&self) -> usize {
        self.written.channels.div_ceil(PANEL)
    }

    /// Transforms panels of the filter, from the given one on.
    fn transform_filter(&self, filter: &[f32], first_panel: usize, packed: &mut [f32]) {
        transform_filter(filter, (self.read.channels, self.written.channels), self.rotated, first_panel, packed);
    }

    fn by_blocks(&self, read: &[f32], filter: Operand<'_>, written: &mut [f32]) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        let len = self.panels() * panel_len(depth);
        let packed = filter.panels(self.cpu, len, |filter, packed| self.transform_filter(filter, 0, packed));
        for_each_block(&self.written, written, |tiles, images| {
            let count = tiles.len();
            let mut transformed = self.cpu.scratch(PLANES * plane_stride(count * depth));
            let mut planes = self.cpu.scratch(PLANES * plane_stride(count * PANEL));
            self.read.transform_input(read, tiles.clone(), &mut transformed);
            for (index, panel) in packed.chunks_exact(panel_len(depth)).enumerate() {
                let width = PANEL.min(columns - index * PANEL);
                let rights = panel.chunks_exact(plane_stride(depth * PANEL)).map(|right| &right[..depth * PANEL]);
                let operands = transformed.chunks_exact(plane_stride(count * depth)).zip(rights);
                for ((left, right), sums) in operands.zip(planes.chunks_exact_mut(plane_stride(count * PANEL))) {
                    IndexedGemm { output_stride: PANEL, ..IndexedGemm::dense(left, right, depth, width) }.run_all(count, sums);
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

    fn by_planes(&self, read: &[f32], filter: Operand<'_>, written: &mut [f32]) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        let image_len = self.written.image_len();
        let chunk = Chunk::of(self.read, written.len() / image_len, depth + columns);
        let mut transformed = self.cpu.scratch(plane_blocks_len(chunk.tiles, depth));
        let mut planes = self.cpu.scratch(PLANES * plane_stride(chunk.tiles * columns));
        let part = (FILTER_PART / (depth * PANEL)).clamp(1, self.panels());
        let mut packed = self.cpu.scratch(if filter.panels.is_some() { 0 } else { part * panel_len(depth) });
        let images = written.chunks_mut(chunk.images * image_len);
        let images = read.chunks(chunk.images * self.read.image_len()).zip(images);
        for (index, (read, written)) in images.enumerate() {
            let before = index * chunk.images * image_len;
            let count = written.len() / image_len * self.read.tiles_per_image();
            let transformed = &mut transformed[..plane_blocks_len(count, depth)];
            for_each_plane_block(transformed, count, |tiles, block| self.read.transform_input(read, tiles, block));
            let planes = &mut planes[..PLANES * plane_stride(count * columns)];
            for first_panel in (0..self.panels()).step_by(part) {
                let len = part.min(self.panels() - first_panel) * panel_len(depth);
                let panels = filter.panels.map_or_else(
                    || {
                        // A filter of one part stays transformed.
                        if index == 0 || part < self.panels() {
                            self.transform_filter(filter.numbers, first_panel, &mut packed[..len]);
                        }
                        &packed[..len]
                    },
                    |panels| &panels[first_panel * panel_len(depth)..][..len],
                );
                self.multiply_part((transformed, panels), first_panel, count, planes);
            }
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

impl Product<'_> {
    /// The columns of some panels of every plane's product, for `count` tiles.
    fn multiply_part(&self, (transformed, packed): (&[f32], &[f32]), first_panel: usize, count: usize, planes: &mut [f32]) {
        let (depth, columns) = (self.read.channels, self.written.channels);
        planes.par_chunks_exact_mut(plane_stride(count * columns)).enumerate().for_each(|(plane, sums)| {
            for (panel, numbers) in (first_panel..).zip(packed.chunks_exact(panel_len(depth))) {
                let right = &numbers[plane * plane_stride(depth * PANEL)..][..depth * PANEL];
                let width = PANEL.min(columns - panel * PANEL);
                let blocks = transformed.chunks_exact(plane_blocks_len(1, depth));
                let sums = sums[..count * columns].chunks_mut(PLANE_TILES * columns);
                for (block, sums) in blocks.zip(sums) {
                    let count = sums.len() / columns;
                    let left = &block[plane * plane_stride(PLANE_TILES * depth)..][..count * depth];
                    IndexedGemm { output_stride: columns, ..IndexedGemm::dense(left, right, depth, width) }
                        .run_all(count, &mut sums[panel * PANEL..]);
                }
            }
        });
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
    Product { cpu, read, written, rotated: false, accumulate: false, finish }.run(input, filter, output);
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
    Product { cpu, read, written, rotated: true, accumulate, finish: &|_, _| {} }.run(
        gradient,
        Operand::new(filter),
        input_gradient,
    );
}

/// Grids of the input and of the output.
fn grids(geometry: &ConvGeometry) -> (Grid, Grid) {
    let grid = |channels| Grid { height: geometry.height, width: geometry.width, channels };
    (grid(geometry.in_channels), grid(geometry.out_channels))
}
