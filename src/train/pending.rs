//! What the last steps have to report, on the device until somebody asks.

use crate::device::{IntegerTensor, Tensor};
use crate::error::Result;
use crate::ops::{Backend, In, IntegersIn};

/// Steps whose reports wait on a device that runs ahead of its host.
const HELD: usize = 16;

/// What the host knows of a step.
#[derive(Debug, Default)]
pub(super) struct StepRecord {
    /// Number of the step, from 1.
    pub step: u64,
    /// Weight of the memory's loss; `None` where there was no comparison with it.
    pub memory_weight: Option<f32>,
    /// Memory rows compared with.
    pub memory_rows: usize,
    /// Ages of the drift's samples; `None` where nothing was stored whose drift is still to be taken in.
    pub ages: Option<Vec<u32>>,
}

/// What a step leaves on the device.
#[derive(Debug)]
pub(super) struct StepBuffers<'a, B: Backend> {
    /// `(2, batch)`: against the batch, against the memory.
    pub row_losses: In<'a, B>,
    /// `(2, batch, 2)`.
    pub kept: IntegersIn<'a, B>,
    /// `(batch, dim)`.
    pub embeddings: In<'a, B>,
    /// Of the memory's drift.
    pub samples: Option<In<'a, B>>,
}

/// A step's buffers, read back to the host.
#[derive(Debug)]
pub(super) struct StepReadback<'a> {
    pub record: StepRecord,
    pub row_losses: &'a [f32],
    pub kept: &'a [i32],
    pub embeddings: &'a [f32],
    pub samples: &'a [f32],
}

/// The buffers of a few steps, kept on the device until they are read back together.
#[derive(Debug)]
pub(super) struct PendingMetrics<B: Backend> {
    held: usize,
    records: Vec<StepRecord>,
    row_losses: Tensor<B>,
    kept: IntegerTensor<B>,
    embeddings: Tensor<B>,
    samples: Tensor<B>,
}

impl<B: Backend> PendingMetrics<B> {
    pub fn new(backend: &B, batch: usize, dim: usize, samples: usize) -> Result<Self> {
        let held = if backend.is_async() { HELD } else { 1 };
        Ok(Self {
            held,
            records: Vec::with_capacity(held),
            row_losses: Tensor::zeros(backend, held * 2 * batch)?,
            kept: IntegerTensor::zeros(backend, held * 4 * batch)?,
            embeddings: Tensor::zeros(backend, held * batch * dim)?,
            samples: Tensor::zeros(backend, held * samples)?,
        })
    }

    /// Whether it has to be read before the next step.
    pub fn is_full(&self) -> bool {
        self.records.len() == self.held
    }

    /// Copies the buffers of a step.
    pub fn note(&mut self, backend: &B, record: StepRecord, buffers: &StepBuffers<'_, B>) -> Result<()> {
        let place = self.records.len();
        let part = |span: In<'_, B>| (place * span.len, span.len);
        for (from, to) in [(buffers.row_losses, &mut self.row_losses), (buffers.embeddings, &mut self.embeddings)] {
            let (start, len) = part(from);
            backend.copy(from, to.part_mut(start, len))?;
        }
        let kept = buffers.kept;
        backend.copy_integers(kept, self.kept.part_mut(place * kept.len, kept.len))?;
        if let Some(samples) = buffers.samples {
            let (start, len) = part(samples);
            backend.copy(samples, self.samples.part_mut(start, len))?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Hands out the steps noted since the last time, in their order.
    pub fn read(&mut self, backend: &B, mut readback: impl FnMut(StepReadback<'_>) -> Result<()>) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let (row_losses, embeddings) = (self.row_losses.to_host(backend)?, self.embeddings.to_host(backend)?);
        let (kept, samples) = (self.kept.to_host(backend)?, self.samples.to_host(backend)?);
        fn share<T>(values: &[T], held: usize, place: usize) -> &[T] {
            &values[values.len() / held * place..][..values.len() / held]
        }
        for (place, record) in std::mem::take(&mut self.records).into_iter().enumerate() {
            readback(StepReadback {
                record,
                row_losses: share(&row_losses, self.held, place),
                kept: share(&kept, self.held, place),
                embeddings: share(&embeddings, self.held, place),
                samples: share(&samples, self.held, place),
            })?;
        }
        Ok(())
    }
}
