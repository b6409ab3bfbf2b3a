//! Anchors against rows, and their loss under a published name.

use crate::support::{buffer, integer_values, integers, unit_rows, values};
use xbm_fast::device::{Span, SpanMut};
use xbm_fast::loss::PairWeighting;
use xbm_fast::ops::pair_loss::{CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairs};

/// Labelled unit rows against labelled unit rows.
#[derive(Clone)]
pub struct Pairs {
    pub dim: usize,
    pub anchors: Vec<f32>,
    pub anchor_labels: Vec<i32>,
    pub rows: Vec<f32>,
    pub row_labels: Vec<i32>,
    /// For each anchor the row that is the anchor itself, or -1.
    pub own: Vec<i32>,
}

/// What the loss writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    pub gradient: Vec<f32>,
    pub rows: Vec<f32>,
    /// Positives and negatives with a weight, for each anchor.
    pub kept: Vec<[i32; 2]>,
}

impl Pairs {
    /// A batch against itself, each anchor being the row of its place.
    pub fn batch(rows: Vec<f32>, labels: &[i32]) -> Self {
        let own = (0..labels.len() as i32).collect();
        let (dim, labels) = (rows.len() / labels.len(), labels.to_vec());
        Self { dim, anchors: rows.clone(), anchor_labels: labels.clone(), rows, row_labels: labels, own }
    }

    /// A batch of random unit rows against itself.
    pub fn random_batch(name: &str, labels: &[i32], dim: usize) -> Self {
        Self::batch(unit_rows(name, labels.len(), dim), labels)
    }

    /// Similarities of an anchor's positives and of its negatives, in double precision.
    pub fn similarities(&self, anchor: usize) -> (Vec<f64>, Vec<f64>) {
        let others = (0..self.row_labels.len()).filter(|&row| self.own[anchor] != row as i32);
        let (positives, negatives): (Vec<usize>, Vec<usize>) =
            others.partition(|&row| self.row_labels[row] == self.anchor_labels[anchor]);
        let dot = |row: usize| -> f64 {
            let (left, right) = (&self.anchors[anchor * self.dim..], &self.rows[row * self.dim..]);
            (0..self.dim).map(|index| f64::from(left[index]) * f64::from(right[index])).sum()
        };
        (positives.into_iter().map(dot).collect(), negatives.into_iter().map(dot).collect())
    }

    /// The loss with the weights of that text: `circle`, `info-nce:t=0.1`.
    pub fn loss<B: PairLoss>(&self, backend: &B, weighting: &str) -> Loss {
        let weighting: PairWeighting = weighting.parse().unwrap();
        let geometry = PairLossGeometry { anchors: self.anchor_labels.len(), rows: self.row_labels.len(), dim: self.dim };
        let PairLossGeometry { anchors, rows, dim } = geometry;
        let [anchor_values, row_values] = [&self.anchors, &self.rows].map(|values| buffer(backend, values));
        let [anchor_labels, row_labels, own] =
            [&self.anchor_labels, &self.row_labels, &self.own].map(|values| integers(backend, values));
        let mut gradient = buffer(backend, &vec![f32::NAN; anchors * dim]);
        let mut row_losses = buffer(backend, &vec![f32::NAN; anchors]);
        let mut kept = integers(backend, &vec![-7; 2 * anchors]);
        let inputs = PairLossInputs {
            anchors: Span::new(&anchor_values, 0, anchors * dim),
            anchor_labels: Span::new(&anchor_labels, 0, anchors),
            memory: CompareWith::Numbers(Span::new(&row_values, 0, rows * dim)),
            memory_labels: Span::new(&row_labels, 0, rows),
            own: SelfPairs::Slot(Span::new(&own, 0, anchors)),
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, anchors * dim),
            row_losses: SpanMut::new(&mut row_losses, 0, anchors),
            kept: SpanMut::new(&mut kept, 0, 2 * anchors),
        };
        backend
            .pair_loss(PairLossCall {
                geometry,
                weighting: &weighting.clone().valid().unwrap(),
                scale: 1.0,
                accumulate: false,
                inputs,
                outputs,
            })
            .unwrap();
        let kept = integer_values(backend, &kept, 2 * anchors);
        Loss {
            gradient: values(backend, &gradient, anchors * dim),
            rows: values(backend, &row_losses, anchors),
            kept: kept.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect(),
        }
    }
}

impl Loss {
    pub fn is_finite(&self) -> bool {
        self.gradient.iter().chain(&self.rows).all(|value| value.is_finite())
    }

    pub fn is_nothing(&self) -> bool {
        self.gradient.iter().chain(&self.rows).all(|&value| value == 0.0) && self.kept.iter().all(|kept| *kept == [0, 0])
    }
}

/// `ln sum exp`, with the largest exponent taken out.
pub fn log_sum_exp(exponents: impl IntoIterator<Item = f64>) -> f64 {
    let exponents: Vec<f64> = exponents.into_iter().collect();
    let largest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + exponents.iter().map(|exponent| (exponent - largest).exp()).sum::<f64>().ln()
}
