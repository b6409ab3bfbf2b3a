//! Retrieval through the C interface: scores of embeddings, and their nearest neighbours.

use super::caller::{copy_out, given, numbers, read, write};
use super::device::Device;
use super::handles::find;
use super::rows::{Rows, Search};
use super::status::{Failure, Outcome, Status, call};
use super::types::{BatchParts, GALLERY, QUERIES, XbmBatch, XbmEngine};
use std::sync::Arc;

/// What is evaluated.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmEvaluation {
    /// What looks for its class.
    pub queries: *const XbmBatch,
    /// What is looked at; NULL: the queries, each leaving itself out.
    pub gallery: *const XbmBatch,
    /// `(queries)`: the gallery row that is the query itself, or -1; NULL: none is.
    pub own_rows: *const i32,
    /// `(k_count)`: recall at these.
    pub ks: *const usize,
    /// How many.
    pub k_count: usize,
}

/// Scores, each in `[0, 1]`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmScores {
    /// `(k_count)`, the caller's, written: recall at each k.
    pub recall: *mut f64,
    /// Mean average precision at R.
    pub map_at_r: f64,
    /// R-precision.
    pub r_precision: f64,
    /// Mean reciprocal rank.
    pub mean_reciprocal_rank: f64,
    /// Queries that count.
    pub queries: usize,
    /// Queries without a positive in the gallery.
    pub excluded_queries: usize,
}

/// What is looked for, and where.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmSearch {
    /// Rows whose neighbours are wanted.
    pub queries: *const XbmBatch,
    /// What is looked at; NULL: the queries, each leaving itself out.
    pub gallery: *const XbmBatch,
    /// `(queries)`: the gallery row that is the query itself, or -1; NULL: none is, or, without a gallery, each.
    pub own_rows: *const i32,
    /// Neighbours of each query.
    pub k: usize,
}

/// Where neighbours go, in host memory; NULL where one is not wanted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XbmNeighbours {
    /// `(queries, k)`: gallery rows, nearest first.
    pub rows: *mut i32,
    /// `(queries, k)`: their ids.
    pub ids: *mut i32,
    /// `(queries, k)`: their similarities.
    pub similarities: *mut f32,
}

/// Queries, gallery and own rows of the caller's; `rows` is how a batch is read.
///
/// # Safety
/// The pointers are NULL or as the header asks for, unchanged during `'a`.
unsafe fn search_of<'a>(
    (queries, gallery, own_rows): (*const XbmBatch, *const XbmBatch, *const i32),
    rows: impl Fn(&BatchParts, *const XbmBatch) -> Outcome<Rows<'a>>,
) -> Outcome<Search<'a>> {
    let queries = rows(&QUERIES, queries)?;
    let gallery = given(gallery).then(|| rows(&GALLERY, gallery)).transpose()?;
    // SAFETY: the caller's promise: as many numbers as there are queries, or NULL.
    let own_rows = unsafe { given(own_rows).then(|| numbers("own_rows", own_rows, queries.rows)).transpose() }?;
    Ok(Search { queries, gallery, own_rows })
}

/// Scores embeddings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_evaluate(
    engine: *const XbmEngine,
    evaluation: *const XbmEvaluation,
    scores: *mut XbmScores,
) -> Status {
    call("xbm_evaluate", || {
        let engine = find::<Arc<dyn Device>>(engine as usize)?;
        // SAFETY: the header asks for the structures.
        let (what, place) = unsafe { (read("evaluation", evaluation)?, read("scores", scores)?) };
        // SAFETY: the header asks for batches, and for as many own rows as there are queries.
        let search =
            unsafe { search_of((what.queries, what.gallery, what.own_rows), |part, batch| read(part.whole, batch)?.rows(part)) }?;
        // SAFETY: the header asks for `k_count` numbers.
        let ks = unsafe { numbers("ks", what.ks, what.k_count) }?;
        let found = engine.evaluate(&search, &ks)?;
        let recall: Vec<f64> = found.recall.iter().map(|&(_, recall)| recall).collect();
        // SAFETY: the header asks for room for `k_count` numbers.
        unsafe { copy_out("recall", &recall, place.recall) }?;
        let result = XbmScores {
            recall: place.recall,
            map_at_r: found.map_at_r,
            r_precision: found.r_precision,
            mean_reciprocal_rank: found.mean_reciprocal_rank,
            queries: found.queries,
            excluded_queries: found.excluded_queries,
        };
        // SAFETY: the structure was read from there.
        unsafe { write("scores", scores, result) }
    })
}

/// Finds nearest neighbours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_nearest(
    engine: *const XbmEngine,
    search: *const XbmSearch,
    neighbours: *const XbmNeighbours,
) -> Status {
    call("xbm_nearest", || {
        let engine = find::<Arc<dyn Device>>(engine as usize)?;
        // SAFETY: the header asks for the structures.
        let (what, place) = unsafe { (read("search", search)?, read("neighbours", neighbours)?) };
        if what.k == 0 {
            return Err(Failure::new(Status::Config, "k: expected at least 1, found 0"));
        }
        // SAFETY: the header asks for batches, and for as many own rows as there are queries.
        let search = unsafe {
            search_of((what.queries, what.gallery, what.own_rows), |part, batch| read(part.whole, batch)?.unlabelled_rows(part))
        }?;
        let (found, ids) = engine.nearest(&search, what.k)?;
        // SAFETY: the header asks for room for `queries * k` numbers, or NULL, for each of the three.
        unsafe {
            if given(place.rows) {
                copy_out("rows", &found.rows, place.rows)?;
            }
            if given(place.ids) {
                copy_out("ids", &ids, place.ids)?;
            }
            if given(place.similarities) {
                copy_out("similarities", &found.similarities, place.similarities)?;
            }
        }
        Ok(())
    })
}
