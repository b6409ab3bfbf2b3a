//! What the pairs of an anchor add up to: loss and counts.

use super::super::weigher::SEGMENT;
use bytemuck::{Pod, Zeroable};

/// Size of [`RowSums`] in 32-bit words.
pub const ROW_WORDS: usize = size_of::<RowSums>() / size_of::<f32>();

/// Loss and counts of one anchor. The loss is a sum of two 32-bit numbers, which together hold 48 bits.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct RowSums {
    loss_head: f32,
    loss_rest: f32,
    pub positives: u32,
    pub negatives: u32,
}

impl RowSums {
    pub fn loss(self) -> f64 {
        f64::from(self.loss_head) + f64::from(self.loss_rest)
    }

    pub fn kept(self) -> u32 {
        self.positives + self.negatives
    }

    pub fn plus(self, other: Self) -> Self {
        self.added(other.loss(), other.positives, other.negatives)
    }

    fn added(self, loss: f64, positives: u32, negatives: u32) -> Self {
        let loss = self.loss() + loss;
        let loss_head = loss as f32;
        Self {
            loss_head,
            loss_rest: (loss - f64::from(loss_head)) as f32,
            positives: self.positives + positives,
            negatives: self.negatives + negatives,
        }
    }
}

/// What the segments of a row of a tile add to its sums.
#[derive(Default)]
pub(super) struct Found {
    /// Whether any pair of the row was weighed.
    pub(super) any: bool,
    /// Of each lane.
    pub(super) losses: [f32; SEGMENT],
    pub(super) positives: u32,
    pub(super) negatives: u32,
}

impl Found {
    #[inline(always)]
    pub(super) fn added_to(mut self, sums: RowSums) -> RowSums {
        for half in [16, 8, 4, 2, 1] {
            for lane in 0..half {
                self.losses[lane] += self.losses[lane + half];
            }
        }
        sums.added(f64::from(self.losses[0]), self.positives, self.negatives)
    }
}
