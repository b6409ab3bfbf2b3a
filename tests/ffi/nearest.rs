//! Neighbours through C, against a plain loop over all rows, and memories in 16 bit.

use super::calls::{Handles, batch, loss_through_c, ok};
use super::misuse::refused;
use super::support::unit_rows;
use half::{bf16, f16};
use std::ptr::{null, null_mut};
use xbm_fast::ffi::*;

const DIM: usize = 16;
/// Sums of 16 products in 32 bit.
const TOLERANCE: f64 = 1e-6;

struct Found {
    rows: Vec<i32>,
    ids: Vec<i32>,
    similarities: Vec<f32>,
}

fn nearest(handles: &Handles, search: &XbmSearch) -> Found {
    // SAFETY: the caller's queries.
    let len = unsafe { (*search.queries).rows } * search.k;
    let mut found = Found { rows: vec![-9; len], ids: vec![-9; len], similarities: vec![f32::NAN; len] };
    let neighbours =
        XbmNeighbours { rows: found.rows.as_mut_ptr(), ids: found.ids.as_mut_ptr(), similarities: found.similarities.as_mut_ptr() };
    // SAFETY: batches as the header asks for, and room for `queries * k` numbers.
    ok(unsafe { xbm_nearest(handles.engine, search, &neighbours) });
    found
}

/// Similarities of all gallery rows but the own one, the largest first.
fn sorted_similarities(query: &[f32], gallery: &[f32], own: Option<usize>) -> Vec<f64> {
    let product = |row: &[f32]| row.iter().zip(query).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let rows = gallery.chunks(DIM).enumerate().filter(|&(row, _)| Some(row) != own);
    let mut similarities: Vec<f64> = rows.map(|(_, row)| product(row)).collect();
    similarities.sort_by(|a, b| b.total_cmp(a));
    similarities
}

/// That every place holds a row of its own which is as similar as the plain loop's.
fn agrees(found: &Found, (queries, gallery): (&[f32], &[f32]), own: impl Fn(usize) -> Option<usize>, k: usize) {
    for (query, embedding) in queries.chunks(DIM).enumerate() {
        let expected = sorted_similarities(embedding, gallery, own(query));
        let mut met = Vec::new();
        for place in 0..k {
            let (row, similarity) = (found.rows[query * k + place], found.similarities[query * k + place]);
            let Some(&best) = expected.get(place) else {
                assert_eq!(
                    (row, similarity, found.ids[query * k + place]),
                    (-1, f32::NEG_INFINITY, -1),
                    "the gallery is too small"
                );
                continue;
            };
            let row = usize::try_from(row).unwrap();
            let [computed] = *sorted_similarities(embedding, &gallery[row * DIM..][..DIM], None) else { panic!("one row") };
            assert!((computed - best).abs() <= TOLERANCE, "query {query} place {place}: row {row} at {computed}, expected {best}");
            assert!((f64::from(similarity) - best).abs() <= TOLERANCE, "query {query} place {place}");
            assert!(Some(row) != own(query) && !met.contains(&row), "query {query} place {place}: row {row}");
            met.push(row);
        }
    }
}

#[test]
fn neighbours_are_those_of_a_plain_loop_in_every_type_of_number() {
    let handles = Handles::new(1, 1);
    // Rows of which many are close, so that what is passed over in 8 bit is a close decision.
    let (queries, gallery) = (unit_rows("queries", 21, DIM), unit_rows("gallery", 700, DIM));
    let ids: Vec<i32> = (0..700).map(|row| 7 * row - 350).collect();
    for dtype in [XBM_DTYPE_DEFAULT, XBM_F32, XBM_F16, XBM_BF16] {
        let (halves, brains): (Vec<f16>, Vec<bf16>) =
            gallery.iter().map(|&value| (f16::from_f32(value), bf16::from_f32(value))).unzip();
        let (given, rounded): (_, Vec<f32>) = match dtype {
            XBM_F16 => (halves.as_ptr().cast(), halves.iter().map(|value| value.to_f32()).collect()),
            XBM_BF16 => (brains.as_ptr().cast(), brains.iter().map(|value| value.to_f32()).collect()),
            _ => (gallery.as_ptr().cast(), gallery.clone()),
        };
        let looked_at = XbmBatch { embeddings: given, labels: null(), rows: 700, dim: DIM, dtype, ..batch(&[], &[], Some(&ids)) };
        let looking = XbmBatch { rows: 21, dim: DIM, labels: null(), ..batch(&queries, &[], None) };
        for k in [1, 10, 701] {
            let search = XbmSearch { queries: &looking, gallery: &looked_at, own_rows: null(), k };
            let found = nearest(&handles, &search);
            agrees(&found, (&queries, &rounded), |_| None, k);
            let id = |row: &i32| usize::try_from(*row).map_or(-1, |row| ids[row]);
            assert_eq!(found.ids, found.rows.iter().map(id).collect::<Vec<_>>());
            // Each query is said to be a row of the gallery: its nearest one.
            let own: Vec<i32> = found.rows.iter().step_by(k).copied().collect();
            let found = nearest(&handles, &XbmSearch { own_rows: own.as_ptr(), ..search });
            agrees(&found, (&queries, &rounded), |query| Some(own[query] as usize), k);
        }
    }
}

#[test]
fn without_a_gallery_each_query_leaves_itself_out() {
    let handles = Handles::new(1, 1);
    let rows = unit_rows("alone", 50, DIM);
    let all = XbmBatch { rows: 50, dim: DIM, labels: null(), ..batch(&rows, &[], None) };
    let search = XbmSearch { queries: &all, gallery: null(), own_rows: null(), k: 3 };
    let found = nearest(&handles, &search);
    agrees(&found, (&rows, &rows), Some, 3);
    assert_eq!(found.ids, vec![-1; 150], "no ids were given");
    let found = nearest(&handles, &XbmSearch { gallery: &all, ..search });
    agrees(&found, (&rows, &rows), |_| None, 3);
    assert!(found.rows.iter().step_by(3).copied().eq(0..50), "each is its own nearest");
}

#[test]
fn searches_that_make_no_sense_are_refused() {
    let handles = Handles::new(1, 1);
    let good = batch(&[1.0, 0.0], &[3], None);
    let search = XbmSearch { queries: &good, gallery: null(), own_rows: null(), k: 1 };
    let nowhere = XbmNeighbours { rows: null_mut(), ids: null_mut(), similarities: null_mut() };
    // SAFETY: structures as the header asks for, whose pointers are NULL or long enough.
    let answer = |search: &XbmSearch| unsafe { xbm_nearest(handles.engine, search, &nowhere) };
    ok(answer(&search));
    refused(answer(&XbmSearch { k: 0, ..search }), Status::Config, "k: expected at least 1, found 0");
    refused(answer(&XbmSearch { queries: null(), ..search }), Status::Argument, "queries: expected a pointer, found NULL");
    let other = batch(&[1.0, 0.0, 0.0], &[3], None);
    refused(answer(&XbmSearch { gallery: &other, ..search }), Status::Shape, "dim of the gallery: expected 2, found 3");
    refused(answer(&XbmSearch { own_rows: [1].as_ptr(), ..search }), Status::Shape, "expected -1 or a row below 1, found 1");
    refused(answer(&XbmSearch { k: usize::MAX / 8, ..search }), Status::Config, "out of memory");
    let long = batch(&[3.0, 4.0], &[3], None);
    refused(answer(&XbmSearch { queries: &long, ..search }), Status::Shape, "normalise the rows first");
    // SAFETY: refused by name.
    refused(unsafe { xbm_nearest(handles.engine, null(), &nowhere) }, Status::Argument, "search: expected a pointer");
    // SAFETY: refused by name.
    refused(unsafe { xbm_nearest(handles.engine, &search, null()) }, Status::Argument, "neighbours: expected a pointer");
}

#[test]
fn a_memory_in_16_bit_has_the_loss_of_its_rounded_rows() {
    let (narrow, wide) = (Handles::on(c"cpu", XBM_F16, 40, DIM), Handles::new(40, DIM));
    let settings = XbmLossSettings { scale: 1.0, own: XBM_OWN_LAST_ENQUEUE, accumulate: 0 };
    let labels: Vec<i32> = (0..25).map(|row| row % 4).collect();
    let mut differed = false;
    for step in 0..3 {
        let rows = unit_rows(&format!("narrow {step}"), 25, DIM);
        let halves: Vec<f16> = rows.iter().map(|&value| f16::from_f32(value)).collect();
        let anchors = batch(&rows, &labels, None);
        // Given in 16 bit, the rows of the other memory are the same numbers.
        let rounded = XbmBatch { embeddings: halves.as_ptr().cast(), dtype: XBM_F16, dim: DIM, ..anchors };
        // SAFETY: batches as the header asks for.
        unsafe {
            ok(xbm_memory_enqueue(narrow.memory, &anchors));
            ok(xbm_memory_enqueue(wide.memory, &rounded));
        }
        let (found, expected) = (loss_through_c(&narrow, &anchors, settings, 0.0), loss_through_c(&wide, &anchors, settings, 0.0));
        assert!((found.loss - expected.loss).abs() <= TOLERANCE * expected.loss, "{} and {}", found.loss, expected.loss);
        for (found, expected) in found.gradient.iter().zip(&expected.gradient) {
            assert!((found - expected).abs() <= 1e-5, "{found} and {expected}");
        }
        let full = Handles::new(40, DIM);
        // SAFETY: a batch as the header asks for.
        ok(unsafe { xbm_memory_enqueue(full.memory, &anchors) });
        differed |= step == 0 && loss_through_c(&full, &anchors, settings, 0.0).loss.to_bits() != found.loss.to_bits();
    }
    assert!(differed, "16 bits leave a trace");
}
