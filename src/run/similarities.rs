//! How similar pairs of test images are to a trained model.

use super::scoring::TestSet;
use crate::backbone::{Network, plan::Purpose};
use crate::checkpoint;
use crate::data::{Dataset, LoaderOptions, OpenOptions};
use crate::error::{Error, Result};
use crate::evaluate::{SimilarityHistogram, similarity_histogram};
use crate::ops::Backend;
use std::path::Path;
use std::sync::Arc;

/// Similarities of random pairs of test images of the data set `spec` to the model or checkpoint at `path`, in `bins` bins.
///
/// # Errors
/// A file or a data set that cannot be read, one without test images, and what the device reports.
pub fn similarities<B: Backend>(
    backend: &B,
    path: &Path,
    spec: &str,
    options: &OpenOptions,
    bins: usize,
) -> Result<SimilarityHistogram> {
    const BATCH: usize = 64;
    let (network, weights) = checkpoint::load_encoder(backend, path)?;
    let test = TestSet::new(&Arc::new(Dataset::open(spec, options)?), LoaderOptions::default());
    if test.is_empty() {
        return Err(Error::config(format!("{spec} has no test images; give it a test split")));
    }
    let mut runner = Network::new(backend, network.architecture()?, BATCH, Purpose::Inference)?;
    let result = test.score(backend, &mut runner, &weights)?;
    Ok(similarity_histogram(&result.queries.embeddings, bins, options.seed))
}
