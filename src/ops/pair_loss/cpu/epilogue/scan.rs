//! Which columns of a tile are positives and which are negatives, a segment at a time: a bit for each.

use super::super::weigher::{Pairs, SEGMENT};
use super::Tile;
use pulp::Simd;
use std::ops::Range;

/// What is known of the anchors and memory rows of a tile.
pub struct Scan<'a> {
    /// Of the block's anchors.
    pub anchor_labels: &'a [i32],
    /// Of the tile's memory rows.
    pub row_labels: &'a [i32],
    /// Instance ids of the anchors and of the tile's rows: equal ids are no pair.
    pub instances: Option<(&'a [i32], &'a [i32])>,
    /// For each anchor the memory row that is no pair.
    pub own_slots: Option<&'a [i32]>,
    /// Anchor of the tile's first row.
    pub first_anchor: usize,
    /// Memory row of the tile's first column.
    pub first_row: usize,
}

/// The columns of one segment, as seen by one anchor.
pub struct Segment<'a> {
    pub pairs: Pairs,
    /// A bit per column that is a positive.
    pub positive: u32,
    /// A bit per column that is a negative.
    pub negative: u32,
    pub similarities: &'a mut [f32],
}

impl Tile<'_> {
    /// Shows every segment of every row to `see`, with the anchor's place in the block.
    #[inline(always)]
    pub fn each_segment<S: Simd>(&mut self, simd: S, scan: &Scan<'_>, mut see: impl FnMut(usize, &Segment<'_>)) {
        for (anchor, similarities) in self.similarities.chunks_exact_mut(self.rows).enumerate() {
            for (index, similarities) in similarities.chunks_mut(SEGMENT).enumerate() {
                see(anchor, &scan.segment(simd, anchor, index * SEGMENT, similarities));
            }
        }
    }
}

impl Scan<'_> {
    /// The columns from `first` on as seen by an anchor of the block.
    #[inline(always)]
    pub(super) fn segment<'a, S: Simd>(&self, simd: S, anchor: usize, first: usize, similarities: &'a mut [f32]) -> Segment<'a> {
        let columns = first..first + similarities.len();
        let others = u32::MAX >> (SEGMENT - similarities.len()) & !self.own(simd, anchor, columns.clone());
        let positive = equal(simd, &self.row_labels[columns], self.anchor_labels[anchor]) & others;
        let pairs = Pairs { anchor: self.first_anchor + anchor, row: self.first_row + first, rows: similarities.len() };
        Segment { pairs, positive, negative: others & !positive, similarities }
    }

    /// A bit per column of `columns` that is the anchor itself.
    #[inline(always)]
    fn own<S: Simd>(&self, simd: S, anchor: usize, columns: Range<usize>) -> u32 {
        if let Some((anchors, rows)) = self.instances {
            return equal(simd, &rows[columns], anchors[anchor]);
        }
        let Some(slots) = self.own_slots else { return 0 };
        let column = i64::from(slots[anchor]) - (self.first_row + columns.start) as i64;
        if (0..columns.len() as i64).contains(&column) { 1 << column } else { 0 }
    }
}

impl Segment<'_> {
    /// The similarities, and zeros up to a whole segment.
    #[inline(always)]
    pub fn padded(&self) -> [f32; SEGMENT] {
        padded(self.similarities)
    }
}

/// A bit for each lane of a segment.
const LANES: [u32; SEGMENT] = {
    let mut lanes = [0; SEGMENT];
    let mut lane = 0;
    while lane < SEGMENT {
        lanes[lane] = 1 << lane;
        lane += 1;
    }
    lanes
};

/// A bit per lane that holds `value`; those beyond the end of `values` may hold it too.
#[inline(always)]
fn equal<S: Simd>(simd: S, values: &[i32], value: i32) -> u32 {
    let (values, value) = (padded(values), simd.splat_u32s(value.cast_unsigned()));
    let (vectors, _) = S::as_simd_u32s(bytemuck::cast_slice(&values));
    bits(simd, |index| simd.equal_u32s(vectors[index], value))
}

/// The bits of a segment of masks. Written with vectors: of plain tests the compiler makes one comparison a lane.
#[inline(always)]
pub(super) fn bits<S: Simd>(simd: S, mask: impl Fn(usize) -> S::m32s) -> u32 {
    let (none, mut bits) = (simd.splat_u32s(0), simd.splat_u32s(0));
    for (index, &lanes) in S::as_simd_u32s(&LANES).0.iter().enumerate() {
        bits = simd.or_u32s(bits, simd.select_u32s(mask(index), lanes, none));
    }
    bytemuck::cast_slice(&[bits]).iter().fold(0, |word, bit: &u32| word | bit)
}

/// The values of a segment, and zeros up to a whole one.
#[inline(always)]
fn padded<T: Copy + Default>(values: &[T]) -> [T; SEGMENT] {
    values.try_into().unwrap_or_else(|_| {
        let mut padded = [T::default(); SEGMENT];
        padded[..values.len()].copy_from_slice(values);
        padded
    })
}
