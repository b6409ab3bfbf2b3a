//! The values a network runs with: one flat buffer of parameters, one each of running means and variances.

use super::architecture::{Architecture, Parameter, Role};
use crate::device::Tensor;
use crate::device::{Span, Storage, host_memory};
use crate::error::Result;
use crate::ops::optimizer::Optimizer;
use crate::rng::Rng;
use rayon::prelude::*;

/// Parameters and running statistics of one encoder.
#[derive(Debug)]
pub struct Weights<B: Storage> {
    /// Flat parameters, laid out by [`Architecture::parameters`].
    pub parameters: Tensor<B>,
    /// Flat running means, laid out by [`Architecture::norms`].
    pub running_means: Tensor<B>,
    /// Flat running variances, laid out likewise.
    pub running_variances: Tensor<B>,
    /// Training batches seen (torch's `num_batches_tracked`).
    pub batches_tracked: u64,
}

impl<B: Storage> Weights<B> {
    /// Torchvision's initialisation: Kaiming normal filters (fan out, ReLU), unit scales, zero shifts; torch's default for the head.
    ///
    /// # Errors
    /// What the device reports.
    pub fn initialised(backend: &B, architecture: &Architecture, seed: u64) -> Result<Self> {
        Self::drawn(backend, architecture, seed, |_| true)
    }

    /// The same head, before a trunk of zeros that is still to be filled.
    ///
    /// # Errors
    /// What the device reports.
    pub fn with_drawn_head(backend: &B, architecture: &Architecture, seed: u64) -> Result<Self> {
        Self::drawn(backend, architecture, seed, |role| matches!(role, Role::Head { .. }))
    }

    fn drawn(backend: &B, architecture: &Architecture, seed: u64, is_drawn: impl Fn(&Role) -> bool) -> Result<Self> {
        let mut parameters = host_memory::zeros(architecture.parameters_len)?;
        for parameter in architecture.parameters.iter().filter(|parameter| is_drawn(&parameter.role)) {
            let rng = Rng::new(seed).at("initial").at(parameter.name.as_str());
            initialise(parameter, &rng, &mut parameters[parameter.start..parameter.start + parameter.len()]);
        }
        Ok(Self {
            parameters: Tensor::from_host(backend, &parameters)?,
            running_means: Tensor::zeros(backend, architecture.statistics_len)?,
            running_variances: Tensor::from_host(backend, &vec![1.0; architecture.statistics_len])?,
            batches_tracked: 0,
        })
    }

    /// The same values in buffers of their own.
    ///
    /// # Errors
    /// What the device reports.
    pub fn duplicate(&self, backend: &B) -> Result<Self> {
        Ok(Self {
            parameters: self.parameters.duplicate(backend)?,
            running_means: self.running_means.duplicate(backend)?,
            running_variances: self.running_variances.duplicate(backend)?,
            batches_tracked: self.batches_tracked,
        })
    }

    /// One parameter of the architecture.
    pub fn parameter(&self, parameter: &Parameter) -> Span<'_, B::Buffer> {
        self.parameters.part(parameter.start, parameter.len())
    }
}

impl<B: Optimizer> Weights<B> {
    /// Moves towards `source`: `self = momentum * self + (1 - momentum) * source`, parameters and running statistics alike.
    ///
    /// # Errors
    /// What the device reports.
    pub fn follow(&mut self, backend: &B, source: &Self, momentum: f32) -> Result<()> {
        backend.moving_average(momentum, source.parameters.all(), self.parameters.all_mut())?;
        backend.moving_average(momentum, source.running_means.all(), self.running_means.all_mut())?;
        backend.moving_average(momentum, source.running_variances.all(), self.running_variances.all_mut())
    }
}

impl<B: Storage> Weights<B> {
    /// Takes the mean of the running statistics of all ranks, each of which saw other images.
    ///
    /// # Errors
    /// [`crate::Error::Group`] if another rank does not answer; what the device reports.
    pub fn average_statistics(&mut self, backend: &B) -> Result<()> {
        if backend.group().is_alone() {
            return Ok(());
        }
        for values in [&mut self.running_means, &mut self.running_variances] {
            let mut host = values.to_host(backend)?;
            backend.group().sum("the running statistics", &mut host)?;
            host.iter_mut().for_each(|value| *value /= backend.group().size() as f32);
            backend.upload(&host, values.all_mut())?;
        }
        Ok(())
    }
}

/// Values drawn by one thread at once.
const DRAWN_AT_ONCE: usize = 1 << 16;

fn initialise(parameter: &Parameter, rng: &Rng, values: &mut [f32]) {
    match parameter.role {
        Role::Filter => {
            let fan_out = parameter.shape[0] * parameter.shape[2] * parameter.shape[3];
            let deviation = (2.0 / fan_out as f32).sqrt();
            values.par_chunks_mut(DRAWN_AT_ONCE).enumerate().for_each(|(chunk, values)| {
                let mut rng = rng.after((chunk * DRAWN_AT_ONCE) as u64 * Rng::DRAWS_OF_A_NORMAL);
                values.fill_with(|| deviation * rng.normal());
            });
        }
        Role::Scale => values.fill(1.0),
        Role::Shift => values.fill(0.0),
        Role::Head { fan_in } => {
            let bound = 1.0 / (fan_in as f32).sqrt();
            let mut rng = rng.clone();
            values.fill_with(|| rng.uniform(-bound, bound));
        }
    }
}
