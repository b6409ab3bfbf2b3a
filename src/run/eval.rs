//! Scores a trained model on a data set's test images.

use super::scoring::{TestResult, TestSet};
use crate::backbone::{Network, plan::Purpose};
use crate::checkpoint;
use crate::data::{Dataset, LoaderOptions, OpenOptions};
use crate::error::{Error, Result};
use crate::evaluate::{Scores, SimilarityHistogram, similarity_histogram};
use crate::ops::Backend;
use std::path::Path;
use std::sync::Arc;

/// Embeds the test images of the data set `spec` with the model or checkpoint at `path`, `batch_size` at a time, and scores them.
///
/// # Errors
/// A file or a data set that cannot be read, one without test images, and what the device reports.
pub fn eval<B: Backend>(backend: &B, path: &Path, spec: &str, options: &OpenOptions, batch_size: usize) -> Result<Scores> {
    Ok(test_result(backend, path, spec, options, batch_size)?.scores)
}

/// How similar random pairs of test images of the data set `spec` are to the model or checkpoint at `path`, in `bins` bins.
///
/// # Errors
/// Those of [`eval`].
pub fn similarities<B: Backend>(
    backend: &B,
    path: &Path,
    spec: &str,
    options: &OpenOptions,
    bins: usize,
) -> Result<SimilarityHistogram> {
    const BATCH: usize = 64;
    let result = test_result(backend, path, spec, options, BATCH)?;
    Ok(similarity_histogram(&result.queries.embeddings, bins, options.seed))
}

fn test_result<B: Backend>(backend: &B, path: &Path, spec: &str, options: &OpenOptions, batch_size: usize) -> Result<TestResult> {
    let (header, weights) = checkpoint::load_encoder(backend, path)?;
    let test = TestSet::new(&Arc::new(Dataset::open(spec, options)?), LoaderOptions::default());
    if test.is_empty() {
        return Err(Error::config(format!("{spec} has no test images; give it a test split, or hold classes out with --holdout")));
    }
    let mut network = Network::new(backend, header.architecture()?, batch_size.max(1), Purpose::Inference)?;
    test.score(backend, &mut network, &weights)
}
