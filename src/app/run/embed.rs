//! Embeds a data set's images into an index.

use super::model_data::{DataRequest, ModelData};
use crate::app::data::{Content, Provenance, Split};
use crate::app::embed::{EmbedOptions, embed};
use crate::app::index::{About, Index, IndexedImage, checksum};
use crate::checkpoint::{self, Model};
use crate::error::{Error, Result};
use crate::model::{Network, plan::Purpose};
use crate::ops::Backend;
use std::path::Path;
use std::sync::Arc;

/// An index, and the images that could not be read.
#[derive(Clone, Debug)]
pub struct EmbeddedSet {
    /// What could be read.
    pub index: Index,
    /// Where each of the others is, and what is wrong with it.
    pub unreadable: Vec<(String, String)>,
    /// What to know about the data.
    pub notes: Vec<String>,
}

/// Embeds the images of `splits` (all images, if it is empty) of the data that is asked for, by default the model's, with the model or
/// checkpoint at `path`, as `embedding` says.
///
/// # Errors
/// A file or a data set that cannot be read, one without such images, and what the device reports.
pub fn embed_set<B: Backend>(
    backend: &B,
    path: &Path,
    request: DataRequest<'_>,
    splits: &[Split],
    embedding: &EmbedOptions,
) -> Result<EmbeddedSet> {
    let Model { network: header, weights, trained_on } = checkpoint::load_model(backend, path)?;
    let provenance = Provenance::from_value(trained_on, path)?;
    let ModelData { dataset, options, notes } = ModelData::open(request, provenance.as_ref())?;
    let dataset = Arc::new(dataset);
    let wanted = |&index: &usize| splits.is_empty() || splits.contains(&dataset.images[index].split);
    let indices: Vec<usize> = (0..dataset.images.len()).filter(wanted).collect();
    if indices.is_empty() {
        let names: Vec<&str> = splits.iter().map(|split| split.name()).collect();
        return Err(Error::config(format!(
            "{} has no {} images; leave --split out to embed all",
            dataset.name,
            names.join(" or ")
        )));
    }
    let mut network = Network::new(backend, header.architecture()?, embedding.batch_size.max(1), Purpose::Inference)?;
    let embedded = embed(backend, &mut network, &weights, (&dataset, &indices), &embedding.loading())?;
    let describe = |(&image, &content): (&usize, &Content)| {
        let record = &dataset.images[image];
        IndexedImage {
            image,
            path: record.source.to_string(),
            label: dataset.classes[record.label as usize].clone(),
            split: record.split.name().to_owned(),
            content: Some(content),
            part: record.part,
        }
    };
    let about = About {
        checkpoint: std::path::absolute(path).map_err(Error::io(path))?,
        checkpoint_crc32c: checksum(path)?,
        data: dataset.name.clone(),
        holdout: options.holdout,
        seed: options.seed,
        folder: std::env::current_dir().map_err(Error::io("."))?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let images = embedded.images.iter().zip(&embedded.contents).map(describe).collect();
    let index = Index { about, images, values: embedded.embeddings.values, dim: header.dim };
    let unreadable = embedded.unreadable.iter().map(|(image, reason)| dataset.fault(*image, reason));
    Ok(EmbeddedSet { index, unreadable: unreadable.collect(), notes })
}
