//! Filters that many convolutions read: what a device makes of a filter before it multiplies by it is made once.

use super::{ConvGeometry, Convolution, algorithm};
use crate::device::{AlignedBuf, Cpu, Scratch};
use crate::error::{Result, expect_len};
use crate::ops::In;
use crate::ops::heuristics::{ConvAlgorithm, keeps_panels};
use std::ops::Deref;

/// A filter `(out_channels, kernel, kernel, in_channels)`, and what the device made of it beforehand, if anything. The numbers stay
/// borrowed: nobody can change them under what was made of them.
#[derive(Debug)]
pub struct Filter<'a, B: Convolution> {
    numbers: In<'a, B>,
    prepared: Option<B::Prepared>,
}

impl<'a, B: Convolution> Filter<'a, B> {
    /// A filter as it is.
    pub fn new(numbers: In<'a, B>) -> Self {
        Self { numbers, prepared: None }
    }

    /// A filter for many convolutions of this geometry, if the device gains by preparing it; others give the same bits, in more time.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if it has not the length the geometry says.
    pub fn prepared(backend: &B, geometry: &ConvGeometry, numbers: In<'a, B>) -> Result<Self> {
        expect_len("convolution filter", geometry.filter_len(), numbers.len)?;
        Ok(Self { numbers, prepared: backend.conv_prepare(geometry, numbers)? })
    }

    /// The numbers.
    pub fn numbers(&self) -> In<'a, B> {
        self.numbers
    }

    /// Whether anything was made of them.
    pub fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }
}

impl Filter<'_, Cpu> {
    /// For a convolution of this geometry; panels that another algorithm reads stay aside.
    pub(in crate::ops) fn operand(&self, geometry: &ConvGeometry) -> Operand<'_> {
        let fitting = self.prepared.as_ref().filter(|prepared| prepared.layout == Layout::of(geometry));
        Operand { numbers: self.numbers.as_slice(), panels: fitting.map(|prepared| &prepared.panels[..]) }
    }
}

/// What decides how the panels of a filter lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    algorithm: ConvAlgorithm,
    kernel: usize,
    in_channels: usize,
    out_channels: usize,
}

impl Layout {
    fn of(geometry: &ConvGeometry) -> Self {
        let &ConvGeometry { kernel, in_channels, out_channels, .. } = geometry;
        Self { algorithm: algorithm(geometry), kernel, in_channels, out_channels }
    }
}

/// A filter in the panels in which one of the algorithms of the CPU multiplies by it.
#[derive(Debug)]
pub struct PreparedFilter {
    layout: Layout,
    panels: AlignedBuf,
}

/// Panels of a filter that is long to pack for what it is used for.
pub(super) fn prepare(cpu: &Cpu, geometry: &ConvGeometry, numbers: &[f32]) -> Option<PreparedFilter> {
    let pixels = geometry.batch * geometry.out_height() * geometry.out_width();
    if !keeps_panels(pixels) {
        return None;
    }
    let layout = Layout::of(geometry);
    let len = layout.algorithm.panels_len(geometry);
    let mut panels = AlignedBuf::zeros(len);
    cpu.run(|| layout.algorithm.pack(geometry, numbers, &mut panels[..len]));
    Some(PreparedFilter { layout, panels })
}

/// A filter as the algorithms take it: its numbers, and panels already made of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Operand<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) panels: Option<&'a [f32]>,
}

impl<'a> Operand<'a> {
    pub(super) fn new(numbers: &'a [f32]) -> Self {
        Self { numbers, panels: None }
    }

    /// The same with panel `index` alone, `len` long, of those that are there.
    pub(super) fn panel(self, index: usize, len: usize) -> Self {
        Self { panels: self.panels.map(|panels| &panels[index * len..][..len]), ..self }
    }

    /// The panels: those there are, or else those that `pack` makes of the numbers, `len` long.
    pub(super) fn panels(self, cpu: &'a Cpu, len: usize, pack: impl FnOnce(&[f32], &mut [f32])) -> Panels<'a> {
        self.panels.map_or_else(
            || {
                let mut panels = cpu.scratch(len);
                pack(self.numbers, &mut panels);
                Panels::Packed(panels)
            },
            Panels::Prepared,
        )
    }
}

/// A filter in panels.
pub(super) enum Panels<'a> {
    Prepared(&'a [f32]),
    Packed(Scratch<'a>),
}

impl Deref for Panels<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::Prepared(panels) => panels,
            Self::Packed(panels) => panels,
        }
    }
}
