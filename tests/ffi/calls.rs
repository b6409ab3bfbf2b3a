//! What the functions compute, against the library's own interface.

use super::support::{buffer, cpu, integer_values, integers, unit_rows, values};
use proptest::prelude::*;
use std::ffi::CStr;
use std::ptr::{null, null_mut};
use xbm_fast::device::{Cpu, NumberFormat, Span, SpanMut, Storage};
use xbm_fast::evaluate::{Embeddings, evaluate_all};
use xbm_fast::ffi::*;
use xbm_fast::loss::PairWeighting;
use xbm_fast::memory::{Anchors, EmbeddingMemory, LossSettings, SelfPairs};
use xbm_fast::ops::pair_loss::PairLossOutputs;

/// Handles that are ended when the test is.
pub struct Handles {
    pub engine: *mut XbmEngine,
    pub weighting: *mut XbmWeighting,
    pub memory: *mut XbmMemory,
}

impl Handles {
    pub fn new(capacity: usize, dim: usize) -> Self {
        Self::on(c"cpu", XBM_DTYPE_DEFAULT, capacity, dim)
    }

    pub fn on(device: &CStr, dtype: i32, capacity: usize, dim: usize) -> Self {
        let mut handles = Self { engine: null_mut(), weighting: null_mut(), memory: null_mut() };
        // SAFETY: texts that end with a zero, and places for handles.
        unsafe {
            ok(xbm_engine_create(device.as_ptr(), null(), 2, &mut handles.engine));
            ok(xbm_weighting_create(c"contrastive".as_ptr(), &mut handles.weighting));
            ok(xbm_memory_create(handles.engine, capacity, dim, dtype, &mut handles.memory));
        }
        handles
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        ok(xbm_memory_destroy(self.memory));
        ok(xbm_weighting_destroy(self.weighting));
        ok(xbm_engine_destroy(self.engine));
    }
}

pub fn last_error() -> String {
    // SAFETY: a text that ends with a zero, valid until the next failure.
    unsafe { CStr::from_ptr(xbm_last_error()) }.to_str().unwrap().to_owned()
}

#[track_caller]
pub fn ok(status: Status) {
    assert_eq!(status, Status::Ok, "{}", last_error());
}

pub fn batch(embeddings: &[f32], labels: &[i32], ids: Option<&[i32]>) -> XbmBatch {
    XbmBatch {
        embeddings: embeddings.as_ptr().cast(),
        labels: labels.as_ptr(),
        ids: ids.map_or(null(), <[i32]>::as_ptr),
        rows: labels.len(),
        dim: embeddings.len() / labels.len().max(1),
        location: XBM_HOST,
        dtype: XBM_DTYPE_DEFAULT,
    }
}

#[derive(Debug, PartialEq)]
pub struct Results {
    pub gradient: Vec<f32>,
    pub row_losses: Vec<f32>,
    pub kept: Vec<i32>,
    pub loss: f64,
}

pub fn loss_through_c(handles: &Handles, anchors: &XbmBatch, settings: XbmLossSettings, gradient: f32) -> Results {
    let (rows, len) = (anchors.rows, anchors.rows * anchors.dim);
    let mut found =
        Results { gradient: vec![gradient; len], row_losses: vec![f32::NAN; rows], kept: vec![-1; 2 * rows], loss: f64::NAN };
    let outputs = XbmLossOutputs {
        gradient: found.gradient.as_mut_ptr(),
        row_losses: found.row_losses.as_mut_ptr(),
        kept: found.kept.as_mut_ptr(),
        loss: &mut found.loss,
    };
    // SAFETY: the outputs have the lengths of the batch.
    ok(unsafe { xbm_pair_loss(handles.memory, handles.weighting, anchors, &settings, &outputs) });
    found
}

fn loss_of_the_library(
    backend: &Cpu,
    memory: &EmbeddingMemory<Cpu>,
    (embeddings, labels, ids): (&[f32], &[i32], &[i32]),
    (scale, exclusion): (f32, SelfPairs),
) -> Results {
    let rows = labels.len();
    let (anchors, labels, ids) = (buffer(backend, embeddings), integers(backend, labels), integers(backend, ids));
    let mut gradient = backend.zeros(embeddings.len(), NumberFormat::Full).unwrap();
    let mut row_losses = backend.zeros(rows, NumberFormat::Full).unwrap();
    let mut kept = backend.zero_integers(2 * rows).unwrap();
    let weighting = PairWeighting::default();
    let settings = LossSettings { weighting: &weighting.clone().valid().unwrap(), scale, self_pairs: exclusion, accumulate: false };
    let anchors = Anchors { embeddings: Span::all(&anchors), labels: Span::all(&labels), ids: Span::all(&ids), soft_labels: None };
    let outputs = PairLossOutputs {
        gradient: SpanMut::all(&mut gradient),
        row_losses: SpanMut::all(&mut row_losses),
        kept: SpanMut::all(&mut kept),
    };
    memory.pair_loss(backend, settings, anchors, outputs).unwrap();
    let row_losses = values(backend, &row_losses, rows);
    Results {
        gradient: values(backend, &gradient, embeddings.len()),
        kept: integer_values(backend, &kept, 2 * rows),
        loss: f64::from(scale) * row_losses.iter().copied().map(f64::from).sum::<f64>(),
        row_losses,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn losses_are_the_librarys_to_the_bit_through_wraps_and_batches_of_any_size(
        capacity in 1usize..40,
        dim in 1usize..20,
        batches in prop::collection::vec(0usize..24, 1..6),
        exclusion in prop::sample::select(vec![
            (XBM_OWN_INSTANCE, SelfPairs::Instance), (XBM_OWN_LAST_ENQUEUE, SelfPairs::Slot), (XBM_OWN_NONE, SelfPairs::None),
        ]),
        accumulate: bool,
    ) {
        let backend = cpu(1);
        let mut memory = EmbeddingMemory::new(&backend, capacity, dim).unwrap();
        let handles = Handles::new(capacity, dim);
        for (step, rows) in batches.into_iter().enumerate() {
            let embeddings = unit_rows(&format!("batch {step}"), rows, dim);
            let labels: Vec<i32> = (0..rows as i32).map(|row| row % 3 - 1).collect();
            let ids: Vec<i32> = (0..rows).map(|row| (step * 7 + row) as i32).collect();
            let of_c = XbmBatch { dim, ..batch(&embeddings, &labels, Some(&ids)) };
            // SAFETY: a batch as the header asks for.
            ok(unsafe { xbm_memory_enqueue(handles.memory, &of_c) });
            memory.enqueue(&backend, Span::all(&buffer(&backend, &embeddings)), &labels, &ids).unwrap();

            let settings = XbmLossSettings { scale: 0.25, own: exclusion.0, accumulate: accumulate.into() };
            let mut expected = loss_of_the_library(&backend, &memory, (&embeddings, &labels, &ids), (0.25, exclusion.1));
            let before = if accumulate { 2.0 } else { f32::NAN };
            let mut found = loss_through_c(&handles, &of_c, settings, before);
            if accumulate {
                // Added in another order by the operation itself, so not to the bit.
                for (found, expected) in found.gradient.iter().zip(&expected.gradient) {
                    prop_assert!((found - expected - 2.0).abs() < 1e-5 * (1.0 + expected.abs()));
                }
                (found.gradient, expected.gradient) = (vec![], vec![]);
            }
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn pointers_may_be_unaligned_and_outputs_may_be_inputs() {
    let handles = Handles::new(8, 4);
    let (embeddings, labels) = (unit_rows("unaligned", 6, 4), [1, 1, 2, 2, 3, 3]);
    let aligned = batch(&embeddings, &labels, None);
    // SAFETY: a batch as the header asks for.
    ok(unsafe { xbm_memory_enqueue(handles.memory, &aligned) });
    let settings = XbmLossSettings { scale: 1.0, own: XBM_OWN_LAST_ENQUEUE, accumulate: 0 };
    let expected = loss_through_c(&handles, &aligned, settings, 0.0);

    let mut bytes = [0u8; 1 + 24 * 4];
    bytes[1..].copy_from_slice(bytemuck::cast_slice(&embeddings));
    let place: *mut f32 = bytes[1..].as_mut_ptr().cast();
    let unaligned = XbmBatch { embeddings: place.cast(), ..aligned };
    let outputs = XbmLossOutputs { gradient: place, row_losses: null_mut(), kept: null_mut(), loss: null_mut() };
    // SAFETY: the batch and the gradient share 24 unaligned numbers, as the header allows.
    ok(unsafe { xbm_pair_loss(handles.memory, handles.weighting, &unaligned, &settings, &outputs) });
    let found: Vec<f32> = bytes[1..].chunks(4).map(|four| f32::from_ne_bytes(four.try_into().unwrap())).collect();
    assert_eq!(found, expected.gradient);
}

#[test]
fn a_saved_memory_goes_on_as_it_would_have() {
    let folder = tempfile::tempdir().unwrap();
    let path = std::ffi::CString::new(folder.path().join("memory.safetensors").to_str().unwrap()).unwrap();
    let (one, other, third) = (Handles::new(5, 3), Handles::new(5, 3), Handles::new(5, 3));
    let labels = [1, 2, 1, 3];
    let settings = XbmLossSettings { scale: 1.0, own: XBM_OWN_INSTANCE, accumulate: 0 };
    for step in 0..2 {
        let embeddings = unit_rows(&format!("saved {step}"), 4, 3);
        // SAFETY: a batch as the header asks for.
        ok(unsafe { xbm_memory_enqueue(one.memory, &batch(&embeddings, &labels, Some(&[1, 2, 3, 4]))) });
    }
    let mut len = 0;
    // SAFETY: texts that end with a zero, bytes of the length that was asked for, and a place for it.
    unsafe {
        ok(xbm_memory_save(one.memory, path.as_ptr()));
        ok(xbm_memory_load(other.memory, path.as_ptr()));
        ok(xbm_memory_to_bytes(one.memory, null_mut(), 0, &mut len));
        let mut bytes = vec![0u8; len];
        ok(xbm_memory_to_bytes(one.memory, bytes.as_mut_ptr(), len, &mut len));
        assert_eq!(bytes, std::fs::read(path.to_str().unwrap()).unwrap());
        ok(xbm_memory_from_bytes(third.memory, bytes.as_ptr(), len));
    }
    for step in 0..3 {
        let embeddings = unit_rows(&format!("afterwards {step}"), 4, 3);
        let next = batch(&embeddings, &labels, Some(&[5, 6, 1, 2]));
        let results = [&one, &other, &third].map(|handles| {
            // SAFETY: a batch as the header asks for.
            ok(unsafe { xbm_memory_enqueue(handles.memory, &next) });
            loss_through_c(handles, &next, settings, 0.0)
        });
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0], results[2]);
    }
}

#[test]
fn info_and_clear_tell_where_the_ring_stands() {
    let handles = Handles::new(5, 2);
    let info = || {
        let mut info = XbmMemoryInfo { capacity: 0, dim: 0, count: 0, head: 0 };
        // SAFETY: a place for the structure.
        ok(unsafe { xbm_memory_get_info(handles.memory, &mut info) });
        (info.capacity, info.dim, info.count, info.head)
    };
    assert_eq!(info(), (5, 2, 0, 0));
    let embeddings = unit_rows("info", 7, 2);
    // SAFETY: a batch as the header asks for.
    ok(unsafe { xbm_memory_enqueue(handles.memory, &batch(&embeddings, &[0; 7], None)) });
    assert_eq!(info(), (5, 2, 5, 2));
    ok(xbm_memory_clear(handles.memory));
    assert_eq!(info(), (5, 2, 0, 0));
}

#[test]
fn scores_are_the_librarys_with_and_without_a_gallery() {
    let handles = Handles::new(1, 1);
    let (embeddings, labels) = (unit_rows("scores", 30, 4), (0..30).map(|row| row / 3).collect::<Vec<i32>>());
    let expected = evaluate_all(&cpu(1), &Embeddings::new(embeddings.clone(), labels.clone(), 4).unwrap()).unwrap().scores(&[1, 5]);
    let all = batch(&embeddings, &labels, None);
    let own: Vec<i32> = (0..30).collect();
    for (gallery, own_rows) in [(null(), null()), (&raw const all, own.as_ptr())] {
        let evaluation = XbmEvaluation { queries: &all, gallery, own_rows, ks: [1, 5].as_ptr(), k_count: 2 };
        let mut recall = [f64::NAN; 2];
        let mut scores = XbmScores {
            recall: recall.as_mut_ptr(),
            map_at_r: 0.0,
            r_precision: 0.0,
            mean_reciprocal_rank: 0.0,
            queries: 0,
            excluded_queries: 0,
        };
        // SAFETY: batches as the header asks for, two numbers and room for two.
        ok(unsafe { xbm_evaluate(handles.engine, &evaluation, &mut scores) });
        assert_eq!(recall.to_vec(), expected.recall.iter().map(|&(_, recall)| recall).collect::<Vec<_>>());
        assert_eq!(
            (scores.map_at_r, scores.r_precision, scores.mean_reciprocal_rank, scores.queries, scores.excluded_queries),
            (expected.map_at_r, expected.r_precision, expected.mean_reciprocal_rank, expected.queries, expected.excluded_queries)
        );
    }
}

#[test]
fn one_memory_serves_many_threads() {
    let handles = Handles::new(1000, 4);
    let (memory, weighting) = (handles.memory as usize, handles.weighting as usize);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let (memory, weighting) = (memory as *mut XbmMemory, weighting as *const XbmWeighting);
                let embeddings = unit_rows(&format!("thread {thread}"), 5, 4);
                let anchors = batch(&embeddings, &[1, 2, 3, 4, 5], None);
                let settings = XbmLossSettings { scale: 1.0, own: XBM_OWN_NONE, accumulate: 0 };
                for _ in 0..50 {
                    let mut loss = f64::NAN;
                    let outputs =
                        XbmLossOutputs { gradient: null_mut(), row_losses: null_mut(), kept: null_mut(), loss: &mut loss };
                    // SAFETY: structures as the header asks for.
                    unsafe {
                        ok(xbm_memory_enqueue(memory, &anchors));
                        ok(xbm_pair_loss(memory, weighting, &anchors, &settings, &outputs));
                    }
                    assert!(loss.is_finite());
                }
            });
        }
    });
    let mut info = XbmMemoryInfo { capacity: 0, dim: 0, count: 0, head: 0 };
    // SAFETY: a place for the structure.
    ok(unsafe { xbm_memory_get_info(handles.memory, &mut info) });
    assert_eq!(info.count, 1000);
}
