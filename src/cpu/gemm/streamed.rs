//! Products with a matrix that is streamed once and never packed: the similarities and the gradient of the pair loss.
//!
//! A general product first copies both operands into the order its inner loop wants, which at 64 anchors costs as much as the
//! arithmetic. Here the memory is read where it lies: its numbers are broadcast in the first product (similarities), where the
//! anchors, packed once per call, are the vectors, and the next tile is brought into the cache meanwhile; in the second (gradient) its
//! rows are the vectors, copied a panel of columns at a time while the first anchors use it, and the weights are broadcast. Both are
//! the same inner loop, [`outer_products`], whose sums stay in registers, and which checks bounds once for several terms: of every
//! term the checks would be as much work as the arithmetic. (An array's `map` is not always compiled into its caller, and then for
//! the oldest processor: loops fill the arrays here.) Bound: arithmetic.

use crate::cpu::simd::prefetch;
use pulp::{Arch, Simd, WithSimd};
use std::slice::Chunks;

/// Broadcast operands per inner loop; with [`WIDE`] vectors each, 24 sums, 4 vectors and a broadcast in 32 registers.
pub(crate) const BROADCASTS: usize = 6;
/// Vectors per inner loop with 32 registers.
const WIDE: usize = 4;
/// Vectors per inner loop with 16 registers.
const NARROW: usize = 2;
/// Columns of every processor's panel, at most.
pub(crate) const PANEL_COLUMNS: usize = 64;
/// Every processor's strip of anchors divides this.
pub(crate) const LARGEST_STRIP: usize = 64;

/// Terms between two checks of the operands' bounds.
const UNROLLED: usize = 8;
/// Numbers of a cache line.
const LINE: usize = 16;

/// `sums[b][v] = sum_k vectors[k][v] * broadcasts[b][k]`, in the order of `k`. The vectors come in blocks of [`UNROLLED`] terms, of
/// which the last may be shorter, so that what makes a block ready is done between multiplications and costs little.
#[inline(always)]
fn outer_products<'a, S: Simd, const V: usize, const B: usize>(
    simd: S,
    vectors: impl Iterator<Item = &'a [[S::f32s; V]]>,
    broadcasts: [&[f32]; B],
) -> [[S::f32s; V]; B] {
    let mut sums = [[simd.splat_f32s(0.0); V]; B];
    let terms = broadcasts[0].len();
    let mut blocks = [&[[0.0; UNROLLED]; 0][..]; B];
    let mut ends = [&[][..]; B];
    for (index, values) in broadcasts.into_iter().enumerate() {
        (blocks[index], ends[index]) = values[..terms].as_chunks();
    }
    for (index, vectors) in vectors.enumerate() {
        let Ok(vectors) = <&[[S::f32s; V]; UNROLLED]>::try_from(vectors) else {
            for (k, vectors) in vectors.iter().enumerate() {
                add_products(simd, vectors, |b| ends[b][k], &mut sums);
            }
            break;
        };
        let mut block = [&[0.0; UNROLLED]; B];
        for (block, blocks) in block.iter_mut().zip(blocks) {
            *block = &blocks[index];
        }
        for (k, vectors) in vectors.iter().enumerate() {
            add_products(simd, vectors, |b| block[b][k], &mut sums);
        }
    }
    sums
}

/// The packed vectors of so many terms.
#[inline(always)]
fn packed_vectors<S: Simd, const V: usize>(values: &[f32], terms: usize) -> &[[S::f32s; V]] {
    &S::as_simd_f32s(values).0.as_chunks().0[..terms]
}

#[inline(always)]
fn add_products<S: Simd, const V: usize, const B: usize>(
    simd: S,
    vectors: &[S::f32s; V],
    value: impl Fn(usize) -> f32,
    sums: &mut [[S::f32s; V]; B],
) {
    for (b, sums) in sums.iter_mut().enumerate() {
        let value = simd.splat_f32s(value(b));
        for (sum, &vector) in sums.iter_mut().zip(vectors) {
            *sum = simd.mul_add_e_f32s(vector, value, *sum);
        }
    }
}

/// Calls a method with as many vectors per inner loop as the registers hold.
macro_rules! with_vectors {
    ($simd:ident : $S:ident, $self:ident.$method:ident) => {
        if $S::REGISTER_COUNT >= 32 { $self.$method::<$S, WIDE>($simd) } else { $self.$method::<$S, NARROW>($simd) }
    };
}

/// Anchors `(anchors, dim)` into strips as wide as an inner loop, each `(dim, width)`; the last is as narrow as it can be.
pub(crate) fn pack(anchors: &[f32], dim: usize, packed: &mut [f32]) {
    Arch::new().dispatch(Pack { anchors, dim, packed });
}

struct Pack<'a> {
    anchors: &'a [f32],
    dim: usize,
    packed: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        with_vectors!(simd: S, self.strips);
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn strips<S: Simd, const V: usize>(self, _: S) {
        let (dim, full) = (self.dim, V * S::F32_LANES);
        for (anchors, packed) in self.anchors.chunks(full * dim).zip(self.packed.chunks_mut(full * dim)) {
            let count = anchors.len() / dim;
            let width = count.next_multiple_of(S::F32_LANES);
            for (k, packed) in packed.chunks_exact_mut(width).take(dim).enumerate() {
                for (lane, value) in packed.iter_mut().enumerate() {
                    *value = if lane < count { anchors[lane * dim + k] } else { 0.0 };
                }
            }
        }
    }
}

/// `output (count, rows) = anchors memory^T`.
pub(crate) struct Similarities<'a> {
    /// From [`pack`], starting at a strip.
    pub(crate) packed: &'a [f32],
    /// Anchors in it.
    pub(crate) count: usize,
    /// `(rows, dim)`.
    pub(crate) memory: &'a [f32],
    pub(crate) dim: usize,
    /// Numbers that will be read after `memory`, brought closer meanwhile.
    pub(crate) to_prefetch: &'a [f32],
    pub(crate) output: &'a mut [f32],
}

impl Similarities<'_> {
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn strips<S: Simd, const V: usize>(mut self, simd: S) {
        let width = V * S::F32_LANES;
        let blocks = self.count.div_ceil(width) * (self.memory.len() / self.dim).div_ceil(BROADCASTS);
        let mut to_prefetch = self.to_prefetch.chunks(self.to_prefetch.len().div_ceil(blocks).max(1));
        for first in (0..self.count).step_by(width) {
            let to_prefetch = &mut to_prefetch;
            match (self.count - first).min(width).div_ceil(S::F32_LANES) {
                1 => self.strip::<S, 1>(simd, first, to_prefetch),
                2 => self.strip::<S, 2>(simd, first, to_prefetch),
                3 => self.strip::<S, 3>(simd, first, to_prefetch),
                _ => self.strip::<S, V>(simd, first, to_prefetch),
            }
        }
    }

    #[inline(always)]
    fn strip<S: Simd, const V: usize>(&mut self, simd: S, first: usize, to_prefetch: &mut Chunks<'_, f32>) {
        let rows = self.memory.len() / self.dim;
        let blocked = rows - rows % BROADCASTS;
        for row in (0..blocked).step_by(BROADCASTS) {
            self.block::<S, V, BROADCASTS>(simd, first, row, to_prefetch.next().unwrap_or_default());
        }
        for row in blocked..rows {
            self.block::<S, V, 1>(simd, first, row, &[]);
        }
    }

    #[inline(always)]
    fn block<S: Simd, const V: usize, const B: usize>(&mut self, simd: S, first: usize, row: usize, to_prefetch: &[f32]) {
        let dim = self.dim;
        let mut broadcasts = [&[][..]; B];
        for (index, values) in broadcasts.iter_mut().enumerate() {
            *values = &self.memory[(row + index) * dim..][..dim];
        }
        // A little at a time: the processor has room for so many requests.
        let mut to_prefetch =
            to_prefetch.chunks(to_prefetch.len().div_ceil(dim.div_ceil(UNROLLED)).next_multiple_of(LINE).max(LINE));
        let vectors = packed_vectors::<S, V>(&self.packed[first * dim..], dim).chunks(UNROLLED);
        let vectors = vectors.inspect(
            #[inline(always)]
            |_| prefetch(to_prefetch.next().unwrap_or_default()),
        );
        let sums = outer_products(simd, vectors, broadcasts);
        let rows = self.memory.len() / dim;
        for lane in 0..(V * S::F32_LANES).min(self.count - first) {
            let output = &mut self.output[(first + lane) * rows + row..][..B];
            for (output, sums) in output.iter_mut().zip(&sums) {
                *output = bytemuck::cast_slice::<_, f32>(sums)[lane];
            }
        }
    }
}

impl WithSimd for Similarities<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        with_vectors!(simd: S, self.strips);
    }
}

/// `gradient (count, dim) += weights (count, rows) memory (rows, dim)`.
pub(crate) struct WeightedRows<'a> {
    pub(crate) weights: &'a [f32],
    pub(crate) memory: &'a [f32],
    pub(crate) dim: usize,
    /// Room for [`PANEL_COLUMNS`] columns of `memory`: where rows are a power of two long, their columns would share a few sets of
    /// the first-level cache.
    pub(crate) panel: &'a mut [f32],
    pub(crate) gradient: &'a mut [f32],
}

impl WeightedRows<'_> {
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn panels<S: Simd, const V: usize>(mut self, simd: S) {
        let (wide, lanes) = (V * S::F32_LANES, S::F32_LANES);
        let wide_end = self.dim - self.dim % wide;
        let vector_end = self.dim - self.dim % lanes;
        for column in (0..wide_end).step_by(wide) {
            self.panel::<S, V>(simd, column);
        }
        for column in (wide_end..vector_end).step_by(lanes) {
            self.panel::<S, 1>(simd, column);
        }
        self.remaining_columns(vector_end);
    }

    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, column: usize) {
        let count = self.gradient.len() / self.dim;
        let blocked = count - count % BROADCASTS;
        for anchor in (0..blocked).step_by(BROADCASTS) {
            self.block::<S, V, BROADCASTS>(simd, column, anchor);
        }
        match count - blocked {
            0 => {}
            1 => self.block::<S, V, 1>(simd, column, blocked),
            2 => self.block::<S, V, 2>(simd, column, blocked),
            3 => self.block::<S, V, 3>(simd, column, blocked),
            4 => self.block::<S, V, 4>(simd, column, blocked),
            _ => self.block::<S, V, 5>(simd, column, blocked),
        }
    }

    #[inline(always)]
    fn block<S: Simd, const V: usize, const B: usize>(&mut self, simd: S, column: usize, anchor: usize) {
        let rows = self.memory.len() / self.dim;
        let width = V * S::F32_LANES;
        let mut broadcasts = [&[][..]; B];
        for (index, values) in broadcasts.iter_mut().enumerate() {
            *values = &self.weights[(anchor + index) * rows..][..rows];
        }
        let sums = if anchor == 0 {
            let panel = self.panel.chunks_mut(UNROLLED * width);
            let vectors = panel.zip(self.memory.chunks(UNROLLED * self.dim)).map(
                #[inline(always)]
                |(panel, rows)| {
                    let rows = rows.chunks_exact(self.dim);
                    let terms = rows.len();
                    for (panel, row) in panel.chunks_exact_mut(width).zip(rows) {
                        panel.copy_from_slice(&row[column..][..width]);
                    }
                    packed_vectors::<S, V>(panel, terms)
                },
            );
            outer_products(simd, vectors, broadcasts)
        } else {
            outer_products(simd, packed_vectors::<S, V>(self.panel, rows).chunks(UNROLLED), broadcasts)
        };
        for (index, sums) in sums.iter().enumerate() {
            let gradient = &mut self.gradient[(anchor + index) * self.dim + column..][..V * S::F32_LANES];
            let (gradient, _) = S::as_mut_simd_f32s(gradient);
            for (gradient, &sum) in gradient.iter_mut().zip(sums) {
                *gradient = simd.add_f32s(*gradient, sum);
            }
        }
    }

    #[inline(always)]
    fn remaining_columns(&mut self, start: usize) {
        let rows = self.memory.len() / self.dim;
        for (weights, gradient) in self.weights.chunks_exact(rows).zip(self.gradient.chunks_exact_mut(self.dim)) {
            for (&weight, row) in weights.iter().zip(self.memory.chunks_exact(self.dim)) {
                for (gradient, value) in gradient[start..].iter_mut().zip(&row[start..]) {
                    *gradient += weight * value;
                }
            }
        }
    }
}

impl WithSimd for WeightedRows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        with_vectors!(simd: S, self.panels);
    }
}
