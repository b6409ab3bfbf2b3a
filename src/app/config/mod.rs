//! Settings of a training run: one struct, the same names as flags (with dashes) and in TOML (with underscores).

mod idle;
mod weighting;

pub use weighting::read_weighting;

use crate::app::data::loader::DEFAULT_MAX_UNREADABLE;
use crate::app::data::{DEFAULT_MAX_MEGAPIXELS, SamplerOptions, Sampling};
use crate::device::RowPrecision;
use crate::device::cuda::{Numbers, PairLossPath};
use crate::error::{Error, Result};
use crate::files::input;
use crate::loss::PairWeighting;
use crate::memory::Filling;
use crate::model::{Architecture, Depth};
use crate::ops::optimizer::Rule;
use crate::ops::pool::GlobalPooling;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which rows an anchor is compared with beside its own batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryKind {
    /// Its own batch only.
    None,
    /// Embeddings of past batches as they were (XBM).
    CrossBatch,
    /// Embeddings of past batches by a slowly moving copy of the network (the key encoder).
    Momentum,
    /// A row for each training image: its latest embedding, or their moving average.
    Instance,
    /// A row for each training class: the moving average of its images' embeddings.
    Prototype,
}

/// Whether the batch's own rows are in the memory when its loss is computed. Pairs of an image with itself are excluded either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnqueueOrder {
    /// Enqueue, then compute the loss.
    Before,
    /// Compute the loss, then enqueue.
    After,
}

/// Which memory rows are an anchor itself, and therefore no pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnPairs {
    /// Every row with the anchor's instance id.
    Instance,
    /// The row that the anchor has just been enqueued to. Older embeddings of the same image are positives, as in
    /// pytorch-metric-learning's `CrossBatchMemory`.
    Slot,
}

/// How the learning rate moves after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Not at all.
    Constant,
    /// Times `schedule_factor` every `schedule_steps` steps.
    Step,
    /// Half a cosine down to zero.
    Cosine,
    /// Times `schedule_factor` after `schedule_patience` evaluations without a better Recall@1.
    Plateau,
}

/// Where tensors live.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The best there is.
    Auto,
    /// The host processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

/// Everything that determines a run, apart from the number of threads, which changes no result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// What to train on: a data SPEC.
    pub data: String,
    /// Where the run's files go; empty for the next free `runs/NNN`.
    pub out: PathBuf,
    /// Where tensors live.
    pub device: DeviceChoice,
    /// What activations are held in on a GPU; the CPU computes in 32 bit.
    pub precision: Numbers,
    /// Which implementation of the pair loss a GPU uses.
    pub pair_loss: PairLossPath,
    /// Whether a GPU repeats the steps of training as one captured graph; changes no result.
    pub graph: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Worker threads; 0 is one per core.
    pub threads: usize,
    /// The network.
    pub backbone: Depth,
    /// Global pooling before the embedding layer.
    pub pooling: GlobalPooling,
    /// Length of the embedding.
    pub dim: usize,
    /// Published weights the trunk starts from (.safetensors); empty for random ones.
    pub pretrained: PathBuf,
    /// Whether batch norms keep their running statistics, scales and shifts as they are.
    pub freeze_batch_norm: bool,
    /// Side of the network's input, in pixels.
    pub image_size: usize,
    /// Share of the image's area that a training crop covers, smallest and largest.
    pub crop_scale: [f32; 2],
    /// Whether training images are mirrored half of the time.
    pub flip: bool,
    /// Share of the classes held out for testing where the data set has no split of its own.
    pub holdout: f32,
    /// Share of the training classes that score the run in the place of the test images and are not trained on; 0 scores on these.
    pub validation: f32,
    /// Whether queries and gallery are one set of pictures, in which a query finds neither itself nor a copy of itself.
    pub same_set: bool,
    /// Images of a step.
    pub batch_size: usize,
    /// Images of each class in a batch.
    pub samples_per_class: usize,
    /// The order in which classes are drawn.
    pub sampling: Sampling,
    /// Steps of the run.
    pub steps: u64,
    /// Kind of memory.
    pub memory: MemoryKind,
    /// Rows of the memory.
    pub memory_size: usize,
    /// How these are held.
    pub memory_precision: RowPrecision,
    /// First step that fills the memory and compares with it.
    pub memory_start: u64,
    /// Steps over which the memory's weight grows to its full value.
    pub memory_ramp: u64,
    /// Weight of the memory loss beside the batch loss.
    pub memory_weight: f32,
    /// Whether a batch joins the memory before or after its loss.
    pub memory_enqueue: EnqueueOrder,
    /// Which memory rows are an anchor itself.
    pub memory_own: OwnPairs,
    /// Share of the old row in the new one, for memories with a row for each image or class; 0 keeps the latest embedding.
    pub memory_average: f32,
    /// Use only rows of an age at which embeddings have drifted less than this (1 - similarity) since they were stored; 0 uses all.
    pub memory_max_drift: f32,
    /// Momentum of the key encoder.
    pub momentum: f32,
    /// Update rule.
    pub optimizer: Rule,
    /// Learning rate.
    pub lr: f32,
    /// The trunk's learning rate over the head's.
    pub backbone_lr_factor: f32,
    /// First steps, in which only the head is trained.
    pub head_warmup: u64,
    /// Weight decay.
    pub weight_decay: f32,
    /// Momentum of SGD, first decay of Adam.
    pub beta1: f32,
    /// Second decay of Adam.
    pub beta2: f32,
    /// Largest norm of the gradient; 0 does not clip.
    pub clip_norm: f32,
    /// How the learning rate moves.
    pub schedule: ScheduleKind,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Steps between two drops of the step schedule.
    pub schedule_steps: u64,
    /// Factor of a drop.
    pub schedule_factor: f32,
    /// Evaluations without improvement before the plateau schedule drops.
    pub schedule_patience: u32,
    /// Steps between two lines of the log.
    pub log_every: u64,
    /// Steps between two evaluations; 0 evaluates only at the end.
    pub eval_every: u64,
    /// Steps between two checkpoints; 0 keeps only the last.
    pub checkpoint_every: u64,
    /// Checkpoints kept beside the best model.
    pub keep_checkpoints: usize,
    /// Memory for decoded images, in megabytes.
    pub cache_mb: usize,
    /// Memory of a GPU for decoded training images, in megabytes: those that fit are sent to it once.
    pub device_cache_mb: usize,
    /// Largest share of images, of those trained on and of those tested, that may be unreadable before the run ends.
    pub max_unreadable: f32,
    /// Largest image that is decoded, in millions of pixels.
    pub max_megapixels: u32,
    /// Weights of the pairs. `weighting`, `positive`, `negative_gate` and their like are read into it.
    pub weighting: PairWeighting,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            data: "synthetic".to_owned(),
            out: PathBuf::new(),
            device: DeviceChoice::Auto,
            precision: Numbers::Fp16,
            pair_loss: PairLossPath::Auto,
            graph: true,
            seed: 0,
            threads: 0,
            backbone: Depth::ResNet18,
            pooling: GlobalPooling::Avg,
            dim: 128,
            pretrained: PathBuf::new(),
            freeze_batch_norm: false,
            image_size: 40,
            crop_scale: [0.5, 1.0],
            flip: true,
            holdout: 0.5,
            validation: 0.0,
            same_set: false,
            batch_size: 64,
            samples_per_class: 4,
            sampling: Sampling::Epochs,
            steps: 400,
            memory: MemoryKind::Momentum,
            memory_size: 2048,
            memory_precision: RowPrecision::Compute,
            memory_start: 100,
            memory_ramp: 0,
            memory_weight: 1.0,
            memory_enqueue: EnqueueOrder::Before,
            memory_own: OwnPairs::Instance,
            memory_average: 0.5,
            memory_max_drift: 0.0,
            momentum: 0.99,
            optimizer: Rule::Adam,
            lr: 1e-3,
            backbone_lr_factor: 1.0,
            head_warmup: 0,
            weight_decay: 5e-4,
            beta1: 0.9,
            beta2: 0.999,
            clip_norm: 0.0,
            schedule: ScheduleKind::Constant,
            warmup: 0,
            schedule_steps: 1000,
            schedule_factor: 0.1,
            schedule_patience: 4,
            log_every: 10,
            eval_every: 100,
            checkpoint_every: 200,
            keep_checkpoints: 2,
            cache_mb: 1024,
            device_cache_mb: 2048,
            max_unreadable: DEFAULT_MAX_UNREADABLE,
            max_megapixels: DEFAULT_MAX_MEGAPIXELS,
            weighting: PairWeighting::contrastive(),
        }
    }
}

/// Images of a step, at most: with it no size of a step leaves the integers.
const LARGEST_BATCH: usize = 1 << 20;

/// Name of a run's settings inside its folder.
pub const FILE_NAME: &str = "config.toml";

impl TrainConfig {
    /// The defaults, overridden by a TOML file if there is one, overridden by flags.
    ///
    /// # Errors
    /// [`Error::Data`] on a file that is not TOML or holds an unknown or ill-typed key, [`Error::Config`] on settings that contradict
    /// each other.
    pub fn merged(file: Option<&Path>, flags: toml::Table) -> Result<Self> {
        let (mut table, mut flags, mut weighting) = (toml::Table::new(), flags, PairWeighting::default());
        if let Some(path) = file {
            let blame = |key: &str, reason| Error::data(path, format!("{key}: {reason}"));
            table = read_table(path)?;
            weighting::take(&mut table, &mut weighting, blame)?;
            check_settings(&table, blame)?;
        }
        let blame = |key: &str, reason| Error::config(format!("--{}: {reason}", key.replace('_', "-")));
        weighting::take(&mut flags, &mut weighting, blame)?;
        check_settings(&flags, blame)?;
        table.extend(flags);
        table.insert("weighting".to_owned(), toml::Value::try_from(&weighting).expect("settings are plain values"));
        let config: Self = table.try_into().map_err(|error: toml::de::Error| Error::config(error.message()))?;
        config.check()?;
        Ok(config)
    }

    /// The settings as TOML, enough to repeat the run. Its folder is left out: a repeated run gets one of its own.
    pub fn to_toml(&self) -> String {
        let anywhere = Self { out: PathBuf::new(), ..self.clone() };
        toml::to_string_pretty(&anywhere).expect("settings are plain values")
    }

    /// How batches are drawn.
    pub fn sampler(&self) -> SamplerOptions {
        let Self { batch_size, samples_per_class, sampling, seed, .. } = *self;
        SamplerOptions { batch_size, samples_per_class, sampling, seed }
    }

    /// How the memory stores a batch; `None` without a memory.
    pub fn filling(&self) -> Option<Filling> {
        let average = self.memory_average;
        match self.memory {
            MemoryKind::None => None,
            MemoryKind::CrossBatch | MemoryKind::Momentum => {
                Some(Filling::Ring { max_drift: (self.memory_max_drift > 0.0).then_some(self.memory_max_drift) })
            }
            MemoryKind::Instance => Some(Filling::Instance { average }),
            MemoryKind::Prototype => Some(Filling::Prototype { average }),
        }
    }

    /// A memory with a row for each image or class has as many rows as there are of them to train on.
    pub fn size_memory(&mut self, images: usize, classes: usize) {
        match self.memory {
            MemoryKind::Instance => self.memory_size = images,
            MemoryKind::Prototype => self.memory_size = classes,
            MemoryKind::None | MemoryKind::CrossBatch | MemoryKind::Momentum => {}
        }
    }

    /// What gives a run that goes on the memory that its checkpoint holds.
    pub fn memory_size_advice(&self) -> &'static str {
        if self.memory_is_ring() { "resume without --memory-size" } else { "resume with the training images it began with" }
    }

    /// Fails on settings that contradict each other or that no run can have.
    pub(crate) fn check(&self) -> Result<()> {
        let ensure = |fine: bool, words: String| if fine { Ok(()) } else { Err(Error::config(words)) };
        let Self { batch_size, samples_per_class, memory_size, momentum, crop_scale, .. } = self;
        ensure(
            *samples_per_class >= 1 && *batch_size >= 2,
            "--batch-size must be at least 2, --samples-per-class at least 1".into(),
        )?;
        ensure(*batch_size <= LARGEST_BATCH, format!("--batch-size must be at most {LARGEST_BATCH}, found {batch_size}"))?;
        if batch_size % samples_per_class != 0 {
            let below = (batch_size / samples_per_class).max(1).saturating_mul(*samples_per_class);
            return Err(Error::config(format!(
                "--batch-size {batch_size} is not a multiple of --samples-per-class {samples_per_class}; the nearest that are: {below} and {}",
                below.saturating_add(*samples_per_class)
            )));
        }
        ensure(
            !self.memory_is_ring() || memory_size >= batch_size,
            format!("--memory-size {memory_size} is smaller than --batch-size {batch_size}; a memory must hold at least one batch"),
        )?;
        ensure(
            self.memory_own == OwnPairs::Instance || self.memory_enqueue == EnqueueOrder::Before,
            "--memory-own slot needs --memory-enqueue before: afterwards the memory holds no row of the batch to leave out".into(),
        )?;
        self.check_memory()?;
        ensure((0.0..1.0).contains(momentum), format!("--momentum must be in [0, 1), found {momentum}"))?;
        ensure(
            0.0 < crop_scale[0] && crop_scale[0] <= crop_scale[1] && crop_scale[1] <= 1.0,
            format!("--crop-scale must be two shares with 0 < smallest <= largest <= 1, found {},{}", crop_scale[0], crop_scale[1]),
        )?;
        ensure(
            (0.0..=1.0).contains(&self.max_unreadable),
            format!("--max-unreadable must be in [0, 1], found {}", self.max_unreadable),
        )?;
        ensure(self.max_megapixels >= 1, "--max-megapixels must be at least 1".into())?;
        ensure((0.0..1.0).contains(&self.holdout), format!("--holdout must be in [0, 1), found {}", self.holdout))?;
        ensure((0.0..1.0).contains(&self.validation), format!("--validation must be in [0, 1), found {}", self.validation))?;
        for (flag, value) in [
            ("weight-decay", self.weight_decay),
            ("memory-weight", self.memory_weight),
            ("clip-norm", self.clip_norm),
            ("schedule-factor", self.schedule_factor),
            ("backbone-lr-factor", self.backbone_lr_factor),
        ] {
            ensure(value.is_finite() && value >= 0.0, format!("--{flag} must be at least 0, found {value}"))?;
        }
        for (flag, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            ensure((0.0..1.0).contains(&value), format!("--{flag} must be in [0, 1), found {value}"))?;
        }
        self.weighting.validate()?;
        ensure(self.steps >= 1, "--steps must be at least 1, found 0: a run of no steps trains nothing".into())?;
        ensure(self.log_every >= 1, "--log-every must be at least 1".into())?;
        ensure(self.lr.is_finite() && self.lr > 0.0, format!("--lr must be a positive number, found {}", self.lr))?;
        Architecture::new(self.backbone, self.image_size, self.dim, self.pooling).map(|_| ())
    }
}

impl TrainConfig {
    fn memory_is_ring(&self) -> bool {
        matches!(self.memory, MemoryKind::CrossBatch | MemoryKind::Momentum)
    }

    fn check_memory(&self) -> Result<()> {
        let ensure = |fine: bool, words: String| if fine { Ok(()) } else { Err(Error::config(words)) };
        let Self { memory, memory_own, memory_average, memory_max_drift, .. } = self;
        ensure((0.0..1.0).contains(memory_average), format!("--memory-average must be in [0, 1), found {memory_average}"))?;
        ensure((0.0..=2.0).contains(memory_max_drift), format!("--memory-max-drift must be in [0, 2], found {memory_max_drift}"))?;
        let gated = *memory_max_drift > 0.0;
        ensure(
            !gated || self.memory_is_ring(),
            "--memory-max-drift needs --memory cross-batch or momentum: only their rows lie in order of age".into(),
        )?;
        ensure(
            !gated || *memory_own == OwnPairs::Instance,
            "--memory-max-drift needs --memory-own instance: the slots of young rows move".into(),
        )?;
        ensure(
            *memory != MemoryKind::Prototype || *memory_own == OwnPairs::Instance,
            "--memory-own slot would leave an image without its class's prototype; use --memory-own instance".into(),
        )
    }
}

fn read_table(path: &Path) -> Result<toml::Table> {
    let text = input::read_text(path)?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        Error::data(path, format!("line {line}: expected TOML: {}", error.message().replace('\n', ", ")))
    })
}

/// Fails on the first setting whose name is unknown or whose value cannot be read, with the error that `blame` makes of both.
fn check_settings(table: &toml::Table, blame: impl Fn(&str, String) -> Error) -> Result<()> {
    let known = toml::Table::try_from(TrainConfig::default()).expect("settings are plain values");
    for (key, value) in table {
        if key == "epochs" {
            let words = "a run is counted in steps; an epoch is as many as the training images that `xbm-fast data` counts, divided by \
                         the batch size";
            return Err(blame(key, words.to_owned()));
        }
        if !known.contains_key(key) {
            let names: Vec<String> = known.keys().cloned().chain(weighting::settings()).collect();
            let closest = names.iter().max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
            let closest = closest.expect("there are settings");
            return Err(blame(key, format!("no such setting, did you mean `{closest}`? All are flags of `xbm-fast train --help`")));
        }
        let alone = toml::Table::from_iter([(key.clone(), value.clone())]);
        alone.try_into::<TrainConfig>().map_err(|error| blame(key, error.message().to_owned()))?;
    }
    Ok(())
}
