//! The pair loss on the CPU: the memory in tiles that stay in cache, one matrix product and one epilogue per tile.
//!
//! Each range of the memory sums into its own partial gradient and row sums, which are added in the order of the ranges. Held at any
//! time: the partial gradients (8 MiB, whatever the size of the memory) and one tile of similarities per thread. Weights that depend
//! on the row go through the memory once or more before, for its statistics (`row_stats.rs`).

mod epilogue;
mod prune;
mod row_stats;
mod tiling;
mod triplets;
mod weigher;

use super::{PairLoss, PairLossGeometry, PairLossInputs, PairLossOutputs, check, soft_labels};
use crate::backend::Cpu;
use crate::cpu::gemm::streamed::{LARGEST_STRIP, pack};
use crate::error::{Error, Result};
use crate::weighting::{PairWeighting, RowLaw, Soft};
use epilogue::{ROW_WORDS, RowSums};
use prune::EasyPairs;
use rayon::prelude::*;
use row_stats::{ByLaw, LAW_WORDS, Laws};
use tiling::{Host, Job, Plan};
use weigher::{Plain, Rule, Softened};

impl PairLoss for Cpu {
    fn pair_loss(
        &self,
        geometry: &PairLossGeometry,
        weighting: &PairWeighting,
        scale: f32,
        inputs: PairLossInputs<'_, Self>,
        outputs: PairLossOutputs<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        run(self, geometry, weighting, inputs, outputs, Factor { scale, accumulate, both: false })
    }

    fn batch_pair_loss(
        &self,
        geometry: &PairLossGeometry,
        weighting: &PairWeighting,
        scale: f32,
        inputs: PairLossInputs<'_, Self>,
        outputs: PairLossOutputs<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        if geometry.anchors != geometry.rows {
            return Err(Error::shape("rows of a batch compared with itself", geometry.anchors, geometry.rows));
        }
        let plain = weighting.is_plain();
        let factor = Factor { scale: if plain { 2.0 * scale } else { scale }, accumulate, both: !plain };
        run(self, geometry, weighting, inputs, outputs, factor)
    }
}

/// What the sum of the partial gradients is multiplied by, whether it is added to the output, and whether the memory rows, which are the
/// anchors, are trained too.
#[derive(Clone, Copy)]
struct Factor {
    scale: f32,
    accumulate: bool,
    both: bool,
}

fn run(
    cpu: &Cpu,
    geometry: &PairLossGeometry,
    weighting: &PairWeighting,
    inputs: PairLossInputs<'_, Cpu>,
    outputs: PairLossOutputs<'_, Cpu>,
    factor: Factor,
) -> Result<()> {
    let PairLossGeometry { anchors, dim, .. } = *geometry;
    weighting.validate()?;
    check(geometry, &inputs, &outputs)?;
    let softness = soft_labels(geometry, weighting, inputs.soft.as_ref())?.map(|(soft, labels)| Softness {
        soft,
        labels: labels.labels.as_slice(),
        anchors: labels.anchors.as_slice(),
        rows: labels.rows.as_slice(),
    });
    let host = Host::new(&inputs);
    if anchors == 0 {
        return Ok(());
    }
    let mut packed = cpu.scratch(anchors.next_multiple_of(LARGEST_STRIP) * dim);
    pack(host.anchors, dim, &mut packed);
    let job = Job { cpu, geometry: *geometry, host, plan: Plan::new(geometry), packed: &packed };
    if weighting.is_plain() {
        return soften(&job, &Plain(weighting), softness, factor, outputs, &[]);
    }
    let mut words = cpu.scratch(anchors * LAW_WORDS);
    let mut laws = Laws::new(weighting, bytemuck::cast_slice_mut(&mut words));
    laws.measure(&job)?;
    soften(&job, &ByLaw { laws: &laws, both: factor.both }, softness, factor, outputs, laws.rows())
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
    job: &Job<'_>,
    rule: &impl Rule,
    softness: Option<Softness<'_>>,
    factor: Factor,
    outputs: PairLossOutputs<'_, Cpu>,
    laws: &[RowLaw],
) -> Result<()> {
    match softness {
        None => gradient(job, rule, factor, outputs, laws),
        Some(Softness { soft, labels, anchors, rows }) => {
            gradient(job, &Softened { rule, soft, labels, anchors, rows }, factor, outputs, laws)
        }
    }
}

/// The last pass over the memory, or the only one: gradient, losses and counts. The laws' constants are parts of the row losses.
fn gradient(job: &Job<'_>, rule: &impl Rule, factor: Factor, outputs: PairLossOutputs<'_, Cpu>, laws: &[RowLaw]) -> Result<()> {
    let PairLossGeometry { anchors, dim, .. } = job.geometry;
    let mut gradients = job.cpu.scratch(job.plan.ranges * anchors * dim);
    let mut sums = job.cpu.scratch(job.plan.ranges * anchors * ROW_WORDS);
    let sums: &mut [RowSums] = bytemuck::cast_slice_mut(&mut sums);
    let mut room = job.cpu.scratch(EasyPairs::room(&job.geometry));
    let easy = EasyPairs::new(&job.geometry, job.host.anchors, rule, &mut room);
    job.sweep((&mut gradients, dim), sums, |item, gradient, sums| {
        sums.fill(RowSums::default());
        let mut untouched = true;
        item.each_tile(easy.as_ref(), |tile, scan| {
            let kept = tile.weigh(scan, rule, sums)?;
            if kept > 0 && std::mem::take(&mut untouched) {
                gradient.fill(0.0);
            }
            tile.accumulate(kept, gradient);
            Ok(())
        })
    })?;
    job.cpu.run(|| combine(&job.geometry, &gradients, sums, factor, outputs, laws));
    Ok(())
}

/// Adds the partial results in the order of the ranges.
fn combine(
    geometry: &PairLossGeometry,
    gradients: &[f32],
    sums: &[RowSums],
    factor: Factor,
    outputs: PairLossOutputs<'_, Cpu>,
    laws: &[RowLaw],
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
        *loss = (total.loss() + f64::from(laws.get(anchor).map_or(0.0, |law| law.constant))) as f32;
        counts.copy_from_slice(&[total.positives as i32, total.negatives as i32]);
    }
}
