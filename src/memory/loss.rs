//! The loss of anchors against a memory.

use super::{EmbeddingMemory, Filling, SelfPairs, ring};
use crate::device::{Span, Storage};
use crate::error::{Error, Result};
use crate::loss::ValidWeighting;
use crate::ops::pair_loss::{
    CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask, SoftLabels,
};
use crate::ops::{In, IntegersIn};

/// Anchors of a loss against the memory.
#[derive(Debug)]
pub struct Anchors<'a, B: Storage> {
    /// `(anchors, dim)`, unit rows.
    pub embeddings: In<'a, B>,
    /// `(anchors)`.
    pub labels: IntegersIn<'a, B>,
    /// `(anchors)`: instance ids.
    pub ids: IntegersIn<'a, B>,
    /// Soft labels of all images, by instance id, where the weighting needs them.
    pub soft_labels: Option<In<'a, B>>,
}

/// How a loss against the memory is taken.
#[derive(Clone, Copy, Debug)]
pub struct LossSettings<'a> {
    /// Weights of the pairs.
    pub weighting: &'a ValidWeighting,
    /// Factor of the gradient.
    pub scale: f32,
    /// Which rows are an anchor itself.
    pub self_pairs: SelfPairs,
    /// Whether the gradient is added to what its buffer holds.
    pub accumulate: bool,
}

impl<B: PairLoss> EmbeddingMemory<B> {
    /// Loss and gradient of anchors against the rows in use, those too old for the drift limit left out; see [`PairLoss::pair_loss`].
    /// An empty memory gives zeros, whatever is excluded, and so does a batch without rows. Returns the number of rows compared with.
    ///
    /// A memory [in parts](Self::in_parts) takes the same anchors on all ranks, and gives all of them the loss against all rows.
    ///
    /// # Errors
    /// Those of [`PairLoss::pair_loss`]; [`Error::Shape`] if [`SelfPairs::Slot`] meets another number of anchors than
    /// were enqueued; [`Error::Config`] if it meets a memory that is gated by drift.
    pub fn pair_loss(
        &self,
        backend: &B,
        settings: LossSettings<'_>,
        anchors: Anchors<'_, B>,
        outputs: PairLossOutputs<'_, B>,
    ) -> Result<usize> {
        let (first, rows) = self.usable();
        let geometry = PairLossGeometry { anchors: anchors.labels.len, rows, dim: self.dim };
        let self_pairs = match (settings.self_pairs, self.filling) {
            (SelfPairs::Instance, _) => SelfPairMask::Instance { anchors: anchors.ids, rows: Span::new(&self.ids, first, rows) },
            (SelfPairs::Slot, Filling::Ring { max_drift: Some(_) }) => {
                return Err(Error::config("a memory gated by drift knows an anchor's own rows by instance id, not by slot"));
            }
            // Without anchors or rows there is nothing to leave out.
            (SelfPairs::Slot, _) if rows == 0 || anchors.labels.len == 0 => SelfPairMask::None,
            (SelfPairs::Slot, _) => SelfPairMask::Slot(self.last_slots()),
            (SelfPairs::None, _) => SelfPairMask::None,
        };
        let inputs = PairLossInputs {
            anchors: anchors.embeddings,
            anchor_labels: anchors.labels,
            memory: CompareWith::Stored(Span::new(&self.rows, first * self.dim, rows * self.dim)),
            memory_labels: Span::new(&self.labels, first, rows),
            self_pairs,
            soft: anchors.soft_labels.map(|labels| SoftLabels {
                labels,
                anchors: anchors.ids,
                rows: Span::new(&self.ids, first, rows),
            }),
        };
        let LossSettings { weighting, scale, accumulate, .. } = settings;
        let call = PairLossCall { geometry, weighting, scale, accumulate, inputs, outputs };
        if self.shard.group().is_alone() {
            backend.pair_loss(call)?
        } else {
            backend.pair_loss_in_parts(call)?
        }
        Ok(self.usable_rows())
    }
}

impl<B: Storage> EmbeddingMemory<B> {
    /// First row and number of the rows here that a loss may use.
    fn usable(&self) -> (usize, usize) {
        let rows = self.shard.count(self.usable_rows());
        match self.filling {
            Filling::Ring { max_drift: Some(_) } => (ring::start_of_youngest(rows, self.shard.count(self.head), self.room()), rows),
            _ => (0, rows),
        }
    }

    /// Number of the rows that a loss may use: all in use, or those young enough for the drift limit.
    pub fn usable_rows(&self) -> usize {
        let Filling::Ring { max_drift: Some(limit) } = self.filling else { return self.count() };
        let oldest = self.drift.oldest_below(f64::from(limit));
        ring::young_rows(&self.slots, self.head, self.capacity, oldest)
    }
}
