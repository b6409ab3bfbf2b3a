//! Steps about the pair loss: every curve and gate, and every way in which a row can weigh its pairs.

use super::inputs::{DIM, labels, unit_rows, values};
use super::{Values, computed, downloaded, full};
use crate::app::selfcheck::compare::{Closeness, Quantity};
use crate::device::IntegerTensor;
use crate::error::Result;
use crate::loss::{Curve, Gate, Mining, Normalization, PairWeighting, Side, Soft};
use crate::ops::Backend;
use crate::ops::pair_loss::{
    CompareWith, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask, SoftLabels,
};

const CLASSES: usize = 3;
const ANCHORS: usize = 6;
const ROWS: usize = 37;

/// Weights that depend on the similarity alone: all curves and gates, and soft labels.
pub fn pair_loss<B: Backend>(backend: &B) -> Result<Values> {
    let curves = [
        ("constant", Curve::Constant(1.0)),
        ("linear", Curve::Linear { a: 1.0, b: 0.5 }),
        ("power", Curve::Power { s0: 0.1, p: 2.0 }),
        ("exponential", Curve::Exponential { k: 3.0, s0: 0.5 }),
        ("sigmoid", Curve::Sigmoid { k: -4.0, s0: 0.5 }),
        ("band", Curve::Band { lo: 0.21, hi: 0.83 }),
        ("table", Curve::Table(vec![(-1.0, 0.0), (0.5, 0.25), (1.0, 1.0)])),
    ];
    let mut found = Vec::new();
    for (name, curve) in curves {
        let negative = Side { soft: Some(Soft { width: 1.0, least: 0.25 }), ..Side::new(curve.clone(), Gate::Above(0.3)) };
        let weighting = PairWeighting { positive: Side::new(curve, Gate::Below(0.9)), negative };
        found.extend(of_a_memory(backend, name, &weighting)?);
    }
    Ok(found)
}

/// Weights that depend on the other pairs of the row: every row scale and every way of mining, gently, so that no rounding is magnified.
pub fn row_normalizers<B: Backend>(backend: &B) -> Result<Values> {
    let mut found = Vec::new();
    for (name, weighting) in weightings_by_row()? {
        found.extend(of_a_memory(backend, &name, &weighting)?);
    }
    Ok(found)
}

/// The same of a batch with itself, where a pair is weighed by the normalizers of both its rows.
pub fn batch_normalizers<B: Backend>(backend: &B) -> Result<Values> {
    let mut found = Vec::new();
    for (name, weighting) in weightings_by_row()? {
        found.extend(of_a_batch(backend, &name, &weighting)?);
    }
    Ok(found)
}

fn weightings_by_row() -> Result<Vec<(String, PairWeighting)>> {
    let named = [
        "triplet:margin=0.11",
        "lifted-structure",
        "nca",
        "info-nce:t=0.5",
        "n-pair",
        "binomial-deviance:alpha=2,beta=4",
        "multi-similarity:alpha=2,beta=4,eps=0.11",
        "circle:gamma=4",
    ];
    let of_both = |side: Side| PairWeighting { positive: side.clone(), negative: side };
    let linear = || Side::ungated(Curve::Linear { a: 1.0, b: 0.5 });
    let mut all: Vec<_> = vec![
        ("mean over the row".to_owned(), of_both(linear().scaled(Normalization::MeanRow))),
        ("mean over all rows".to_owned(), of_both(linear().scaled(Normalization::MeanAll))),
        (
            "softmax of the hardest".to_owned(),
            of_both(Side::ungated(Curve::Exponential { k: 2.0, s0: 0.5 }).scaled(Normalization::Softmax).mined(Mining::Hardest(4))),
        ),
    ];
    for text in named {
        let name = text.split(':').next().unwrap_or(text);
        all.push((name.to_owned(), text.parse()?));
    }
    Ok(all)
}

/// Loss, gradient and kept pairs of anchors against other rows.
fn of_a_memory<B: Backend>(backend: &B, name: &str, weighting: &PairWeighting) -> Result<Values> {
    let weighting = &weighting.clone().valid()?;
    let memory = computed(backend, &unit_rows("memory", ROWS, CLASSES))?;
    let anchors = full(backend, &unit_rows("anchors", ANCHORS, CLASSES))?;
    let soft = full(backend, &values("soft labels", ROWS))?;
    let [anchor_labels, anchor_ids] = [labels(ANCHORS, CLASSES), labels(ANCHORS, ANCHORS)].map(|values| integers(backend, &values));
    let [memory_labels, memory_ids] = [labels(ROWS, CLASSES), labels(ROWS, ROWS)].map(|values| integers(backend, &values));
    let (anchor_labels, anchor_ids, memory_labels, memory_ids) = (anchor_labels?, anchor_ids?, memory_labels?, memory_ids?);
    let inputs = PairLossInputs {
        anchors: anchors.all(),
        anchor_labels: anchor_labels.all(),
        memory: CompareWith::Numbers(memory.all()),
        memory_labels: memory_labels.all(),
        self_pairs: SelfPairMask::Instance { anchors: anchor_ids.all(), rows: memory_ids.all() },
        soft: Some(SoftLabels { labels: soft.all(), anchors: anchor_ids.all(), rows: memory_ids.all() }),
    };
    let geometry = PairLossGeometry { anchors: ANCHORS, rows: ROWS, dim: DIM };
    measured(backend, name, ANCHORS, |outputs| {
        backend.pair_loss(PairLossCall { geometry, weighting, scale: 0.5, accumulate: true, inputs, outputs })
    })
}

/// Loss, gradient and kept pairs of a batch with itself.
fn of_a_batch<B: Backend>(backend: &B, name: &str, weighting: &PairWeighting) -> Result<Values> {
    let weighting = &weighting.clone().valid()?;
    const BATCH: usize = 12;
    let rows = full(backend, &unit_rows("batch", BATCH, CLASSES))?;
    let (classes, ids) = (integers(backend, &labels(BATCH, CLASSES))?, integers(backend, &labels(BATCH, BATCH))?);
    let inputs = PairLossInputs {
        anchors: rows.all(),
        anchor_labels: classes.all(),
        memory: CompareWith::Numbers(rows.all()),
        memory_labels: classes.all(),
        self_pairs: SelfPairMask::Instance { anchors: ids.all(), rows: ids.all() },
        soft: None,
    };
    let geometry = PairLossGeometry { anchors: BATCH, rows: BATCH, dim: DIM };
    measured(backend, name, BATCH, |outputs| {
        backend.batch_pair_loss(PairLossCall { geometry, weighting, scale: 0.5, accumulate: true, inputs, outputs })
    })
}

fn measured<B: Backend>(
    backend: &B,
    name: &str,
    anchors: usize,
    loss: impl FnOnce(PairLossOutputs<'_, B>) -> Result<()>,
) -> Result<Values> {
    let mut gradient = full(backend, &vec![0.25; anchors * DIM])?;
    let mut losses = full(backend, &vec![9.0; anchors])?;
    let mut pairs = integers(backend, &vec![9; 2 * anchors])?;
    loss(PairLossOutputs { gradient: gradient.all_mut(), row_losses: losses.all_mut(), kept: pairs.all_mut() })?;
    Ok(vec![
        downloaded(&format!("gradient by {name} weights"), Closeness::Rounded, backend, &gradient)?,
        downloaded(&format!("loss by {name} weights"), Closeness::Rounded, backend, &losses)?,
        Quantity::integers(format!("count of pairs kept by {name} weights"), &pairs.to_host(backend)?),
    ])
}

fn integers<B: Backend>(backend: &B, values: &[i32]) -> Result<IntegerTensor<B>> {
    let mut tensor = IntegerTensor::zeros(backend, values.len())?;
    tensor.upload(backend, values)?;
    Ok(tensor)
}
