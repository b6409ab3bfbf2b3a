//! The embedding memory: a ring that wraps, what of it is a pair, and what is not in it yet.

use crate::support::{buffer, cpu, integer_values, integers, unit_rows};
use xbm_fast::device::{Cpu, NumberFormat, Span, SpanMut, Storage};
use xbm_fast::loss::PairWeighting;
use xbm_fast::memory::{Anchors, EmbeddingMemory, LossSettings, MemorySchedule, SelfPairs};
use xbm_fast::ops::pair_loss::PairLossOutputs;

const DIM: usize = 4;

/// Labelled images with embeddings of their own.
#[derive(Clone)]
struct Batch {
    embeddings: Vec<f32>,
    labels: Vec<i32>,
    ids: Vec<i32>,
}

impl Batch {
    fn new(labels: &[i32], ids: &[i32]) -> Self {
        Self { embeddings: unit_rows(&format!("{ids:?}"), ids.len(), DIM), labels: labels.to_vec(), ids: ids.to_vec() }
    }

    fn enqueue(&self, backend: &Cpu, memory: &mut EmbeddingMemory<Cpu>) {
        let embeddings = buffer(backend, &self.embeddings);
        memory.enqueue(backend, Span::all(&embeddings), &self.labels, &self.ids).unwrap();
    }

    /// Positives and negatives of each image in the memory, every pair counting.
    fn pairs(&self, memory: &EmbeddingMemory<Cpu>, exclusion: SelfPairs) -> Vec<[i32; 2]> {
        let (backend, count) = (cpu(1), self.labels.len());
        let embeddings = buffer(&backend, &self.embeddings);
        let (labels, ids) = (integers(&backend, &self.labels), integers(&backend, &self.ids));
        let mut gradient = backend.zeros(count * DIM, NumberFormat::Full).unwrap();
        let mut row_losses = backend.zeros(count, NumberFormat::Full).unwrap();
        let mut kept = backend.zero_integers(2 * count).unwrap();
        let weighting: PairWeighting = "contrastive:negative=-1".parse().unwrap();
        let settings =
            LossSettings { weighting: &weighting.clone().valid().unwrap(), scale: 1.0, self_pairs: exclusion, accumulate: false };
        let anchors = Anchors {
            embeddings: Span::all(&embeddings),
            labels: Span::new(&labels, 0, count),
            ids: Span::new(&ids, 0, count),
            soft_labels: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::all(&mut gradient),
            row_losses: SpanMut::all(&mut row_losses),
            kept: SpanMut::new(&mut kept, 0, 2 * count),
        };
        memory.pair_loss(&backend, settings, anchors, outputs).unwrap();
        integer_values(&backend, &kept, 2 * count).chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
    }
}

fn ring(capacity: usize) -> (Cpu, EmbeddingMemory<Cpu>) {
    let backend = cpu(1);
    let memory = EmbeddingMemory::new(&backend, capacity, DIM).unwrap();
    (backend, memory)
}

/// The ids in a memory, by slot.
fn ids(backend: &Cpu, memory: &EmbeddingMemory<Cpu>) -> Vec<i32> {
    memory.export(backend).unwrap().ids
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/54: whether a batch that is split at the end of the queue leaves the oldest.
#[test]
fn a_batch_that_wraps_takes_the_slots_of_the_oldest_rows() {
    let (backend, mut memory) = ring(5);
    for first in [0, 3, 6] {
        Batch::new(&[0; 3], &[first, first + 1, first + 2]).enqueue(&backend, &mut memory);
    }
    let mut kept = ids(&backend, &memory);
    assert_eq!(kept, [5, 6, 7, 8, 4]);
    kept.sort_unstable();
    assert_eq!(kept, [4, 5, 6, 7, 8], "the last five of nine");
}

// github.com/facebookresearch/moco/pull/100: a last batch that was smaller than the others failed an assertion.
// github.com/xinntao/Real-ESRGAN/issues/151: a queue had to be a multiple of the batch.
#[test]
fn batches_of_any_size_fill_a_memory_of_any_size() {
    for (capacity, batches) in [(7, vec![3, 3, 3, 1, 2]), (4, vec![6]), (3, vec![1, 9, 2])] {
        let (backend, mut memory) = ring(capacity);
        let mut next = 0;
        for size in batches {
            let new: Vec<i32> = (next..next + size).collect();
            Batch::new(&vec![0; new.len()], &new).enqueue(&backend, &mut memory);
            next += size;
        }
        let mut kept = ids(&backend, &memory);
        kept.sort_unstable();
        let oldest = (next - capacity as i32).max(0);
        assert_eq!(kept, (oldest..next).collect::<Vec<_>>(), "capacity {capacity}");
    }
}

// github.com/Toni-SM/skrl/pull/328: the write position moved on for each column of a batch, and slots were skipped.
#[test]
fn columns_of_a_row_stay_together_and_the_head_moves_once() {
    let (backend, mut memory) = ring(6);
    for step in 0..5 {
        let batch = Batch::new(&[step, step + 100], &[10 * step, 10 * step + 1]);
        batch.enqueue(&backend, &mut memory);
        let state = memory.export(&backend).unwrap();
        let head = (2 * (step as usize + 1)) % 6;
        assert_eq!((state.head, state.ids.len()), (head, (2 * (step as usize + 1)).min(6)));
        for (row, slot) in [0, 1].into_iter().zip([(head + 4) % 6, (head + 5) % 6]) {
            assert_eq!(state.rows[slot * DIM..][..DIM], batch.embeddings[row * DIM..][..DIM]);
            assert_eq!((state.labels[slot], state.ids[slot]), (batch.labels[row], batch.ids[row]));
        }
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/24: pairs inside the batch were missing, for it was stored after its loss.
#[test]
fn a_batch_that_is_stored_first_meets_itself() {
    let (backend, mut memory) = ring(8);
    Batch::new(&[0, 1], &[0, 1]).enqueue(&backend, &mut memory);
    let batch = Batch::new(&[0, 0, 2], &[10, 11, 12]);
    assert_eq!(batch.pairs(&memory, SelfPairs::Instance), [[1, 1], [1, 1], [0, 2]]);
    batch.enqueue(&backend, &mut memory);
    assert_eq!(batch.pairs(&memory, SelfPairs::Instance), [[2, 2], [2, 2], [0, 4]]);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/141: an anchor was a positive of its own row in the queue.
#[test]
fn an_anchor_is_no_pair_of_its_own_row_wherever_it_was_stored() {
    for older in 0..7 {
        let (backend, mut memory) = ring(7);
        Batch::new(&vec![9; older], &(0..older as i32).collect::<Vec<_>>()).enqueue(&backend, &mut memory);
        let batch = Batch::new(&[5, 5, 5], &[20, 21, 22]);
        batch.enqueue(&backend, &mut memory);
        let negatives = older.min(4) as i32;
        for exclusion in [SelfPairs::Instance, SelfPairs::Slot] {
            assert_eq!(batch.pairs(&memory, exclusion), [[2, negatives]; 3], "{exclusion:?} after {older} rows");
        }
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/142: only one half of a batch is to be stored, as MoCo does.
// github.com/KevinMusgrave/pytorch-metric-learning/issues/599: queries were compared with themselves though only keys were wanted.
#[test]
fn a_part_of_a_batch_can_be_stored_and_meets_the_other_part() {
    let (backend, mut memory) = ring(6);
    let (queries, keys) = (Batch::new(&[0, 1, 2], &[0, 1, 2]), Batch::new(&[0, 1, 2], &[10, 11, 12]));
    keys.enqueue(&backend, &mut memory);
    assert_eq!(queries.pairs(&memory, SelfPairs::Instance), [[1, 2]; 3]);
    assert_eq!(keys.pairs(&memory, SelfPairs::Instance), [[0, 2]; 3]);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/138: with the batch's own numbers as labels every batch met false positives.
#[test]
fn rows_of_other_labels_are_all_negatives() {
    let (backend, mut memory) = ring(6);
    for step in 0..3 {
        let labels = [step * 2, step * 2 + 1];
        let batch = Batch::new(&labels, &labels);
        assert_eq!(batch.pairs(&memory, SelfPairs::Instance), [[0, step * 2]; 2]);
        batch.enqueue(&backend, &mut memory);
    }
}

// github.com/facebookresearch/moco/issues/146: a memory larger than the data set holds older embeddings of the anchors as negatives.
#[test]
fn older_embeddings_of_the_anchors_image_are_no_pairs() {
    let (backend, mut memory) = ring(16);
    let whole_set = Batch::new(&[0, 0, 1], &[0, 1, 2]);
    for _ in 0..4 {
        whole_set.enqueue(&backend, &mut memory);
    }
    assert_eq!(memory.count(), 12);
    assert_eq!(whole_set.pairs(&memory, SelfPairs::Instance), [[4, 4], [4, 4], [0, 8]]);
}

// github.com/lightly-ai/lightly/issues/564: the first of two losses stored its batch, and the second met it as negatives.
#[test]
fn a_loss_leaves_the_memory_as_it_was() {
    let (backend, mut memory) = ring(5);
    Batch::new(&[0, 1, 1], &[0, 1, 2]).enqueue(&backend, &mut memory);
    let (before, batch) = (memory.export(&backend).unwrap(), Batch::new(&[0, 1], &[5, 6]));
    let first = batch.pairs(&memory, SelfPairs::Instance);
    assert_eq!(batch.pairs(&memory, SelfPairs::Instance), first);
    assert_eq!(memory.export(&backend).unwrap(), before);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/330: a reset wrote zeros, which are the rows of a class 0.
#[test]
fn slots_that_were_never_filled_or_were_cleared_are_no_rows_of_class_zero() {
    let (backend, mut memory) = ring(100);
    let batch = Batch::new(&[0, 0, 1], &[0, 1, 2]);
    assert_eq!(batch.pairs(&memory, SelfPairs::Instance), [[0, 0]; 3]);
    batch.enqueue(&backend, &mut memory);
    assert_eq!(batch.pairs(&memory, SelfPairs::Instance), [[1, 1], [1, 1], [0, 2]]);
    memory.clear();
    assert_eq!(batch.pairs(&memory, SelfPairs::Instance), [[0, 0]; 3]);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/478: the first thousand steps are to be trained without the memory.
#[test]
fn the_memory_waits_for_its_first_step() {
    let schedule = MemorySchedule { start: 1000, ramp: 0, weight: 1.0 };
    assert_eq!([0, 999, 1000, 1001].map(|step| schedule.weight_at(step)), [0.0, 0.0, 1.0, 1.0]);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/421: whether a queue of 1,024 rows grows while training goes on.
#[test]
fn a_full_memory_grows_no_further() {
    let (backend, mut memory) = ring(8);
    for step in 0..50 {
        Batch::new(&[step; 3], &[3 * step, 3 * step + 1, 3 * step + 2]).enqueue(&backend, &mut memory);
    }
    let state = memory.export(&backend).unwrap();
    assert_eq!((memory.count(), state.rows.len(), state.labels.len(), state.ids.len()), (8, 8 * DIM, 8, 8));
}

// github.com/huggingface/sentence-transformers/issues/3189: one text as the positive of several anchors was a negative of each, too.
#[test]
fn images_of_a_class_are_never_each_others_negatives() {
    let (backend, mut memory) = ring(12);
    let labels = [7, 7, 7, 7, 8];
    let batch = Batch::new(&labels, &[0, 1, 2, 3, 4]);
    batch.enqueue(&backend, &mut memory);
    assert_eq!(batch.pairs(&memory, SelfPairs::Instance), [[3, 1], [3, 1], [3, 1], [3, 1], [0, 4]]);
}
