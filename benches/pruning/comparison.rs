//! A checkpoint as the next steps of its run would find it: their batches, embedded, and the memory.

use std::path::Path;
use std::sync::Arc;
use xbm_fast::app::config::{FILE_NAME, TrainConfig};
use xbm_fast::app::data::{Dataset, Loader, LoaderOptions, OpenOptions, Sampler, Split};
use xbm_fast::device::{Cpu, Tensor};
use xbm_fast::loss::PairWeighting;
use xbm_fast::memory::MemoryState;
use xbm_fast::model::{Network, plan::Purpose};
use xbm_fast::ops::augment::{Augment, RandomResizedCrop};
use xbm_fast::train::State;
use xbm_fast::{Error, Result};

/// Batches that are embedded by the weights of a checkpoint: one is a small sample.
const BATCHES: usize = 4;

/// Batches and the memory that they are compared with.
pub struct Comparison {
    /// The run and its step.
    pub name: String,
    /// Of the pairs.
    pub weighting: PairWeighting,
    /// Length of an embedding.
    pub dim: usize,
    batches: Vec<Embedded>,
    /// From the oldest row to the newest.
    memory: Embedded,
}

/// Embeddings with what says which of them are pairs.
#[derive(Default)]
struct Embedded {
    values: Vec<f32>,
    labels: Vec<i32>,
    ids: Vec<i32>,
}

/// Some of them.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// `(rows, dim)`: unit rows.
    pub values: &'a [f32],
    /// `(rows)`.
    pub labels: &'a [i32],
    /// `(rows)`: instance ids.
    pub ids: &'a [i32],
}

impl Comparison {
    /// Reads a checkpoint with the settings of its run, and embeds the batches of the next steps. Data is found from the current folder.
    pub fn load(path: &Path) -> Result<Self> {
        let run = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
        let config = TrainConfig::merged(Some(&run.join(FILE_NAME)), toml::Table::new())?;
        let cpu = Cpu::new(None)?;
        let (mut state, _) = State::from_checkpoint(&cpu, &config.train, path)?;
        let weighting = config.train.weighting.clone();
        if !weighting.depends_on_similarity_alone() {
            return Err(Error::data(path, "weights of its pairs depend on their rows, for which there is no one threshold"));
        }
        let memory = state.memory.as_ref().map(|memory| memory.export(&cpu)).transpose()?;
        let memory = memory.ok_or_else(|| Error::data(path, "expected a run with a memory, found one without"))?;
        let name = format!("{}, step {}", run.file_name().unwrap_or_default().display(), state.step);
        let batches = embed(&cpu, &config, &mut state)?;
        Ok(Self { name, weighting, dim: config.train.model.dim, batches, memory: Embedded::by_age(memory) })
    }

    /// Rows of the memory.
    pub fn rows(&self) -> usize {
        self.memory.labels.len()
    }

    /// Batches that were embedded.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The rows of one of them.
    pub fn anchors(&self, batch: usize) -> Rows<'_> {
        self.batches[batch].from(0, self.dim)
    }

    /// The rows that the memory took in last.
    pub fn newest(&self, rows: usize) -> Rows<'_> {
        self.memory.from(self.rows() - rows, self.dim)
    }

    /// Similarity of the negatives of the first anchor: the median, and what one in a hundred is above.
    pub fn negatives(&self, rows: usize) -> (f32, f32) {
        let (anchors, memory) = (self.anchors(0), self.newest(rows));
        let anchor = &anchors.values[..self.dim];
        let others = memory.values.chunks(self.dim).zip(memory.labels).filter(|(_, label)| **label != anchors.labels[0]);
        let mut found: Vec<f32> = others.map(|(row, _)| row.iter().zip(anchor).map(|(row, anchor)| row * anchor).sum()).collect();
        found.sort_by(f32::total_cmp);
        let at = |share: f64| found.get((share * found.len() as f64) as usize).copied().unwrap_or(f32::NAN);
        (at(0.5), at(0.99))
    }
}

impl Embedded {
    /// The rows of a ring, the oldest first: that is the one at its head where it is full.
    fn by_age(memory: MemoryState) -> Self {
        let MemoryState { capacity, dim, head, mut rows, mut labels, mut ids, .. } = memory;
        if labels.len() == capacity {
            rows.rotate_left(head * dim);
            labels.rotate_left(head);
            ids.rotate_left(head);
        }
        Self { values: rows, labels, ids }
    }

    fn from(&self, first: usize, dim: usize) -> Rows<'_> {
        Rows { values: &self.values[first * dim..], labels: &self.labels[first..], ids: &self.ids[first..] }
    }
}

/// The batches that the run would draw next, as its query encoder embeds them in training.
fn embed(cpu: &Cpu, config: &TrainConfig, state: &mut State<Cpu>) -> Result<Vec<Embedded>> {
    let (train, mut loader) = (&config.train, loader(config, state.step)?);
    let (size, architecture) = (train.batch.size, train.architecture()?);
    let [low, high] = train.augment.crop_scale;
    let view = RandomResizedCrop::new((low, high), train.augment.flip, train.execution.seed)?;
    let mut images = Tensor::zeros(cpu, size * architecture.image().len())?;
    let mut embeddings = Tensor::zeros(cpu, size * train.model.dim)?;
    let mut network = Network::new(cpu, architecture, size, Purpose::Training)?;
    if train.model.freeze_batch_norm {
        network.freeze_batch_norms(&state.query)?;
    }
    let batches = (0..BATCHES).map(|_| {
        let drawn = loader.next()?;
        let batch = drawn.plain();
        let numbered = batch.images.iter().enumerate();
        let crops: Vec<_> = numbered.map(|(position, &image)| view.crop("query", batch.step, position, image)).collect();
        cpu.augment(train.model.image_size, &batch.images, &crops, images.all_mut())?;
        network.forward_train(&mut state.query, images.all(), size, embeddings.all_mut())?;
        Ok(Embedded { values: embeddings.to_host(cpu)?, labels: batch.labels.to_vec(), ids: batch.ids.to_vec() })
    });
    batches.collect()
}

/// The images of the run from a step on.
fn loader(config: &TrainConfig, step: u64) -> Result<Loader> {
    let (data, seed) = (&config.data, config.train.execution.seed);
    let options =
        OpenOptions { holdout: f64::from(data.holdout), seed, max_megapixels: data.max_megapixels, ..OpenOptions::default() };
    let mut dataset = Dataset::open(&data.spec, &options)?;
    if data.validation > 0.0 {
        dataset.hold_out(f64::from(data.validation), seed)?;
    }
    let images = dataset.indices(Split::Train);
    let sampler = Sampler::new(&images, &dataset.labels(&images), config.sampler())?;
    Loader::new(Arc::new(dataset), sampler, step, &LoaderOptions { ahead: BATCHES, ..LoaderOptions::default() })
}
