//! From a tile of similarities to weights, loss, counts and gradient.
//!
//! A row of the tile is read in segments of [`SEGMENT`] similarities. Most segments hold no pair with a weight or a loss and are
//! left after a few vector comparisons; the others are evaluated without branches, and a bit per kept pair is noted. The
//! gradient then reads only the memory rows of kept pairs, or, where many are kept, comes from one matrix product.

use super::weigher::{Pairs, SEGMENT, Weigher};
use crate::cpu::dot::dot;
use crate::cpu::gemm::streamed::WeightedRows;
use crate::ops::heuristics::active_pairs_are_few;
use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

/// Size of [`RowSums`] in 32-bit words.
pub(super) const ROW_WORDS: usize = size_of::<RowSums>() / size_of::<f32>();

/// Loss and counts of one anchor. The loss is a sum of two 32-bit numbers, which together hold 48 bits.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct RowSums {
    loss_head: f32,
    loss_rest: f32,
    pub(super) positives: u32,
    pub(super) negatives: u32,
}

impl RowSums {
    pub(super) fn loss(self) -> f64 {
        f64::from(self.loss_head) + f64::from(self.loss_rest)
    }

    pub(super) fn kept(self) -> u32 {
        self.positives + self.negatives
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.added(other.loss(), other.positives, other.negatives)
    }

    fn added(self, loss: f64, positives: u32, negatives: u32) -> Self {
        let loss = self.loss() + loss;
        let loss_head = loss as f32;
        Self {
            loss_head,
            loss_rest: (loss - f64::from(loss_head)) as f32,
            positives: self.positives + positives,
            negatives: self.negatives + negatives,
        }
    }
}

/// Words of kept bits for a row of a tile.
pub(super) fn tile_words(rows: usize) -> usize {
    rows.div_ceil(SEGMENT)
}

/// What is known of the anchors and memory rows of a tile.
pub(super) struct Scan<'a> {
    /// Of the block's anchors.
    pub(super) anchor_labels: &'a [i32],
    /// Of the tile's memory rows.
    pub(super) row_labels: &'a [i32],
    /// Instance ids of the anchors and of the tile's rows: equal ids are no pair.
    pub(super) instances: Option<(&'a [i32], &'a [i32])>,
    /// For each anchor the memory row that is no pair.
    pub(super) own_slots: Option<&'a [i32]>,
    /// Anchor of the tile's first row.
    pub(super) first_anchor: usize,
    /// Memory row of the tile's first column.
    pub(super) first_row: usize,
}

/// A tile of similarities `(anchors, rows)`, overwritten by signed weights where a pair is kept.
pub(super) struct Tile<'a> {
    /// `(anchors, dim)`.
    pub(super) anchors: &'a [f32],
    /// `(rows, dim)`.
    pub(super) memory: &'a [f32],
    /// Not there yet where the tile is pruned.
    pub(super) similarities: &'a mut [f32],
    /// Whether the bits say which pairs can have a weight or a loss.
    pub(super) pruned: bool,
    /// `(anchors, tile_words(rows))`: a bit per kept pair.
    pub(super) kept: &'a mut [u32],
    /// Room for a part of the memory rows: `rows * PANEL_COLUMNS` numbers or more.
    pub(super) panel: &'a mut [f32],
    pub(super) rows: usize,
}

/// The columns of one segment, as seen by one anchor.
pub(super) struct Segment<'a> {
    pub(super) pairs: Pairs,
    /// A bit per column that is a positive.
    pub(super) positive: u32,
    /// A bit per column that is a negative.
    pub(super) negative: u32,
    pub(super) similarities: &'a mut [f32],
}

impl Tile<'_> {
    /// Replaces kept similarities by weights, adds to the row sums, and returns the number of kept pairs, or the
    /// first anchor with a similarity that is not finite.
    pub(super) fn weigh(&mut self, scan: &Scan<'_>, weigher: &impl Weigher, sums: &mut [RowSums]) -> Result<usize, usize> {
        Arch::new().dispatch(Weigh { tile: self, scan, weigher, sums })
    }

    #[inline(always)]
    fn weigh_rows<S: Simd>(
        &mut self,
        simd: S,
        scan: &Scan<'_>,
        weigher: &impl Weigher,
        sums: &mut [RowSums],
    ) -> Result<usize, usize> {
        let (words, dim) = (tile_words(self.rows), self.memory.len() / self.rows);
        let rows = self.similarities.chunks_exact_mut(self.rows).zip(self.kept.chunks_exact_mut(words));
        let mut total = 0;
        for (anchor, ((similarities, kept), sums)) in rows.zip(sums).enumerate() {
            if !self.pruned && !all_finite(similarities) {
                return Err(anchor);
            }
            let (label, active) = (scan.anchor_labels[anchor], weigher.active(scan.first_anchor + anchor));
            let mut found = Found::default();
            for (index, kept) in kept.iter_mut().enumerate() {
                let columns = index * SEGMENT..self.rows.min((index + 1) * SEGMENT);
                let (similarities, labels) = (&mut similarities[columns.clone()], &scan.row_labels[columns]);
                let mut candidates = u32::MAX;
                if self.pruned {
                    candidates = *kept;
                    if !multiply(
                        simd,
                        candidates,
                        &self.anchors[anchor * dim..][..dim],
                        &self.memory[index * SEGMENT * dim..],
                        similarities,
                    ) {
                        return Err(anchor);
                    }
                } else if !any_active(similarities, labels, label, active) {
                    candidates = 0;
                }
                *kept = 0;
                if candidates == 0 {
                    continue;
                }
                let mut segment = scan.segment(simd, anchor, index * SEGMENT, similarities);
                segment.negative &= candidates;
                *kept = segment.weigh(simd, weigher, &mut found);
            }
            if found.any {
                total += (found.positives + found.negatives) as usize;
                *sums = found.added_to(*sums);
            }
        }
        Ok(total)
    }

    /// Shows every segment of every row to `see`, with the anchor's place in the block.
    #[inline(always)]
    pub(super) fn each_segment<S: Simd>(&mut self, simd: S, scan: &Scan<'_>, mut see: impl FnMut(usize, &Segment<'_>)) {
        for (anchor, similarities) in self.similarities.chunks_exact_mut(self.rows).enumerate() {
            for (index, similarities) in similarities.chunks_mut(SEGMENT).enumerate() {
                see(anchor, &scan.segment(simd, anchor, index * SEGMENT, similarities));
            }
        }
    }

    /// Adds weight times memory row of every kept pair to the gradient `(anchors, dim)`.
    pub(super) fn accumulate(&mut self, kept: usize, gradient: &mut [f32]) {
        if kept == 0 {
            return;
        }
        if active_pairs_are_few(kept, self.similarities.len()) {
            return Arch::new().dispatch(AddKeptRows { tile: self, gradient });
        }
        let words = tile_words(self.rows);
        for (weights, kept) in self.similarities.chunks_exact_mut(self.rows).zip(self.kept.chunks_exact(words)) {
            for (weights, _) in weights.chunks_mut(SEGMENT).zip(kept).filter(|(_, kept)| **kept == 0) {
                weights.fill(0.0);
            }
        }
        let dim = self.memory.len() / self.rows;
        WeightedRows { weights: self.similarities, memory: self.memory, dim, panel: self.panel, gradient }.run();
    }

    #[inline(always)]
    fn add_kept_rows(&self, gradient: &mut [f32]) {
        let (dim, words) = (self.memory.len() / self.rows, tile_words(self.rows));
        let row = |index: usize| &self.memory[index * dim..][..dim];
        let anchors = self.similarities.chunks_exact(self.rows).zip(self.kept.chunks_exact(words));
        for ((weights, kept), gradient) in anchors.zip(gradient.chunks_exact_mut(dim)) {
            let mut kept = Bits::new(kept);
            while let Some(first) = kept.next() {
                // Four rows per pass over the gradient, or its loads and stores would take most of the time.
                match (kept.next(), kept.next(), kept.next()) {
                    (Some(second), Some(third), Some(fourth)) => {
                        let rows = [first, second, third, fourth];
                        add_scaled(gradient, rows.map(|index| weights[index]), rows.map(row));
                    }
                    (second, third, _) => {
                        for index in [Some(first), second, third].into_iter().flatten() {
                            add_scaled(gradient, [weights[index]], [row(index)]);
                        }
                    }
                }
            }
        }
    }
}

/// [`Tile::weigh_rows`] with the vector instructions of the processor. Not a closure: a closure is called through a shim that the
/// compiler may leave outside, and there it would be compiled for the oldest processor.
struct Weigh<'a, 'tile, R> {
    tile: &'a mut Tile<'tile>,
    scan: &'a Scan<'a>,
    weigher: &'a R,
    sums: &'a mut [RowSums],
}

impl<R: Weigher> WithSimd for Weigh<'_, '_, R> {
    type Output = Result<usize, usize>;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        self.tile.weigh_rows(simd, self.scan, self.weigher, self.sums)
    }
}

/// [`Tile::add_kept_rows`], likewise.
struct AddKeptRows<'a, 'tile> {
    tile: &'a Tile<'tile>,
    gradient: &'a mut [f32],
}

impl WithSimd for AddKeptRows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.tile.add_kept_rows(self.gradient);
    }
}

/// Positions of the set bits of a row of words, ascending.
struct Bits<'a> {
    words: &'a [u32],
    word: u32,
    index: usize,
}

impl<'a> Bits<'a> {
    #[inline(always)]
    fn new(words: &'a [u32]) -> Self {
        Self { words, word: words.first().copied().unwrap_or(0), index: 0 }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.index += 1;
            self.word = *self.words.get(self.index)?;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(self.index * SEGMENT + bit)
    }
}

#[inline(always)]
fn add_scaled<const N: usize>(gradient: &mut [f32], weights: [f32; N], rows: [&[f32]; N]) {
    let rows = rows.map(|row| &row[..gradient.len()]);
    for index in 0..gradient.len() {
        let mut sum = gradient[index];
        for (weight, row) in weights.iter().zip(rows) {
            sum += weight * row[index];
        }
        gradient[index] = sum;
    }
}

#[inline(always)]
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7F80_0000;
    values.iter().fold(0, |highest: u32, value| highest.max(value.to_bits() & EXPONENT)) < EXPONENT
}

/// Computes the similarities of an anchor and those of the rows that have a bit; false if one is not finite.
#[inline(always)]
fn multiply<S: Simd>(simd: S, mut candidates: u32, anchor: &[f32], rows: &[f32], similarities: &mut [f32]) -> bool {
    let mut finite = true;
    while candidates != 0 {
        let lane = candidates.trailing_zeros() as usize;
        candidates &= candidates - 1;
        let similarity = dot(simd, anchor, &rows[lane * anchor.len()..][..anchor.len()]);
        finite &= similarity.is_finite();
        similarities[lane] = similarity;
    }
    finite
}

/// Whether any pair of a segment can have a weight or a loss: a positive below its support's end, a negative above its start.
#[inline(always)]
fn any_active(similarities: &[f32], labels: &[i32], label: i32, (positive_end, negative_start): (f32, f32)) -> bool {
    let mut active = 0;
    for (&s, &other) in similarities.iter().zip(labels) {
        let pulled = u32::from(other == label) & u32::from(s < positive_end);
        let pushed = u32::from(other != label) & u32::from(s > negative_start);
        active |= pulled | pushed;
    }
    active != 0
}

impl Scan<'_> {
    /// The columns from `first` on as seen by an anchor of the block.
    #[inline(always)]
    fn segment<'a, S: Simd>(&self, simd: S, anchor: usize, first: usize, similarities: &'a mut [f32]) -> Segment<'a> {
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

/// A bit per lane that is not zero.
#[inline(always)]
fn not_zero<S: Simd>(simd: S, values: &[f32; SEGMENT]) -> u32 {
    let (vectors, _) = S::as_simd_f32s(values);
    !bits(simd, |index| simd.equal_f32s(vectors[index], simd.splat_f32s(0.0)))
}

/// The bits of a segment of masks. Written with vectors: of plain tests the compiler makes one comparison a lane.
#[inline(always)]
fn bits<S: Simd>(simd: S, mask: impl Fn(usize) -> S::m32s) -> u32 {
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

/// What the segments of a row of a tile add to its sums.
#[derive(Default)]
struct Found {
    /// Whether any pair of the row was weighed.
    any: bool,
    /// Of each lane.
    losses: [f32; SEGMENT],
    positives: u32,
    negatives: u32,
}

impl Found {
    #[inline(always)]
    fn added_to(mut self, sums: RowSums) -> RowSums {
        for half in [16, 8, 4, 2, 1] {
            for lane in 0..half {
                self.losses[lane] += self.losses[lane + half];
            }
        }
        sums.added(f64::from(self.losses[0]), self.positives, self.negatives)
    }
}

impl Segment<'_> {
    /// The similarities, and zeros up to a whole segment.
    #[inline(always)]
    pub(super) fn padded(&self) -> [f32; SEGMENT] {
        padded(self.similarities)
    }

    /// Writes signed weights (negatives push with plus, positives pull with minus), and returns the kept bits.
    #[inline(always)]
    fn weigh<S: Simd>(self, simd: S, weigher: &impl Weigher, found: &mut Found) -> u32 {
        let s = self.padded();
        let mut weights = [0.0; SEGMENT];
        if self.negative != 0 {
            let (values, losses) = weigher.weigh(false, self.pairs, &s);
            select(self.negative, 0, (&values, &losses), (&mut weights, &mut found.losses));
        }
        if self.positive != 0 {
            let (values, losses) = weigher.weigh(true, self.pairs, &s);
            select(self.positive, SIGN, (&values, &losses), (&mut weights, &mut found.losses));
        }
        let kept = not_zero(simd, &weights);
        found.any = true;
        found.positives += (kept & self.positive).count_ones();
        found.negatives += (kept & self.negative).count_ones();
        match self.similarities.first_chunk_mut() {
            Some(similarities) => *similarities = weights,
            None => self.similarities.copy_from_slice(&weights[..self.similarities.len()]),
        }
        kept
    }
}

/// The bit of a number's sign.
const SIGN: u32 = 1 << 31;

/// Takes the weights of the lanes in `mask`, which had none, with their signs changed by `sign`, and adds their losses. Of the other
/// lanes the bits are cleared: a choice would become a jump for each.
#[inline(always)]
fn select(
    mask: u32,
    sign: u32,
    (values, losses): (&[f32; SEGMENT], &[f32; SEGMENT]),
    (weights, sums): (&mut [f32; SEGMENT], &mut [f32; SEGMENT]),
) {
    for lane in 0..SEGMENT {
        let taken = (mask >> lane & 1).wrapping_neg();
        weights[lane] = f32::from_bits(weights[lane].to_bits() | (values[lane].to_bits() ^ sign) & taken);
        sums[lane] += f32::from_bits(losses[lane].to_bits() & taken);
    }
}
