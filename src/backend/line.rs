//! Numbers that begin with a cache line, so that no vector of them lies in two.

use bytemuck::{Pod, Zeroable};

/// A cache line of numbers.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line([f32; Line::LEN]);

impl Line {
    /// Numbers of a line.
    pub(super) const LEN: usize = 16;

    /// Makes `lines` hold at least `len` numbers.
    pub(super) fn grow(lines: &mut Vec<Self>, len: usize) {
        if lines.len() * Self::LEN < len {
            lines.resize(len.div_ceil(Self::LEN), Self::zeroed());
        }
    }

    /// The numbers of `lines`.
    pub(super) fn numbers(lines: &[Self]) -> &[f32] {
        bytemuck::cast_slice(lines)
    }

    /// The numbers of `lines`, to be written.
    pub(super) fn numbers_mut(lines: &mut [Self]) -> &mut [f32] {
        bytemuck::cast_slice_mut(lines)
    }
}
