//! Whatever is passed, a status with words comes back.

use super::calls::{Handles, batch, last_error, ok};
use super::support::unit_rows;
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut, without_provenance_mut};
use xbm_fast::ffi::*;

/// The status, and words that must be in the message.
#[track_caller]
pub fn refused(status: Status, expected: Status, words: &str) {
    assert_eq!(status, expected, "{}", last_error());
    assert!(last_error().contains(words), "expected `{words}` in `{}`", last_error());
}

const SETTINGS: XbmLossSettings = XbmLossSettings { scale: 1.0, own: XBM_OWN_NONE, accumulate: 0 };
const NO_OUTPUTS: XbmLossOutputs =
    XbmLossOutputs { gradient: null_mut(), row_losses: null_mut(), kept: null_mut(), loss: null_mut() };

fn pair_loss(handles: &Handles, anchors: &XbmBatch, settings: XbmLossSettings) -> Status {
    // SAFETY: structures as the header asks for, whose pointers are NULL or long enough.
    unsafe { xbm_pair_loss(handles.memory, handles.weighting, anchors, &settings, &NO_OUTPUTS) }
}

fn create_engine(device: &CStr, stream: usize) -> Status {
    let mut engine = without_provenance_mut(7);
    // SAFETY: a text that ends with a zero, and a place for a handle.
    let status = unsafe { xbm_engine_create(device.as_ptr(), without_provenance_mut(stream), 1, &mut engine) };
    assert_eq!(engine.is_null(), status != Status::Ok, "a handle is there exactly if the call succeeded");
    status
}

fn create_memory(handles: &Handles, capacity: usize, dim: usize, dtype: i32) -> Status {
    let mut memory = null_mut();
    // SAFETY: a place for a handle.
    unsafe { xbm_memory_create(handles.engine, capacity, dim, dtype, &mut memory) }
}

fn create_weighting(text: &str) -> Status {
    let (text, mut weighting) = (CString::new(text).unwrap(), null_mut());
    // SAFETY: a text that ends with a zero, and a place for a handle.
    let status = unsafe { xbm_weighting_create(text.as_ptr(), &mut weighting) };
    ok(xbm_weighting_destroy(weighting));
    status
}

#[test]
fn handles_are_checked() {
    let handles = Handles::new(4, 2);
    refused(xbm_memory_clear(null_mut()), Status::Handle, "memory handle: expected a living one, found NULL");
    refused(xbm_memory_clear(handles.engine.cast()), Status::Handle, "found a handle of an engine");
    refused(xbm_memory_clear(without_provenance_mut(0x7fff_dead_beef)), Status::Handle, "never gave out");
    let gone = Handles::new(4, 2);
    let memory = gone.memory;
    drop(gone);
    refused(
        xbm_memory_clear(memory),
        Status::Handle,
        "xbm_memory_clear: memory handle: expected a living one, found one that was destroyed",
    );
    refused(xbm_memory_destroy(memory), Status::Handle, "destroyed");
    refused(xbm_engine_destroy(handles.memory.cast()), Status::Handle, "found a handle of a memory");
    ok(xbm_memory_clear(handles.memory));
    ok(xbm_engine_destroy(null_mut()));
}

#[test]
fn a_memory_outlives_its_engine() {
    let mut handles = Handles::new(4, 2);
    ok(xbm_engine_destroy(handles.engine));
    handles.engine = null_mut();
    // SAFETY: a batch as the header asks for.
    ok(unsafe { xbm_memory_enqueue(handles.memory, &batch(&[1.0, 0.0], &[3], None)) });
}

#[test]
fn null_is_refused_wherever_something_must_be() {
    let handles = Handles::new(4, 2);
    let good = batch(&[1.0, 0.0], &[3], None);
    // SAFETY: everything is NULL or as the header asks for.
    unsafe {
        let null_is = |status, what: &str| refused(status, Status::Argument, &format!("{what}: expected a pointer, found NULL"));
        null_is(xbm_engine_create(null(), null(), 1, &mut null_mut()), "device");
        null_is(xbm_engine_create(c"cpu".as_ptr(), null(), 1, null_mut()), "engine");
        null_is(xbm_weighting_create(null(), &mut null_mut()), "name_or_toml");
        null_is(xbm_memory_create(handles.engine, 1, 1, XBM_F32, null_mut()), "memory");
        null_is(xbm_memory_get_info(handles.memory, null_mut()), "info");
        null_is(xbm_memory_enqueue(handles.memory, null()), "batch");
        null_is(xbm_memory_enqueue(handles.memory, &XbmBatch { embeddings: null(), ..good }), "embeddings of batch");
        null_is(xbm_memory_enqueue(handles.memory, &XbmBatch { labels: null(), ..good }), "labels of batch");
        null_is(xbm_pair_loss(handles.memory, handles.weighting, null(), &SETTINGS, &NO_OUTPUTS), "anchors");
        null_is(xbm_pair_loss(handles.memory, handles.weighting, &good, null(), &NO_OUTPUTS), "settings");
        null_is(xbm_pair_loss(handles.memory, handles.weighting, &good, &SETTINGS, null()), "outputs");
        null_is(pair_loss(&handles, &good, XbmLossSettings { accumulate: 1, ..SETTINGS }), "gradient");
        null_is(xbm_evaluate(handles.engine, null(), null_mut()), "evaluation");
        null_is(xbm_memory_save(handles.memory, null()), "path");
        null_is(xbm_memory_to_bytes(handles.memory, null_mut(), 0, null_mut()), "len");
        null_is(xbm_memory_from_bytes(handles.memory, null(), 9), "bytes");
    }
    refused(pair_loss(&handles, &good, XbmLossSettings { own: XBM_OWN_INSTANCE, ..SETTINGS }), Status::Argument, "ids of anchors");
}

#[test]
fn devices_and_streams_that_are_not_there_are_refused() {
    refused(create_engine(c"cuda:99", 0), Status::Device, "opening device `cuda:99`: the NVIDIA driver");
    refused(create_engine(c"cuda:one", 0), Status::Config, "unknown device `cuda:one`");
    refused(create_engine(c"gpu", 0), Status::Config, "unknown device `gpu`; known: `cpu`, `cuda`");
    refused(create_engine(c"cpu", 64), Status::Config, "device `cpu` has no streams");
    refused(create_engine(c"\xff", 0), Status::Argument, "expected UTF-8");
    let handles = Handles::new(4, 2);
    let elsewhere = XbmBatch { location: XBM_DEVICE, ..batch(&[1.0, 0.0], &[3], None) };
    refused(pair_loss(&handles, &elsewhere, SETTINGS), Status::Config, "device `cpu` has no memory of its own");
    let nowhere = XbmBatch { location: 9, ..elsewhere };
    refused(pair_loss(&handles, &nowhere, SETTINGS), Status::Argument, "location: expected XBM_HOST or XBM_DEVICE, found 9");
    let narrow = XbmBatch { dtype: XBM_F16, ..elsewhere };
    refused(pair_loss(&handles, &narrow, SETTINGS), Status::Config, "16-bit numbers are taken from XBM_HOST only");
    let of_no_type = XbmBatch { dtype: 4, location: XBM_HOST, ..elsewhere };
    refused(pair_loss(&handles, &of_no_type, SETTINGS), Status::Argument, "dtype: expected XBM_DTYPE_DEFAULT");
    // SAFETY: refused by name.
    refused(unsafe { xbm_engine_set_stream(handles.engine, without_provenance_mut(64)) }, Status::Config, "expected NULL");
}

#[test]
fn sizes_that_fit_nothing_are_refused() {
    let handles = Handles::new(4, 2);
    refused(create_memory(&handles, 0, 4, XBM_F32), Status::Config, "memory of 0 rows");
    refused(create_memory(&handles, 4, 0, XBM_F32), Status::Config, "of length 0");
    refused(create_memory(&handles, 1 << 30, usize::MAX / 2, XBM_F32), Status::Config, "memory of");
    refused(create_memory(&handles, 1 << 30, 1 << 30, XBM_F32), Status::Config, "out of memory");
    refused(create_memory(&handles, 4, 4, XBM_BF16), Status::Config, "XBM_F16 on device `cpu`, found XBM_BF16");
    refused(create_memory(&handles, 4, 4, 99), Status::Argument, "found 99");

    let (embeddings, labels) = (unit_rows("shapes", 2, 3), [1, 2]);
    refused(pair_loss(&handles, &batch(&embeddings, &labels, None), SETTINGS), Status::Shape, "dim of the anchors: expected 2");
    let good = batch(&[1.0, 0.0], &[3], None);
    refused(pair_loss(&handles, &XbmBatch { dim: 0, ..good }, SETTINGS), Status::Shape, "found 1 of length 0");
    refused(pair_loss(&handles, &XbmBatch { rows: usize::MAX, ..good }, SETTINGS), Status::Shape, "anchors: expected at most");
    refused(pair_loss(&handles, &XbmBatch { dim: usize::MAX, ..good }, SETTINGS), Status::Shape, "do not fit any memory");
    // SAFETY: a batch as the header asks for.
    ok(unsafe { xbm_memory_enqueue(handles.memory, &batch(&[1.0, 0.0, 1.0, 0.0], &[3, 4], None)) });
    let last = XbmLossSettings { own: XBM_OWN_LAST_ENQUEUE, ..SETTINGS };
    refused(pair_loss(&handles, &good, last), Status::Shape, "own slots: expected 1 values, found 2");
}

#[test]
fn numbers_that_are_none_are_refused_and_leave_the_memory_alone() {
    let handles = Handles::new(4, 2);
    for (row, expected, words) in [
        ([f32::NAN, 0.0], Status::NotFinite, "embeddings holds a value that is not finite"),
        ([f32::INFINITY, 0.0], Status::NotFinite, "first in row 1"),
        ([3.0, 4.0], Status::Shape, "embeddings, row 1: expected a vector of length 1, found one of length 5"),
        ([0.1, 0.0], Status::Shape, "normalise the rows first"),
        ([f32::MAX, f32::MAX], Status::Shape, "normalise the rows first"),
    ] {
        let embeddings = [1.0, 0.0, row[0], row[1]];
        // SAFETY: a batch as the header asks for.
        refused(unsafe { xbm_memory_enqueue(handles.memory, &batch(&embeddings, &[1, 2], None)) }, expected, words);
    }
    let mut info = XbmMemoryInfo { capacity: 0, dim: 0, count: 9, head: 9 };
    // SAFETY: a place for the structure, and a batch as the header asks for.
    unsafe {
        ok(xbm_memory_get_info(handles.memory, &mut info));
        ok(xbm_memory_enqueue(handles.memory, &batch(&[0.0, 0.0], &[1], None)));
    }
    assert_eq!((info.count, info.head), (0, 0));
    let good = batch(&[1.0, 0.0], &[3], None);
    refused(pair_loss(&handles, &good, XbmLossSettings { scale: f32::NAN, ..SETTINGS }), Status::Config, "scale");
    refused(pair_loss(&handles, &good, XbmLossSettings { own: 17, ..SETTINGS }), Status::Argument, "own: expected one of");
    refused(pair_loss(&handles, &good, XbmLossSettings { accumulate: 2, ..SETTINGS }), Status::Argument, "accumulate");
}

#[test]
fn weightings_say_what_is_wrong_with_them() {
    ok(create_weighting("contrastive"));
    ok(create_weighting("circle:gamma=64"));
    ok(create_weighting("negative = { curve = \"exp:k=10,s0=1\", gate = \"above:0.5\" }"));
    refused(create_weighting("contrastiv"), Status::Config, "unknown weighting `contrastiv`, did you mean `contrastive`?");
    refused(create_weighting("circle:gamma=0"), Status::Config, "gamma must be from 0.000001 to 1000000, found 0");
    refused(create_weighting("negative = { curve = \"wave:1\" }"), Status::Config, "unknown weight curve `wave`");
    refused(create_weighting("negative = { curve = \"constant:1\", gate = \"above:7\" }"), Status::Config, "found 7");
    refused(create_weighting("[middle]"), Status::Config, "middle");
}

#[test]
fn galleries_that_make_no_sense_are_refused() {
    let handles = Handles::new(4, 2);
    let score = |queries: &XbmBatch, own: &[i32]| {
        let own_rows = if own.is_empty() { null() } else { own.as_ptr() };
        let evaluation = XbmEvaluation { queries, gallery: null(), own_rows, ks: [1].as_ptr(), k_count: 1 };
        let mut recall = [0.0];
        let mut scores = XbmScores {
            recall: recall.as_mut_ptr(),
            map_at_r: 0.0,
            r_precision: 0.0,
            mean_reciprocal_rank: 0.0,
            queries: 0,
            excluded_queries: 0,
        };
        // SAFETY: structures as the header asks for.
        unsafe { xbm_evaluate(handles.engine, &evaluation, &mut scores) }
    };
    let rows = [1.0, 0.0, 0.0, 1.0];
    refused(score(&batch(&rows, &[1, 2], None), &[]), Status::Config, "no query has another image of its class");
    refused(score(&batch(&rows, &[1, 1], None), &[0, 5]), Status::Shape, "own rows: expected -1 or a row below 2, found 5");
    refused(score(&batch(&[1.0, f32::NAN, 0.0, 1.0], &[1, 1], None), &[]), Status::NotFinite, "queries");
}

#[test]
fn files_that_hold_no_such_memory_are_refused_and_leave_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| CString::new(folder.path().join(name).to_str().unwrap()).unwrap();
    let (small, large) = (Handles::new(2, 2), Handles::new(4, 2));
    let load = |name: &str| {
        // SAFETY: a text that ends with a zero.
        unsafe { xbm_memory_load(large.memory, path(name).as_ptr()) }
    };
    // SAFETY: a batch as the header asks for, and texts that end with a zero.
    unsafe {
        ok(xbm_memory_enqueue(large.memory, &batch(&[1.0, 0.0], &[3], None)));
        ok(xbm_memory_save(small.memory, path("small").as_ptr()));
        ok(xbm_memory_save(large.memory, path("large").as_ptr()));
        refused(xbm_memory_save(large.memory, path("no/such/folder").as_ptr()), Status::File, "no/such/folder");
    }
    let whole = std::fs::read(folder.path().join("large")).unwrap();
    std::fs::write(folder.path().join("cut"), &whole[..whole.len() - 1]).unwrap();
    std::fs::write(folder.path().join("text"), "no memory at all").unwrap();
    refused(load("nothing"), Status::File, "nothing");
    refused(load("cut"), Status::File, "truncated or foreign");
    refused(load("text"), Status::File, "truncated or foreign");
    refused(load("small"), Status::File, "expected 4 rows of length 2, found 2 rows of length 2");
    let mut info = XbmMemoryInfo { capacity: 0, dim: 0, count: 0, head: 0 };
    let (mut bytes, mut len) = ([0; 4], 0);
    // SAFETY: places for a structure, four bytes and a number.
    unsafe {
        ok(xbm_memory_get_info(large.memory, &mut info));
        refused(xbm_memory_to_bytes(large.memory, bytes.as_mut_ptr(), 4, &mut len), Status::Shape, "room: expected at least");
        refused(xbm_memory_from_bytes(large.memory, bytes.as_ptr(), 4), Status::File, "bytes:");
    }
    assert_eq!((info.count, info.head, len), (1, 1, whole.len()));
}

#[test]
fn words_are_each_threads_own() {
    refused(xbm_memory_clear(null_mut()), Status::Handle, "xbm_memory_clear");
    let elsewhere = std::thread::spawn(last_error).join().unwrap();
    assert_eq!((elsewhere.as_str(), last_error().contains("xbm_memory_clear")), ("", true));
}
