//! What there is least of, and numbers beyond all reason, through C.

use super::calls::{Handles, Results, batch, loss_through_c, ok};
use super::misuse::refused;
use super::support::unit_rows;
use std::ffi::CString;
use std::ptr::{null, null_mut};
use xbm_fast::ffi::*;
use xbm_fast::loss::Named;

const DIM: usize = 8;
const OWN: [i32; 3] = [XBM_OWN_INSTANCE, XBM_OWN_LAST_ENQUEUE, XBM_OWN_NONE];

/// Handles with another weighting than the default one.
fn weighed_by(text: &str) -> Handles {
    let mut handles = Handles::new(4, DIM);
    ok(xbm_weighting_destroy(handles.weighting));
    let text = CString::new(text).unwrap();
    // SAFETY: a text that ends with a zero, and a place for a handle.
    ok(unsafe { xbm_weighting_create(text.as_ptr(), &mut handles.weighting) });
    handles
}

fn enqueue(handles: &Handles, rows: &XbmBatch) {
    // SAFETY: a batch as the header asks for.
    ok(unsafe { xbm_memory_enqueue(handles.memory, rows) });
}

#[test]
fn an_empty_memory_gives_zeros_for_every_loss_and_every_way_to_be_no_pair() {
    for named in Named::all() {
        let handles = weighed_by(named.name);
        for own in OWN {
            let settings = XbmLossSettings { scale: 1.0, own, accumulate: 0 };
            let nowhere = XbmBatch { dim: DIM, embeddings: null(), labels: null(), ..batch(&[], &[], None) };
            assert_eq!(loss_through_c(&handles, &nowhere, settings, f32::NAN).loss, 0.0, "{} own {own}", named.name);
            for rows in 0..3 {
                let (embeddings, labels, ids) = (unit_rows("empty", rows, DIM), vec![1; rows], vec![2; rows]);
                let anchors = XbmBatch { dim: DIM, ..batch(&embeddings, &labels, Some(&ids)) };
                let found = loss_through_c(&handles, &anchors, settings, f32::NAN);
                let zeros =
                    Results { gradient: vec![0.0; rows * DIM], row_losses: vec![0.0; rows], kept: vec![0; 2 * rows], loss: 0.0 };
                assert_eq!(found, zeros, "{} own {own} rows {rows}", named.name);
            }
        }
    }
}

#[test]
fn a_batch_that_is_alone_in_the_memory_has_the_loss_of_its_other_rows() {
    for named in Named::all() {
        let handles = weighed_by(named.name);
        let one = unit_rows("one", 1, DIM);
        let alone = batch(&one, &[1], Some(&[2]));
        enqueue(&handles, &alone);
        for own in [XBM_OWN_INSTANCE, XBM_OWN_LAST_ENQUEUE] {
            let found = loss_through_c(&handles, &alone, XbmLossSettings { scale: 1.0, own, accumulate: 0 }, f32::NAN);
            assert_eq!((found.loss, found.kept, found.gradient), (0.0, vec![0, 0], vec![0.0; DIM]), "{} own {own}", named.name);
        }
    }
    // Two rows at right angles, of one class: the loss of a positive is 1 - s, and each pulls the other.
    let handles = weighed_by("contrastive");
    let rows = [1.0, 0.0, 0.0, 1.0].map(|value: f32| [value, 0.0, 0.0, 0.0]).concat();
    let two = batch(&rows, &[1, 1], Some(&[2, 3]));
    enqueue(&handles, &two);
    for own in [XBM_OWN_INSTANCE, XBM_OWN_LAST_ENQUEUE] {
        let found = loss_through_c(&handles, &two, XbmLossSettings { scale: 1.0, own, accumulate: 0 }, f32::NAN);
        assert_eq!((found.loss, found.kept), (2.0, vec![1, 0, 1, 0]));
        let pulled: Vec<f32> = rows[DIM..].iter().chain(&rows[..DIM]).map(|value| 0.0 - value).collect();
        assert_eq!(found.gradient, pulled);
    }
}

#[test]
fn parameters_beyond_all_reason_are_refused_and_results_out_of_range_are_no_success() {
    for text in ["triplet:margin=1e38", "info-nce:t=1e-30", "circle:gamma=1e30", "lifted-structure:margin=-3e38"] {
        let (words, mut weighting) = (CString::new(text).unwrap(), null_mut());
        // SAFETY: a text that ends with a zero, and a place for a handle.
        let status = unsafe { xbm_weighting_create(words.as_ptr(), &mut weighting) };
        refused(status, Status::Config, &format!("weighting `{text}`"));
    }
    let toml = c"positive = { curve = \"constant:1e38\" }\nnegative = { curve = \"constant:1\" }";
    // SAFETY: as above.
    let status = unsafe { xbm_weighting_create(toml.as_ptr(), &mut null_mut()) };
    refused(status, Status::Config, "constant:1");

    let handles = weighed_by("positive = { curve = \"constant:1000\" }\nnegative = { curve = \"constant:1\" }");
    let rows = unit_rows("range", 3, DIM);
    let given = batch(&rows, &[1, 1, 1], None);
    enqueue(&handles, &given);
    let mut gradient = vec![3e38; rows.len()];
    let outputs = XbmLossOutputs { gradient: gradient.as_mut_ptr(), row_losses: null_mut(), kept: null_mut(), loss: null_mut() };
    for (scale, accumulate) in [(3e38, 0), (-3e38, 1)] {
        let settings = XbmLossSettings { scale, own: XBM_OWN_NONE, accumulate };
        // SAFETY: structures as the header asks for, and a gradient as long as the batch.
        let status = unsafe { xbm_pair_loss(handles.memory, handles.weighting, &given, &settings, &outputs) };
        refused(status, Status::NotFinite, "the gradient");
        assert!(gradient.iter().all(|&value| value == 3e38), "outputs are not written on a failure");
    }
}

#[test]
fn sizes_beyond_all_memory_are_refused_in_words() {
    let handles = Handles::new(4, DIM);
    let create = |capacity: usize, dim: usize| {
        let mut memory = null_mut();
        // SAFETY: a place for a handle.
        unsafe { xbm_memory_create(handles.engine, capacity, dim, XBM_DTYPE_DEFAULT, &mut memory) }
    };
    refused(create(2_000_000_000, 1 << 20), Status::Config, "out of memory: the memory of 2000000000 rows of 1048576 numbers");
    for (capacity, dim) in [(usize::MAX, 1), (1, usize::MAX), (1 << 30, 1 << 40), (0, 4), (4, 0)] {
        refused(create(capacity, dim), Status::Config, "memory");
    }
    let (embeddings, labels) = (unit_rows("sizes", 1, DIM), [1]);
    for (rows, dim) in [(usize::MAX, DIM), (1 << 31, DIM), (1 << 30, usize::MAX / 4)] {
        let unreadable = XbmBatch { rows, dim, embeddings: null(), labels: labels.as_ptr(), ..batch(&embeddings, &labels, None) };
        // SAFETY: no embeddings are there to be read.
        let status = unsafe { xbm_memory_enqueue(handles.memory, &unreadable) };
        refused(status, Status::Shape, "batch");
    }
}
