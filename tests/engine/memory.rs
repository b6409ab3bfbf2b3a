//! The ring of embeddings against a list that is appended to and cut, its loss, and its way through a checkpoint.

use crate::support::{buffer, cpu, integer_values, integers, unit_rows, values};
use proptest::prelude::*;
use xbm_fast::Error;
use xbm_fast::device::{NumberFormat, Span, SpanMut, Storage};
use xbm_fast::loss::{Curve, PairWeighting, Side};
use xbm_fast::memory::{Anchors, EmbeddingMemory, LossSettings, MemorySchedule, MemoryState, SelfPairs};
use xbm_fast::ops::pair_loss::{PairLoss, PairLossOutputs};
use xbm_fast::ops::rows::Rows;

const DIM: usize = 3;

/// Rows numbered from `first`: row `n` has the embedding `(n, n + 0.25, n + 0.5)`, label `n / 2` and instance id `-n`.
fn enqueue<B: Rows>(backend: &B, memory: &mut EmbeddingMemory<B>, first: usize, count: usize) {
    let rows = first..first + count;
    let embeddings: Vec<f32> = rows.clone().flat_map(|row| [0.0, 0.25, 0.5].map(|part| row as f32 + part)).collect();
    let labels: Vec<i32> = rows.clone().map(|row| row as i32 / 2).collect();
    let ids: Vec<i32> = rows.map(|row| -(row as i32)).collect();
    let embeddings = buffer(backend, &embeddings);
    memory.enqueue(backend, Span::new(&embeddings, 0, count * DIM), &labels, &ids).unwrap();
}

/// Row numbers by slot, from an exported state whose three columns must agree.
fn row_numbers(state: &MemoryState) -> Vec<usize> {
    let rows: Vec<usize> = state.rows.chunks(DIM).map(|row| row[0] as usize).collect();
    for (slot, &row) in rows.iter().enumerate() {
        assert_eq!(state.rows[slot * DIM + 2], row as f32 + 0.5);
        assert_eq!((state.labels[slot], state.ids[slot]), (row as i32 / 2, -(row as i32)));
    }
    rows
}

fn last_slots<B: Storage>(backend: &B, memory: &EmbeddingMemory<B>) -> Vec<i32> {
    let mut slots = vec![0; memory.last_slots().len];
    backend.download_integers(memory.last_slots(), &mut slots).unwrap();
    slots
}

proptest! {
    #[test]
    fn batches_land_where_single_rows_would(capacity in 1usize..12, batches in prop::collection::vec(0usize..30, 0..8)) {
        let backend = cpu(1);
        let mut memory = EmbeddingMemory::new(&backend, capacity, DIM).unwrap();
        let mut ring: Vec<usize> = vec![];
        let mut total = 0;
        for batch in batches {
            enqueue(&backend, &mut memory, total, batch);
            for row in total..total + batch {
                if ring.len() < capacity { ring.push(row) } else { ring[row % capacity] = row }
            }
            let slots = last_slots(&backend, &memory);
            for (index, slot) in slots.iter().enumerate() {
                let expected = ring.iter().position(|&row| row == total + index).map_or(-1, |slot| slot as i32);
                prop_assert_eq!(*slot, expected);
            }
            prop_assert_eq!(slots.len(), batch);
            total += batch;
            let state = memory.export(&backend).unwrap();
            prop_assert_eq!(row_numbers(&state), ring.clone());
            prop_assert_eq!((memory.count(), memory.head()), (ring.len(), total % capacity));
        }
    }
}

#[test]
fn a_batch_larger_than_the_ring_keeps_its_last_rows() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::new(&backend, 4, DIM).unwrap();
    enqueue(&backend, &mut memory, 0, 10);
    assert_eq!(row_numbers(&memory.export(&backend).unwrap()), [8, 9, 6, 7]);
    assert_eq!(last_slots(&backend, &memory), [-1, -1, -1, -1, -1, -1, 2, 3, 0, 1]);
}

#[test]
fn a_batch_that_is_no_batch_leaves_the_memory_as_it_was() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::new(&backend, 4, DIM).unwrap();
    enqueue(&backend, &mut memory, 0, 2);
    let before = memory.export(&backend).unwrap();
    let (rows, two, three) = (vec![0.0; 6], vec![1; 2], vec![1; 3]);
    for (labels, ids) in [(&two, &three), (&three, &two), (&three, &three)] {
        let error = memory.enqueue(&backend, Span::all(&rows), labels, ids).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
    assert_eq!(memory.export(&backend).unwrap(), before);
    assert_eq!(last_slots(&backend, &memory), [0, 1]);
}

#[test]
fn a_cleared_memory_starts_over() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::new(&backend, 4, DIM).unwrap();
    enqueue(&backend, &mut memory, 0, 6);
    memory.clear();
    assert_eq!((memory.count(), memory.head(), memory.last_slots().len), (0, 0, 0));
    enqueue(&backend, &mut memory, 7, 1);
    assert_eq!(row_numbers(&memory.export(&backend).unwrap()), [7]);
}

#[test]
fn a_restored_memory_goes_on_like_the_one_that_was_exported() {
    let backend = cpu(1);
    for filled in [0, 3, 5, 13] {
        let mut original = EmbeddingMemory::new(&backend, 5, DIM).unwrap();
        enqueue(&backend, &mut original, 0, filled);
        let state = original.export(&backend).unwrap();
        let mut restored = EmbeddingMemory::new(&backend, 5, DIM).unwrap();
        enqueue(&backend, &mut restored, 50, 4);
        restored.restore(&backend, &state).unwrap();
        assert_eq!(restored.export(&backend).unwrap(), state);
        for memory in [&mut original, &mut restored] {
            enqueue(&backend, memory, filled, 4);
        }
        assert_eq!(restored.export(&backend).unwrap(), original.export(&backend).unwrap());
        assert_eq!(last_slots(&backend, &restored), last_slots(&backend, &original));
    }
}

type Spoil = fn(&mut MemoryState);

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::new(&backend, 4, DIM).unwrap();
    enqueue(&backend, &mut memory, 0, 3);
    let sound = memory.export(&backend).unwrap();
    let spoil: [(&str, Spoil); 9] = [
        ("saved memory: expected 4 rows of length 3, found 5 rows", |state| state.capacity = 5),
        ("saved memory: expected 4 rows of length 3, found 4 rows of length 2", |state| state.dim = 2),
        ("saved memory: expected at most 4 rows in use, found 5", |state| state.labels = vec![0; 5]),
        ("saved memory rows", |state| state.rows.truncate(8)),
        ("saved memory instance ids", |state| state.ids.truncate(2)),
        ("saved memory times: expected 3 values, found 2 values", |state| state.written.truncate(2)),
        ("saved memory times: expected at most 1, the memory's clock, found 9", |state| state.written[1] = 9),
        ("saved memory head: expected 3 to 3 with 3 rows in use, found 0", |state| state.head = 0),
        ("saved memory head", |state| state.head = 4),
    ];
    for (expected, spoil) in spoil {
        let mut state = sound.clone();
        spoil(&mut state);
        let error = memory.restore(&backend, &state).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(memory.export(&backend).unwrap(), sound);
    }
}

#[test]
fn a_memory_without_rows_or_columns_is_refused() {
    for (capacity, dim) in [(0, 3), (3, 0), (usize::MAX, 1)] {
        assert!(matches!(EmbeddingMemory::new(&cpu(1), capacity, dim), Err(Error::Config(_))));
    }
}

/// Kept counts and gradient of unit anchors against a memory, every pair being kept.
fn loss<B: PairLoss>(backend: &B, memory: &EmbeddingMemory<B>, batch: &Batch, exclusion: SelfPairs) -> (Vec<i32>, Vec<f32>) {
    try_loss(backend, memory, batch, exclusion).unwrap()
}

fn try_loss<B: PairLoss>(
    backend: &B,
    memory: &EmbeddingMemory<B>,
    batch: &Batch,
    exclusion: SelfPairs,
) -> Result<(Vec<i32>, Vec<f32>), Error> {
    let count = batch.labels.len();
    let embeddings = buffer(backend, &batch.embeddings);
    let (labels, ids) = (integers(backend, &batch.labels), integers(backend, &batch.ids));
    let mut gradient = backend.zeros(count * DIM, NumberFormat::Full).unwrap();
    let mut row_losses = backend.zeros(count, NumberFormat::Full).unwrap();
    let mut kept = backend.zero_integers(2 * count).unwrap();
    let anchors = Anchors {
        embeddings: Span::new(&embeddings, 0, count * DIM),
        labels: Span::new(&labels, 0, count),
        ids: Span::new(&ids, 0, count),
        soft_labels: None,
    };
    let outputs = PairLossOutputs {
        gradient: SpanMut::new(&mut gradient, 0, count * DIM),
        row_losses: SpanMut::new(&mut row_losses, 0, count),
        kept: SpanMut::new(&mut kept, 0, 2 * count),
    };
    let negative = Side::ungated(Curve::Constant(1.0));
    let weighting = PairWeighting { negative, ..PairWeighting::contrastive() };
    let settings =
        LossSettings { weighting: &weighting.clone().valid().unwrap(), scale: 1.0, self_pairs: exclusion, accumulate: false };
    memory.pair_loss(backend, settings, anchors, outputs)?;
    Ok((integer_values(backend, &kept, 2 * count), values(backend, &gradient, count * DIM)))
}

struct Batch {
    embeddings: Vec<f32>,
    labels: Vec<i32>,
    ids: Vec<i32>,
}

impl Batch {
    fn new(name: &str, labels: &[i32], ids: &[i32]) -> Self {
        Self { embeddings: unit_rows(name, labels.len(), DIM), labels: labels.to_vec(), ids: ids.to_vec() }
    }

    fn enqueue<B: Rows>(&self, backend: &B, memory: &mut EmbeddingMemory<B>) {
        let embeddings = buffer(backend, &self.embeddings);
        memory.enqueue(backend, Span::new(&embeddings, 0, self.embeddings.len()), &self.labels, &self.ids).unwrap();
    }
}

#[test]
fn an_anchor_is_no_pair_with_itself_whichever_comes_first() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::new(&backend, 7, DIM).unwrap();
    Batch::new("older", &[0, 0, 1, 1], &[10, 11, 12, 13]).enqueue(&backend, &mut memory);
    let batch = Batch::new("batch", &[0, 1], &[20, 21]);
    let before = loss(&backend, &memory, &batch, SelfPairs::Instance);
    assert_eq!(before.0, [2, 2, 2, 2]);
    batch.enqueue(&backend, &mut memory);
    let by_instance = loss(&backend, &memory, &batch, SelfPairs::Instance);
    assert_eq!(by_instance.0, [2, 3, 2, 3]);
    assert_eq!(by_instance, loss(&backend, &memory, &batch, SelfPairs::Slot));
}

#[test]
fn an_older_embedding_of_the_anchor_is_a_pair_only_by_slot() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::new(&backend, 7, DIM).unwrap();
    Batch::new("older", &[0, 0], &[10, 11]).enqueue(&backend, &mut memory);
    let batch = Batch::new("batch", &[0], &[10]);
    batch.enqueue(&backend, &mut memory);
    assert_eq!(loss(&backend, &memory, &batch, SelfPairs::Instance).0, [1, 0]);
    assert_eq!(loss(&backend, &memory, &batch, SelfPairs::Slot).0, [2, 0]);
}

#[test]
fn exclusion_by_slot_needs_the_batch_that_was_enqueued_last() {
    let backend = cpu(1);
    let mut memory = EmbeddingMemory::new(&backend, 7, DIM).unwrap();
    Batch::new("older", &[0, 0], &[10, 11]).enqueue(&backend, &mut memory);
    let batch = Batch::new("batch", &[0, 0, 0], &[12, 13, 14]);
    let error = try_loss(&backend, &memory, &batch, SelfPairs::Slot).unwrap_err().to_string();
    assert_eq!(error, "own slots: expected 3 values, found 2 values");
}

#[test]
fn an_empty_memory_has_no_loss() {
    let backend = cpu(2);
    let memory = EmbeddingMemory::new(&backend, 7, DIM).unwrap();
    let batch = Batch::new("batch", &[0, 1], &[0, 1]);
    assert_eq!(loss(&backend, &memory, &batch, SelfPairs::Instance), (vec![0; 4], vec![0.0; 6]));
}

#[test]
fn the_weight_of_the_memory_rises_linearly_from_its_start() {
    let schedule = MemorySchedule { start: 100, ramp: 4, weight: 2.0 };
    let found = [0, 99, 100, 101, 103, 104, 1_000_000].map(|step| schedule.weight_at(step));
    assert_eq!(found, [0.0, 0.0, 0.0, 0.5, 1.5, 2.0, 2.0]);
    let at_once = MemorySchedule { start: 3, ramp: 0, weight: 0.5 };
    assert_eq!([2, 3].map(|step| at_once.weight_at(step)), [0.0, 0.5]);
}
