//! Weights that depend on the row: what the pairs of one anchor say about one another.
//!
//! A pair of anchor `i` weighs `w = factor (offset_i + scale_i curve(s))` where its row mines it. The numbers of the row, its
//! [`RowNormalizer`], follow from [`SideStatistics`] of both kinds of its pairs. `S` is the sum of a kind's curve over the pairs that are
//! mined and pass the gate, `n` their number; `S'` and `n'` are those of the other kind:
//!
//! | [`Normalization`] | weight of a pair | loss of the row, as a function of this kind | used by |
//! |---|---|---|---|
//! | `sum` | `curve` | the curve's integral | contrastive |
//! | `mean` | `curve / n` | integral / n | binomial deviance |
//! | `mean-row` | `curve / (n + n')` | integral / (n + n') | |
//! | `mean-all` | `curve` anchors / pairs of the kind in all rows | in proportion | |
//! | `soft-one` | `curve / (1 + S)` | `ln(1 + S) / k` | multi-similarity |
//! | `soft` | `curve / S` | `ln S / k` | |
//! | `joint` | `curve / (S + S')` | `ln(S + S') / k` | NCA, InfoNCE: negatives |
//! | `remainder` | `curve S' / (S (S + S'))` | `(ln(S + S') - ln S) / k` | NCA: positives |
//! | `contrast` | `1/n - curve / (S + S')` | `ln(S + S') / k - mean s` | InfoNCE: positives |
//! | `product` | `curve S' / (1 + S S')` | `ln(1 + S S') / k` | circle |
//! | `hinge` | `curve / S` where `S S' > 1` | `[ln S + ln S']+ / k` | lifted structure |
//! | `balanced` | positives `sigmoid(k (s - s0) + ln S')`, negatives `curve / S` times the sum of those | softplus / k | N-pair |
//! | `triplets:m` | `curve` #{pairs of the other kind that are less than m better} | sum of `[s_n - s_p + m]+` | triplet |
//!
//! `k` is the rate of an exponential curve. For a circle the derivative is meant with its self-paced factor held constant, as
//! published. Where both kinds share one published loss it is counted once. A curve that is no exponential has no loss whose derivative
//! a normalised weight would be; then the integral is reported, times the row's scale as if that were a constant.
//!
//! Exponents are kept and the logarithm of the normaliser is taken from them before the exponential is, so every weight is finite:
//! `e^(k s) / S` is at most 1 however large `k` is.

mod check;
mod row_normalizer;
mod row_stats;

pub use row_normalizer::{RowNormalizer, SideNormalizer};
pub use row_stats::{SideStatistics, Totals};

use super::{PairWeighting, Side};
use serde::{Deserialize, Serialize};

/// Which pairs of a row have a weight, compared with the other pairs of the row. Text forms: `all`, `relative:0.1`, `hardest:8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Mining {
    /// All.
    #[default]
    All,
    /// Negatives above the row's least similar positive minus this, positives below its most similar negative plus this.
    Relative(f32),
    /// This many: the most similar negatives, or the least similar positives; more where the last of them are equal.
    Hardest(u32),
}

/// How the weights of a row are scaled; the module's head has the formulas. Text forms: `sum`, `mean`, .., `triplets:0.1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Normalization {
    /// Not at all.
    #[default]
    Sum,
    /// Mean over the pairs of the kind.
    Mean,
    /// Mean over the pairs of the row.
    MeanRow,
    /// Mean over the pairs of the kind in all rows.
    MeanAll,
    /// Softmax with a 1 in its denominator.
    SoftmaxPlusOne,
    /// Softmax over the pairs of the kind.
    Softmax,
    /// Softmax over the pairs of the row.
    SoftmaxAll,
    /// Softmax over the kind less the softmax over the row; positives only.
    Remainder,
    /// The mean less the softmax over the row; positives only.
    Contrast,
    /// Softmax over the kind, times the sigmoid of both kinds' logarithms.
    Product,
    /// Softmax over the kind in rows where positives and negatives together exceed their margin.
    Hinge,
    /// As much weight in all negatives as in all positives; both kinds.
    Balanced,
    /// The number of violated triplets; the margin of similarity.
    Triplets(f32),
}

/// The passes over the similarities that a weighting needs before the one that makes the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    /// For relative mining: the hardest pairs.
    pub mining: bool,
    /// For row scales: counts and sums.
    pub sums: bool,
    /// For balanced weights: the sum of the positive weights.
    pub balance: bool,
    /// For counted triplets.
    pub triplets: bool,
}

impl PairWeighting {
    /// Whether the weight of a pair depends on its similarity alone, and not on the other pairs of its row. False also where a side has a
    /// factor, which its normalizer applies.
    pub fn depends_on_similarity_alone(&self) -> bool {
        [&self.positive, &self.negative]
            .iter()
            .all(|side| side.scale == Normalization::Sum && side.mining == Mining::All && side.factor.to_bits() == 1f32.to_bits())
    }

    /// What has to be known of the rows first.
    pub fn passes(&self) -> Passes {
        let sides = [&self.positive, &self.negative];
        let any = |test: fn(&Side) -> bool| sides.iter().any(|side| test(side));
        Passes {
            mining: any(|side| side.mining != Mining::All),
            sums: any(|side| !matches!(side.scale, Normalization::Sum | Normalization::Triplets(_))),
            balance: any(|side| side.scale == Normalization::Balanced),
            triplets: any(|side| matches!(side.scale, Normalization::Triplets(_))),
        }
    }

    /// Whether both sides are parts of one loss, which is counted once.
    pub fn shares_its_loss(&self) -> bool {
        use Normalization::{Balanced, Contrast, Hinge, Product, Remainder, SoftmaxAll};
        matches!(
            (self.positive.scale, self.negative.scale),
            (Remainder | Contrast, SoftmaxAll) | (Product, Product) | (Hinge, Hinge) | (Balanced, Balanced)
        )
    }
}
