//! Right operands packed into panels, the order in which the micro-kernels read them.

use super::Matrix;

/// Columns of one panel of a packed right operand.
pub const PANEL: usize = 32;

/// Columns that lie together in a panel: a cache line, so that what is read of a panel for one tile is one run.
pub(super) const HALF: usize = 16;

/// Length of a packed right operand of `depth` rows and `columns` columns.
pub fn packed_len(depth: usize, columns: usize) -> usize {
    columns.div_ceil(PANEL) * PANEL * depth
}

/// Packs a right operand into panels, padded with zeros: panel `p` holds columns `p * PANEL ..`, first one half of them row after row, then
/// the other; see [`in_panel`].
///
/// # Panics
/// If `packed` has not the length [`packed_len`] says or the view reaches past its data.
pub fn pack(right: Matrix<'_>, packed: &mut [f32]) {
    assert_eq!(packed.len(), packed_len(right.rows, right.columns), "packed operand");
    for (index, panel) in packed.chunks_exact_mut((PANEL * right.rows).max(1)).enumerate() {
        pack_panel(right, index, panel);
    }
}

/// Where row `row` of column `column` lies in a panel of `depth` rows.
#[inline(always)]
pub fn in_panel(depth: usize, row: usize, column: usize) -> usize {
    (column / HALF * depth + row) * HALF + column % HALF
}

/// Packs panel `index` of `right`; see [`pack`].
pub fn pack_panel(right: Matrix<'_>, index: usize, panel: &mut [f32]) {
    for (half, panel) in panel.chunks_exact_mut((HALF * right.rows).max(1)).enumerate() {
        pack_columns(right, index * PANEL + half * HALF, panel);
    }
}

/// Packs [`HALF`] columns from `first` on.
fn pack_columns(right: Matrix<'_>, first: usize, panel: &mut [f32]) {
    let width = HALF.min(right.columns.saturating_sub(first));
    let start = |k: usize, column: usize| k * right.row_stride + (first + column) * right.column_stride;
    if width < HALF {
        panel.fill(0.0);
    }
    if width == 0 {
        return;
    }
    if right.column_stride == 1 {
        for (k, row) in panel.chunks_exact_mut(HALF).enumerate() {
            row[..width].copy_from_slice(&right.data[start(k, 0)..][..width]);
        }
        return;
    }
    const BLOCK: usize = 64;
    for block in (0..right.rows).step_by(BLOCK) {
        let len = BLOCK.min(right.rows - block);
        let panel = &mut panel[block * HALF..][..len * HALF];
        for column in 0..width {
            let numbers = &right.data[start(block, column)..][..(len - 1) * right.row_stride + 1];
            let numbers = numbers.iter().step_by(right.row_stride);
            for (row, &number) in panel.chunks_exact_mut(HALF).zip(numbers) {
                row[column] = number;
            }
        }
    }
}
