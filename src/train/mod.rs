//! The algorithm: one training step with an embedding memory.
//!
//! A batch is embedded by the query encoder and compared with itself and with every row of the memory. Positive and negative pairs are
//! weighted by curves of their similarity, easy negatives weigh nothing ([`crate::loss`]); the weighted rows are the gradient.
//! With a momentum memory the rows come from the key encoder, a slow copy of the query encoder that sees views of its own.

mod balance;
mod batch;
mod compared;
mod outcome;
mod pending;
pub mod schedule;
mod settings;
mod state;
pub mod update;

pub use balance::Balance;
pub use batch::Batch;
pub use outcome::StepOutcome;
pub use settings::{AugmentSettings, BatchSettings, ExecutionSettings, OptimizerSettings, TrainSettings};
pub use state::State;

use crate::device::NumberFormat;
use crate::device::{IntegerTensor, Tensor};
use crate::error::{Error, Result, expect_len};
use crate::loss::ValidWeighting;
use crate::memory::{Anchors, EnqueueOrder, LossSettings, MemorySchedule};
use crate::model::{Network, Weights, plan::Purpose};
use crate::ops::Backend;
use crate::ops::augment::RandomResizedCrop;
use crate::ops::optimizer::OptimizerState;
use crate::ops::pair_loss::{
    CompareWith, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask, SoftLabels,
};
use crate::train::update::Update;
use compared::Compared;
use pending::{PendingMetrics, StepBuffers, StepRecord};
use std::borrow::Cow;
use std::ops::Range;

/// A training run's machinery: the state, and the buffers a step needs, allocated once.
#[derive(Debug)]
pub struct Learner<B: Backend> {
    backend: B,
    config: TrainSettings,
    weighting: ValidWeighting,
    memory_schedule: MemorySchedule,
    update: Update,
    view: RandomResizedCrop,
    /// Runs both encoders.
    network: Network<B>,
    state: State<B>,
    /// Which images of a batch this rank embeds.
    own: Range<usize>,
    images: Tensor<B>,
    image_cache: B::ImageCache,
    /// `(batch, dim)`, of all ranks.
    embeddings: Tensor<B>,
    /// `(batch, dim)`, of which only this rank's are used.
    keys: Tensor<B>,
    labels: IntegerTensor<B>,
    ids: IntegerTensor<B>,
    compared: Compared<B>,
    /// Where a balance is taken beside the step's comparisons.
    aside: Compared<B>,
    gradients: Tensor<B>,
    /// Of all images, by instance id.
    soft_labels: Option<Tensor<B>>,
    pending: PendingMetrics<B>,
    outcomes: Vec<StepOutcome>,
    repeated: B::StepGraph,
}

impl<B: Backend> Learner<B> {
    /// Allocates what the steps need; they go on from `state`, which is [`State::initial`], [`State::from_pretrained`] or
    /// [`State::from_checkpoint`] of the same settings.
    ///
    /// # Errors
    /// [`Error::Config`] on settings that contradict each other, and what the device reports.
    pub fn new(backend: &B, config: &TrainSettings, state: State<B>) -> Result<Self> {
        let architecture = config.architecture()?;
        config.check()?;
        config.check_ranks(backend.group().size())?;
        let (batch, dim, own) = (config.batch.size, config.model.dim, backend.group().part(config.batch.size));
        let smaller = |error: Error| error.allocating(&format!("the rows of a batch of {batch} images"), "--batch-size or --dim");
        let zeros = |len| Tensor::zeros(backend, len).map_err(smaller);
        let samples = state.memory.as_ref().map_or(0, |memory| memory.samples().1.len);
        let mut learner = Self {
            update: Update::new(&architecture, config),
            weighting: config.weighting.clone().valid()?,
            memory_schedule: config.memory.schedule(),
            view: RandomResizedCrop::new(
                (config.augment.crop_scale[0], config.augment.crop_scale[1]),
                config.augment.flip,
                config.execution.seed,
            )?,
            state,
            images: Tensor::with_format(backend, own.len() * architecture.image().len(), NumberFormat::Compute)
                .map_err(|error| error.allocating(&format!("a batch of {} images", own.len()), "--batch-size or --image-size"))?,
            image_cache: backend.image_cache(config.execution.device_cache_mb.saturating_mul(1 << 20)),
            embeddings: zeros(batch * dim)?,
            keys: zeros(batch * dim)?,
            labels: IntegerTensor::zeros(backend, batch)?,
            ids: IntegerTensor::zeros(backend, batch)?,
            compared: Compared::new(backend, batch, dim).map_err(smaller)?,
            aside: Compared::new(backend, batch, dim).map_err(smaller)?,
            gradients: zeros(architecture.parameters_len)?,
            pending: PendingMetrics::new(backend, batch, dim, samples).map_err(smaller)?,
            outcomes: Vec::new(),
            repeated: B::StepGraph::default(),
            soft_labels: None,
            network: Network::new(backend, architecture, own.len(), Purpose::Training)?,
            own,
            backend: backend.clone(),
            config: config.clone(),
        };
        if config.model.sync_batch_norm && !backend.group().is_alone() {
            learner.network.synchronize_batch_norms();
        }
        learner.fold_frozen_norms()?;
        Ok(learner)
    }

    /// What training has changed so far.
    pub fn state(&self) -> &State<B> {
        &self.state
    }

    /// Goes on from another state of the same settings; returns the one it had.
    ///
    /// # Errors
    /// What the device reports.
    pub fn replace_state(&mut self, state: State<B>) -> Result<State<B>> {
        let before = std::mem::replace(&mut self.state, state);
        self.fold_frozen_norms()?;
        Ok(before)
    }

    /// Frozen batch norms are held as a scale and a shift, made of the weights.
    fn fold_frozen_norms(&mut self) -> Result<()> {
        if self.config.model.freeze_batch_norm { self.network.freeze_batch_norms(&self.state.query) } else { Ok(()) }
    }

    /// The network that runs the encoders.
    pub fn network(&self) -> &Network<B> {
        &self.network
    }

    /// The network, to run it between steps, and the encoder to evaluate: see [`State::encoder`].
    pub fn network_and_encoder(&mut self) -> (&mut Network<B>, &Weights<B>) {
        (&mut self.network, self.state.encoder())
    }

    /// Gives the learner the soft labels of all images, by instance id; an empty list takes them away.
    ///
    /// # Errors
    /// What the device reports.
    pub fn set_soft_labels(&mut self, labels: &[f32]) -> Result<()> {
        self.soft_labels = if labels.is_empty() { None } else { Some(Tensor::from_host(&self.backend, labels)?) };
        Ok(())
    }

    /// One step of training on `batch`, and its outcome.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the loss is not finite; shapes that do not fit; what the device reports.
    pub fn step(&mut self, batch: &Batch<'_>, learning_rate: f32) -> Result<StepOutcome> {
        self.advance(batch, learning_rate)?;
        Ok(self.outcomes()?.pop().expect("a step was taken"))
    }

    /// One step of training on `batch`. On a device that runs ahead of its host nothing is waited for, and what the step has to report,
    /// errors too, may come with a later one.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn advance(&mut self, batch: &Batch<'_>, learning_rate: f32) -> Result<()> {
        self.run(batch, learning_rate, false).map(|_| ())
    }

    /// The same step, with the balance of its comparisons: against the batch, and against the memory as it stood with the weight it had.
    /// Goes through both once more, and waits for that.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn advance_balanced(&mut self, batch: &Batch<'_>, learning_rate: f32) -> Result<Balance> {
        Ok(self.run(batch, learning_rate, true)?.unwrap_or_default())
    }

    fn run(&mut self, batch: &Batch<'_>, learning_rate: f32, balanced: bool) -> Result<Option<Balance>> {
        let (backend, mut repeated) = (self.backend.clone(), std::mem::take(&mut self.repeated));
        let taken = if self.config.execution.graph {
            backend.capture(&mut repeated, || self.take(batch, learning_rate, balanced))
        } else {
            self.take(batch, learning_rate, balanced)
        };
        self.repeated = repeated;
        let (record, balance) = taken?;
        let samples = self.state.memory.as_ref().filter(|_| record.ages.is_some()).map(|memory| memory.samples().1);
        let Compared { row_losses, kept, .. } = &self.compared;
        let buffers = StepBuffers { row_losses: row_losses.all(), kept: kept.all(), embeddings: self.embeddings.all(), samples };
        self.pending.note(&self.backend, record, &buffers)?;
        if self.pending.is_full() {
            self.read_pending()?;
        }
        Ok(balance)
    }

    /// Outcomes of the steps taken since the last time, in their order; waits for them.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn outcomes(&mut self) -> Result<Vec<StepOutcome>> {
        self.read_pending()?;
        Ok(std::mem::take(&mut self.outcomes))
    }

    /// How steps were repeated so far.
    pub fn repeated(&self) -> &B::StepGraph {
        &self.repeated
    }

    /// Everything a step does on the device; nothing is read back but a balance, and for a memory that cannot do without.
    fn take(&mut self, batch: &Batch<'_>, learning_rate: f32, balanced: bool) -> Result<(StepRecord, Option<Balance>)> {
        let (labels, ids) = (self.of_all_ranks(batch.labels)?, self.of_all_ranks(batch.ids)?);
        self.labels.upload(&self.backend, &labels)?;
        self.ids.upload(&self.backend, &ids)?;
        self.embed_keys(batch)?;
        self.load_view(batch, "query")?;
        self.embed_queries()?;

        let mut record = StepRecord { step: self.state.step + 1, ..StepRecord::default() };
        if self.config.memory.enqueue == EnqueueOrder::Before {
            self.enqueue(&labels, &ids, &mut record)?;
        }
        self.compare_with_batch()?;
        self.compare_with_memory(&mut record)?;
        let balance = if balanced { Some(self.balance()?) } else { None };
        if self.config.memory.enqueue == EnqueueOrder::After {
            self.enqueue(&labels, &ids, &mut record)?;
        }

        self.backend.scale_loss(self.state.scaler.all(), self.compared.gradient.all_mut())?;
        let dim = self.config.model.dim;
        let (images, gradient) = (self.images.all(), self.compared.gradient.part(self.own.start * dim, self.own.len() * dim));
        if self.update.trains_trunk(self.state.step) {
            self.network.backward(&self.state.query, images, gradient, &mut self.gradients)?;
        } else {
            self.network.backward_head(&self.state.query, images, gradient, &mut self.gradients)?;
        }
        // Those of the trunk are not in use before it is trained.
        let first = if self.update.trains_trunk(self.state.step) { 0 } else { self.network.architecture().head_start() };
        self.backend.sum_over_ranks("the gradients", self.gradients.part_mut(first, self.gradients.len() - first))?;
        self.update(learning_rate)?;
        self.state.step += 1;
        Ok((record, balance))
    }

    /// Momentum memory: the key encoder moves a little towards the query encoder and, once its rows are wanted, embeds its own view of
    /// the batch.
    fn embed_keys(&mut self, batch: &Batch<'_>) -> Result<()> {
        let Some(key) = &mut self.state.key else { return Ok(()) };
        key.follow(&self.backend, &self.state.query, self.config.memory.momentum)?;
        if self.state.step < self.memory_schedule.start {
            return Ok(());
        }
        self.load_view(batch, "key")?;
        let Self { config, network, state, images, keys, .. } = self;
        let Some(key) = &mut state.key else { return Ok(()) };
        let (first, len) = (self.own.start * config.model.dim, self.own.len() * config.model.dim);
        network.forward_train(key, images.all(), self.own.len(), keys.part_mut(first, len))?;
        if self.averages_statistics() {
            self.state.key.as_mut().map_or(Ok(()), |key| key.average_statistics(&self.backend))
        } else {
            Ok(())
        }
    }

    /// Embeds the images of this rank, and takes the embeddings of the others.
    fn embed_queries(&mut self) -> Result<()> {
        let (dim, own) = (self.config.model.dim, self.own.clone());
        let embeddings = self.embeddings.part_mut(own.start * dim, own.len() * dim);
        self.network.forward_train(&mut self.state.query, self.images.all(), own.len(), embeddings)?;
        if self.averages_statistics() {
            self.state.query.average_statistics(&self.backend)?;
        }
        self.backend.gather_over_ranks("the embeddings", self.embeddings.all_mut())
    }

    /// Whether the ranks' batch norms see different images and move differently.
    fn averages_statistics(&self) -> bool {
        !(self.backend.group().is_alone() || self.config.model.sync_batch_norm || self.config.model.freeze_batch_norm)
    }

    /// Labels or instance ids of the whole batch, from those of this rank's images.
    fn of_all_ranks<'a>(&self, own: &'a [i32]) -> Result<Cow<'a, [i32]>> {
        expect_len("labels and instance ids of a batch", self.own.len(), own.len())?;
        let group = self.backend.group();
        if group.is_alone() { Ok(Cow::Borrowed(own)) } else { group.gather_parts("the labels", own).map(Cow::Owned) }
    }

    /// Crops, flips and normalises the batch into `images`.
    fn load_view(&mut self, batch: &Batch<'_>, purpose: &str) -> Result<()> {
        let crops: Vec<_> = batch
            .images
            .iter()
            .enumerate()
            .map(|(position, &image)| self.view.crop(purpose, batch.step, self.own.start + position, image))
            .collect();
        let Self { backend, image_cache, images, config, .. } = self;
        backend.augment_cached(image_cache, batch.ids, config.model.image_size, &batch.images, &crops, images.all_mut())
    }

    /// The memory is filled from its first step on: rows of an embedding that still moves fast would be stale at once.
    fn enqueue(&mut self, labels: &[i32], ids: &[i32], record: &mut StepRecord) -> Result<()> {
        if self.state.step < self.memory_schedule.start {
            return Ok(());
        }
        let Some(memory) = &mut self.state.memory else { return Ok(()) };
        let rows = if self.state.key.is_some() { &self.keys } else { &self.embeddings };
        if memory.needs_measurements() {
            return memory.enqueue(&self.backend, rows.all(), labels, ids);
        }
        memory.store(&self.backend, rows.all(), labels, ids)?;
        record.ages = Some(memory.samples().0.to_vec());
        Ok(())
    }

    /// `L(batch, batch)`. Both sides of a pair are trained.
    fn compare_with_batch(&mut self) -> Result<()> {
        let batch = self.config.batch.size;
        let geometry = PairLossGeometry { anchors: batch, rows: batch, dim: self.config.model.dim };
        let (weighting, scale, accumulate) = (&self.weighting, 1.0 / batch as f32, false);
        let inputs = PairLossInputs {
            anchors: self.embeddings.all(),
            anchor_labels: self.labels.all(),
            memory: CompareWith::Numbers(self.embeddings.all()),
            memory_labels: self.labels.all(),
            self_pairs: SelfPairMask::Instance { anchors: self.ids.all(), rows: self.ids.all() },
            soft: self.soft_labels.as_ref().map(|labels| SoftLabels {
                labels: labels.all(),
                anchors: self.ids.all(),
                rows: self.ids.all(),
            }),
        };
        let outputs = PairLossOutputs {
            gradient: self.compared.gradient.all_mut(),
            row_losses: self.compared.row_losses.part_mut(0, batch),
            kept: self.compared.kept.part_mut(0, 2 * batch),
        };
        self.backend.batch_pair_loss(PairLossCall { geometry, weighting, scale, accumulate, inputs, outputs })
    }

    /// `memory_weight * L(batch, memory)`. The memory is constant.
    fn compare_with_memory(&mut self, record: &mut StepRecord) -> Result<()> {
        let (weight, batch) = (self.memory_schedule.weight_at(self.state.step), self.config.batch.size);
        let Some(memory) = self.state.memory.as_ref().filter(|_| weight > 0.0) else { return Ok(()) };
        let outputs = PairLossOutputs {
            gradient: self.compared.gradient.all_mut(),
            row_losses: self.compared.row_losses.part_mut(batch, batch),
            kept: self.compared.kept.part_mut(2 * batch, 2 * batch),
        };
        let anchors = Anchors {
            embeddings: self.embeddings.all(),
            labels: self.labels.all(),
            ids: self.ids.all(),
            soft_labels: self.soft_labels.as_ref().map(Tensor::all),
        };
        let self_pairs = self.config.memory.self_pairs;
        let scale = weight / batch as f32;
        let settings = LossSettings { weighting: &self.weighting, scale, self_pairs, accumulate: true };
        record.memory_rows = memory.pair_loss(&self.backend, settings, anchors, outputs)?;
        record.memory_weight = Some(weight);
        Ok(())
    }

    /// Takes the metrics that are pending into the outcomes and into the memory's drift.
    fn read_pending(&mut self) -> Result<()> {
        let Self { pending, backend, outcomes, state, config, .. } = self;
        pending.read(backend, |readback| {
            if let (Some(ages), Some(memory)) = (&readback.record.ages, &mut state.memory) {
                memory.measure(ages, readback.samples);
            }
            let outcome = StepOutcome::of(&readback, config.model.dim);
            let loss = outcome.batch_loss + outcome.memory_loss;
            if !loss.is_finite() {
                return Err(Error::Diverged { loss, step: readback.record.step });
            }
            outcomes.push(outcome);
            Ok(())
        })
    }

    fn update(&mut self, learning_rate: f32) -> Result<()> {
        self.backend.unscale(self.gradients.all_mut(), self.state.scaler.all_mut())?;
        let State { step, query, first_moment, second_moment, scaler, .. } = &mut self.state;
        let values = OptimizerState {
            parameters: query.parameters.all_mut(),
            first_moment: first_moment.all_mut(),
            second_moment: second_moment.all_mut(),
            scaler: scaler.all(),
        };
        self.update.apply(&self.backend, *step, learning_rate, &self.gradients, values)
    }
}
