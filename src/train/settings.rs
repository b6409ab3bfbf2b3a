//! Everything that determines the steps of a run: no files, no data sets, no console.

use super::schedule::ScheduleSettings;
use crate::error::{Error, Result};
use crate::loss::PairWeighting;
use crate::memory::{Filling, MemorySettings};
use crate::model::{Architecture, ModelSettings};
use crate::ops::optimizer::Algorithm;
use crate::settings::Range::{AtLeast, HalfOpen};
use crate::settings::{Setting, settings};
use serde::{Deserialize, Serialize};

/// Images of a step, at most: with it no size of a step leaves the integers.
const LARGEST_BATCH: usize = 1 << 20;

settings! {
    /// How steps are carried out.
    pub struct ExecutionSettings in "Machine" {
        /// Whether a GPU repeats the steps of training as one captured graph; changes no result.
        "graph" => graph: bool = true,
            off("On a GPU: put every operation of a step on the device by itself, instead of the whole step as one captured graph");
        /// Seed of everything random.
        "seed" => seed: u64 = 0, unit("NUMBER");
        /// On a GPU: its memory for decoded training images; those that fit are sent once.
        "device_cache_mb" => device_cache_mb: usize = 2048, unit("MB"), under("Data");
    }
}

settings! {
    /// The views of the images that are trained on.
    pub struct AugmentSettings in "Data" {
        /// Share of the image's area that a training crop covers, smallest and largest; 0 < MIN <= MAX <= 1.
        "crop_scale" => crop_scale: [f32; 2] = [0.5, 1.0], unit("MIN,MAX");
        /// Whether training images are mirrored half of the time.
        "flip" => flip: bool = true, off("Do not mirror training images");
    }
}

settings! {
    /// Size and number of the steps.
    pub struct BatchSettings in "Batch" {
        /// Images of a step.
        "batch_size" => size: usize = 64, unit("IMAGES"), within(AtLeast(2.0));
        /// Steps of the run.
        "steps" => steps: u64 = 400, unit("STEPS");
    }
}

settings! {
    /// How a gradient changes the network.
    pub struct OptimizerSettings in "Optimiser" {
        /// Update rule.
        "optimizer" => algorithm: Algorithm = Algorithm::Adam, unit("RULE");
        /// Learning rate of the head, after the warm-up.
        "lr" => lr: f32 = 1e-3, unit("RATE"), within(crate::settings::Range::Positive);
        /// The trunk's learning rate over the head's.
        "backbone_lr_factor" => backbone_lr_factor: f32 = 1.0, unit("FACTOR"), within(AtLeast(0.0));
        /// First steps, in which only the head is trained.
        "head_warmup" => head_warmup: u64 = 0, unit("STEPS");
        /// Weight decay: added to the gradient by sgd and adam, decoupled in adamw.
        "weight_decay" => weight_decay: f32 = 5e-4, unit("FACTOR"), within(AtLeast(0.0));
        /// Momentum of sgd, first decay of adam and adamw.
        "beta1" => beta1: f32 = 0.9, unit("SHARE"), within(HalfOpen(0.0, 1.0));
        /// Second decay of adam and adamw.
        "beta2" => beta2: f32 = 0.999, unit("SHARE"), within(HalfOpen(0.0, 1.0)), needs("optimizer", &["adam", "adamw"]);
        /// Largest norm of the gradient; 0 does not clip.
        "clip_norm" => clip_norm: f32 = 0.0, unit("NORM"), within(AtLeast(0.0));
    }
}

/// Everything that determines the steps of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainSettings {
    /// How steps are carried out.
    #[serde(flatten)]
    pub execution: ExecutionSettings,
    /// The network.
    #[serde(flatten)]
    pub model: ModelSettings,
    /// The views of the images that are trained on.
    #[serde(flatten)]
    pub augment: AugmentSettings,
    /// Size and number of the steps.
    #[serde(flatten)]
    pub batch: BatchSettings,
    /// The memory of past embeddings.
    #[serde(flatten)]
    pub memory: MemorySettings,
    /// How a gradient changes the network.
    #[serde(flatten)]
    pub optimizer: OptimizerSettings,
    /// How the learning rate moves.
    #[serde(flatten)]
    pub schedule: ScheduleSettings,
    /// Weights of the pairs.
    pub weighting: PairWeighting,
}

impl TrainSettings {
    /// Every setting but those of the weighting, which is a value of its own.
    pub fn settings() -> impl Iterator<Item = &'static Setting> {
        let sections = [
            ExecutionSettings::SETTINGS,
            ModelSettings::SETTINGS,
            AugmentSettings::SETTINGS,
            BatchSettings::SETTINGS,
            MemorySettings::SETTINGS,
            OptimizerSettings::SETTINGS,
            ScheduleSettings::SETTINGS,
        ];
        sections.into_iter().flatten()
    }

    /// The layers of the network.
    ///
    /// # Errors
    /// [`Error::Config`] if a size is zero or beyond all reason.
    pub fn architecture(&self) -> Result<Architecture> {
        self.model.architecture()
    }

    /// How the memory stores a batch; `None` without a memory.
    pub fn filling(&self) -> Option<Filling> {
        self.memory.filling()
    }

    /// Fails on batches and memories that cannot be shared out among `ranks` processes.
    ///
    /// # Errors
    /// [`Error::Config`] with the flag, its value, and one that would do.
    pub fn check_ranks(&self, ranks: usize) -> Result<()> {
        let size = self.batch.size;
        if !size.is_multiple_of(ranks) {
            let below = (size / ranks * ranks).max(ranks);
            return Err(Error::config(format!(
                "--batch-size {size} is the batch of all {ranks} processes: expected a multiple of {ranks}, such as {below} or {}",
                below + ranks
            )));
        }
        self.memory.check_ranks(ranks, size)
    }

    /// Fails on settings that contradict each other or that no run can have.
    ///
    /// # Errors
    /// [`Error::Config`] with the flags and their values.
    pub fn check(&self) -> Result<()> {
        self.batch.check()?;
        self.memory.check(self.batch.size)?;
        self.augment.check()?;
        self.optimizer.check_ranges().map_err(Error::config)?;
        self.schedule.check_ranges().map_err(Error::config)?;
        self.execution.check_ranges().map_err(Error::config)?;
        self.weighting.validate()?;
        self.model.check()
    }
}

impl BatchSettings {
    fn check(&self) -> Result<()> {
        self.check_ranges().map_err(Error::config)?;
        if self.size > LARGEST_BATCH {
            return Err(Error::config(format!("--batch-size must be at most {LARGEST_BATCH}, found {}", self.size)));
        }
        if self.steps == 0 {
            return Err(Error::config("--steps must be at least 1, found 0: a run of no steps trains nothing"));
        }
        Ok(())
    }
}

impl AugmentSettings {
    fn check(&self) -> Result<()> {
        self.check_ranges().map_err(Error::config)?;
        let [low, high] = self.crop_scale;
        if 0.0 < low && low <= high && high <= 1.0 {
            return Ok(());
        }
        Err(Error::config(format!("--crop-scale must be two shares with 0 < smallest <= largest <= 1, found {low},{high}")))
    }
}
