//! How far embeddings have moved since they were stored, by age.
//!
//! When an image comes again, its new embedding is compared with its stored row: `drift = 1 - new . stored`, 0 for an embedding that
//! has not moved, half its squared change in general. Two random views of one image differ too, so the youngest rows show the floor that
//! the views set, and what lies above it is the network's movement. "Slow drift" is the observation that makes a memory work at all
//! (cross-batch memory, CVPR 2020); here it is measured while training goes on.

use serde::{Deserialize, Serialize};

/// Ages are binned by powers of two: bin `b` holds ages `2^b .. 2^(b + 1)`.
const BINS: usize = 24;
/// What a measurement still counts for one step later: the means are those of about the last hundred steps.
const KEPT: f64 = 0.99;
/// Largest drift, and a rounding.
const LARGEST: f64 = 2.0 + 1e-6;
/// Least weight of a bin whose mean is believed: about three recent measurements.
const ENOUGH: f64 = 3.0;

/// Running means of the drift, by age in steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftMeter {
    bins: [Bin; BINS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bin {
    sum: f64,
    weight: f64,
}

impl Default for DriftMeter {
    fn default() -> Self {
        Self { bins: [Bin::default(); BINS] }
    }
}

impl DriftMeter {
    /// A step has passed.
    pub fn fade(&mut self) {
        for bin in &mut self.bins {
            bin.sum *= KEPT;
            bin.weight *= KEPT;
        }
    }

    /// An image's embedding has similarity `similarity` to its row stored `age` steps ago, at least 1. One that is not finite tells
    /// nothing.
    pub fn add(&mut self, age: u32, similarity: f64) {
        if !similarity.is_finite() {
            return;
        }
        let bin = &mut self.bins[(age.max(1).ilog2() as usize).min(BINS - 1)];
        bin.sum += (1.0 - similarity).clamp(0.0, 2.0);
        bin.weight += 1.0;
    }

    /// Whether every mean is one that drifts can have: from 0 to 2.
    pub(super) fn is_sound(&self) -> bool {
        self.bins.iter().all(|bin| bin.weight.is_finite() && bin.sum >= 0.0 && bin.sum <= LARGEST * bin.weight)
    }

    /// Mean drift of each age that was measured lately, as the first age of its bin and the mean.
    pub fn by_age(&self) -> impl Iterator<Item = (u32, f64)> {
        let believed = self.bins.iter().enumerate().filter(|(_, bin)| bin.weight >= ENOUGH);
        believed.map(|(index, bin)| (1 << index, bin.sum / bin.weight))
    }

    /// The oldest age up to which the measured drift stays below `limit`, 0 if none is known to. Drift grows with age, so an age that
    /// was not measured is below the limit if an older one is.
    pub fn oldest_below(&self, limit: f64) -> u32 {
        self.by_age().take_while(|&(_, drift)| drift < limit).last().map_or(0, |(first, _)| 2 * first - 1)
    }
}
