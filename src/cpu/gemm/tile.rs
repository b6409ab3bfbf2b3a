//! The micro-kernel: a tile of the output stays in registers while the inner dimension runs. The instruction set is chosen at run time.

use super::packed::HALF;
use pulp::Simd;
use std::ops::Range;

/// Most rows of a tile for which its sums, two vectors a row, and what they are made of have a register each.
pub(super) const fn most_rows<S: Simd>() -> usize {
    if S::F32_LANES >= 16 { 8 } else { 6 }
}

/// `0 .. rows` in as few groups of at most `most` as there can be, of about the same size: two tiles of four rows keep the multipliers
/// busier than one of six and one of two.
#[inline(always)]
pub(super) fn groups(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(most);
    let (len, longer) = (rows.checked_div(count).unwrap_or(0), rows.checked_rem(count).unwrap_or(0));
    let mut end = 0;
    (0..count).map(move |group| {
        let start = end;
        end += len + usize::from(group < longer);
        start..end
    })
}

/// Evaluates an expression in which `$constant` is the number of rows of a group.
macro_rules! with_rows {
    ($rows:expr, $constant:ident => $body:expr) => {
        with_rows!(@match $rows, $constant => $body, 1 2 3 4 5 6 7 8)
    };
    (@match $rows:expr, $constant:ident => $body:expr, $($number:literal)*) => {
        match $rows {
            $($number => { const $constant: usize = $number; $body })*
            rows => unreachable!("a group of {rows} rows"),
        }
    };
}
pub(super) use with_rows;

/// Two vectors of columns of a right operand: in the rows of two halves of a panel, or at a place within the rows of the first.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    halves: [&'a [[f32; HALF]]; 2],
    /// The first vector's number within its half.
    at: usize,
}

impl<'a> Columns<'a> {
    /// Columns from `column` on, where `half` gives the rows of a half by its number.
    #[inline(always)]
    pub(super) fn new<S: Simd>(column: usize, half: impl Fn(usize) -> Option<&'a [[f32; HALF]]>) -> Self {
        let first = half(column / HALF).unwrap_or_default();
        let second = if S::F32_LANES == HALF { half(column / HALF + 1) } else { None };
        Self { halves: [first, second.unwrap_or(first)], at: column % HALF / S::F32_LANES }
    }
}

#[inline(always)]
fn vectors<S: Simd>(first: &[f32; HALF], second: &[f32; HALF], at: usize) -> [S::f32s; 2] {
    let (first, second) = (S::as_simd_f32s(first).0, S::as_simd_f32s(second).0);
    match HALF / S::F32_LANES {
        1 => [first[0], second[0]],
        2 => [first[0], first[1]],
        _ => [first[at], first[at + 1]],
    }
}

/// Products of rows between two checks of the operands' bounds. Unrolled further, AVX2 has too few registers for what is read ahead.
const UNROLLED: usize = 4;

/// Sums of a few output rows and two vectors of columns.
pub(super) struct Tile<S: Simd, const ROWS: usize>([[S::f32s; 2]; ROWS]);

impl<S: Simd, const ROWS: usize> Tile<S, ROWS> {
    #[inline(always)]
    pub(super) fn zero(simd: S) -> Self {
        Self([[simd.splat_f32s(0.0); 2]; ROWS])
    }

    /// Adds the product of `rows` of the left operand with two vectors of columns, each given by half a panel and the vector's place in
    /// its rows.
    #[inline(always)]
    pub(super) fn add_rows(&mut self, simd: S, rows: [&[f32]; ROWS], left: (&[S::f32s], usize), right: (&[S::f32s], usize)) {
        let per_row = HALF / S::F32_LANES;
        let mut blocks = [&[[0.0; UNROLLED]; 0][..]; ROWS];
        let mut ends = [&[][..]; ROWS];
        for (i, row) in rows.into_iter().enumerate() {
            (blocks[i], ends[i]) = row.as_chunks();
        }
        let vectors = left.0.chunks_exact(per_row * UNROLLED).zip(right.0.chunks_exact(per_row * UNROLLED));
        for (index, (first, second)) in vectors.enumerate() {
            let mut block = [&[0.0; UNROLLED]; ROWS];
            for (block, rows) in block.iter_mut().zip(blocks) {
                *block = &rows[index];
            }
            for k in 0..UNROLLED {
                self.add(simd, |i| block[i][k], [first[k * per_row + left.1], second[k * per_row + right.1]]);
            }
        }
        let start = left.0.len() / (per_row * UNROLLED) * (per_row * UNROLLED);
        let vectors = left.0[start..].chunks_exact(per_row).zip(right.0[start..].chunks_exact(per_row));
        for (k, (first, second)) in vectors.enumerate() {
            self.add(simd, |i| ends[i][k], [first[left.1], second[right.1]]);
        }
    }

    /// Sum of the outer products of numbers `from ..` of the rows of a half of the left operand and the rows of `columns`.
    #[inline(always)]
    pub(super) fn of_pairs(simd: S, left: &[[f32; HALF]], from: usize, columns: Columns<'_>) -> Self {
        let mut tile = Self::zero(simd);
        let Columns { halves: [first, second], at } = columns;
        for ((left, first), second) in left.iter().zip(first).zip(second) {
            let left = &left[from..][..ROWS];
            tile.add(simd, |i| left[i], vectors::<S>(first, second, at));
        }
        tile
    }

    /// Adds the outer product of one column of the left operand and one row of the right one.
    #[inline(always)]
    fn add(&mut self, simd: S, left: impl Fn(usize) -> f32, right: [S::f32s; 2]) {
        for (i, sums) in self.0.iter_mut().enumerate() {
            let left = simd.splat_f32s(left(i));
            sums[0] = simd.mul_add_e_f32s(left, right[0], sums[0]);
            sums[1] = simd.mul_add_e_f32s(left, right[1], sums[1]);
        }
    }

    /// Writes its rows to `output` from `starts` on, or adds them; `width` may be less than that of two vectors.
    #[inline(always)]
    pub(super) fn store(self, simd: S, output: &mut [f32], starts: [usize; ROWS], width: usize, accumulate: bool) {
        const { assert!(ROWS <= 8, "as many as are written out below") };
        // Row by row in plain sight: a loop would take the sums out of their registers.
        macro_rules! each_row {
            ($store:expr) => { each_row!($store, 0 1 2 3 4 5 6 7) };
            ($store:expr, $($row:literal)*) => {
                { $(if $row < ROWS { $store(simd, &mut output[starts[$row]..][..width], self.0[$row]); })* }
            };
        }
        match (width == 2 * S::F32_LANES, accumulate) {
            (true, false) => each_row!(write::<S>),
            (true, true) => each_row!(add::<S>),
            (false, false) => each_row!(write_part::<S>),
            (false, true) => each_row!(add_part::<S>),
        }
    }
}

#[inline(always)]
fn write<S: Simd>(_: S, row: &mut [f32], sums: [S::f32s; 2]) {
    let (row, _) = S::as_mut_simd_f32s(row);
    (row[0], row[1]) = (sums[0], sums[1]);
}

#[inline(always)]
fn add<S: Simd>(simd: S, row: &mut [f32], sums: [S::f32s; 2]) {
    let (row, _) = S::as_mut_simd_f32s(row);
    (row[0], row[1]) = (simd.add_f32s(row[0], sums[0]), simd.add_f32s(row[1], sums[1]));
}

#[inline(always)]
fn write_part<S: Simd>(_: S, row: &mut [f32], sums: [S::f32s; 2]) {
    row.copy_from_slice(&bytemuck::cast_slice::<_, f32>(&sums)[..row.len()]);
}

#[inline(always)]
fn add_part<S: Simd>(_: S, row: &mut [f32], sums: [S::f32s; 2]) {
    row.iter_mut().zip(bytemuck::cast_slice::<_, f32>(&sums)).for_each(|(to, sum)| *to += *sum);
}
