//! What the caller can have done, for any backend. Like `main.rs` for the program, this is the one place where a device is chosen.

use super::caller::check_unit_rows;
use crate::backend::{Cpu, Precision, Storage};
use crate::checkpoint::{memory_from_bytes, memory_to_bytes};
use crate::error::{Error, Result};
use crate::evaluate::{Embeddings, EvaluationSet, Scores, evaluate};
use crate::memory::{Anchors, EmbeddingMemory, Exclusion, LossSettings};
use crate::ops::Backend;
use crate::ops::pair_loss::PairLossOutputs;
use crate::tensor::{IntegerTensor, Tensor};
use crate::weighting::PairWeighting;
use std::borrow::Cow;
use std::ffi::c_void;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The device of that name, computing on the caller's stream where it has streams.
///
/// # Errors
/// [`Error::Config`] on a name or a stream that makes no sense, [`Error::Device`] if this build or machine has no such device.
pub fn open(name: &str, stream: *const c_void, threads: usize) -> Result<Arc<dyn Device>> {
    match name {
        "cpu" if stream.is_null() => Ok(Arc::new(Cpu::new((threads > 0).then_some(threads))?)),
        "cpu" => Err(Error::config("stream: device `cpu` has no streams; expected NULL")),
        _ if name == "cuda" || name.starts_with("cuda:") => {
            let reason = "this build computes on the CPU only; create the engine for device `cpu`".to_owned();
            Err(Error::Device { what: format!("opening device `{name}`"), reason })
        }
        _ => Err(Error::config(format!("unknown device `{name}`; known: `cpu`, `cuda`, `cuda:1` and so on"))),
    }
}

/// Rows in host memory.
pub struct Rows<'a> {
    /// `(rows, dim)`.
    pub embeddings: Cow<'a, [f32]>,
    /// `(rows)`.
    pub labels: Cow<'a, [i32]>,
    /// `(rows)`: instance ids.
    pub ids: Cow<'a, [i32]>,
    /// Length of an embedding.
    pub dim: usize,
}

/// A device with an engine on it.
pub trait Device: Send + Sync {
    /// What a log calls it.
    fn description(&self) -> String;
    /// A memory on this device.
    fn memory(&self, capacity: usize, dim: usize) -> Result<Arc<Mutex<dyn Ring>>>;
    /// Scores queries against a gallery, or against each other where there is none.
    fn evaluate(&self, queries: Rows<'_>, gallery: Option<Rows<'_>>, own_rows: Option<&[i32]>, ks: &[usize]) -> Result<Scores>;
}

impl<B: Backend> Device for B {
    fn description(&self) -> String {
        Storage::description(self)
    }

    fn memory(&self, capacity: usize, dim: usize) -> Result<Arc<Mutex<dyn Ring>>> {
        let ring = EmbeddingMemory::new(self, capacity, dim)?;
        Ok(Arc::new(Mutex::new(StagedRing { ring, stage: Stage::new(self, 0, dim)?, backend: self.clone() })))
    }

    fn evaluate(&self, queries: Rows<'_>, gallery: Option<Rows<'_>>, own_rows: Option<&[i32]>, ks: &[usize]) -> Result<Scores> {
        let queries = queries.checked("queries")?;
        let gallery = gallery.map(|rows| rows.checked("gallery")).transpose()?;
        let own: Vec<i32> = match (own_rows, &gallery) {
            (Some(rows), _) => rows.to_vec(),
            (None, Some(_)) => vec![-1; queries.len()],
            (None, None) => (0..queries.len() as i32).collect(),
        };
        let set = EvaluationSet { queries: &queries, gallery: gallery.as_ref().unwrap_or(&queries), own_rows: &own };
        Ok(evaluate(self, &set)?.scores(ks))
    }
}

impl Rows<'_> {
    fn checked(self, what: &'static str) -> Result<Embeddings> {
        check_unit_rows(what, &self.embeddings, self.dim)?;
        Embeddings::new(self.embeddings.into_owned(), self.labels.into_owned(), self.dim)
    }
}

/// Where a memory stands.
pub struct Occupancy {
    pub capacity: usize,
    pub dim: usize,
    pub count: usize,
    pub head: usize,
}

/// How a loss is taken.
pub struct Loss<'a> {
    pub weighting: &'a PairWeighting,
    pub scale: f32,
    pub exclusion: Exclusion,
}

/// An embedding memory on some device, its caller on the host.
pub trait Ring: Send {
    fn occupancy(&self) -> Occupancy;
    fn clear(&mut self);
    fn enqueue(&mut self, rows: &Rows<'_>) -> Result<()>;
    /// Loss and gradient of anchors, kept for the three functions below; the gradient is added to `added_to` where that is given.
    fn pair_loss(&mut self, loss: &Loss<'_>, anchors: &Rows<'_>, added_to: Option<&[f32]>) -> Result<()>;
    /// `(anchors, dim)` of the last loss.
    fn gradient(&self, to: &mut [f32]) -> Result<()>;
    /// `(anchors)` of the last loss.
    fn row_losses(&self, to: &mut [f32]) -> Result<()>;
    /// `(anchors, 2)` of the last loss.
    fn kept(&self, to: &mut [i32]) -> Result<()>;
    fn to_bytes(&self) -> Result<Vec<u8>>;
    fn restore(&mut self, bytes: &[u8], origin: &Path) -> Result<()>;
}

/// A memory with the buffers through which a batch of the caller's comes and goes, allocated when the size of the batch changes.
struct StagedRing<B: Backend> {
    backend: B,
    ring: EmbeddingMemory<B>,
    stage: Stage<B>,
}

struct Stage<B: Backend> {
    embeddings: Tensor<B>,
    labels: IntegerTensor<B>,
    ids: IntegerTensor<B>,
    gradient: Tensor<B>,
    row_losses: Tensor<B>,
    kept: IntegerTensor<B>,
}

impl<B: Backend> Stage<B> {
    fn new(backend: &B, rows: usize, dim: usize) -> Result<Self> {
        Ok(Self {
            embeddings: Tensor::with_precision(backend, rows * dim, Precision::Compute)?,
            labels: IntegerTensor::zeros(backend, rows)?,
            ids: IntegerTensor::zeros(backend, rows)?,
            gradient: Tensor::zeros(backend, rows * dim)?,
            row_losses: Tensor::zeros(backend, rows)?,
            kept: IntegerTensor::zeros(backend, 2 * rows)?,
        })
    }
}

impl<B: Backend> StagedRing<B> {
    /// Moves a batch to the device, once its numbers are known to be good.
    fn load(&mut self, what: &'static str, rows: &Rows<'_>) -> Result<()> {
        let dim = self.ring.dim();
        if rows.dim != dim {
            return Err(Error::shape(format!("dim of the {what}"), format_args!("{dim}, as the memory has"), rows.dim));
        }
        check_unit_rows(what, &rows.embeddings, dim)?;
        if self.stage.embeddings.len() != rows.embeddings.len() {
            self.stage = Stage::new(&self.backend, rows.labels.len(), dim)?;
        }
        self.backend.upload(&rows.embeddings, self.stage.embeddings.all_mut())?;
        self.stage.labels.upload(&self.backend, &rows.labels)?;
        self.stage.ids.upload(&self.backend, &rows.ids)
    }
}

impl<B: Backend> Ring for StagedRing<B> {
    fn occupancy(&self) -> Occupancy {
        let ring = &self.ring;
        Occupancy { capacity: ring.capacity(), dim: ring.dim(), count: ring.count(), head: ring.head() }
    }

    fn clear(&mut self) {
        self.ring.clear();
    }

    fn enqueue(&mut self, rows: &Rows<'_>) -> Result<()> {
        self.load("embeddings", rows)?;
        self.ring.enqueue(&self.backend, self.stage.embeddings.all(), &rows.labels, &rows.ids)
    }

    fn pair_loss(&mut self, loss: &Loss<'_>, anchors: &Rows<'_>, added_to: Option<&[f32]>) -> Result<()> {
        self.load("anchors", anchors)?;
        let Stage { embeddings, labels, ids, gradient, row_losses, kept } = &mut self.stage;
        if let Some(values) = added_to {
            self.backend.upload(values, gradient.all_mut())?;
        }
        let settings = LossSettings {
            weighting: loss.weighting,
            scale: loss.scale,
            exclusion: loss.exclusion,
            accumulate: added_to.is_some(),
        };
        let anchors = Anchors { embeddings: embeddings.all(), labels: labels.all(), ids: ids.all(), soft_labels: None };
        let outputs = PairLossOutputs { gradient: gradient.all_mut(), row_losses: row_losses.all_mut(), kept: kept.all_mut() };
        self.ring.pair_loss(&self.backend, settings, anchors, outputs)?;
        Ok(())
    }

    fn gradient(&self, to: &mut [f32]) -> Result<()> {
        self.backend.download(self.stage.gradient.all(), to)
    }

    fn row_losses(&self, to: &mut [f32]) -> Result<()> {
        self.backend.download(self.stage.row_losses.all(), to)
    }

    fn kept(&self, to: &mut [i32]) -> Result<()> {
        self.backend.download_integers(self.stage.kept.all(), to)
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        memory_to_bytes(&self.ring.export(&self.backend)?)
    }

    fn restore(&mut self, bytes: &[u8], origin: &Path) -> Result<()> {
        let state = memory_from_bytes(bytes, origin)?;
        self.ring.restore(&self.backend, &state).map_err(|error| Error::data(origin, error.to_string()))
    }
}
