//! An embedding memory on any backend, behind one type: batches come and go through buffers of its own.

use super::access::{Access, Caller};
use super::rows::{Given, Rows, Wanted};
use crate::checkpoint::{memory_from_bytes, memory_to_bytes};
use crate::device::{IntegerTensor, NumberFormat, RowPrecision, Tensor};
use crate::error::{Error, Result};
use crate::loss::ValidWeighting;
use crate::memory::{Anchors, EmbeddingMemory, Filling, LossSettings, SelfPairs};
use crate::ops::l2_normalize::RowGeometry;
use crate::ops::pair_loss::PairLossOutputs;
use crate::unit::{check_lengths, check_unit_rows};
use std::path::Path;

/// Where a memory stands.
pub struct Occupancy {
    pub capacity: usize,
    pub dim: usize,
    pub count: usize,
    pub head: usize,
}

/// How a loss is taken.
pub struct Loss<'a> {
    pub weighting: &'a ValidWeighting,
    pub scale: f32,
    pub self_pairs: SelfPairs,
}

/// An embedding memory on some device.
pub trait Ring: Send {
    fn occupancy(&self) -> Occupancy;
    fn clear(&mut self);
    fn enqueue(&mut self, rows: &Rows<'_>) -> Result<()>;
    /// Loss and gradient of anchors, kept for the three functions below; the gradient is added to `added_to` where that is given.
    fn pair_loss(&mut self, loss: &Loss<'_>, anchors: &Rows<'_>, added_to: Option<Given<'_, f32>>) -> Result<()>;
    /// `(anchors, dim)` of the last loss.
    fn gradient(&self, to: Wanted<'_, f32>) -> Result<()>;
    /// `(anchors)` of the last loss.
    fn row_losses(&self, to: Wanted<'_, f32>) -> Result<()>;
    /// `(anchors, 2)` of the last loss.
    fn kept(&self, to: Wanted<'_, i32>) -> Result<()>;
    fn to_bytes(&self) -> Result<Vec<u8>>;
    fn restore(&mut self, bytes: &[u8], origin: &Path) -> Result<()>;
    /// As [`Access::follow`], for the engine's caller.
    fn wait_for_caller(&self) -> Result<()>;
    /// As [`Access::lead`], for the engine's caller.
    fn make_caller_wait(&self) -> Result<()>;
}

/// A memory with the buffers through which a batch of the caller's comes and goes, allocated when the size of the batch changes.
pub struct StagedRing<B: Access> {
    backend: B,
    caller: Caller,
    ring: EmbeddingMemory<B>,
    stage: Stage<B>,
}

struct Stage<B: Access> {
    embeddings: Tensor<B>,
    lengths: Tensor<B>,
    labels: IntegerTensor<B>,
    ids: IntegerTensor<B>,
    gradient: Tensor<B>,
    row_losses: Tensor<B>,
    kept: IntegerTensor<B>,
}

impl<B: Access> Stage<B> {
    fn new(backend: &B, rows: usize, dim: usize) -> Result<Self> {
        Ok(Self {
            embeddings: Tensor::with_format(backend, rows * dim, NumberFormat::Compute)?,
            lengths: Tensor::zeros(backend, rows)?,
            labels: IntegerTensor::zeros(backend, rows)?,
            ids: IntegerTensor::zeros(backend, rows)?,
            gradient: Tensor::zeros(backend, rows * dim)?,
            row_losses: Tensor::zeros(backend, rows)?,
            kept: IntegerTensor::zeros(backend, 2 * rows)?,
        })
    }
}

impl<B: Access> StagedRing<B> {
    /// An empty ring of `capacity` rows of length `dim`, held in `precision`.
    ///
    /// # Errors
    /// As [`EmbeddingMemory::with_precision`].
    pub fn new(backend: B, caller: Caller, (capacity, dim): (usize, usize), precision: RowPrecision) -> Result<Self> {
        let ring = EmbeddingMemory::with_precision(&backend, capacity, dim, Filling::Ring { max_drift: None }, precision)?;
        Ok(Self { ring, stage: Stage::new(&backend, 0, dim)?, backend, caller })
    }

    /// Moves a batch to where the memory lives, once its numbers are known to be good; returns its labels and instance ids.
    fn load(&mut self, what: &'static str, rows: &Rows<'_>) -> Result<(Vec<i32>, Vec<i32>)> {
        let (backend, dim) = (&self.backend, self.ring.dim());
        if rows.dim != dim {
            return Err(Error::shape(format!("dim of the {what}"), format_args!("{dim}, as the memory has"), rows.dim));
        }
        if self.stage.lengths.len() != rows.rows {
            self.stage = Stage::new(backend, rows.rows, dim)?;
        }
        let stage = &mut self.stage;
        match &rows.embeddings {
            Given::Host(values) => {
                check_unit_rows(what, values, dim)?;
                backend.upload(values, stage.embeddings.all_mut())?;
            }
            Given::Device(numbers) => {
                // The gradient's place is free: the caller's 32-bit numbers, whose lengths are looked at here.
                backend.copy_in(*numbers, stage.gradient.all_mut())?;
                let (geometry, given) = (RowGeometry { rows: rows.rows, dim }, stage.gradient.all());
                backend.l2_normalize_forward(&geometry, given, stage.embeddings.all_mut(), stage.lengths.all_mut())?;
                check_lengths(what, stage.lengths.to_host(backend)?.into_iter())?;
                backend.copy(given, stage.embeddings.all_mut())?;
            }
        }
        let labels = rows.labels.on_host(backend)?.into_owned();
        let ids = rows.ids.as_ref().map(|ids| ids.on_host(backend)).transpose()?;
        let ids = ids.map_or_else(|| vec![-1; rows.rows], |ids| ids.into_owned());
        stage.labels.upload(backend, &labels)?;
        stage.ids.upload(backend, &ids)?;
        Ok((labels, ids))
    }
}

impl<B: Access> StagedRing<B> {
    /// Fails if a loss or the gradient left the range of 32-bit numbers, as a large `scale`, or a large gradient to add to, makes it.
    fn check_results(&self) -> Result<()> {
        if let Some(row) = self.stage.row_losses.to_host(&self.backend)?.iter().position(|loss| !loss.is_finite()) {
            return Err(Error::NotFinite { what: "the losses", row });
        }
        let gradient = &self.stage.gradient;
        if gradient.is_empty() || self.backend.squared_norm(gradient.all())?.is_finite() {
            return Ok(());
        }
        let row = gradient.to_host(&self.backend)?.iter().position(|value| !value.is_finite()).map(|at| at / self.ring.dim());
        row.map_or(Ok(()), |row| Err(Error::NotFinite { what: "the gradient", row }))
    }
}

impl<B: Access> Ring for StagedRing<B> {
    fn occupancy(&self) -> Occupancy {
        let ring = &self.ring;
        Occupancy { capacity: ring.capacity(), dim: ring.dim(), count: ring.count(), head: ring.head() }
    }

    fn clear(&mut self) {
        self.ring.clear();
    }

    fn enqueue(&mut self, rows: &Rows<'_>) -> Result<()> {
        let (labels, ids) = self.load("embeddings", rows)?;
        self.ring.enqueue(&self.backend, self.stage.embeddings.all(), &labels, &ids)
    }

    fn pair_loss(&mut self, loss: &Loss<'_>, anchors: &Rows<'_>, added_to: Option<Given<'_, f32>>) -> Result<()> {
        self.load("anchors", anchors)?;
        let Stage { embeddings, labels, ids, gradient, row_losses, kept, .. } = &mut self.stage;
        let accumulate = added_to.is_some();
        match added_to {
            None => {}
            Some(Given::Host(values)) => self.backend.upload(&values, gradient.all_mut())?,
            Some(Given::Device(numbers)) => self.backend.copy_in(numbers, gradient.all_mut())?,
        }
        let settings = LossSettings { weighting: loss.weighting, scale: loss.scale, self_pairs: loss.self_pairs, accumulate };
        let anchors = Anchors { embeddings: embeddings.all(), labels: labels.all(), ids: ids.all(), soft_labels: None };
        let outputs = PairLossOutputs { gradient: gradient.all_mut(), row_losses: row_losses.all_mut(), kept: kept.all_mut() };
        self.ring.pair_loss(&self.backend, settings, anchors, outputs)?;
        self.check_results()
    }

    fn gradient(&self, to: Wanted<'_, f32>) -> Result<()> {
        to.fill(&self.backend, self.stage.gradient.all())
    }

    fn row_losses(&self, to: Wanted<'_, f32>) -> Result<()> {
        to.fill(&self.backend, self.stage.row_losses.all())
    }

    fn kept(&self, to: Wanted<'_, i32>) -> Result<()> {
        to.fill(&self.backend, self.stage.kept.all())
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        memory_to_bytes(&self.ring.export(&self.backend)?)
    }

    fn restore(&mut self, bytes: &[u8], origin: &Path) -> Result<()> {
        let state = memory_from_bytes(bytes, origin)?;
        self.ring.restore(&self.backend, &state).map_err(|error| Error::data(origin, error.to_string()))
    }

    fn wait_for_caller(&self) -> Result<()> {
        self.backend.wait_for_caller(self.caller.stream())
    }

    fn make_caller_wait(&self) -> Result<()> {
        self.backend.make_caller_wait(self.caller.stream())
    }
}
