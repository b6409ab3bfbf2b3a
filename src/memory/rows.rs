//! Arithmetic on single rows, on the host: a step touches one batch of them, however large the memory.

use crate::cpu::dot::dot_f64;
use crate::device::{Span, SpanMut, Storage};
use crate::error::Result;
use crate::ops::l2_normalize::SMALLEST_NORM;

/// `stored <- normalised(share stored + (1 - share) new)`. Of two opposite rows weighed alike, the new one stays.
pub fn blend(stored: &mut [f32], new: &[f32], share: f32) {
    for (stored, &new) in stored.iter_mut().zip(new) {
        *stored = share * *stored + (1.0 - share) * new;
    }
    let norm = dot_f64::<1>(stored, stored).sqrt() as f32;
    if norm <= SMALLEST_NORM {
        return stored.copy_from_slice(new);
    }
    stored.iter_mut().for_each(|value| *value /= norm);
}

/// Reads row `slot` of a buffer of rows as long as `row`.
///
/// # Errors
/// What the device reports.
pub fn read<B: Storage>(backend: &B, rows: &B::Rows, slot: usize, row: &mut [f32]) -> Result<()> {
    backend.download_rows(Span::new(rows, slot * row.len(), row.len()), row)
}

/// Writes it.
///
/// # Errors
/// What the device reports.
pub fn write<B: Storage>(backend: &B, rows: &mut B::Rows, slot: usize, row: &[f32]) -> Result<()> {
    backend.upload_rows(row, SpanMut::new(rows, slot * row.len(), row.len()))
}
