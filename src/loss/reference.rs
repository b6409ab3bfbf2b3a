//! A row to draw weights in: what a pair weighs depends, for most published losses, on the other pairs of its row.

use super::{Normalization, PairWeighting, RowNormalizer, SideNormalizer, SideStatistics, Totals};

/// Similarities looked at together.
const LANES: usize = 32;

/// The pairs of one anchor.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceRow {
    /// Similarities of its positives.
    pub positives: Vec<f32>,
    /// Similarities of its negatives.
    pub negatives: Vec<f32>,
}

impl Default for ReferenceRow {
    /// 8 positives evenly from 0.4 to 0.9 and 1,000 negatives as the quantiles of a logistic distribution about 0 of scale 0.08, which is
    /// close to a normal one of standard deviation 0.145.
    fn default() -> Self {
        let logit = |share: f32| (share / (1.0 - share)).ln();
        Self {
            positives: (0..8).map(|index| 0.4 + 0.5 * index as f32 / 7.0).collect(),
            negatives: (0..1000).map(|index| (0.08 * logit((index as f32 + 0.5) / 1000.0)).clamp(-1.0, 1.0)).collect(),
        }
    }
}

impl ReferenceRow {
    /// Says which row it is.
    pub fn describe(&self) -> String {
        format!(
            "{} positives evenly from 0.4 to 0.9, {} negatives about 0 (logistic, scale 0.08), and the pair itself",
            self.positives.len(),
            self.negatives.len()
        )
    }

    /// The weight of one more pair of this row, at similarity `s`.
    pub fn weight(&self, weighting: &PairWeighting, positive: bool, s: f32) -> f32 {
        let side = if positive { &weighting.positive } else { &weighting.negative };
        if weighting.depends_on_similarity_alone() {
            return side.weight(s);
        }
        let mut row = self.clone();
        if positive {
            row.positives.push(s)
        } else {
            row.negatives.push(s)
        }
        let normalizer = row.normalizer(weighting);
        let normalizer = if positive { normalizer.positive } else { normalizer.negative };
        let weight = SideNormalizer::weights(&[normalizer], side, &[s])[0];
        match side.scale {
            Normalization::Triplets(margin) if positive => {
                weight * row.negatives.iter().filter(|&&n| n > s - margin).count() as f32
            }
            Normalization::Triplets(margin) => weight * row.positives.iter().filter(|&&p| p < s + margin).count() as f32,
            _ => weight,
        }
    }

    /// `(similarity, weight)` at `points` similarities evenly from -1 to 1.
    pub fn curve(&self, weighting: &PairWeighting, positive: bool, points: usize) -> Vec<(f64, f64)> {
        let similarity = |point: usize| 2.0 * point as f32 / (points - 1) as f32 - 1.0;
        (0..points).map(similarity).map(|s| (f64::from(s), f64::from(self.weight(weighting, positive, s)))).collect()
    }

    fn normalizer(&self, weighting: &PairWeighting) -> RowNormalizer {
        let (passes, mut normalizer) = (weighting.passes(), RowNormalizer::new(weighting));
        if passes.mining {
            let [positives, negatives] = self.statistics(weighting, &normalizer);
            normalizer.mine(weighting, [positives.hardest, negatives.hardest], self.last_kept(weighting));
        }
        if passes.sums {
            let statistics = self.statistics(weighting, &normalizer);
            let kept = statistics.map(|side| f64::from(side.count));
            normalizer.scale(weighting, statistics, Totals { anchors: 1.0, kept });
        }
        if passes.balance {
            let [positives, _] = self.statistics(weighting, &normalizer);
            normalizer.balance(weighting, positives);
        }
        normalizer
    }

    fn statistics(&self, weighting: &PairWeighting, normalizer: &RowNormalizer) -> [SideStatistics; 2] {
        let sides = [
            (&weighting.positive, &normalizer.positive, true, &self.positives),
            (&weighting.negative, &normalizer.negative, false, &self.negatives),
        ];
        sides.map(|(side, normalizer, positive, pairs)| {
            let mut statistics = SideStatistics::new(positive);
            for lanes in pairs.chunks(LANES) {
                let mut s = [0.0; LANES];
                s[..lanes.len()].copy_from_slice(lanes);
                statistics.accumulate(side, normalizer, positive, &s, u32::MAX >> (LANES - lanes.len()));
            }
            statistics
        })
    }

    /// The last positive and negative that [`super::Mining::Hardest`] keeps.
    fn last_kept(&self, weighting: &PairWeighting) -> [f32; 2] {
        let last = |pairs: &[f32], mining, sign: f32| {
            let super::Mining::Hardest(count) = mining else { return 0.0 };
            let mut sizes: Vec<f32> = pairs.iter().map(|s| sign * s).collect();
            sizes.sort_unstable_by(|a, b| b.total_cmp(a));
            sign * sizes.get(count as usize - 1).copied().unwrap_or(f32::NEG_INFINITY)
        };
        [last(&self.positives, weighting.positive.mining, -1.0), last(&self.negatives, weighting.negative.mining, 1.0)]
    }
}
