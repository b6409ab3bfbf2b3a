//! Host side of `kernels/pair_loss/normalize.cu` and `normalizer.cuh`: weights that depend on the row, as the kernels read them.

use super::weighting::CurveParams;
use crate::device::cuda::kernel::LaunchShape;
use crate::error::{Error, Result};
use crate::loss::{Mining, Normalization, Side};
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 128;

/// A side with its mining, row scale and factor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SideParams {
    /// Curve and gate.
    pub curve: CurveParams,
    mining: u32,
    margin: f32,
    scale: u32,
    factor: f32,
}

impl TryFrom<&Side> for SideParams {
    type Error = Error;

    /// The side as the kernels read it.
    ///
    /// # Errors
    /// Those of [`CurveParams`].
    fn try_from(side: &Side) -> Result<Self> {
        let (mining, margin) = match side.mining {
            Mining::All => (0, 0.0),
            Mining::Relative(margin) => (1, margin),
            Mining::Hardest(_) => (2, 0.0),
        };
        let scale = match side.scale {
            Normalization::Sum => 0,
            Normalization::Mean => 1,
            Normalization::MeanRow => 2,
            Normalization::MeanAll => 3,
            Normalization::SoftmaxPlusOne => 4,
            Normalization::Softmax => 5,
            Normalization::SoftmaxAll => 6,
            Normalization::Remainder => 7,
            Normalization::Contrast => 8,
            Normalization::Product => 9,
            Normalization::Hinge => 10,
            Normalization::Balanced => 11,
            Normalization::Triplets(_) => 12,
        };
        Ok(Self { curve: CurveParams::try_from(side)?, mining, margin, scale, factor: side.factor })
    }
}

/// Which pass over the memory `pair_normalize` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormalizeStep {
    /// None yet: every pair is let in.
    Open = 0,
    /// That of mining.
    Mine = 1,
    /// That of the sums.
    Scale = 2,
    /// That of the positives' weight.
    Balance = 3,
}

/// Argument of `pair_normalize`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct NormalizeParams {
    /// `(splits, anchors, 2)` [`crate::loss::SideStatistics`]; not read by [`NormalizeStep::Open`].
    pub statistics: u64,
    /// 0, or `(anchors, 2)` f32: the last positive and negative that mining of the hardest keeps.
    pub last: u64,
    /// `(anchors)` [`crate::loss::RowNormalizer`], written by [`NormalizeStep::Open`], changed by the other steps.
    pub normalizers: u64,
    /// Number of anchors.
    pub anchors: u32,
    /// Splits of the memory.
    pub splits: u32,
    /// A [`NormalizeStep`].
    pub step: u32,
    /// 1 where both sides are parts of one loss.
    pub shared_loss: u32,
    /// Positive pairs.
    pub positive: SideParams,
    /// Negative pairs.
    pub negative: SideParams,
}

/// A thread for each anchor.
pub fn normalize_shape(anchors: usize) -> LaunchShape {
    LaunchShape::linear(anchors.div_ceil(THREADS as usize), THREADS).with_shared(THREADS * size_of::<f64>() as u32)
}
