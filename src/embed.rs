//! Embeds the images of a data set with a trained encoder.

use crate::backbone::{Network, Weights};
use crate::backend::Precision;
use crate::data::{CentreView, Dataset, EvaluationBatches, LoaderOptions};
use crate::error::Result;
use crate::evaluate::Embeddings;
use crate::ops::Backend;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Embeddings of some images, and which images they are.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedImages {
    /// Unit rows and labels.
    pub embeddings: Embeddings,
    /// Position of each row's image in the data set; unreadable images are left out.
    pub images: Vec<usize>,
    /// Images that could not be read, with the reason.
    pub unreadable: Vec<(usize, String)>,
}

/// Embeds the images at `indices`, each seen as a centre crop.
///
/// # Errors
/// What reading the images or the device reports.
pub fn embed<B: Backend>(
    backend: &B,
    network: &mut Network<B>,
    weights: &Weights<B>,
    (dataset, indices): (&Arc<Dataset>, &[usize]),
    loading: &LoaderOptions,
) -> Result<EmbeddedImages> {
    let (size, dim) = (network.architecture().image_size, network.architecture().dim);
    let (image_len, capacity) = (network.architecture().image().len(), network.capacity());
    let view = CentreView { size };
    let mut pixels = Tensor::with_precision(backend, capacity * image_len, Precision::Compute)?;
    let mut rows = Tensor::zeros(backend, capacity * dim)?;
    let (mut values, mut labels, mut images) = (Vec::with_capacity(indices.len() * dim), Vec::new(), Vec::new());
    let mut batches = EvaluationBatches::new(dataset.clone(), indices.to_vec(), capacity, loading)?;
    for batch in &mut batches {
        let batch = batch?;
        let count = batch.images.len();
        if count == 0 {
            continue;
        }
        let crops: Vec<_> = batch.images.iter().map(|image| view.crop(image)).collect();
        let decoded: Vec<_> = batch.images.iter().map(|image| image.pixels()).collect();
        backend.augment(size, &decoded, &crops, pixels.part_mut(0, count * image_len))?;
        network.forward_eval(weights, pixels.part(0, count * image_len), count, rows.part_mut(0, count * dim))?;
        let end = values.len();
        values.resize(end + count * dim, 0.0);
        backend.download(rows.part(0, count * dim), &mut values[end..])?;
        labels.extend(&batch.labels);
        images.extend(batch.ids.iter().map(|&id| id as usize));
    }
    Ok(EmbeddedImages { embeddings: Embeddings::new(values, labels, dim)?, images, unreadable: batches.unreadable() })
}
