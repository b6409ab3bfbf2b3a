//! The pair loss on the CPU: the memory in tiles that stay in cache, one matrix product and one epilogue per tile.
//!
//! Each range of the memory sums into its own partial gradient and row sums, which are added in the order of the ranges. Held at any
//! time: the partial gradients (8 MiB, whatever the size of the memory) and one tile of similarities per thread. Weights that depend
//! on the row go through the memory once or more before, for its statistics (`row_stats.rs`).

mod epilogue;
mod in_parts;
mod prune;
mod row_stats;
mod tiling;
mod triplets;
mod weigher;

use super::{PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, check, soft_labels};
use crate::cpu::gemm::streamed::{LARGEST_STRIP, pack};
use crate::device::{Cpu, Storage};
use crate::error::{Error, Result};
use crate::group::{ALONE, Group};
use crate::loss::{PairWeighting, RowNormalizer, Soft};
use epilogue::{ROW_WORDS, RowSums};
use prune::NegativePruner;
use rayon::prelude::*;
use row_stats::{NORMALIZER_WORDS, NormalizedWeigher, RowNormalizers};
use tiling::{HostInputs, Partition, Task};
use weigher::{CurveWeigher, SoftLabelWeigher, Weigher};

impl PairLoss for Cpu {
    fn pair_loss(&self, call: PairLossCall<'_, Self>) -> Result<()> {
        let PairLossCall { geometry, weighting, scale, accumulate, inputs, outputs } = call;
        let factor = Factor { scale, accumulate, symmetric: false };
        run(self, (&geometry, &ALONE), weighting, inputs, outputs, factor)
    }

    fn pair_loss_in_parts(&self, call: PairLossCall<'_, Self>) -> Result<()> {
        if self.group().is_alone() { self.pair_loss(call) } else { in_parts::pair_loss(self, call) }
    }

    fn batch_pair_loss(&self, call: PairLossCall<'_, Self>) -> Result<()> {
        let PairLossCall { geometry, weighting, scale, accumulate, inputs, outputs } = call;
        if geometry.anchors != geometry.rows {
            return Err(Error::shape("rows of a batch compared with itself", geometry.anchors, geometry.rows));
        }
        let plain = weighting.depends_on_similarity_alone();
        let factor = Factor { scale: if plain { 2.0 * scale } else { scale }, accumulate, symmetric: !plain };
        run(self, (&geometry, &ALONE), weighting, inputs, outputs, factor)
    }
}

/// What the sum of the partial gradients is multiplied by, whether it is added to the output, and whether the memory rows, which are the
/// anchors, are trained too.
#[derive(Clone, Copy)]
struct Factor {
    scale: f32,
    accumulate: bool,
    symmetric: bool,
}

/// `group` are those who hold the other rows.
fn run(
    cpu: &Cpu,
    (geometry, group): (&PairLossGeometry, &Group),
    weighting: &PairWeighting,
    inputs: PairLossInputs<'_, Cpu>,
    outputs: PairLossOutputs<'_, Cpu>,
    factor: Factor,
) -> Result<()> {
    let PairLossGeometry { anchors, dim, .. } = *geometry;
    check(geometry, &inputs, &outputs)?;
    let softness = soft_labels(geometry, weighting, inputs.soft.as_ref())?.map(|(soft, labels)| Softness {
        soft,
        labels: labels.labels.as_slice(),
        anchors: labels.anchors.as_slice(),
        rows: labels.rows.as_slice(),
    });
    let host = HostInputs::new(&inputs);
    if anchors == 0 {
        return Ok(());
    }
    let mut packed = cpu.scratch(anchors.next_multiple_of(LARGEST_STRIP) * dim);
    pack(host.anchors, dim, &mut packed);
    let task = Task { cpu, geometry: *geometry, host, partition: Partition::new(geometry), packed: &packed };
    if weighting.depends_on_similarity_alone() {
        return soften(&task, &CurveWeigher(weighting), softness, factor, outputs, &[]);
    }
    let mut words = cpu.scratch(anchors * NORMALIZER_WORDS);
    let mut normalizers = RowNormalizers::new(weighting, group, bytemuck::cast_slice_mut(&mut words));
    normalizers.measure(&task)?;
    soften(
        &task,
        &NormalizedWeigher { normalizers: &normalizers, symmetric: factor.symmetric },
        softness,
        factor,
        outputs,
        // What is no sum over pairs is counted once.
        if group.is_first() { normalizers.rows() } else { &[] },
    )
}

/// Soft labels on the host, with their rule.
struct Softness<'a> {
    soft: Soft,
    labels: &'a [f32],
    anchors: &'a [i32],
    rows: &'a [i32],
}

/// The last pass, with soft labels where there are any.
fn soften(
    task: &Task<'_>,
    weigher: &impl Weigher,
    softness: Option<Softness<'_>>,
    factor: Factor,
    outputs: PairLossOutputs<'_, Cpu>,
    normalizers: &[RowNormalizer],
) -> Result<()> {
    match softness {
        None => gradient(task, weigher, factor, outputs, normalizers),
        Some(Softness { soft, labels, anchors, rows }) => {
            gradient(task, &SoftLabelWeigher { weigher, soft, labels, anchors, rows }, factor, outputs, normalizers)
        }
    }
}

/// The last pass over the memory, or the only one: gradient, losses and counts. The normalizers' constants are parts of the row losses.
fn gradient(
    task: &Task<'_>,
    weigher: &impl Weigher,
    factor: Factor,
    outputs: PairLossOutputs<'_, Cpu>,
    normalizers: &[RowNormalizer],
) -> Result<()> {
    let PairLossGeometry { anchors, dim, .. } = task.geometry;
    let mut gradients = task.cpu.scratch(task.partition.ranges * anchors * dim);
    let mut sums = task.cpu.scratch(task.partition.ranges * anchors * ROW_WORDS);
    let sums: &mut [RowSums] = bytemuck::cast_slice_mut(&mut sums);
    let mut room = task.cpu.scratch(NegativePruner::room(&task.geometry));
    let pruner = NegativePruner::new(&task.geometry, task.host.anchors, weigher, &mut room);
    task.each_block((&mut gradients, dim), sums, |block, gradient, sums| {
        sums.fill(RowSums::default());
        let mut untouched = true;
        block.each_tile(pruner.as_ref(), |tile, scan| {
            let kept = tile.weigh(scan, weigher, sums)?;
            if kept > 0 && std::mem::take(&mut untouched) {
                gradient.fill(0.0);
            }
            tile.accumulate(kept, gradient);
            Ok(())
        })
    })?;
    task.cpu.run(|| combine(&task.geometry, &gradients, sums, factor, outputs, normalizers));
    Ok(())
}

/// Adds the partial results in the order of the ranges.
fn combine(
    geometry: &PairLossGeometry,
    gradients: &[f32],
    sums: &[RowSums],
    factor: Factor,
    outputs: PairLossOutputs<'_, Cpu>,
    normalizers: &[RowNormalizer],
) {
    let PairLossGeometry { anchors, dim, .. } = *geometry;
    let rows = outputs.gradient.into_slice().par_chunks_mut(dim);
    rows.enumerate().with_min_len(16).for_each(|(anchor, output)| {
        if !factor.accumulate {
            output.fill(0.0);
        }
        // A range that kept no pair of the anchor may not have written its partial gradient.
        let partials = gradients.chunks(dim).zip(sums).skip(anchor).step_by(anchors);
        for (partial, _) in partials.filter(|(_, sums)| sums.kept() > 0) {
            for (output, partial) in output.iter_mut().zip(partial) {
                *output += factor.scale * partial;
            }
        }
    });
    let losses = outputs.row_losses.into_slice().iter_mut();
    let counts = outputs.kept.into_slice().chunks_mut(2);
    for (anchor, (loss, counts)) in losses.zip(counts).enumerate() {
        let total = sums.iter().skip(anchor).step_by(anchors).copied().fold(RowSums::default(), RowSums::plus);
        *loss = (total.loss() + f64::from(normalizers.get(anchor).map_or(0.0, |normalizer| normalizer.constant))) as f32;
        counts.copy_from_slice(&[total.positives as i32, total.negatives as i32]);
    }
}
