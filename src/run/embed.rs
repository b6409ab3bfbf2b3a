//! Embeds a data set's images into an index.

use crate::backbone::{Network, plan::Purpose};
use crate::checkpoint;
use crate::data::{Dataset, OpenOptions, Split};
use crate::embed::{EmbedOptions, embed};
use crate::error::{Error, Result};
use crate::index::{About, Index, IndexedImage, checksum};
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
}

/// Embeds the images of `splits` (all images, if it is empty) of the data set `spec` with the model or checkpoint at `path`,
/// as `embedding` says.
///
/// # Errors
/// A file or a data set that cannot be read, one without such images, and what the device reports.
pub fn embed_set<B: Backend>(
    backend: &B,
    path: &Path,
    (spec, options): (&str, &OpenOptions),
    splits: &[Split],
    embedding: &EmbedOptions,
) -> Result<EmbeddedSet> {
    let (header, weights) = checkpoint::load_encoder(backend, path)?;
    let dataset = Arc::new(Dataset::open(spec, options)?);
    let wanted = |&index: &usize| splits.is_empty() || splits.contains(&dataset.images[index].split);
    let indices: Vec<usize> = (0..dataset.images.len()).filter(wanted).collect();
    if indices.is_empty() {
        let names: Vec<&str> = splits.iter().map(|split| split.name()).collect();
        return Err(Error::config(format!("{spec} has no {} images; leave --split out to embed all", names.join(" or "))));
    }
    let mut network = Network::new(backend, header.architecture()?, embedding.batch_size.max(1), Purpose::Inference)?;
    let embedded = embed(backend, &mut network, &weights, (&dataset, &indices), &embedding.loading())?;
    let describe = |&image: &usize| {
        let record = &dataset.images[image];
        IndexedImage {
            image,
            path: record.source.to_string(),
            label: dataset.classes[record.label as usize].clone(),
            split: record.split.name().to_owned(),
        }
    };
    let about = About {
        checkpoint: std::path::absolute(path).map_err(Error::io(path))?,
        checkpoint_crc32c: checksum(path)?,
        data: spec.to_owned(),
        holdout: options.holdout,
        seed: options.seed,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let images = embedded.images.iter().map(describe).collect();
    let index = Index { about, images, values: embedded.embeddings.values, dim: header.dim };
    let unreadable = embedded.unreadable.iter().map(|(image, reason)| dataset.fault(*image, reason));
    Ok(EmbeddedSet { index, unreadable: unreadable.collect() })
}
