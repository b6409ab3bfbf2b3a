//! What a retrieval on the CPU reads, checked.

use super::{RetrievalGeometry, RetrievalInputs};
use crate::cpu::dot::dot_f64;
use crate::device::Cpu;
use crate::error::{Error, Result, expect_len};
use rayon::prelude::*;

/// The checked inputs of a retrieval.
pub(super) struct Search<'a> {
    pub dim: usize,
    pub queries: &'a [f32],
    pub query_labels: &'a [i32],
    pub gallery: &'a [f32],
    pub gallery_labels: &'a [i32],
    pub own_rows: &'a [i32],
    /// Product of the lengths of the longest query and the longest gallery row.
    pub largest: f64,
}

impl<'a> Search<'a> {
    /// Checks lengths, own rows and the range of the numbers.
    pub fn new(geometry: &RetrievalGeometry, inputs: RetrievalInputs<'a, Cpu>) -> Result<Self> {
        let &RetrievalGeometry { queries, gallery, dim } = geometry;
        if dim == 0 || i32::try_from(gallery.max(queries)).is_err() {
            let found = format!("dim {dim}, {queries} queries, {gallery} gallery rows");
            return Err(Error::shape("retrieval", format_args!("a dim of at least 1 and at most {} rows", i32::MAX), found));
        }
        let mut search = Self {
            dim,
            queries: inputs.queries.as_slice(),
            query_labels: inputs.query_labels.as_slice(),
            gallery: inputs.gallery.as_slice(),
            gallery_labels: inputs.gallery_labels.as_slice(),
            own_rows: inputs.own_rows.as_slice(),
            largest: 0.0,
        };
        expect_len("queries", queries * dim, search.queries.len())?;
        expect_len("query labels", queries, search.query_labels.len())?;
        expect_len("gallery", gallery * dim, search.gallery.len())?;
        expect_len("gallery labels", gallery, search.gallery_labels.len())?;
        expect_len("own rows", queries, search.own_rows.len())?;
        if let Some(&row) = search.own_rows.iter().find(|&&row| row < -1 || row >= gallery as i32) {
            return Err(Error::shape("own rows", format_args!("-1 or a row below {gallery}"), row));
        }
        search.largest = largest_norm("queries", search.queries, dim)? * largest_norm("gallery", search.gallery, dim)?;
        // By Cauchy and Schwarz no similarity, nor any partial sum of one, can then overflow and become NaN.
        if search.largest > f64::from(f32::MAX) / 2.0 {
            let found = format!("{:e}", search.largest);
            return Err(Error::shape("product of the largest norms", "at most half of f32::MAX", found));
        }
        Ok(search)
    }

    /// Rows to search.
    pub fn gallery_rows(&self) -> usize {
        self.gallery_labels.len()
    }

    /// Whether the gallery is the queries themselves.
    pub fn is_symmetric(&self) -> bool {
        std::ptr::eq(self.queries, self.gallery) && self.query_labels == self.gallery_labels
    }
}

/// Rows in the order of their labels, equal labels in the order of rows.
pub(super) fn by_label(labels: &[i32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    order.sort_by_key(|&row| labels[row as usize]);
    order
}

/// The greatest length of a row.
fn largest_norm(what: &'static str, values: &[f32], dim: usize) -> Result<f64> {
    let norms = values.par_chunks(dim).enumerate().map(|(row, values)| {
        let square = dot_f64::<1>(values, values);
        if square.is_finite() { Ok(square) } else { Err(row) }
    });
    let largest = norms.reduce(
        || Ok(0.0),
        |first, second| match (first, second) {
            (Ok(first), Ok(second)) => Ok(first.max(second)),
            (Err(first), Err(second)) => Err(first.min(second)),
            (Err(row), _) | (_, Err(row)) => Err(row),
        },
    );
    largest.map(f64::sqrt).map_err(|row| Error::NotFinite { what, row })
}
