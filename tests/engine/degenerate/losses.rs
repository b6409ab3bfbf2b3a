//! Every named loss against memories of 0, 1 and 2 rows of every kind, with 0, 1 and 2 anchors, whatever is no pair.

use crate::degenerate::oracle;
use crate::support::{assert_close, buffer, cpu, cuda, integer_values, integers, values};
use xbm_fast::device::cuda::{PairLossPath, Precision};
use xbm_fast::device::{Span, SpanMut};
use xbm_fast::loss::{Named, PairWeighting};
use xbm_fast::memory::{Anchors, EmbeddingMemory, Filling, LossSettings, MemoryState, SelfPairs};
use xbm_fast::ops::Backend;
use xbm_fast::ops::pair_loss::{CompareWith, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask};

const DIM: usize = 64;
/// Single precision; exponents of up to 100.
const SINGLE: f64 = 5e-5;
/// Weights rounded to 11 bits.
const HALF: f64 = 2e-3;
const EXCLUSIONS: [SelfPairs; 3] = [SelfPairs::Instance, SelfPairs::Slot, SelfPairs::None];

/// `rows` rows of length 1, as 16 bit hold them: all near one direction, so that every pair is hard enough for every loss.
fn rows(name: &str, rows: usize) -> Vec<f32> {
    let mut values = crate::support::normals(name, rows * DIM);
    for row in values.chunks_mut(DIM) {
        row.iter_mut().for_each(|value| *value += 1.5);
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value = half::f16::from_f32(*value / norm).to_f32());
    }
    values
}

/// Anchors, and the memory they meet.
struct Case {
    embeddings: Vec<f32>,
    labels: Vec<i32>,
    ids: Vec<i32>,
    exclusion: SelfPairs,
}

#[derive(Debug, PartialEq)]
struct Found {
    gradient: Vec<f32>,
    row_losses: Vec<f32>,
    kept: Vec<i32>,
}

impl Case {
    /// As many anchors, of one class or of one each; they are the batch that the memory took last, as far as it took them.
    fn new(anchors: usize, classes: i32, exclusion: SelfPairs) -> Self {
        let labels = (0..anchors as i32).map(|row| row % classes).collect();
        Self { embeddings: rows("anchors", anchors), labels, ids: (0..anchors as i32).collect(), exclusion }
    }

    fn meet<B: Backend>(&self, backend: &B, memory: &EmbeddingMemory<B>, weighting: &PairWeighting) -> Found {
        let weighting = &weighting.clone().valid().unwrap();
        let (anchors, len) = (self.labels.len(), self.embeddings.len());
        let (embeddings, labels, ids) =
            (buffer(backend, &self.embeddings), integers(backend, &self.labels), integers(backend, &self.ids));
        let (mut gradient, mut row_losses) = (buffer(backend, &vec![f32::NAN; len]), buffer(backend, &vec![f32::NAN; anchors]));
        let mut kept = integers(backend, &vec![-1; 2 * anchors]);
        let settings = LossSettings { weighting, scale: 0.5, self_pairs: self.exclusion, accumulate: false };
        let given = Anchors {
            embeddings: Span::new(&embeddings, 0, len),
            labels: Span::new(&labels, 0, anchors),
            ids: Span::new(&ids, 0, anchors),
            soft_labels: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, len),
            row_losses: SpanMut::new(&mut row_losses, 0, anchors),
            kept: SpanMut::new(&mut kept, 0, 2 * anchors),
        };
        memory.pair_loss(backend, settings, given, outputs).unwrap();
        Found {
            gradient: values(backend, &gradient, len),
            row_losses: values(backend, &row_losses, anchors),
            kept: integer_values(backend, &kept, 2 * anchors),
        }
    }

    /// Gradient and row losses by the formula, against the rows of `state` that may be used.
    fn expected(&self, name: &str, state: &MemoryState, own_slots: &[i32]) -> (Vec<f64>, Vec<f64>) {
        let (mut gradient, mut losses) = (vec![0.0; self.embeddings.len()], Vec::new());
        for (anchor, values) in self.embeddings.chunks(DIM).enumerate() {
            let own = |slot: usize| match self.exclusion {
                SelfPairs::Instance => state.ids[slot] == self.ids[anchor],
                SelfPairs::Slot => own_slots.get(anchor) == Some(&(slot as i32)),
                SelfPairs::None => false,
            };
            let pairs = (0..state.labels.len()).filter(|&slot| !own(slot));
            let (positives, negatives): (Vec<usize>, Vec<usize>) =
                pairs.partition(|&slot| state.labels[slot] == self.labels[anchor]);
            let stored = |slot: usize| &state.rows[slot * DIM..][..DIM];
            let similarity = |&slot: &usize| values.iter().zip(stored(slot)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let (p, n): (Vec<f64>, Vec<f64>) =
                (positives.iter().map(similarity).collect(), negatives.iter().map(similarity).collect());
            let row = oracle::row(name, &p, &n);
            losses.push(row.loss);
            for (slot, slope) in positives.iter().zip(row.by_positive).chain(negatives.iter().zip(row.by_negative)) {
                for (sum, &value) in gradient[anchor * DIM..].iter_mut().zip(stored(*slot)) {
                    *sum += 0.5 * slope * f64::from(value);
                }
            }
        }
        (gradient, losses)
    }
}

/// A memory of this kind that has taken in a batch of the anchors' rows, as many as it is to hold.
fn memory<B: Backend>(backend: &B, filling: Filling, held: usize, case: &Case) -> EmbeddingMemory<B> {
    let mut memory = EmbeddingMemory::with_filling(backend, 3, DIM, filling).unwrap();
    if held == 0 {
        return memory;
    }
    let count = if case.exclusion == SelfPairs::Slot { case.labels.len() } else { held };
    let (stored, ids): (Vec<f32>, Vec<i32>) = (rows("stored", count), (0..count as i32).collect());
    let labels: Vec<i32> = (0..count).map(|row| case.labels.get(row).copied().unwrap_or(7)).collect();
    memory.enqueue(backend, Span::new(&buffer(backend, &stored), 0, stored.len()), &labels, &ids).unwrap();
    if matches!(filling, Filling::Ring { max_drift: Some(_) }) {
        // No drift was measured yet, so that after another batch, of no rows, no row is known to be young enough.
        memory.enqueue(backend, Span::new(&buffer(backend, &[]), 0, 0), &[], &[]).unwrap();
    }
    memory
}

fn last_slots<B: Backend>(backend: &B, memory: &EmbeddingMemory<B>) -> Vec<i32> {
    let span = memory.last_slots();
    let mut slots = vec![0; span.len];
    backend.download_integers(span, &mut slots).unwrap();
    slots
}

fn equals_the_formulas<B: Backend>(backend: &B, fillings: &[Filling], tolerance: f64) {
    for &filling in fillings {
        let gated = matches!(filling, Filling::Ring { max_drift: Some(_) });
        for exclusion in EXCLUSIONS.into_iter().filter(|&exclusion| !(gated && exclusion == SelfPairs::Slot)) {
            for (held, anchors, classes) in (0..3).flat_map(|held| [(held, 0, 1), (held, 1, 1), (held, 2, 1), (held, 2, 2)]) {
                let case = Case::new(anchors, classes, exclusion);
                let memory = memory(backend, filling, held, &case);
                let mut state = memory.export(backend).unwrap();
                if gated {
                    (state.rows, state.labels, state.ids) = (vec![], vec![], vec![]);
                }
                assert_eq!(memory.usable_rows(), state.labels.len());
                for named in Named::all() {
                    let what = format!("{} {filling:?} {exclusion:?} {held} rows {anchors} anchors {classes} classes", named.name);
                    let found = case.meet(backend, &memory, &named.weighting());
                    let (gradient, losses) = case.expected(named.name, &state, &last_slots(backend, &memory));
                    let beside_one = |values: &[f32]| values.iter().copied().chain([1.0]).collect::<Vec<f32>>();
                    let and_one = |values: Vec<f64>| values.into_iter().chain([1.0]).collect::<Vec<f64>>();
                    assert_close(&format!("{what}: gradient"), &beside_one(&found.gradient), &and_one(gradient), tolerance);
                    assert_close(&format!("{what}: losses"), &beside_one(&found.row_losses), &and_one(losses), tolerance);
                    assert!(found.kept.iter().all(|&kept| (0..=2).contains(&kept)), "{what}: {:?}", found.kept);
                }
            }
        }
    }
}

const RINGS: [Filling; 2] = [Filling::Ring { max_drift: None }, Filling::Ring { max_drift: Some(0.1) }];
const BY_OWNER: [Filling; 2] = [Filling::Instance { average: 0.0 }, Filling::Prototype { average: 0.0 }];

#[test]
fn every_named_loss_has_its_value_where_there_is_next_to_nothing() {
    equals_the_formulas(&cpu(2), &RINGS, SINGLE);
    equals_the_formulas(&cpu(2), &BY_OWNER, SINGLE);
}

#[test]
fn every_named_loss_has_its_value_where_there_is_next_to_nothing_on_a_gpu() {
    let ways = [
        (Precision::Fp32, PairLossPath::Auto, SINGLE),
        (Precision::Fp16, PairLossPath::Fused, HALF),
        (Precision::Fp16, PairLossPath::Unfused, HALF),
    ];
    for (precision, path, tolerance) in ways {
        let Some(cuda) = cuda(precision, path) else { return };
        equals_the_formulas(&cuda, &RINGS, tolerance);
        equals_the_formulas(&cuda, &BY_OWNER[..1], tolerance);
        assert_eq!(software_gpu::take_reports(), Vec::<String>::new());
    }
}

/// Numbers in the place of a memory, none of them, and a batch of none or one compared with itself.
fn operations_take_nothing<B: Backend>(backend: &B) {
    for (weighting, anchors, both) in Named::all()
        .iter()
        .flat_map(|named| [(0, false), (2, false), (0, true), (1, true)].map(|(n, both)| (named.weighting(), n, both)))
    {
        let rows_here = if both { anchors } else { 0 };
        let (embeddings, labels) = (buffer(backend, &rows("alone", anchors)), integers(backend, &vec![3; anchors]));
        let nothing = (buffer(backend, &[]), integers(backend, &[]));
        let (others, other_labels) = if both { (&embeddings, &labels) } else { (&nothing.0, &nothing.1) };
        let slots = integers(backend, &(0..anchors as i32).collect::<Vec<_>>());
        let (mut gradient, mut losses) = (buffer(backend, &vec![9.0; anchors * DIM]), buffer(backend, &vec![9.0; anchors]));
        let mut kept = integers(backend, &vec![9; 2 * anchors]);
        let inputs = PairLossInputs {
            anchors: Span::new(&embeddings, 0, anchors * DIM),
            anchor_labels: Span::new(&labels, 0, anchors),
            memory: CompareWith::Numbers(Span::new(others, 0, rows_here * DIM)),
            memory_labels: Span::new(other_labels, 0, rows_here),
            self_pairs: SelfPairMask::Slot(Span::new(&slots, 0, anchors)),
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::new(&mut gradient, 0, anchors * DIM),
            row_losses: SpanMut::new(&mut losses, 0, anchors),
            kept: SpanMut::new(&mut kept, 0, 2 * anchors),
        };
        let geometry = PairLossGeometry { anchors, rows: rows_here, dim: DIM };
        if both {
            backend
                .batch_pair_loss(PairLossCall {
                    geometry,
                    weighting: &weighting.clone().valid().unwrap(),
                    scale: 1.0,
                    accumulate: false,
                    inputs,
                    outputs,
                })
                .unwrap();
        } else {
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
        }
        assert_eq!(values(backend, &gradient, anchors * DIM), vec![0.0; anchors * DIM]);
        assert_eq!(values(backend, &losses, anchors), vec![0.0; anchors]);
        assert_eq!(integer_values(backend, &kept, 2 * anchors), vec![0; 2 * anchors]);
    }
}

#[test]
fn a_row_that_is_alone_has_no_loss() {
    operations_take_nothing(&cpu(1));
}

#[test]
fn a_row_that_is_alone_has_no_loss_on_a_gpu() {
    for (precision, path) in [(Precision::Fp32, PairLossPath::Auto), (Precision::Fp16, PairLossPath::Fused)] {
        let Some(cuda) = cuda(precision, path) else { return };
        operations_take_nothing(&cuda);
        assert_eq!(software_gpu::take_reports(), Vec::<String>::new());
    }
}
