//! Which pairs have to be multiplied in full, and which blocks hold one.

use crate::comparison::Comparison;
use std::fmt;
use std::ops::AddAssign;
use xbm_fast::cpu::int8_prune::each_candidate;

const POSITIVE: u8 = 1;
const KEPT: u8 = 2;
const SURVIVES: u8 = 4;

/// What is known of each pair of a batch and the newest rows of a memory.
pub struct Marks {
    /// `(anchors, rows)`: bits.
    pairs: Vec<u8>,
    rows: usize,
}

impl Marks {
    /// Of the batch at `batch` and the newest `rows` rows. An image is no pair with itself.
    pub fn new(compared: &Comparison, batch: usize, rows: usize) -> Self {
        let (anchors, memory, dim) = (compared.anchors(batch), compared.newest(rows), compared.dim);
        let similarity = |anchor: usize, row: usize| -> f32 {
            let values = anchors.values[anchor * dim..][..dim].iter().zip(&memory.values[row * dim..][..dim]);
            values.map(|(anchor, row)| anchor * row).sum()
        };
        let mut pairs = vec![0; anchors.labels.len() * rows];
        let weighted_below = compared.weighting.positive.support().1;
        for (anchor, (label, id)) in anchors.labels.iter().zip(anchors.ids).enumerate() {
            for row in (0..rows).filter(|&row| memory.labels[row] == *label && memory.ids[row] != *id) {
                let kept = similarity(anchor, row) < weighted_below;
                pairs[anchor * rows + row] = POSITIVE | SURVIVES | if kept { KEPT } else { 0 };
            }
        }
        let threshold = compared.weighting.negative.support().0;
        each_candidate(dim, (anchors.values, memory.values), threshold, |anchor, row| {
            if anchors.labels[anchor] != memory.labels[row] {
                let kept = similarity(anchor, row) > threshold;
                pairs[anchor * rows + row] = SURVIVES | if kept { KEPT } else { 0 };
            }
        });
        Self { pairs, rows }
    }

    /// Counts blocks of so many anchors and rows.
    pub fn shares(&self, (anchors, rows): (usize, usize)) -> Shares {
        let mut shares = Shares::default();
        for strip in self.pairs.chunks(anchors * self.rows) {
            for first in (0..self.rows).step_by(rows) {
                let block = strip.chunks(self.rows).flat_map(|row| &row[first..self.rows.min(first + rows)]);
                shares.add(block.fold(0, |any, bits| any | bits));
            }
        }
        shares
    }
}

/// How many blocks hold what.
#[derive(Clone, Copy, Default)]
pub struct Shares {
    all: usize,
    positive: usize,
    kept: usize,
    surviving: usize,
}

impl Shares {
    fn add(&mut self, bits: u8) {
        let one = |bit: u8| usize::from(bits & bit != 0);
        *self += Self { all: 1, positive: one(POSITIVE), kept: one(KEPT), surviving: one(SURVIVES) };
    }
}

impl AddAssign for Shares {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.positive += other.positive;
        self.kept += other.kept;
        self.surviving += other.surviving;
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |count: usize| 100.0 * count as f64 / self.all.max(1) as f64;
        write!(f, "{:.2}, {:.2}, {:.2}", percent(self.positive), percent(self.kept), percent(self.surviving))
    }
}
