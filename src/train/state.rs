//! What training changes, and how it begins.

use super::TrainSettings;
use crate::device::Tensor;
use crate::error::{Error, Result};
use crate::memory::EmbeddingMemory;
use crate::memory::MemoryKind;
use crate::model::Weights;
use crate::ops::Backend;
use crate::ops::optimizer::Algorithm;

/// Everything that changes while training: what a checkpoint holds.
#[derive(Debug)]
pub struct State<B: Backend> {
    /// Steps taken.
    pub step: u64,
    /// The encoder that is trained.
    pub query: Weights<B>,
    /// Its moving average, where the memory is a momentum memory.
    pub key: Option<Weights<B>>,
    /// Momentum, or Adam's first moment, of each parameter.
    pub first_moment: Tensor<B>,
    /// Adam's second moment of each parameter; empty for SGD.
    pub second_moment: Tensor<B>,
    /// Loss scale and counts of steps: see [`crate::ops::optimizer`].
    pub scaler: Tensor<B>,
    /// Past embeddings.
    pub memory: Option<EmbeddingMemory<B>>,
}

impl<B: Backend> State<B> {
    /// The state before the first step, of weights drawn by the settings' seed.
    ///
    /// # Errors
    /// [`Error::Config`] on sizes that no network has; what the device reports.
    pub fn initial(backend: &B, config: &TrainSettings) -> Result<Self> {
        let drawn = Weights::initialised(backend, &config.architecture()?, config.execution.seed);
        Self::from_encoder(backend, config, drawn.map_err(too_large)?)
    }

    /// The state before the first step, of given weights: the key encoder is a copy of them, moments and memory are empty.
    ///
    /// # Errors
    /// As [`State::initial`].
    pub fn from_encoder(backend: &B, config: &TrainSettings, query: Weights<B>) -> Result<Self> {
        let has_key = config.memory.kind == MemoryKind::Momentum;
        let key = has_key.then(|| query.duplicate(backend).map_err(too_large)).transpose()?;
        Self::before_first_step(backend, config, query, key)
    }

    /// Zero moments and an empty memory beside the encoders.
    pub(crate) fn before_first_step(
        backend: &B,
        config: &TrainSettings,
        query: Weights<B>,
        key: Option<Weights<B>>,
    ) -> Result<Self> {
        config.check_ranks(backend.group().size())?;
        let moments = |len| Tensor::zeros(backend, len).map_err(too_large);
        let parameters = query.parameters.len();
        let memory = config.filling().map(|filling| {
            let (size, precision) = ((config.memory.size, config.model.dim), config.memory.precision);
            EmbeddingMemory::in_parts(backend, size, filling, precision, config.batch.size)
        });
        Ok(Self {
            step: 0,
            first_moment: moments(parameters)?,
            second_moment: moments(if config.optimizer.algorithm == Algorithm::Sgd { 0 } else { parameters })?,
            scaler: Tensor::from_host(backend, &backend.initial_scaler())?,
            memory: memory.transpose()?,
            query,
            key,
        })
    }

    /// The encoder to evaluate and to keep: the key encoder where there is one, as its average generalises better.
    pub fn encoder(&self) -> &Weights<B> {
        self.key.as_ref().unwrap_or(&self.query)
    }
}

fn too_large(error: Error) -> Error {
    error.allocating("the network's parameters", "--dim, or --backbone to a smaller one")
}
