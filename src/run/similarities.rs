//! How similar pairs of test images are to a trained model.

use super::scoring::{TestSet, no_test_images};
use crate::backbone::{Network, plan::Purpose};
use crate::checkpoint;
use crate::data::{Dataset, OpenOptions};
use crate::embed::EmbedOptions;
use crate::error::Result;
use crate::evaluate::{SimilarityHistogram, similarity_histogram};
use crate::ops::Backend;
use std::path::Path;
use std::sync::Arc;

/// Similarities of random pairs of test images of the data set `spec` to the model or checkpoint at `path`,
/// embedded as `embedding` says, in `bins` bins.
///
/// # Errors
/// A file or a data set that cannot be read, one without test images, and what the device reports.
pub fn similarities<B: Backend>(
    backend: &B,
    path: &Path,
    (spec, options): (&str, &OpenOptions),
    embedding: &EmbedOptions,
    bins: usize,
) -> Result<SimilarityHistogram> {
    let (network, weights) = checkpoint::load_encoder(backend, path)?;
    let dataset = Arc::new(Dataset::open(spec, options)?);
    let test = TestSet::new(&dataset, embedding.loading());
    if test.is_empty() {
        return Err(no_test_images(&dataset, options.holdout));
    }
    let mut runner = Network::new(backend, network.architecture()?, embedding.batch_size.max(1), Purpose::Inference)?;
    let result = test.score(backend, &mut runner, &weights)?;
    Ok(similarity_histogram(&result.queries.embeddings, bins, options.seed))
}
