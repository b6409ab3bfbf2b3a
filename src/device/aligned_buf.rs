//! Numbers that begin with a cache line, so that no vector of them lies in two.

use bytemuck::{Pod, Zeroable};
use std::ops::{Deref, DerefMut};

/// A cache line of numbers.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; AlignedBuf::LEN]);

/// Numbers in whole cache lines.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuf(Vec<Line>);

impl AlignedBuf {
    /// Numbers of a line.
    const LEN: usize = 16;

    /// No numbers.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// At least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self(vec![Line::zeroed(); len.div_ceil(Self::LEN)])
    }

    /// Makes room for at least `len` numbers.
    pub(crate) fn grow(&mut self, len: usize) {
        if self.len() < len {
            self.0.resize(len.div_ceil(Self::LEN), Line::zeroed());
        }
    }

    /// How far into a buffer the first of its lines begins, in numbers: less than a line.
    pub(super) fn first(buffer: &[f32]) -> usize {
        buffer.as_ptr().align_offset(align_of::<Line>()).min(Self::LEN - 1)
    }

    /// How much longer a buffer is that has room for its numbers from [`AlignedBuf::first`] on.
    pub(super) const SLACK: usize = Self::LEN - 1;
}

impl Deref for AlignedBuf {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
