//! The loss of anchors against a memory.

use super::{EmbeddingMemory, Filling, ring};
use crate::device::{Span, Storage};
use crate::error::{Error, Result};
use crate::loss::ValidWeighting;
use crate::ops::pair_loss::{
    CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairs, SoftLabels,
};
use crate::ops::{In, IntegersIn};

/// How an anchor is kept from being a pair with itself; see the head of [`crate::memory`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclusion {
    /// Rows with the anchor's instance id.
    #[default]
    Instance,
    /// The slots of the batch enqueued last, which must be the anchors.
    LastEnqueue,
    /// No row.
    None,
}

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
    pub exclusion: Exclusion,
    /// Whether the gradient is added to what its buffer holds.
    pub accumulate: bool,
}

impl<B: PairLoss> EmbeddingMemory<B> {
    /// Loss and gradient of anchors against the rows in use, those too old for the drift limit left out; see [`PairLoss::pair_loss`].
    /// An empty memory gives zeros, whatever is excluded, and so does a batch without rows. Returns the number of rows compared with.
    ///
    /// # Errors
    /// Those of [`PairLoss::pair_loss`]; [`Error::Shape`] if [`Exclusion::LastEnqueue`] meets another number of anchors than
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
        let own = match (settings.exclusion, self.filling) {
            (Exclusion::Instance, _) => SelfPairs::Instance { anchors: anchors.ids, rows: Span::new(&self.ids, first, rows) },
            (Exclusion::LastEnqueue, Filling::Ring { max_drift: Some(_) }) => {
                return Err(Error::config("a memory gated by drift knows an anchor's own rows by instance id, not by slot"));
            }
            // Without anchors or rows there is nothing to leave out.
            (Exclusion::LastEnqueue, _) if rows == 0 || anchors.labels.len == 0 => SelfPairs::None,
            (Exclusion::LastEnqueue, _) => SelfPairs::Slot(self.last_slots()),
            (Exclusion::None, _) => SelfPairs::None,
        };
        let inputs = PairLossInputs {
            anchors: anchors.embeddings,
            anchor_labels: anchors.labels,
            memory: CompareWith::Stored(Span::new(&self.rows, first * self.dim, rows * self.dim)),
            memory_labels: Span::new(&self.labels, first, rows),
            own,
            soft: anchors.soft_labels.map(|labels| SoftLabels {
                labels,
                anchors: anchors.ids,
                rows: Span::new(&self.ids, first, rows),
            }),
        };
        let LossSettings { weighting, scale, accumulate, .. } = settings;
        backend.pair_loss(PairLossCall { geometry, weighting, scale, accumulate, inputs, outputs })?;
        Ok(rows)
    }
}

impl<B: Storage> EmbeddingMemory<B> {
    /// First row and number of the rows that a loss may use.
    fn usable(&self) -> (usize, usize) {
        let Filling::Ring { max_drift: Some(limit) } = self.filling else { return (0, self.count()) };
        let oldest = self.drift.oldest_below(f64::from(limit));
        let rows = ring::young_rows(&self.slots, self.head, self.capacity, oldest);
        (ring::start_of_youngest(rows, self.head, self.capacity), rows)
    }

    /// Number of the rows that a loss may use: all in use, or those young enough for the drift limit.
    pub fn usable_rows(&self) -> usize {
        self.usable().1
    }
}
