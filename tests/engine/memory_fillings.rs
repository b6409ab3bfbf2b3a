//! Memories with a row for each image or class, the drift meter, and the ring gated by drift, each against plain loops.

use crate::support::{buffer, cpu, integer_values, integers, unit_rows, values};
use proptest::prelude::*;
use xbm_fast::Error;
use xbm_fast::device::{Cpu, NumberFormat, RowPrecision, Span, SpanMut, Storage};
use xbm_fast::loss::{Curve, PairWeighting, Side};
use xbm_fast::memory::{Anchors, DriftMeter, EmbeddingMemory, Filling, LossSettings, SelfPairs};
use xbm_fast::ops::pair_loss::PairLossOutputs;

const DIM: usize = 3;
/// Rows are held in 32 bit; the reference averages in 64 bit.
const ROUNDING: f64 = 1e-5;

/// A batch: unit embeddings, labels and instance ids.
#[derive(Clone, Debug)]
struct Batch {
    embeddings: Vec<f32>,
    labels: Vec<i32>,
    ids: Vec<i32>,
}

impl Batch {
    /// Images of the given ids; the class of image `id` is `id / 3`.
    fn new(name: &str, ids: &[i32]) -> Self {
        Self { embeddings: unit_rows(name, ids.len(), DIM), labels: ids.iter().map(|id| id / 3).collect(), ids: ids.to_vec() }
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.embeddings[index * DIM..][..DIM]
    }

    fn enqueue(&self, backend: &Cpu, memory: &mut EmbeddingMemory<Cpu>) -> Result<(), Error> {
        memory.enqueue(backend, Span::all(&self.embeddings), &self.labels, &self.ids)
    }
}

fn batches(ids: &[Vec<i32>]) -> Vec<Batch> {
    ids.iter().enumerate().map(|(number, ids)| Batch::new(&format!("batch {number}"), ids)).collect()
}

/// Owner and row of each slot: what averaging each owner's embeddings one by one leaves behind.
fn averaged(batches: &[Batch], owner: fn(&Batch, usize) -> i32, average: f64) -> Vec<(i32, Vec<f64>)> {
    let mut slots: Vec<(i32, Vec<f64>)> = vec![];
    for batch in batches {
        for index in 0..batch.ids.len() {
            let new: Vec<f64> = batch.row(index).iter().map(|&value| f64::from(value)).collect();
            let owner = owner(batch, index);
            let Some((_, row)) = slots.iter_mut().find(|(known, _)| *known == owner) else {
                slots.push((owner, new));
                continue;
            };
            let blended: Vec<f64> = row.iter().zip(&new).map(|(old, new)| average * old + (1.0 - average) * new).collect();
            let norm = blended.iter().map(|value| value * value).sum::<f64>().sqrt();
            *row = blended.into_iter().map(|value| value / norm).collect();
        }
    }
    slots
}

fn some_batches() -> impl Strategy<Value = Vec<Vec<i32>>> {
    prop::collection::vec(prop::collection::vec(0i32..12, 1..7), 1..9)
}

proptest! {
    #[test]
    fn an_instance_memory_holds_the_average_of_each_image(ids in some_batches(), average in prop::sample::select(vec![0.0f32, 0.5, 0.9])) {
        let (backend, batches) = (cpu(1), batches(&ids));
        let mut memory = EmbeddingMemory::with_filling(&backend, 12, DIM, Filling::Instance { average }).unwrap();
        batches.iter().for_each(|batch| batch.enqueue(&backend, &mut memory).unwrap());
        let expected = averaged(&batches, |batch, index| batch.ids[index], f64::from(average));
        let state = memory.export(&backend).unwrap();
        let owners: Vec<i32> = expected.iter().map(|(owner, _)| *owner).collect();
        let labels: Vec<i32> = owners.iter().map(|id| id / 3).collect();
        prop_assert_eq!((state.ids, state.labels), (owners, labels));
        crate::support::assert_close("rows", &state.rows, &expected.into_iter().flat_map(|(_, row)| row).collect::<Vec<_>>(), ROUNDING);
    }

    #[test]
    fn a_prototype_memory_holds_the_average_of_each_class(ids in some_batches(), average in prop::sample::select(vec![0.5f32, 0.9])) {
        let (backend, batches) = (cpu(1), batches(&ids));
        let mut memory = EmbeddingMemory::with_filling(&backend, 4, DIM, Filling::Prototype { average }).unwrap();
        batches.iter().for_each(|batch| batch.enqueue(&backend, &mut memory).unwrap());
        let expected = averaged(&batches, |batch, index| batch.labels[index], f64::from(average));
        let state = memory.export(&backend).unwrap();
        prop_assert_eq!(state.labels, expected.iter().map(|(owner, _)| *owner).collect::<Vec<_>>());
        prop_assert!(state.ids.iter().all(|&id| id == -1));
        crate::support::assert_close("rows", &state.rows, &expected.into_iter().flat_map(|(_, row)| row).collect::<Vec<_>>(), ROUNDING);
    }

    #[test]
    fn a_restored_memory_goes_on_like_the_one_that_was_exported(
        ids in some_batches(), more in some_batches(), kind in 0usize..4, half in any::<bool>(),
    ) {
        let precision = if half { RowPrecision::F16 } else { RowPrecision::Compute };
        let filling = [
            Filling::Ring { max_drift: None },
            Filling::Ring { max_drift: Some(0.7) },
            Filling::Instance { average: 0.5 },
            Filling::Prototype { average: 0.5 },
        ][kind];
        let capacity = if kind < 2 { 7 } else { 12 };
        let backend = cpu(1);
        let new = || EmbeddingMemory::with_precision(&backend, capacity, DIM, filling, precision).unwrap();
        let mut original = new();
        batches(&ids).iter().for_each(|batch| batch.enqueue(&backend, &mut original).unwrap());
        let mut restored = new();
        restored.restore(&backend, &original.export(&backend).unwrap()).unwrap();
        for batch in batches(&more) {
            for memory in [&mut original, &mut restored] {
                batch.enqueue(&backend, memory).unwrap();
            }
            prop_assert_eq!(original.export(&backend).unwrap(), restored.export(&backend).unwrap());
            prop_assert_eq!(loss(&backend, &original, &batch), loss(&backend, &restored, &batch));
        }
    }

    /// Every image that comes again is compared with the row it had left, while that row is still there.
    #[test]
    fn drift_is_one_minus_the_similarity_with_the_stored_row_by_its_age(ids in some_batches(), capacity in 3usize..9) {
        let (backend, batches) = (cpu(1), batches(&ids));
        let mut memory = EmbeddingMemory::new(&backend, capacity, DIM).unwrap();
        let mut expected = DriftMeter::default();
        let mut history: Vec<(i32, Vec<f32>, usize)> = vec![];
        for (time, batch) in batches.iter().enumerate() {
            expected.fade();
            let held = &history[history.len().saturating_sub(capacity)..];
            for index in 0..batch.ids.len() {
                if let Some((_, row, stored)) = held.iter().rev().find(|(id, ..)| *id == batch.ids[index]) {
                    let similarity = row.iter().zip(batch.row(index)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    expected.add((time - stored) as u32, similarity);
                }
            }
            batch.enqueue(&backend, &mut memory).unwrap();
            history.extend((0..batch.ids.len()).map(|index| (batch.ids[index], batch.row(index).to_vec(), time)));
        }
        prop_assert_eq!(memory.drift(), &expected);
    }

    /// The gated ring against a memory that holds nothing but the rows that are young enough.
    #[test]
    fn a_gated_ring_compares_with_its_young_rows_only(
        ids in prop::collection::vec(prop::collection::vec(0i32..6, 1..7), 3..12),
        capacity in 6usize..14,
        limit in 0.05f32..1.9,
    ) {
        let (backend, batches) = (cpu(1), batches(&ids));
        let mut gated = EmbeddingMemory::with_filling(&backend, capacity, DIM, Filling::Ring { max_drift: Some(limit) }).unwrap();
        for (time, batch) in batches.iter().enumerate() {
            batch.enqueue(&backend, &mut gated).unwrap();
            let oldest = gated.drift().oldest_below(f64::from(limit)) as usize;
            let young: Vec<&Batch> = batches[..=time].iter().skip(time.saturating_sub(oldest)).collect();
            let total: usize = young.iter().map(|batch| batch.ids.len()).sum();
            let mut plain = EmbeddingMemory::new(&backend, total.min(capacity), DIM).unwrap();
            young.iter().for_each(|batch| batch.enqueue(&backend, &mut plain).unwrap());
            let (found, expected) = (loss(&backend, &gated, batch), loss(&backend, &plain, batch));
            prop_assert_eq!(found.rows, plain.count());
            prop_assert_eq!(found.kept, expected.kept);
            let expected: Vec<f64> = expected.gradient.iter().map(|&value| f64::from(value)).collect();
            // Sums over the same rows in another order.
            crate::support::assert_close("gradient", &found.gradient, &expected, ROUNDING);
        }
    }
}

#[derive(Debug, PartialEq)]
struct Loss {
    rows: usize,
    kept: Vec<i32>,
    gradient: Vec<f32>,
}

/// Loss of a batch against a memory, every pair being kept.
fn loss(backend: &Cpu, memory: &EmbeddingMemory<Cpu>, batch: &Batch) -> Loss {
    let count = batch.ids.len();
    let embeddings = buffer(backend, &batch.embeddings);
    let (labels, ids) = (integers(backend, &batch.labels), integers(backend, &batch.ids));
    let mut gradient = backend.zeros(count * DIM, NumberFormat::Full).unwrap();
    let mut row_losses = backend.zeros(count, NumberFormat::Full).unwrap();
    let mut kept = backend.zero_integers(2 * count).unwrap();
    let anchors =
        Anchors { embeddings: Span::all(&embeddings), labels: Span::all(&labels), ids: Span::all(&ids), soft_labels: None };
    let outputs = PairLossOutputs {
        gradient: SpanMut::all(&mut gradient),
        row_losses: SpanMut::all(&mut row_losses),
        kept: SpanMut::all(&mut kept),
    };
    let negative = Side::ungated(Curve::Constant(1.0));
    let weighting = PairWeighting { negative, ..PairWeighting::contrastive() };
    let settings = LossSettings {
        weighting: &weighting.clone().valid().unwrap(),
        scale: 1.0,
        self_pairs: SelfPairs::Instance,
        accumulate: false,
    };
    let rows = memory.pair_loss(backend, settings, anchors, outputs).unwrap();
    Loss { rows, kept: integer_values(backend, &kept, 2 * count), gradient: values(backend, &gradient, count * DIM) }
}

#[test]
fn an_image_is_a_pair_with_the_prototype_of_its_own_class() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::with_filling(&backend, 4, DIM, Filling::Prototype { average: 0.5 }).unwrap();
    let batch = Batch::new("batch", &[0, 1, 3]);
    batch.enqueue(&backend, &mut memory).unwrap();
    assert_eq!(loss(&backend, &memory, &batch).kept, [1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_memory_with_a_row_for_each_image_says_when_it_has_no_more() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::with_filling(&backend, 2, DIM, Filling::Instance { average: 0.0 }).unwrap();
    Batch::new("first", &[5, 6]).enqueue(&backend, &mut memory).unwrap();
    Batch::new("again", &[6, 5, 6]).enqueue(&backend, &mut memory).unwrap();
    let error = Batch::new("another", &[7]).enqueue(&backend, &mut memory).unwrap_err().to_string();
    assert!(error.contains("2 rows"), "{error}");
}

#[test]
fn opposite_embeddings_weighed_alike_leave_the_new_one() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::with_filling(&backend, 1, 2, Filling::Instance { average: 0.5 }).unwrap();
    for row in [vec![1.0, 0.0], vec![-1.0, 0.0]] {
        memory.enqueue(&backend, Span::all(&row), &[0], &[0]).unwrap();
    }
    assert_eq!(memory.export(&backend).unwrap().rows, [-1.0, 0.0]);
}

#[test]
fn ages_are_binned_by_powers_of_two_and_few_measurements_are_not_believed() {
    let mut meter = DriftMeter::default();
    for (age, similarity) in [(1, 0.9), (2, 0.8), (3, 0.6), (16, 0.2)] {
        (0..3).for_each(|_| meter.add(age, similarity));
    }
    (0..2).for_each(|_| meter.add(64, 0.0));
    let found: Vec<(u32, f64)> = meter.by_age().collect();
    let expected = [(1, 0.1), (2, 0.3), (16, 0.8)];
    assert!(found.len() == 3 && found.iter().zip(expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12), "{found:?}");
    assert_eq!([0.05, 0.2, 0.5, 0.9].map(|limit| meter.oldest_below(limit)), [0, 1, 3, 31]);
}

#[test]
fn old_measurements_fade() {
    let mut meter = DriftMeter::default();
    (0..10).for_each(|_| meter.add(1, 0.0));
    (0..100).for_each(|_| meter.fade());
    (0..10).for_each(|_| meter.add(1, 1.0));
    let (_, mean) = meter.by_age().next().unwrap();
    // 10 old ones at 0.99^100 each beside 10 new ones of drift 0.
    let old = 0.99f64.powi(100);
    assert!((mean - old / (1.0 + old)).abs() < 1e-12, "{mean}");
    (0..500).for_each(|_| meter.fade());
    assert_eq!(meter.by_age().count(), 0);
}
