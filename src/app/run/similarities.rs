//! How similar pairs of test images are to a trained model.

use super::model_data::{DataRequest, ModelData};
use super::scoring::TestSet;
use crate::app::data::Provenance;
use crate::app::embed::EmbedOptions;
use crate::checkpoint::{self, Model};
use crate::error::Result;
use crate::evaluate::{SimilarityHistogram, similarity_histogram};
use crate::model::{Network, plan::Purpose};
use crate::ops::Backend;
use std::path::Path;
use std::sync::Arc;

/// Similarities of random pairs of test images of the data that is asked for, by default the model's, to the model or checkpoint at
/// `path`, embedded as `embedding` says, in `bins` bins; and the SPEC of that data.
///
/// # Errors
/// A file or a data set that cannot be read, one without test images, and what the device reports.
pub fn similarities<B: Backend>(
    backend: &B,
    path: &Path,
    request: DataRequest<'_>,
    embedding: &EmbedOptions,
    bins: usize,
) -> Result<(SimilarityHistogram, String)> {
    let Model { network, weights, trained_on } = checkpoint::load_model(backend, path)?;
    let provenance = Provenance::from_value(trained_on, path)?;
    let data = ModelData::open(request, provenance.as_ref())?;
    if data.test_set_is_empty() {
        return Err(data.without_test_images());
    }
    let (name, seed) = (data.dataset.name.clone(), data.options.seed);
    let test = TestSet::new(&Arc::new(data.dataset), embedding.loading());
    let mut runner = Network::new(backend, network.architecture()?, embedding.batch_size.max(1), Purpose::Inference)?;
    let result = test.score(backend, &mut runner, &weights)?;
    Ok((similarity_histogram(&result.queries.embeddings, bins, seed), name))
}
