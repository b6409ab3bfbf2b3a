//! A batch, a memory, and what is to be made of their pairs.

use crate::support::{buffer, integer_values, integers, unit_rows, values};
use xbm_fast::Error;
use xbm_fast::device::{RowPrecision, Span, SpanMut};
use xbm_fast::loss::PairWeighting;
use xbm_fast::ops::pair_loss::{
    CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask,
};
use xbm_fast::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Excluded {
    Nothing,
    Slot,
    Instance,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub geometry: PairLossGeometry,
    pub weighting: PairWeighting,
    pub scale: f32,
    pub anchors: Vec<f32>,
    pub memory: Vec<f32>,
    pub anchor_labels: Vec<i32>,
    pub memory_labels: Vec<i32>,
    pub excluded: Excluded,
    pub slots: Vec<i32>,
    pub anchor_ids: Vec<i32>,
    pub memory_ids: Vec<i32>,
    pub before: Option<Vec<f32>>,
    /// Of the memory, where it is one rather than plain numbers.
    pub stored: Option<RowPrecision>,
}

#[derive(Debug, PartialEq)]
pub struct Found {
    pub gradient: Vec<f32>,
    pub row_losses: Vec<f32>,
    pub kept: Vec<i32>,
}

impl Case {
    /// Random unit rows of `classes` labels; the anchors are rows of the memory where it has rows.
    pub fn new(anchors: usize, rows: usize, dim: usize, classes: usize) -> Self {
        let geometry = PairLossGeometry { anchors, rows, dim };
        let mut memory = unit_rows(&format!("memory {rows} {dim}"), rows.max(1), dim);
        let mut rng = Rng::new(1).at("labels").at(rows).at(anchors);
        let memory_labels: Vec<i32> = (0..rows).map(|_| rng.below(classes) as i32).collect();
        let memory_ids: Vec<i32> = (0..rows).map(|_| rng.below(rows.div_ceil(2)) as i32).collect();
        let slots: Vec<i32> = (0..anchors).map(|_| if rows == 0 { -1 } else { rng.below(rows + 1) as i32 - 1 }).collect();
        let from = |slot: i32| slot.max(0) as usize;
        let anchor_rows = slots.iter().flat_map(|&slot| memory[from(slot) * dim..][..dim].to_vec()).collect();
        memory.truncate(rows * dim);
        Self {
            geometry,
            weighting: PairWeighting::contrastive(),
            scale: 1.0,
            anchors: anchor_rows,
            anchor_labels: slots.iter().map(|&slot| memory_labels.get(from(slot)).copied().unwrap_or(0)).collect(),
            anchor_ids: slots.iter().map(|&slot| memory_ids.get(from(slot)).copied().unwrap_or(0)).collect(),
            memory,
            memory_labels,
            memory_ids,
            excluded: Excluded::Slot,
            slots,
            before: None,
            stored: None,
        }
    }

    pub fn run<B: PairLoss>(&self, backend: &B) -> Result<Found, Error> {
        let PairLossGeometry { anchors, rows, dim } = self.geometry;
        let numbers = [&self.anchors, &self.memory].map(|values| buffer(backend, values));
        let whole = [&self.anchor_labels, &self.memory_labels, &self.slots, &self.anchor_ids, &self.memory_ids];
        let [anchor_labels, memory_labels, slots, anchor_ids, memory_ids] = whole.map(|values| integers(backend, values));
        let own = match self.excluded {
            Excluded::Nothing => SelfPairMask::None,
            Excluded::Slot => SelfPairMask::Slot(Span::new(&slots, 0, anchors)),
            Excluded::Instance => {
                SelfPairMask::Instance { anchors: Span::new(&anchor_ids, 0, anchors), rows: Span::new(&memory_ids, 0, rows) }
            }
        };
        let poison = vec![f32::NAN; anchors * dim];
        let mut gradient = buffer(backend, self.before.as_ref().unwrap_or(&poison));
        let mut row_losses = buffer(backend, &vec![f32::NAN; anchors]);
        let mut stored = backend.zero_rows(rows * dim, self.stored.unwrap_or(RowPrecision::Compute))?;
        backend.upload_rows(&self.memory, SpanMut::new(&mut stored, 0, rows * dim))?;
        let mut kept = integers(backend, &vec![-7; 2 * anchors]);
        let inputs = PairLossInputs {
            anchors: Span::new(&numbers[0], 0, anchors * dim),
            anchor_labels: Span::new(&anchor_labels, 0, anchors),
            memory: match self.stored {
                None => CompareWith::Numbers(Span::new(&numbers[1], 0, rows * dim)),
                Some(_) => CompareWith::Stored(Span::new(&stored, 0, rows * dim)),
            },
            memory_labels: Span::new(&memory_labels, 0, rows),
            self_pairs: own,
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, anchors * dim),
            row_losses: SpanMut::new(&mut row_losses, 0, anchors),
            kept: SpanMut::new(&mut kept, 0, 2 * anchors),
        };
        backend.pair_loss(PairLossCall {
            geometry: self.geometry,
            weighting: &self.weighting.clone().valid().unwrap(),
            scale: self.scale,
            accumulate: self.before.is_some(),
            inputs,
            outputs,
        })?;
        Ok(Found {
            gradient: values(backend, &gradient, anchors * dim),
            row_losses: values(backend, &row_losses, anchors),
            kept: integer_values(backend, &kept, 2 * anchors),
        })
    }

    pub fn is_own(&self, anchor: usize, row: usize) -> bool {
        match self.excluded {
            Excluded::Nothing => false,
            Excluded::Slot => self.slots[anchor] == row as i32,
            Excluded::Instance => self.anchor_ids[anchor] == self.memory_ids[row],
        }
    }

    pub fn dot(&self, anchor: usize, row: usize) -> f64 {
        let dim = self.geometry.dim;
        let (left, right) = (&self.anchors[anchor * dim..], &self.memory[row * dim..]);
        (0..dim).map(|index| f64::from(left[index]) * f64::from(right[index])).sum()
    }
}
