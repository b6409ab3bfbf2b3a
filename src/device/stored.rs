//! Rows of an embedding memory on the host, in 32 or 16 bit.

use super::{Span, SpanMut};
use crate::error::{Result, expect_len};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rows of an embedding memory on the host.
#[derive(Debug)]
pub enum HostRows {
    /// In 32 bit.
    Full(Vec<f32>),
    /// In 16 bit, IEEE 754's binary16: of a unit row each number is within 2^-12 of its size, or 2^-25.
    Half(Vec<f16>),
}

/// Some of them, to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RowsView<'a> {
    Full(&'a [f32]),
    Half(&'a [f16]),
}

impl HostRows {
    /// Writes a span, rounded to the nearest number where it is in 16 bit.
    pub(crate) fn write(from: &[f32], to: SpanMut<'_, Self>) -> Result<()> {
        expect_len("rows written", to.len, from.len())?;
        let range = to.start..to.start + to.len;
        match to.buffer {
            Self::Full(rows) => rows[range].copy_from_slice(from),
            Self::Half(rows) => rows[range].convert_from_f32_slice(from),
        }
        Ok(())
    }
}

impl<'a> Span<'a, HostRows> {
    pub(crate) fn view(self) -> RowsView<'a> {
        let range = self.start..self.start + self.len;
        match self.buffer {
            HostRows::Full(rows) => RowsView::Full(&rows[range]),
            HostRows::Half(rows) => RowsView::Half(&rows[range]),
        }
    }
}

impl<'a> RowsView<'a> {
    /// Numbers `start .. start + to.len()`.
    pub(crate) fn read(self, start: usize, to: &mut [f32]) {
        match self {
            Self::Full(rows) => to.copy_from_slice(&rows[start..][..to.len()]),
            Self::Half(rows) => rows[start..][..to.len()].convert_to_f32_slice(to),
        }
    }

    /// The first number that is not finite.
    pub(crate) fn first_not_finite(self) -> Option<usize> {
        match self {
            Self::Full(rows) => rows.iter().position(|value| !value.is_finite()),
            Self::Half(rows) => rows.iter().position(|value| !value.is_finite()),
        }
    }
}
