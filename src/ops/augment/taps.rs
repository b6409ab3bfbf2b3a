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
    /// Source pixels that may contribute.
    limits: Range<usize>,
    /// Output pixels.
    size: usize,
}

/// The filled table of one axis.
pub(super) struct Taps<'a> {
    table: &'a [f32],
    stride: usize,
}

/// Numbers of a table's entry in front of its weights: first pixel and number of weights, both exact in 32 bits below 2^24.
const HEADER: usize = 2;

impl Axis {
    /// The part of an axis of `available` pixels from `start` that is resized to `size`; pixels outside of it contribute if it
    /// `sees_surroundings`.
    pub fn new(start: f32, length: f32, available: usize, sees_surroundings: bool, size: usize) -> Self {
        let (start, length) = (f64::from(start), f64::from(length));
        let scale = length / size as f64;
        let limits = match sees_surroundings {
            true => 0..available,
            false => start.max(0.0) as usize..((start + length).ceil() as usize).min(available),
        };
        Self { start, scale, support: scale.max(1.0), limits, size }
    }

    fn centre(&self, index: usize) -> f64 {
        self.start + (index as f64 + 0.5) * self.scale
    }

    /// Source pixels under the filter of one output pixel.
    fn range(&self, index: usize) -> Range<usize> {
        let centre = self.centre(index);
        let first = (centre - self.support + 0.5).max(0.0) as usize;
        let end = (centre + self.support + 0.5) as usize;
        first.max(self.limits.start)..end.min(self.limits.end)
    }

    /// Source pixels that are read at all.
    pub fn read(&self) -> Range<usize> {
        self.range(0).start..self.range(self.size - 1).end
    }

    fn stride(&self) -> usize {
        HEADER + 2 * self.support.ceil() as usize + 1
    }

    /// Numbers that [`Axis::fill`] writes.
    pub fn table_len(&self) -> usize {
        self.size * self.stride()
    }

    /// Computes all weights; source pixels are counted from `origin`.
    pub fn fill<'a>(&self, table: &'a mut [f32], origin: usize) -> Taps<'a> {
        let stride = self.stride();
        for (index, entry) in table.chunks_exact_mut(stride).enumerate() {
            let (centre, range) = (self.centre(index), self.range(index));
            entry[..HEADER].copy_from_slice(&[(range.start - origin) as f32, range.len() as f32]);
            let weight = |pixel: usize| (1.0 - ((pixel as f64 + 0.5 - centre) / self.support).abs()).max(0.0);
            let sum: f64 = range.clone().map(weight).sum();
            for (entry, pixel) in entry[HEADER..].iter_mut().zip(range) {
                *entry = (weight(pixel) / sum) as f32;
            }
        }
        Taps { table, stride }
    }
}

impl Taps<'_> {
    /// First source pixel and weights of an output pixel.
    #[inline(always)]
    pub fn at(&self, index: usize) -> (usize, &[f32]) {
        let entry = &self.table[index * self.stride..][..self.stride];
        (entry[0] as usize, &entry[HEADER..][..entry[1] as usize])
    }
}
