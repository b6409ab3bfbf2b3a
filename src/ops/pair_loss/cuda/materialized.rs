//! Whole rows of similarities, stored: for weights that depend on the row wherever the fused kernels do not do them.
//!
//! The anchors are taken in groups whose similarities with the whole memory fit a fixed budget, 12 bytes a pair with the weights; all
//! anchors at once where the memory is small. Otherwise a group's similarities are computed anew for each pass.

use super::normalize::Normalizers;
use super::unfused::ROW_MULTIPLE;
use super::{Reads, Sums};
use crate::device::cublaslt::{Factor, Matmul, Matrices};
use crate::device::cuda::kernel::Format;
use crate::device::cuda::{DeviceMemory, width};
use crate::error::Result;
use crate::kernel_args::pair_loss::PairRows;
use crate::kernel_args::pair_loss::materialized::{
    MaterializedHardestParams, MaterializedRows, MaterializedStatsParams, MaterializedTripletsParams, PairWeightsParams,
    SymmetricParams, row_shape, stats_shape, weights_kernel, weights_parts, weights_shape,
};
use crate::loss::{Mining, Normalization, SideStatistics};
use std::cell::Cell;
use std::ops::Range;

/// Counts up to this are written to 16 bit as they are.
const LARGEST_COUNT: f32 = 32768.0;
/// Most pairs of a group of anchors.
const GROUP_PAIRS: usize = 16 << 20;

/// The similarities of one group at a time.
struct Materialized<'a, 'b> {
    call: &'a Reads<'a, 'b>,
    rows: PairRows,
    similarities: DeviceMemory,
    pitch: usize,
    group: usize,
    /// First anchor of the group whose similarities are there.
    held: Cell<Option<usize>>,
}

impl Reads<'_, '_> {
    /// With `symmetric`, memory and anchors are one batch, and each pair is weighed by the normalizers of both its rows.
    pub(super) fn materialized_sums(&self, symmetric: bool) -> Result<Sums> {
        let normalizers = Normalizers::open(self.cuda, self.weighting, self.geometry.anchors)?;
        let stored = Materialized::new(self, PairRows { row_normalizers: normalizers.address(), ..self.rows }, symmetric)?;
        stored.measure(&normalizers)?;
        let mut sums = Sums::new(self.cuda, &self.geometry, 1, stored.parts())?;
        if symmetric {
            // Whether a pair is kept is known of both its weights only.
            sums.kept_parts = 1;
        }
        for anchors in stored.groups() {
            stored.add_group(&anchors, &sums, symmetric)?;
        }
        sums.normalizers = Some(normalizers);
        Ok(sums)
    }
}

impl<'a, 'b> Materialized<'a, 'b> {
    /// A batch with itself is one group: each weight is added to that of its mirror.
    fn new(call: &'a Reads<'a, 'b>, rows: PairRows, symmetric: bool) -> Result<Self> {
        let anchors = call.geometry.anchors;
        let pitch = (call.rows.rows as usize).next_multiple_of(ROW_MULTIPLE);
        let group = if symmetric { anchors } else { (GROUP_PAIRS / pitch).clamp(1, anchors) };
        let similarities = call.cuda.scratch(group * pitch * width(Format::F32))?;
        Ok(Self { call, rows, similarities, pitch, group, held: Cell::new(None) })
    }

    /// Parts in which the sums of a row are left.
    fn parts(&self) -> usize {
        if self.counts_triplets() { 1 } else { weights_parts(self.pitch) }
    }

    fn counts_triplets(&self) -> bool {
        matches!(self.call.weighting.negative.scale, Normalization::Triplets(_))
    }

    fn groups(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (anchors, group) = (self.call.geometry.anchors, self.group);
        (0..anchors).step_by(group).map(move |first| first..anchors.min(first + group))
    }

    /// The similarities of a group with all memory rows.
    fn load(&self, anchors: &Range<usize>) -> Result<MaterializedRows> {
        let (call, cuda) = (self.call, self.call.cuda);
        if self.held.replace(Some(anchors.start)) != Some(anchors.start) {
            let (dim, format) = (call.geometry.dim, cuda.format());
            let shape = Matmul::packed([anchors.len(), call.rows.rows as usize, dim], format).right_transposed();
            let matrices = Matrices {
                left: cuda.address_in(call.inputs.anchors, format)? + (anchors.start * dim * width(format)) as u64,
                right: cuda.address_in(call.inputs.memory.numbers(), format)?,
                output: self.similarities.address(),
                bias: 0,
            };
            // SAFETY: anchors and memory have the lengths of this geometry, checked by the caller; the similarities hold a group.
            unsafe { cuda.matmul(&Matmul { output_stride: self.pitch, ..shape }, 1.0, &matrices)? };
        }
        Ok(MaterializedRows {
            rows: self.rows,
            similarities: self.similarities.address(),
            first_anchor: anchors.start as u32,
            pitch: self.pitch as u32,
        })
    }

    fn measure(&self, normalizers: &Normalizers) -> Result<()> {
        let (cuda, anchors) = (self.call.cuda, self.call.geometry.anchors);
        let statistics = cuda.scratch(anchors * size_of::<[SideStatistics; 2]>())?;
        let last = self.last_of_hardest()?;
        normalizers.measure(&statistics, 1, last.as_ref(), |statistics| {
            for group in self.groups() {
                let params = MaterializedStatsParams { stored: self.load(&group)?, statistics: statistics.address() };
                let shape = stats_shape(group.len());
                // SAFETY: the statistics hold all anchors, and the similarities those of the group.
                unsafe { cuda.launch("pair_loss/materialized", "materialized_row_stats", shape, params)? };
            }
            Ok(())
        })
    }

    /// For [`Mining::Hardest`]: the similarity of the last positive and the last negative that each row keeps.
    fn last_of_hardest(&self) -> Result<Option<DeviceMemory>> {
        let (call, cuda) = (self.call, self.call.cuda);
        let wanted = |mining| if let Mining::Hardest(count) = mining { count } else { 0 };
        let (positives_wanted, negatives_wanted) = (wanted(call.weighting.positive.mining), wanted(call.weighting.negative.mining));
        if positives_wanted + negatives_wanted == 0 {
            return Ok(None);
        }
        let last = cuda.scratch(call.geometry.anchors * size_of::<[f32; 2]>())?;
        for group in self.groups() {
            let params =
                MaterializedHardestParams { stored: self.load(&group)?, last: last.address(), positives_wanted, negatives_wanted };
            // SAFETY: the last similarities hold all anchors, and the similarities those of the group.
            unsafe { cuda.launch("pair_loss/materialized", "materialized_hardest", row_shape(group.len()), params)? };
        }
        Ok(Some(last))
    }

    /// Weights of a group's pairs, and the rows they sum to.
    fn add_group(&self, anchors: &Range<usize>, sums: &Sums, symmetric: bool) -> Result<()> {
        let (call, cuda) = (self.call, self.call.cuda);
        let (dim, format) = (call.geometry.dim, cuda.format());
        let weights = if symmetric { self.symmetric_weights(anchors, sums)? } else { self.weights(anchors, sums, format)? };
        let written = if symmetric { Format::F32 } else { format };
        let left = Factor { transposed: false, stride: self.pitch };
        let product = Matmul { left, ..Matmul::packed([anchors.len(), dim, call.rows.rows as usize], format) };
        let matrices = Matrices {
            left: weights.address(),
            right: cuda.address_in(call.inputs.memory.numbers(), format)?,
            output: sums.gradients.address() + (anchors.start * dim * width(Format::F32)) as u64,
            bias: 0,
        };
        // SAFETY: the memory has the length of this geometry, checked by the caller; weights and gradients were made for it.
        unsafe { cuda.matmul(&product, 1.0 / self.written_scale(written), &matrices) }
    }

    /// Factor on the weights as they are written: triplets are counted, and no 16-bit number is beyond 65,504.
    fn written_scale(&self, format: Format) -> f32 {
        if self.counts_triplets() && format != Format::F32 { (LARGEST_COUNT / self.pitch as f32).min(1.0) } else { 1.0 }
    }

    /// By the normalizers of the anchors.
    fn weights(&self, anchors: &Range<usize>, sums: &Sums, format: Format) -> Result<DeviceMemory> {
        let (call, cuda, count) = (self.call, self.call.cuda, anchors.len());
        let stored = self.load(anchors)?;
        let weights = cuda.scratch(count * self.pitch * width(format))?;
        let (losses, kept) = (sums.losses.address(), sums.kept.address());
        if let Normalization::Triplets(margin) = call.weighting.negative.scale {
            let scale = self.written_scale(format);
            let places = cuda.scratch(count * self.pitch * size_of::<u32>())?;
            let (weights_at, places_at) = (weights.address(), places.address());
            let params = MaterializedTripletsParams {
                stored,
                weights: weights_at,
                places: places_at,
                row_losses: losses,
                kept,
                margin,
                scale,
            };
            // SAFETY: weights and places hold the group, losses and counts all anchors.
            unsafe {
                cuda.launch(
                    "pair_loss/materialized",
                    &format!("materialized_triplets_{}", format.suffix()),
                    row_shape(count),
                    params,
                )?;
            }
            return Ok(weights);
        }
        let params = PairWeightsParams {
            rows: self.rows,
            similarities: stored.similarities,
            weights: weights.address(),
            losses,
            kept,
            first_row: 0,
            columns: self.pitch as u32,
            first_part: 0,
            first_anchor: anchors.start as u32,
        };
        // SAFETY: the weights hold the group, losses and counts all anchors.
        unsafe {
            cuda.launch("pair_loss/materialized", &weights_kernel(&self.rows, format), weights_shape(count, self.pitch), params)?;
        }
        Ok(weights)
    }

    /// By the normalizers of both rows.
    fn symmetric_weights(&self, anchors: &Range<usize>, sums: &Sums) -> Result<DeviceMemory> {
        let (call, cuda, count) = (self.call, self.call.cuda, anchors.len());
        let format = cuda.format();
        let weights = self.weights(anchors, sums, Format::F32)?;
        let symmetric = cuda.scratch(count * self.pitch * width(format))?;
        let params = SymmetricParams {
            weights: weights.address(),
            symmetric: symmetric.address(),
            labels: cuda.integers(call.inputs.anchor_labels),
            kept: sums.kept.address(),
            anchors: count as u32,
            pitch: self.pitch as u32,
        };
        // SAFETY: both weights hold the batch, labels and counts its anchors.
        unsafe {
            cuda.launch("pair_loss/materialized", &format!("materialized_symmetric_{}", format.suffix()), row_shape(count), params)?
        };
        Ok(symmetric)
    }
}
