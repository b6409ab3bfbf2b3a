//! How much of the gradient pushes and how much pulls.

use super::{Learner, StepRecord};
use crate::error::Result;
use crate::loss::PairWeighting;
use crate::ops::Backend;

/// Norms of two parts of the loss's gradient with respect to the embeddings of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Balance {
    /// Of the positive pairs.
    pub positive: f64,
    /// Of the negative pairs.
    pub negative: f64,
}

impl Balance {
    /// `|G-| / |G+|`; `None` where nothing pulls.
    pub fn ratio(&self) -> Option<f64> {
        (self.positive > 0.0).then(|| self.negative / self.positive)
    }
}

impl<B: Backend> Learner<B> {
    /// The balance of the comparisons that the step has just made: the pulling part is computed once more by itself, beside them, and the
    /// rest of their gradient pushes. The memory and its weight are still those of the step.
    pub(super) fn balance(&mut self) -> Result<Balance> {
        let all = self.compared.gradient.to_host(&self.backend)?;
        let mut pulling = PairWeighting::clone(&self.weighting);
        pulling.negative.factor = 0.0;
        let weighting = std::mem::replace(&mut self.weighting, pulling.valid()?);
        std::mem::swap(&mut self.compared, &mut self.aside);
        let pulled = self.compare_with_batch().and_then(|()| self.compare_with_memory(&mut StepRecord::default()));
        std::mem::swap(&mut self.compared, &mut self.aside);
        self.weighting = weighting;
        pulled?;
        let pull = self.aside.gradient.to_host(&self.backend)?;
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let pushed = |(all, pull): (&f32, &f32)| f64::from(*all) - f64::from(*pull);
        Ok(Balance {
            positive: norm(&mut pull.iter().copied().map(f64::from)),
            negative: norm(&mut all.iter().zip(&pull).map(pushed)),
        })
    }
}
