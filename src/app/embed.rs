//! Embeds images with a trained encoder.

use crate::app::data::{Content, Dataset, EvaluationBatches, Image, LoaderOptions, check_unreadable};
use crate::device::NumberFormat;
use crate::device::Tensor;
use crate::error::Result;
use crate::evaluate::Embeddings;
use crate::group::Group;
use crate::model::{Network, Prepared, Weights};
use crate::ops::Backend;
use crate::ops::augment::ResizedCenterCrop;
use std::sync::Arc;

/// How many images are embedded at a time, and how many may be missing.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// Images of a forward pass.
    pub batch_size: usize,
    /// Largest share of the images that may be unreadable and left out.
    pub max_unreadable: f64,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { batch_size: 64, max_unreadable: LoaderOptions::default().max_unreadable }
    }
}

impl EmbedOptions {
    /// How the images are read.
    pub fn loading(&self) -> LoaderOptions {
        LoaderOptions { max_unreadable: self.max_unreadable, ..LoaderOptions::default() }
    }
}

/// Embeddings of some images, and which images they are.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedImages {
    /// Unit rows and labels.
    pub embeddings: Embeddings,
    /// Position of each row's image in the data set; unreadable images are left out.
    pub images: Vec<usize>,
    /// What each of these images is.
    pub contents: Vec<Content>,
    /// Images that could not be read, with the reason.
    pub unreadable: Vec<(usize, String)>,
}

/// Embeds the images at `indices`, each seen as a centre crop. Several ranks share the images, and get all embeddings.
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
    let group = backend.group();
    if group.is_alone() {
        return embed_part(backend, network, weights, (dataset, indices), loading);
    }
    // Whole batches, so that an image is in one of the same size whoever embeds it.
    let (capacity, batches) = (network.capacity(), group.part(indices.len().div_ceil(network.capacity())));
    let own = &indices[batches.start * capacity..indices.len().min(batches.end * capacity)];
    // One rank may meet all that cannot be read; what is too much is decided together.
    let share = loading.max_unreadable * indices.len() as f64 / own.len().max(1) as f64;
    let own = embed_part(backend, network, weights, (dataset, own), &LoaderOptions { max_unreadable: share, ..*loading })?;
    let all = own.joined(group)?;
    check_unreadable(&dataset.name, ("", indices.len()), (&all.unreadable, loading.max_unreadable))?;
    Ok(all)
}

impl EmbeddedImages {
    /// Those of all ranks, in the order of the ranks.
    fn joined(&self, group: &Group) -> Result<Self> {
        let Embeddings { values, labels, dim } = &self.embeddings;
        let values = group.concat("the embeddings of test images", values)?;
        let labels = group.concat("the labels of test images", labels)?;
        let numbers: Vec<[u64; 2]> =
            self.images.iter().zip(&self.contents).map(|(&image, content)| [image as u64, content.0]).collect();
        let images = group.concat("the test images", &numbers)?;
        let unreadable = serde_json::to_vec(&self.unreadable).expect("numbers and words");
        let said = group.collect("the test images that cannot be read", &unreadable)?;
        let said = said.iter().map(|bytes| serde_json::from_slice::<Vec<(usize, String)>>(bytes).expect("what a rank has written"));
        Ok(Self {
            embeddings: Embeddings::new(values, labels, *dim)?,
            images: images.iter().map(|&[image, _]| image as usize).collect(),
            contents: images.iter().map(|&[_, content]| Content(content)).collect(),
            unreadable: said.flatten().collect(),
        })
    }
}

fn embed_part<B: Backend>(
    backend: &B,
    network: &mut Network<B>,
    weights: &Weights<B>,
    (dataset, indices): (&Arc<Dataset>, &[usize]),
    loading: &LoaderOptions,
) -> Result<EmbeddedImages> {
    let (dim, capacity) = (network.architecture().dim, network.capacity());
    let mut embedder = Embedder::new(backend, network, weights, indices.len())?;
    let (mut values, mut labels, mut images) = (Vec::with_capacity(indices.len() * dim), Vec::new(), Vec::new());
    let mut batches = EvaluationBatches::new(dataset.clone(), indices.to_vec(), capacity, loading)?;
    for batch in &mut batches {
        let batch = batch?;
        embedder.append(&batch.images.iter().map(|image| &**image).collect::<Vec<_>>(), &mut values)?;
        labels.extend(&batch.labels);
        images.extend(batch.ids.iter().map(|&id| id as usize));
    }
    let contents = images.iter().map(|&image| batches.content(image).expect("it was decoded")).collect();
    Ok(EmbeddedImages { embeddings: Embeddings::new(values, labels, dim)?, images, contents, unreadable: batches.unreadable() })
}

/// Embeds images that are in memory, each seen as a centre crop: `(images, dim)`.
///
/// # Errors
/// What the device reports.
pub fn embed_decoded<B: Backend>(
    backend: &B,
    network: &mut Network<B>,
    weights: &Weights<B>,
    images: &[&Image],
) -> Result<Vec<f32>> {
    let capacity = network.capacity();
    let mut embedder = Embedder::new(backend, network, weights, images.len())?;
    let mut values = Vec::new();
    images.chunks(capacity).try_for_each(|images| embedder.append(images, &mut values))?;
    Ok(values)
}

/// An encoder with the device memory of its input and output.
struct Embedder<'a, B: Backend> {
    backend: &'a B,
    encoder: Prepared<'a, B>,
    view: ResizedCenterCrop,
    pixels: Tensor<B>,
    rows: Tensor<B>,
}

impl<'a, B: Backend> Embedder<'a, B> {
    /// For as many images.
    fn new(backend: &'a B, network: &'a mut Network<B>, weights: &'a Weights<B>, images: usize) -> Result<Self> {
        let batches = images.div_ceil(network.capacity());
        let architecture = network.architecture();
        Ok(Self {
            view: ResizedCenterCrop { size: architecture.image_size },
            pixels: Tensor::with_format(backend, network.capacity() * architecture.image().len(), NumberFormat::Compute)?,
            rows: Tensor::zeros(backend, network.capacity() * architecture.dim)?,
            backend,
            encoder: network.prepare(weights, batches)?,
        })
    }

    /// Appends the embeddings of at most as many images as the network takes.
    fn append(&mut self, images: &[&Image], values: &mut Vec<f32>) -> Result<()> {
        let count = images.len();
        if count == 0 {
            return Ok(());
        }
        let architecture = self.encoder.network().architecture();
        let (pixels_len, rows_len) = (count * architecture.image().len(), count * architecture.dim);
        let crops: Vec<_> = images.iter().map(|image| self.view.crop(image.pixels())).collect();
        let decoded: Vec<_> = images.iter().map(|image| image.pixels()).collect();
        self.backend.augment(self.view.size, &decoded, &crops, self.pixels.part_mut(0, pixels_len))?;
        self.encoder.embed(self.pixels.part(0, pixels_len), count, self.rows.part_mut(0, rows_len))?;
        let end = values.len();
        values.resize(end + rows_len, 0.0);
        self.backend.download(self.rows.part(0, rows_len), &mut values[end..])
    }
}
