//! Augmentation on the CPU: the vertical filter runs first, over whole rows of bytes (the wide, vectorised part of the work), the
//! horizontal one then on a single filtered row; nothing is rounded in between.

use super::taps::{Axis, Taps};
use super::{Augment, Crop, DEVIATION, MEAN, Pixels};
use crate::backend::{Cpu, SpanMut, vectorized};
use crate::error::{Error, Result, expect_len};
use rayon::prelude::*;

const CHANNELS: usize = 3;
/// Lanes in which a pixel is filtered: its channels and one that is thrown away.
const LANES: usize = 4;
/// How far, in pixels, rounding may carry a crop over the image's edge.
const EDGE_TOLERANCE: f32 = 1e-2;

impl Augment for Cpu {
    type Kept = ();

    fn keep_images(&self, _bytes: usize) {}

    fn augment_kept(
        &self,
        _kept: &mut (),
        _ids: &[i32],
        size: usize,
        images: &[Pixels<'_>],
        crops: &[Crop],
        output: SpanMut<'_, Vec<f32>>,
    ) -> Result<()> {
        self.augment(size, images, crops, output)
    }

    fn augment(&self, size: usize, images: &[Pixels<'_>], crops: &[Crop], output: SpanMut<'_, Vec<f32>>) -> Result<()> {
        check(size, images, crops, output.len)?;
        self.run(|| {
            let outputs = output.into_slice().par_chunks_exact_mut(size * size * CHANNELS);
            outputs.zip(images).zip(crops).for_each(|((output, image), crop)| self.augment_one(size, image, crop, output));
        });
        Ok(())
    }
}

impl Cpu {
    fn augment_one(&self, size: usize, image: &Pixels<'_>, crop: &Crop, output: &mut [f32]) {
        let horizontal = Axis::new(crop.left, crop.width, image.width, crop.sees_surroundings, size);
        let vertical = Axis::new(crop.top, crop.height, image.height, crop.sees_surroundings, size);
        let columns = horizontal.read();
        let row_len = columns.len() * CHANNELS;
        let mut scratch = self.scratch(horizontal.table_len() + vertical.table_len() + row_len + LANES - CHANNELS);
        let (horizontal_table, rest) = scratch.split_at_mut(horizontal.table_len());
        let (vertical_table, row) = rest.split_at_mut(vertical.table_len());
        let horizontal_taps = horizontal.fill(horizontal_table, columns.start);
        let vertical_taps = vertical.fill(vertical_table, 0);
        vectorized(
            #[inline(always)]
            || {
                for (index, output) in output.chunks_exact_mut(size * CHANNELS).enumerate() {
                    let (first, weights) = vertical_taps.at(index);
                    let corner = (first * image.width + columns.start) * CHANNELS;
                    filter_rows(&image.rgb[corner..], image.width * CHANNELS, weights, &mut row[..row_len]);
                    filter_row(row, &horizontal_taps, crop.flip, output);
                }
            },
        );
    }
}

/// Weighted sum of as many rows of bytes as there are weights, `stride` bytes apart.
#[inline(always)]
fn filter_rows(bytes: &[u8], stride: usize, weights: &[f32], output: &mut [f32]) {
    output.fill(0.0);
    for (group, weights) in weights.chunks(4).enumerate() {
        let bytes = &bytes[4 * group * stride..];
        match *weights {
            [first, second, third, fourth] => add_rows(bytes, stride, [first, second, third, fourth], output),
            [first, second, third] => add_rows(bytes, stride, [first, second, third], output),
            [first, second] => add_rows(bytes, stride, [first, second], output),
            _ => add_rows(bytes, stride, [weights[0]], output),
        }
    }
}

#[inline(always)]
fn add_rows<const ROWS: usize>(bytes: &[u8], stride: usize, weights: [f32; ROWS], output: &mut [f32]) {
    let len = output.len();
    let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &bytes[row * stride..][..len]);
    for (index, output) in output.iter_mut().enumerate() {
        let mut sum = *output;
        for row in 0..ROWS {
            sum += weights[row] * f32::from(rows[row][index]);
        }
        *output = sum;
    }
}

/// Filters one row of pixels, normalises it and writes it, mirrored if `flip`. `row` ends with one number of padding.
#[inline(always)]
fn filter_row(row: &[f32], taps: &Taps<'_>, flip: bool, output: &mut [f32]) {
    let factor: [f32; CHANNELS] = std::array::from_fn(|channel| 1.0 / (255.0 * DEVIATION[channel]));
    let offset: [f32; CHANNELS] = std::array::from_fn(|channel| -MEAN[channel] / DEVIATION[channel]);
    let size = output.len() / CHANNELS;
    for (column, output) in output.chunks_exact_mut(CHANNELS).enumerate() {
        let (first, weights) = taps.at(if flip { size - 1 - column } else { column });
        let mut sums = [0.0; LANES];
        let pixels = &row[first * CHANNELS..][..weights.len() * CHANNELS + LANES - CHANNELS];
        for (index, &weight) in weights.iter().enumerate() {
            let pixel: &[f32; LANES] = pixels[index * CHANNELS..].first_chunk().expect("a row ends with padding");
            for lane in 0..LANES {
                sums[lane] += weight * pixel[lane];
            }
        }
        for channel in 0..CHANNELS {
            output[channel] = sums[channel] * factor[channel] + offset[channel];
        }
    }
}

/// Fails unless there is one crop for each image, inside it, and room for the results.
pub(super) fn check(size: usize, images: &[Pixels<'_>], crops: &[Crop], output: usize) -> Result<()> {
    expect_len("crops, one per image", images.len(), crops.len())?;
    if size == 0 {
        return Err(Error::shape("output size", "at least 1", 0));
    }
    expect_len("augmented images", images.len() * size * size * CHANNELS, output)?;
    images.iter().zip(crops).enumerate().try_for_each(|(index, (image, crop))| check_image(index, image, crop))
}

fn check_image(index: usize, image: &Pixels<'_>, crop: &Crop) -> Result<()> {
    let Pixels { height, width, .. } = *image;
    if height == 0 || width == 0 {
        return Err(Error::shape(format!("image {index}"), "at least 1 x 1 pixels", format_args!("{height} x {width}")));
    }
    expect_len(&format!("image {index} of {height} x {width} pixels"), height * width * CHANNELS, image.rgb.len())?;
    let inside = |start: f32, length: f32, limit: usize| {
        start >= -EDGE_TOLERANCE && length > 0.0 && start + length <= limit as f32 + EDGE_TOLERANCE
    };
    if inside(crop.top, crop.height, height) && inside(crop.left, crop.width, width) {
        return Ok(());
    }
    let found = format!("{} x {} from ({}, {})", crop.height, crop.width, crop.top, crop.left);
    Err(Error::shape(format!("crop {index}"), format_args!("a part of {height} x {width} pixels"), found))
}
