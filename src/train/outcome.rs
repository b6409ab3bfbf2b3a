//! What a step reports, from what was read back of it.

use super::pending::StepReadback;
use serde::{Deserialize, Serialize};

/// What a step reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// Mean loss of an anchor against the batch.
    pub batch_loss: f64,
    /// Mean loss of an anchor against the memory, times the memory's weight; 0 while it is not used.
    pub memory_loss: f64,
    /// Positive pairs with a weight, per anchor, batch and memory together.
    pub kept_positives: f64,
    /// Negative pairs with a weight, per anchor, batch and memory together.
    pub kept_negatives: f64,
    /// Memory rows compared with.
    pub memory_rows: usize,
    /// Mean similarity of two embeddings of the batch: near 1 when the embedding has collapsed.
    pub mean_similarity: f64,
    /// Embeddings of the batch that are rows of zeros, as the network's output had no length to be divided by: see
    /// [`crate::ops::l2_normalize`].
    #[serde(default)]
    pub zero_rows: u64,
}

impl StepOutcome {
    pub(super) fn of(readback: &StepReadback<'_>, dim: usize) -> Self {
        let batch = readback.row_losses.len() / 2;
        let mut outcome = Self { memory_rows: readback.record.memory_rows, ..Self::default() };
        outcome.batch_loss = outcome.tally(&readback.row_losses[..batch], &readback.kept[..2 * batch]);
        if let Some(weight) = readback.record.memory_weight {
            outcome.memory_loss = f64::from(weight) * outcome.tally(&readback.row_losses[batch..], &readback.kept[2 * batch..]);
        }
        let zero_rows = readback.embeddings.chunks_exact(dim).filter(|row| row.iter().all(|&value| value == 0.0)).count();
        outcome.mean_similarity = mean_similarity(readback.embeddings, dim, zero_rows);
        outcome.zero_rows = zero_rows as u64;
        outcome
    }

    /// Adds what a comparison kept; returns its mean loss per anchor.
    fn tally(&mut self, row_losses: &[f32], kept: &[i32]) -> f64 {
        let anchors = row_losses.len() as f64;
        for kept in kept.chunks_exact(2) {
            self.kept_positives += f64::from(kept[0]) / anchors;
            self.kept_negatives += f64::from(kept[1]) / anchors;
        }
        row_losses.iter().copied().map(f64::from).sum::<f64>() / anchors
    }
}

/// Mean similarity of two different rows: `(|sum of rows|^2 - n) / (n (n - 1))` for unit rows, of which rows of zeros are none.
fn mean_similarity(rows: &[f32], dim: usize, zero_rows: usize) -> f64 {
    let count = (rows.len() / dim) as f64;
    let sum_at = |column: usize| rows.iter().skip(column).step_by(dim).copied().map(f64::from).sum::<f64>();
    let squared: f64 = (0..dim).map(|column| sum_at(column).powi(2)).sum();
    ((squared - (count - zero_rows as f64)) / (count * (count - 1.0)).max(1.0)).clamp(-1.0, 1.0)
}
