//! The pair loss against rows that lie in parts on several ranks: each goes through its own, and the results are summed.

use super::super::PairLossOutputs;
use super::{Factor, PairLossCall, run};
use crate::device::{Cpu, SpanMut, Storage};
use crate::error::Result;

/// See [`super::PairLoss::pair_loss_in_parts`]. Row statistics are combined between the passes ([`super::row_stats`]).
pub(super) fn pair_loss(cpu: &Cpu, call: PairLossCall<'_, Cpu>) -> Result<()> {
    let PairLossCall { geometry, weighting, scale, accumulate, inputs, outputs } = call;
    let (group, anchors) = (cpu.group(), geometry.anchors);
    let mut gradient = vec![0.0; anchors * geometry.dim];
    let mut losses = vec![0.0; anchors];
    let mut kept = vec![0; 2 * anchors];
    let own = PairLossOutputs {
        gradient: SpanMut::all(&mut gradient),
        row_losses: SpanMut::all(&mut losses),
        kept: SpanMut::all(&mut kept),
    };
    run(cpu, (&geometry, group), weighting, inputs, own, Factor { scale, accumulate: false, symmetric: false })?;
    group.sum("the gradient of the memory's loss", &mut gradient)?;
    group.sum("the memory's loss", &mut losses)?;
    group.fold("the memory's counts", &mut kept, |sum, count| *sum += count)?;
    for (output, &value) in outputs.gradient.into_slice().iter_mut().zip(&gradient) {
        *output = if accumulate { *output + value } else { value };
    }
    outputs.row_losses.into_slice().copy_from_slice(&losses);
    outputs.kept.into_slice().copy_from_slice(&kept);
    Ok(())
}
