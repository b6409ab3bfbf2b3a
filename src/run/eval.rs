//! Scores a trained model on a data set's test images.

use super::scoring::TestSet;
use crate::backbone::{Network, plan::Purpose};
use crate::checkpoint;
use crate::data::{Dataset, LoaderOptions, OpenOptions};
use crate::error::{Error, Result};
use crate::evaluate::Scores;
use crate::ops::Backend;
use std::path::Path;
use std::sync::Arc;

/// Embeds the test images of the data set `spec` with the model or checkpoint at `path`, `batch_size` at a time, and scores them.
///
/// # Errors
/// A file or a data set that cannot be read, one without test images, and what the device reports.
pub fn eval<B: Backend>(backend: &B, path: &Path, spec: &str, options: &OpenOptions, batch_size: usize) -> Result<Scores> {
    let (header, weights) = checkpoint::load_encoder(backend, path)?;
    let test = TestSet::new(&Arc::new(Dataset::open(spec, options)?), LoaderOptions::default());
    if test.is_empty() {
        return Err(Error::config(format!("{spec} has no test images; give it a test split, or hold classes out with --holdout")));
    }
    let mut network = Network::new(backend, header.architecture()?, batch_size.max(1), Purpose::Inference)?;
    Ok(test.score(backend, &mut network, &weights)?.scores)
}
