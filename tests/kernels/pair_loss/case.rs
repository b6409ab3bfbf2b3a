//! A batch and a memory, and what three loops in double precision make of them.

use super::weighting::Reference;
use crate::device::rounded;
use crate::support::unit_rows;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::pair_loss::tiling::{Splits, Tiling};
use xbm_fast::kernel_args::pair_loss::weighting::CurveKind;
use xbm_fast::rng::Rng;

const CLASSES: usize = 5;
/// Difference of soft labels from which a negative has its whole weight, and its share at none.
pub const SOFT_WIDTH: f32 = 0.5;
pub const SOFT_LEAST: f32 = 0.25;

/// A batch, a memory, and everything that may be said about their rows.
pub struct Case {
    pub format: Format,
    pub anchors: usize,
    pub rows: usize,
    pub in_use: usize,
    pub dim: usize,
    /// Ranges of the memory that are asked for; a tiling may have fewer.
    pub splits: usize,
    pub positive: Reference,
    pub negative: Reference,
    pub own_slots: Option<Vec<i32>>,
    pub instances: Option<(Vec<i32>, Vec<i32>)>,
    pub row_scales: Option<Vec<f32>>,
    pub row_gates: Option<Vec<f32>>,
    /// Soft labels, and which of them anchors and memory rows have.
    pub soft: Option<(Vec<f32>, Vec<i32>, Vec<i32>)>,
    pub anchor_values: Vec<f32>,
    pub memory_values: Vec<f32>,
    pub anchor_labels: Vec<i32>,
    pub memory_labels: Vec<i32>,
}

impl Case {
    pub fn new(format: Format, (anchors, rows, dim): (usize, usize, usize), splits: usize) -> Self {
        let mut rng = Rng::new(3).at(anchors).at(rows).at(dim);
        let mut labels = |count: usize| -> Vec<i32> { (0..count).map(|_| rng.below(CLASSES) as i32).collect() };
        let mut case = Self {
            format,
            anchors,
            rows,
            in_use: rows,
            dim,
            splits,
            positive: Reference::new(CurveKind::Constant, 1.0, 0.0),
            negative: Reference::new(CurveKind::Constant, 1.0, 0.0),
            own_slots: None,
            instances: None,
            row_scales: None,
            row_gates: None,
            soft: None,
            anchor_labels: labels(anchors),
            memory_labels: labels(rows),
            anchor_values: rounded(&unit_rows("anchors", anchors, dim), format),
            memory_values: rounded(&unit_rows("memory", rows, dim), format),
        };
        // Embeddings of a class lean the same way, so that positives are more similar than negatives.
        let centres = unit_rows("centres", CLASSES, dim);
        let lean = |values: &mut [f32], labels: &[i32]| {
            for (row, &label) in values.chunks_mut(dim).zip(labels) {
                for (value, centre) in row.iter_mut().zip(&centres[label as usize * dim..]) {
                    *value = 0.7 * *value + 0.5 * centre;
                }
            }
        };
        lean(&mut case.anchor_values, &case.anchor_labels);
        lean(&mut case.memory_values, &case.memory_labels);
        case.anchor_values = rounded(&case.anchor_values, format);
        case.memory_values = rounded(&case.memory_values, format);
        case.negative = case.negative.clone().gated(case.threshold(0.05), f64::INFINITY);
        case
    }

    /// How a tiling splits the memory.
    pub fn splits(&self, tiling: &Tiling) -> Splits {
        tiling.splits(1, self.rows, self.splits)
    }

    pub fn similarity(&self, anchor: usize, row: usize) -> f64 {
        let (a, m) = (&self.anchor_values[anchor * self.dim..], &self.memory_values[row * self.dim..]);
        (0..self.dim).map(|k| f64::from(a[k]) * f64::from(m[k])).sum()
    }

    /// A threshold near `wish` that no similarity is near to, so that single precision decides every pair alike.
    pub fn threshold(&self, wish: f64) -> f64 {
        let all = (0..self.anchors).flat_map(|i| (0..self.rows).map(move |j| (i, j)));
        let mut near: Vec<f64> = all.map(|(i, j)| self.similarity(i, j)).filter(|s| (s - wish).abs() < 0.05).collect();
        near.extend([wish - 0.05, wish + 0.05]);
        near.sort_by(f64::total_cmp);
        let widest = near.windows(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0]))).unwrap();
        f64::from(((widest[0] + widest[1]) / 2.0) as f32)
    }

    fn is_pair(&self, anchor: usize, row: usize) -> bool {
        let own = self.own_slots.as_ref().is_some_and(|slots| slots[anchor] == row as i32);
        let same = self.instances.as_ref().is_some_and(|(anchors, rows)| anchors[anchor] == rows[row]);
        !own && !same
    }

    fn scales(&self, anchor: usize) -> (f64, f64) {
        self.row_scales.as_ref().map_or((1.0, 1.0), |s| (f64::from(s[2 * anchor]), f64::from(s[2 * anchor + 1])))
    }

    fn mined(&self, anchor: usize, positive: bool, s: f64) -> bool {
        let Some(gates) = &self.row_gates else { return true };
        if positive { s < f64::from(gates[2 * anchor]) } else { s > f64::from(gates[2 * anchor + 1]) }
    }

    fn soft_factor(&self, anchor: usize, row: usize) -> f64 {
        let Some((labels, anchors, rows)) = &self.soft else { return 1.0 };
        let label = |index: i32| labels.get(usize::try_from(index).ok()?);
        let (Some(mine), Some(other)) = (label(anchors[anchor]), label(rows[row])) else { return 1.0 };
        let apart = f64::from((mine - other).abs() / SOFT_WIDTH).min(1.0);
        let least = f64::from(SOFT_LEAST);
        least + (1.0 - least) * apart
    }

    /// Signed weight, loss and kind of a pair.
    pub fn weigh(&self, anchor: usize, row: usize) -> Option<(f64, f64, bool)> {
        let s = self.similarity(anchor, row);
        let positive = self.anchor_labels[anchor] == self.memory_labels[row];
        if !self.is_pair(anchor, row) || !self.mined(anchor, positive, s) {
            return None;
        }
        let (positive_scale, negative_scale) = self.scales(anchor);
        Some(if positive {
            (-positive_scale * self.positive.weight(s), positive_scale * self.positive.positive_loss(s), true)
        } else {
            let scale = negative_scale * self.soft_factor(anchor, row);
            (scale * self.negative.weight(s), scale * self.negative.negative_loss(s), false)
        })
    }

    pub fn reference(&self) -> Expected {
        let mut expected = Expected {
            gradient: vec![0.0; self.anchors * self.dim],
            losses: vec![0.0; self.anchors],
            kept: vec![0; 2 * self.anchors],
        };
        for anchor in 0..self.anchors {
            for row in 0..self.in_use {
                let Some((weight, loss, positive)) = self.weigh(anchor, row) else { continue };
                expected.losses[anchor] += loss;
                expected.kept[2 * anchor + usize::from(!positive)] += i32::from(weight != 0.0);
                let weight = f64::from(rounded(&[weight as f32], self.format)[0]);
                for k in 0..self.dim {
                    expected.gradient[anchor * self.dim + k] += weight * f64::from(self.memory_values[row * self.dim + k]);
                }
            }
        }
        expected
    }
}

/// What the kernels should write, before any scale.
#[derive(Debug)]
pub struct Expected {
    pub gradient: Vec<f64>,
    pub losses: Vec<f64>,
    pub kept: Vec<i32>,
}
