//! Augmentation on the CPU: the vertical filter runs first, over the columns that are read, the horizontal one then on a single
//! filtered row, which it also normalises. Sums are of 32-bit numbers, products and sums in a fixed order and never fused, so that
//! results are the same on every processor.

use super::filter::{LANES, RowFilter, mix_rows};
use super::taps::Axis;
use super::{Augment, CHANNELS, Crop, Pixels};
use crate::cpu::simd::{prefetch, vectorized};
use crate::device::{Cpu, SpanMut};
use crate::error::{Error, Result, expect_len};
use rayon::prelude::*;

/// Rows of an image that are asked for before they are read: the processor sees where a row goes on, not where the next one starts.
const ROWS_AHEAD: usize = 4;
/// How far, in pixels, rounding may carry a crop over the image's edge.
const EDGE_TOLERANCE: f32 = 1e-2;

impl Augment for Cpu {
    type ImageCache = ();

    fn image_cache(&self, _bytes: usize) {}

    fn augment_cached(
        &self,
        _cache: &mut (),
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
        let (stride, columns) = (image.width * CHANNELS, horizontal.read());
        let (start, row_len) = (columns.start * CHANNELS, columns.len() * CHANNELS);
        let padded_len = row_len + LANES - CHANNELS;
        let mut scratch = self.scratch(RowFilter::scratch_len(&horizontal, size) + vertical.taps + padded_len);
        let (weights, rest) = scratch.split_at_mut(vertical.taps);
        let (row, rest) = rest.split_at_mut(padded_len);
        let filter = RowFilter::new(&horizontal, size, crop.flip, rest);
        let mut fetched = vertical.read().start;
        vectorized(
            #[inline(always)]
            || {
                for (index, output) in output.chunks_exact_mut(size * CHANNELS).enumerate() {
                    let first = vertical.first(index);
                    let end = (first + vertical.taps + ROWS_AHEAD).min(image.height);
                    (fetched..end).for_each(|row| prefetch(&image.rgb[row * stride + start..][..row_len]));
                    fetched = end;
                    vertical.weigh(index, weights);
                    mix_rows(&image.rgb[first * stride + start..], stride, weights, &mut row[..row_len]);
                    filter.apply(row, output);
                }
            },
        );
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
