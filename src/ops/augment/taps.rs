//! Which source pixels an output pixel is a weighted mean of, along one axis: the triangle filter, stretched by the reduction
//! factor, as in Pillow's `resize` with a box (`precompute_coeffs` in its `Resample.c`).

use std::ops::Range;

/// One axis of a crop that is resized.
pub(super) struct Axis {
    /// Where the crop begins, in source pixels.
    start: f64,
    /// Source pixels per output pixel.
    scale: f64,
    /// Half the width of the filter, in source pixels.
    support: f64,
    /// Source pixels that may contribute; at least one.
    limits: Range<usize>,
    /// Output pixels.
    size: usize,
    /// Source pixels that an output pixel is made of: as many for each, with weights of 0 where the filter sees fewer.
    pub taps: usize,
}

impl Axis {
    /// The part of an axis of `available` pixels from `start` that is resized to `size`; pixels outside of it contribute if it
    /// `sees_surroundings`.
    pub fn new(start: f32, length: f32, available: usize, sees_surroundings: bool, size: usize) -> Self {
        let (start, length) = (f64::from(start), f64::from(length));
        let scale = length / size as f64;
        let support = scale.max(1.0);
        let limits = match sees_surroundings {
            true => 0..available,
            false => (start.max(0.0) as usize).min(available - 1)..((start + length).ceil() as usize).clamp(1, available),
        };
        // No more pixels than this have their centres inside the filter.
        let taps = ((2.0 * support).ceil() as usize).min(limits.len());
        Self { start, scale, support, limits, size, taps }
    }

    fn centre(&self, index: usize) -> f64 {
        self.start + (index as f64 + 0.5) * self.scale
    }

    /// The first source pixel of an output pixel.
    pub fn first(&self, index: usize) -> usize {
        let first = (self.centre(index) - self.support + 0.5).max(0.0) as usize;
        first.clamp(self.limits.start, self.limits.end - self.taps)
    }

    /// Source pixels that are read at all.
    pub fn read(&self) -> Range<usize> {
        self.first(0)..self.first(self.size - 1) + self.taps
    }

    /// Computes the weights of an output pixel's source pixels.
    pub fn weigh(&self, index: usize, weights: &mut [f32]) {
        let (centre, first, slope) = (self.centre(index), self.first(index), 1.0 / self.support);
        let weight = |tap: usize| (1.0 - (((first + tap) as f64 + 0.5 - centre) * slope).abs()).max(0.0);
        let normaliser = 1.0 / (0..self.taps).map(weight).sum::<f64>();
        for (tap, entry) in weights.iter_mut().enumerate() {
            *entry = (weight(tap) * normaliser) as f32;
        }
    }
}
