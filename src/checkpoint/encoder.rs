//! One encoder in a file, as PyTorch loads it.

use super::KEY_ENCODER;
use super::header::{Header, NetworkHeader, open, write};
use super::layout::{HostWeights, from_torch, to_torch};
use crate::device::Tensor;
use crate::error::{Error, Result};
use crate::files::input;
use crate::model::Weights;
use crate::ops::Backend;
use crate::train::TrainSettings;
use serde_json::Value;
use std::path::Path;

/// Writes one encoder, as PyTorch loads it.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; what stood there before is then still there.
pub fn save_model<B: Backend>(backend: &B, path: &Path, config: &TrainSettings, weights: &Weights<B>) -> Result<()> {
    save_trained_model(backend, path, config, weights, None)
}

/// Writes one encoder with what it was trained on, in the program's own words, as PyTorch loads it.
///
/// # Errors
/// As [`save_model`].
pub fn save_trained_model<B: Backend>(
    backend: &B,
    path: &Path,
    config: &TrainSettings,
    weights: &Weights<B>,
    trained_on: Option<Value>,
) -> Result<()> {
    let network = NetworkHeader::of(config);
    let tensors = to_torch(&network.architecture()?, &download(backend, weights)?, "");
    write(path, &Header::new(network, None, trained_on), &tensors)
}

/// An encoder, and what it was trained on.
#[derive(Debug)]
pub struct Model<B: Backend> {
    /// Its network.
    pub network: NetworkHeader,
    /// Its weights.
    pub weights: Weights<B>,
    /// What it was trained on, as it was given to [`save_trained_model`] or [`save`](super::save).
    pub trained_on: Option<Value>,
}

/// Reads the encoder of a model, or the one to evaluate of a whole run.
///
/// # Errors
/// [`Error::Data`] on a truncated, foreign or newer file, or one whose tensors are not those of its network.
pub fn load_encoder<B: Backend>(backend: &B, path: &Path) -> Result<(NetworkHeader, Weights<B>)> {
    let Model { network, weights, .. } = load_model(backend, path)?;
    Ok((network, weights))
}

/// Reads an encoder with what it was trained on.
///
/// # Errors
/// As [`load_encoder`].
pub fn load_model<B: Backend>(backend: &B, path: &Path) -> Result<Model<B>> {
    let bytes = input::read(path)?;
    let (header, file) = open(path, &bytes)?;
    let prefix = if header.run.is_some_and(|run| run.has_key_encoder) { KEY_ENCODER } else { "" };
    let architecture = header.network.architecture().map_err(|error| Error::data(path, format!("damaged header: {error}")))?;
    let weights = upload(backend, &from_torch(&architecture, &file, prefix)?)?;
    Ok(Model { network: header.network, weights, trained_on: header.trained_on })
}

pub fn download<B: Backend>(backend: &B, weights: &Weights<B>) -> Result<HostWeights> {
    Ok(HostWeights {
        parameters: weights.parameters.to_host(backend)?,
        running_means: weights.running_means.to_host(backend)?,
        running_variances: weights.running_variances.to_host(backend)?,
        batches_tracked: weights.batches_tracked,
    })
}

pub fn upload<B: Backend>(backend: &B, weights: &HostWeights) -> Result<Weights<B>> {
    Ok(Weights {
        parameters: Tensor::from_host(backend, &weights.parameters)?,
        running_means: Tensor::from_host(backend, &weights.running_means)?,
        running_variances: Tensor::from_host(backend, &weights.running_variances)?,
        batches_tracked: weights.batches_tracked,
    })
}
