//! Exact nearest neighbours over a gallery, similarities never stored all at once: the evaluation of retrieval.
//!
//! Order of neighbours: higher similarity first; among equal similarities negatives before positives (ties count against us), then
//! the lower gallery index.

mod by_neighbours;
mod count;
mod cpu;
mod cuda;
mod search;

pub use by_neighbours::score as score_by_neighbours;

use super::{In, IntegersIn, IntegersOut, Out};
use crate::device::Storage;
use crate::error::Result;

/// Sizes of a retrieval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrievalGeometry {
    /// Number of queries.
    pub queries: usize,
    /// Number of gallery rows.
    pub gallery: usize,
    /// Length of an embedding.
    pub dim: usize,
}

/// Queries and gallery.
#[derive(Debug)]
pub struct RetrievalInputs<'a, B: Storage> {
    /// `(queries, dim)`.
    pub queries: In<'a, B>,
    /// `(queries)`.
    pub query_labels: IntegersIn<'a, B>,
    /// `(gallery, dim)`.
    pub gallery: In<'a, B>,
    /// `(gallery)`.
    pub gallery_labels: IntegersIn<'a, B>,
    /// For each query the gallery row that is the query itself and is left out, or -1.
    pub own_rows: IntegersIn<'a, B>,
}

impl<B: Storage> Clone for RetrievalInputs<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Storage> Copy for RetrievalInputs<'_, B> {}

/// How well a query finds its positives, of which the gallery holds `R`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryScore {
    /// Number of gallery rows that come before its best positive.
    pub rank: u32,
    /// `1/R * sum over the places i <= R that hold a positive of (positives among the i nearest / i)`.
    pub average_precision: f64,
    /// `positives among the R nearest / R`.
    pub r_precision: f64,
}

impl QueryScore {
    /// The three numbers, to be sent.
    pub fn to_numbers(self) -> [f64; 3] {
        [f64::from(self.rank), self.average_precision, self.r_precision]
    }

    /// The score of [`QueryScore::to_numbers`].
    pub fn from_numbers([rank, average_precision, r_precision]: [f64; 3]) -> Self {
        Self { rank: rank as u32, average_precision, r_precision }
    }
}

/// Neighbour search on a device.
pub trait Retrieval: Storage {
    /// For each query: the number of gallery rows that come before its best positive (so that recall at k is the share of queries
    /// with `rank < k`), or -1 if the gallery holds no positive.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] on wrong lengths, [`crate::Error::NotFinite`] on NaN.
    fn best_positive_rank(
        &self,
        geometry: &RetrievalGeometry,
        inputs: RetrievalInputs<'_, Self>,
        ranks: IntegersOut<'_, Self>,
    ) -> Result<()>;

    /// The score of each query, `None` for those without a positive in the gallery. Fastest where the gallery's buffer is the queries'.
    ///
    /// # Errors
    /// As [`Retrieval::best_positive_rank`].
    fn score(&self, geometry: &RetrievalGeometry, inputs: RetrievalInputs<'_, Self>) -> Result<Vec<Option<QueryScore>>> {
        by_neighbours::score(self, geometry, inputs)
    }

    /// For each query its `depth` nearest gallery rows, nearest first: rows `(queries, depth)`, -1 where the gallery is too small, and
    /// similarities `(queries, depth)`, minus infinity there.
    ///
    /// # Errors
    /// As [`Retrieval::best_positive_rank`].
    fn nearest(
        &self,
        geometry: &RetrievalGeometry,
        depth: usize,
        inputs: RetrievalInputs<'_, Self>,
        rows: IntegersOut<'_, Self>,
        similarities: Out<'_, Self>,
    ) -> Result<()>;
}
