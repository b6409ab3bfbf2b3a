//! Moving tiles of images and filters into and out of Winograd's transformed form, a vector of channels at a time.
//!
//! A transformed block of `count` tiles is `(PLANES, count, channels)`: one matrix per plane, each followed by [`PLANE_GAP`] numbers.

use super::transform::{
    FilterGradientTransform, FilterTransform, InputTransform, OutputGradientTransform, OutputTransform, PLANES, POINTS, TILE,
    Transform,
};
use crate::cpu::gemm::{PANEL, in_panel};
use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

/// Channels come in multiples of the widest vector.
pub(super) const CHANNEL_MULTIPLE: usize = 16;

/// Keeps the planes, whose sizes are powers of two, from meeting in the same few sets of the cache: one line.
pub(super) const PLANE_GAP: usize = 16;

/// Images cut into tiles of `TILE x TILE` pixels, numbered image by image and row by row.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Grid {
    pub(super) fn columns(&self) -> usize {
        self.width.div_ceil(TILE)
    }

    pub(super) fn tiles_per_image(&self) -> usize {
        self.height.div_ceil(TILE) * self.columns()
    }

    pub(super) fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Where the first pixel of a tile begins.
    pub(super) fn start(&self, tile: usize) -> usize {
        self.pixel(tile, 0, 0).unwrap_or_default()
    }

    /// Where pixel `(y, x)` of the tile begins, counted from its upper left corner, if it lies in the image.
    fn pixel(&self, tile: usize, y: isize, x: isize) -> Option<usize> {
        let (image, within) = (tile / self.tiles_per_image(), tile % self.tiles_per_image());
        let row = ((within / self.columns()) * TILE).checked_add_signed(y)?;
        let column = ((within % self.columns()) * TILE).checked_add_signed(x)?;
        let inside = row < self.height && column < self.width;
        inside.then(|| ((image * self.height + row) * self.width + column) * self.channels)
    }

    /// The pixels of a square of side `SIDE` whose corner lies `border` before that of the tile.
    fn square<const SIDE: usize>(&self, tile: usize, border: isize) -> [[Option<usize>; SIDE]; SIDE] {
        std::array::from_fn(|y| std::array::from_fn(|x| self.pixel(tile, y as isize - border, x as isize - border)))
    }

    /// Transforms `tiles` of `images` with the pixel around each into `(PLANES, tiles, channels)`.
    pub(super) fn transform_input(&self, images: &[f32], tiles: Range<usize>, planes: &mut [f32]) {
        Arch::new().dispatch(Scatter::<_, POINTS> { grid: self, images, tiles, planes, border: 1, transform: InputTransform });
    }

    /// Transforms `tiles` of a gradient of the output into `(PLANES, tiles, channels)`.
    pub(super) fn transform_gradient(&self, images: &[f32], tiles: Range<usize>, planes: &mut [f32]) {
        let transform = OutputGradientTransform;
        Arch::new().dispatch(Scatter::<_, TILE> { grid: self, images, tiles, planes, border: 0, transform });
    }
}

#[inline(always)]
fn load<S: Simd>(numbers: &[f32], start: usize) -> S::f32s {
    S::as_simd_f32s(&numbers[start..][..S::F32_LANES]).0[0]
}

#[inline(always)]
fn place<S: Simd>(numbers: &mut [f32], start: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut numbers[start..][..S::F32_LANES]).0[0] = value;
}

/// Vectors that lie `distance` apart, from `start` on.
#[inline(always)]
fn load_square<S: Simd, const SIDE: usize>(simd: S, numbers: &[f32], start: usize, distance: usize) -> [[S::f32s; SIDE]; SIDE] {
    let mut square = [[simd.splat_f32s(0.0); SIDE]; SIDE];
    for (y, row) in square.iter_mut().enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            *value = load::<S>(numbers, start + (y * SIDE + x) * distance);
        }
    }
    square
}

struct Scatter<'a, T, const SIDE: usize> {
    grid: &'a Grid,
    images: &'a [f32],
    tiles: Range<usize>,
    planes: &'a mut [f32],
    border: isize,
    transform: T,
}

macro_rules! scatter {
    ($transform:ty, $side:expr) => {
        impl WithSimd for Scatter<'_, $transform, { $side }> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let channels = self.grid.channels;
                let plane_len = self.planes.len() / PLANES;
                for (index, tile) in self.tiles.enumerate() {
                    let pixels = self.grid.square::<{ $side }>(tile, self.border);
                    for channel in (0..channels).step_by(S::F32_LANES) {
                        let mut values = [[simd.splat_f32s(0.0); { $side }]; { $side }];
                        for y in 0..$side {
                            for x in 0..$side {
                                if let Some(start) = pixels[y][x] {
                                    values[y][x] = load::<S>(self.images, start + channel);
                                }
                            }
                        }
                        let transformed = self.transform.apply_both(simd, values);
                        for (plane, value) in transformed.as_flattened().iter().enumerate() {
                            place::<S>(self.planes, plane * plane_len + index * channels + channel, *value);
                        }
                    }
                }
            }
        }
    };
}
scatter!(InputTransform, POINTS);
scatter!(OutputGradientTransform, TILE);

/// Transforms sums back into pixels: the last `columns` channels that start at `first_channel` of `tiles`.
pub(super) struct OutputTiles<'a> {
    pub(super) grid: &'a Grid,
    pub(super) tiles: Range<usize>,
    /// `(PLANES, .., columns)`; the first of `tiles` is row `first_row` of each plane.
    pub(super) planes: &'a [f32],
    pub(super) first_row: usize,
    pub(super) columns: usize,
    pub(super) first_channel: usize,
    /// The images from the tile row of the first tile on.
    pub(super) images: &'a mut [f32],
    pub(super) accumulate: bool,
}

impl OutputTiles<'_> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for OutputTiles<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let plane_len = self.planes.len() / PLANES;
        let width = self.columns.min(self.grid.channels - self.first_channel);
        let base = self.grid.start(self.tiles.start);
        for (index, tile) in self.tiles.enumerate() {
            let pixels = self.grid.square::<TILE>(tile, 0);
            for column in (0..width).step_by(S::F32_LANES) {
                let start = (self.first_row + index) * self.columns + column;
                let sums = load_square::<S, POINTS>(simd, self.planes, start, plane_len);
                let values = OutputTransform.apply_both(simd, sums);
                for (value, pixel) in values.as_flattened().iter().zip(pixels.as_flattened()) {
                    let Some(pixel) = pixel else { continue };
                    let at = pixel - base + self.first_channel + column;
                    let value = if self.accumulate { simd.add_f32s(load::<S>(self.images, at), *value) } else { *value };
                    place::<S>(self.images, at, value);
                }
            }
        }
    }
}

/// Transforms one panel of a filter into `(PLANES, depth, PANEL)`: packed right operands.
pub(super) struct FilterPanel<'a> {
    /// `(out_channels, 3, 3, in_channels)`.
    pub(super) filter: &'a [f32],
    pub(super) out_channels: usize,
    pub(super) in_channels: usize,
    /// For the input gradient: the filter rotated by half a turn, from output channels to input channels.
    pub(super) rotated: bool,
    pub(super) panel: usize,
    pub(super) planes: &'a mut [f32],
}

/// Rows of a panel that are put in order before they are transformed.
const ROW_BLOCK: usize = 16;

impl FilterPanel<'_> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }

    /// The nine taps of `rows` rows of the panel as `(9, ROW_BLOCK, PANEL)`.
    #[inline(always)]
    fn collect(&self, rows: Range<usize>, width: usize, block: &mut [f32]) {
        let first = self.panel * PANEL;
        for tap in 0..9 {
            let block = &mut block[tap * ROW_BLOCK * PANEL..][..ROW_BLOCK * PANEL];
            if self.rotated {
                for (row, block) in rows.clone().zip(block.chunks_exact_mut(PANEL)) {
                    let from = (row * 9 + 8 - tap) * self.in_channels + first;
                    block[..width].copy_from_slice(&self.filter[from..][..width]);
                }
            } else {
                for column in 0..width {
                    let from = ((first + column) * 9 + tap) * self.in_channels + rows.start;
                    for (row, &value) in self.filter[from..][..rows.len()].iter().enumerate() {
                        block[row * PANEL + column] = value;
                    }
                }
            }
        }
    }
}

impl WithSimd for FilterPanel<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (depth, columns) =
            if self.rotated { (self.out_channels, self.in_channels) } else { (self.in_channels, self.out_channels) };
        let width = PANEL.min(columns - self.panel * PANEL);
        let plane_len = self.planes.len() / PLANES;
        let mut block = [0.0; 9 * ROW_BLOCK * PANEL];
        for first in (0..depth).step_by(ROW_BLOCK) {
            let rows = first..depth.min(first + ROW_BLOCK);
            self.collect(rows.clone(), width, &mut block);
            for row in 0..rows.len() {
                for column in (0..PANEL).step_by(S::F32_LANES) {
                    let taps = load_square::<S, 3>(simd, &block, row * PANEL + column, ROW_BLOCK * PANEL);
                    let at = in_panel(depth, first + row, column);
                    let transformed = FilterTransform.apply_both(simd, taps);
                    for (plane, value) in transformed.as_flattened().iter().enumerate() {
                        place::<S>(self.planes, plane * plane_len + at, *value);
                    }
                }
            }
        }
    }
}

/// Transforms `(PLANES, out_channels, in_channels)` back into the filter gradient of output channel `channel`.
pub(super) struct FilterGradient<'a> {
    pub(super) planes: &'a [f32],
    pub(super) channel: usize,
    /// `(3, 3, in_channels)`.
    pub(super) gradient: &'a mut [f32],
}

impl FilterGradient<'_> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for FilterGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let in_channels = self.gradient.len() / 9;
        let plane_len = self.planes.len() / PLANES;
        for channel in (0..in_channels).step_by(S::F32_LANES) {
            let start = self.channel * in_channels + channel;
            let sums = load_square::<S, POINTS>(simd, self.planes, start, plane_len);
            let taps = FilterGradientTransform.apply_both(simd, sums);
            for (tap, value) in taps.as_flattened().iter().enumerate() {
                place::<S>(self.gradient, tap * in_channels + channel, *value);
            }
        }
    }
}
