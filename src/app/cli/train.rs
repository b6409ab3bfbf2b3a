//! `xbm-fast train`: its flags, and how they become a run.

use super::interrupt::Interrupt;
use super::{DeviceRequest, Job};
use crate::app::config::TrainConfig;
use crate::app::recipes::Recipe;
use crate::app::run::{self, Ending, RunFolder, Verbosity};
use crate::app::terminal::{print_failure, print_json, say};
use crate::error::{Error, Result};
use crate::ops::Backend;
use crate::words::quoted;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where a run comes from and how it reports.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct TrainArgs {
    /// Settings file; flags override it
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Settings for a published data set; flags override them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "resume"])]
    pub recipe: Option<String>,
    /// Print the recipes, with their sources, and do nothing else
    #[arg(long)]
    pub list_recipes: bool,
    /// Continue the run in this folder from its last checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "out"])]
    pub resume: Option<PathBuf>,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// The run's settings.
    #[command(flatten)]
    pub flags: TrainFlags,
}

/// Flags of `train`: each has the name of a setting; what is not given keeps its value from the file, or its default.
#[derive(Debug, Default, Args, Serialize)]
pub struct TrainFlags {
    /// Data: synthetic[:classes=..,views=..,size=..,seed=..], or sop, inshop, deepfashion2, cub, cars, vehicleid, folder, csv or packed
    /// and :PATH
    #[arg(long, value_name = "SPEC", help_heading = "Data")]
    pub data: Option<String>,
    /// Folder of the run [default: the next free runs/NNN]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub out: Option<PathBuf>,
    /// Side of the network's input, in pixels
    #[arg(long, help_heading = "Data")]
    pub image_size: Option<usize>,
    /// Share of the image a training crop covers: smallest,largest
    #[arg(long, value_name = "MIN,MAX", value_delimiter = ',', num_args = 1, help_heading = "Data")]
    pub crop_scale: Option<Vec<f32>>,
    /// Do not mirror training images
    #[arg(long, help_heading = "Data")]
    #[serde(skip)]
    pub no_flip: bool,
    /// Share of the classes held out for testing, where the data has no split of its own
    #[arg(long, help_heading = "Data")]
    pub holdout: Option<f32>,
    /// Share of the training classes that score the run in the place of the test images, to choose settings by; 0 scores on these
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub validation: Option<f32>,
    /// Take queries and gallery as one set of pictures: a query finds neither itself nor a copy of itself
    #[arg(long, help_heading = "Data")]
    #[serde(skip)]
    pub same_set: bool,
    /// Memory for decoded images, in megabytes
    #[arg(long, help_heading = "Data")]
    pub cache_mb: Option<usize>,
    /// On a GPU: its memory for decoded training images, in megabytes; those that fit are sent once
    #[arg(long, help_heading = "Data")]
    pub device_cache_mb: Option<usize>,
    /// Largest share of images that may be unreadable; they are replaced or left out, counted and listed
    #[arg(long, help_heading = "Data")]
    pub max_unreadable: Option<f32>,
    /// Largest image that is decoded, in millions of pixels
    #[arg(long, value_name = "MPX", help_heading = "Data")]
    pub max_megapixels: Option<u32>,

    /// auto, cpu or cuda
    #[arg(long, help_heading = "Machine")]
    pub device: Option<String>,
    /// On a GPU: fp16, bf16, tf32 or fp32
    #[arg(long, help_heading = "Machine")]
    pub precision: Option<String>,
    /// On a GPU: auto, fused (one kernel) or unfused (matrix products), of the pair loss
    #[arg(long, help_heading = "Machine")]
    pub pair_loss: Option<String>,
    /// On a GPU: put every operation of a step on the device by itself, instead of the whole step as one captured graph
    #[arg(long, help_heading = "Machine")]
    #[serde(skip)]
    pub no_graph: bool,
    /// Worker threads; 0 is one per core. Changes no result
    #[arg(long, help_heading = "Machine")]
    pub threads: Option<usize>,
    /// Seed of everything random
    #[arg(long, help_heading = "Machine")]
    pub seed: Option<u64>,

    /// resnet18, resnet34, resnet50, resnet101 or small (10 layers, half the channels)
    #[arg(long, help_heading = "Network")]
    pub backbone: Option<String>,
    /// avg or max
    #[arg(long, help_heading = "Network")]
    pub pooling: Option<String>,
    /// Length of the embedding
    #[arg(long, help_heading = "Network")]
    pub dim: Option<usize>,
    /// Start from published ResNet weights under torchvision's or timm's names; their classifier is dropped
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Network")]
    pub pretrained: Option<PathBuf>,
    /// Keep the batch norms' running statistics, scales and shifts as they are
    #[arg(long, help_heading = "Network")]
    #[serde(skip)]
    pub freeze_batch_norm: bool,

    /// Images of a step
    #[arg(long, help_heading = "Batch")]
    pub batch_size: Option<usize>,
    /// Images of each class in a batch
    #[arg(long, help_heading = "Batch")]
    pub samples_per_class: Option<usize>,
    /// The order of the classes: epochs visits all before any comes again, independent draws each batch anew
    #[arg(long, help_heading = "Batch", value_name = "epochs|independent")]
    pub sampling: Option<String>,
    /// Steps of the run
    #[arg(long, help_heading = "Batch")]
    pub steps: Option<u64>,
    /// What other programs count in; refused in words.
    #[arg(long, hide = true)]
    pub epochs: Option<String>,

    /// none, cross-batch, momentum, instance (a row for each image) or prototype (a row for each class)
    #[arg(long, help_heading = "Memory")]
    pub memory: Option<String>,
    /// Rows of a cross-batch or momentum memory
    #[arg(long, help_heading = "Memory")]
    pub memory_size: Option<usize>,
    /// compute (as activations: 32 bit on the CPU, --precision on a GPU) or fp16 (16 bit: half the memory)
    #[arg(long, help_heading = "Memory")]
    pub memory_precision: Option<String>,
    /// First step that fills the memory and compares with it
    #[arg(long, help_heading = "Memory")]
    pub memory_start: Option<u64>,
    /// Steps over which the memory's weight grows to its full value
    #[arg(long, help_heading = "Memory")]
    pub memory_ramp: Option<u64>,
    /// Weight of the memory loss beside the batch loss
    #[arg(long, help_heading = "Memory")]
    pub memory_weight: Option<f32>,
    /// Whether a batch joins the memory before or after its loss
    #[arg(long, help_heading = "Memory", value_name = "before|after")]
    pub memory_enqueue: Option<String>,
    /// Which memory rows are an image itself: all its embeddings, or only the one just enqueued
    #[arg(long, help_heading = "Memory", value_name = "instance|slot")]
    pub memory_own: Option<String>,
    /// Share of the old row in the new one, with a row for each image or class; 0 keeps the latest embedding
    #[arg(long, value_name = "SHARE", help_heading = "Memory")]
    pub memory_average: Option<f32>,
    /// Use only rows of an age at which embeddings have drifted less than this (1 - similarity); 0 uses all
    #[arg(long, value_name = "D", help_heading = "Memory")]
    pub memory_max_drift: Option<f32>,
    /// Momentum of the key encoder
    #[arg(long, help_heading = "Memory")]
    pub momentum: Option<f32>,

    /// A published loss, such as multi-similarity or circle:gamma=64, or a TOML file; the flags below change it
    #[arg(long, value_name = "NAME|FILE.toml", help_heading = "Weighting")]
    pub weighting: Option<String>,
    /// Weight of a positive pair: constant:1, linear:a=1,b=-0.5, exp:k=-10,s0=0.5, sigmoid:.., power:.., band:.., table:..
    #[arg(long, value_name = "CURVE", help_heading = "Weighting")]
    pub positive: Option<String>,
    /// Discard positives more similar than this; 1 keeps all
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = "Weighting")]
    pub positive_gate: Option<f32>,
    /// Positives compared with the others of their row: all, relative:0.1 or hardest:8
    #[arg(long, value_name = "MINING", help_heading = "Weighting")]
    pub positive_mining: Option<String>,
    /// How a row scales its positives: sum, mean, mean-row, mean-all, soft, soft-one, joint, ..
    #[arg(long, value_name = "SCALE", help_heading = "Weighting")]
    pub positive_scale: Option<String>,
    /// Factor in front of all positive weights
    #[arg(long, value_name = "LAMBDA", help_heading = "Weighting")]
    pub positive_factor: Option<f32>,
    /// Weight of a negative pair, as --positive
    #[arg(long, value_name = "CURVE", help_heading = "Weighting")]
    pub negative: Option<String>,
    /// Discard negatives less similar than this; -1 keeps all
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = "Weighting")]
    pub negative_gate: Option<f32>,
    /// Negatives compared with the others of their row, as --positive-mining
    #[arg(long, value_name = "MINING", help_heading = "Weighting")]
    pub negative_mining: Option<String>,
    /// How a row scales its negatives, as --positive-scale
    #[arg(long, value_name = "SCALE", help_heading = "Weighting")]
    pub negative_scale: Option<String>,
    /// Factor in front of all negative weights
    #[arg(long, value_name = "LAMBDA", help_heading = "Weighting")]
    pub negative_factor: Option<f32>,
    /// How the soft labels of the data weigh negatives: least where they are equal, fully where they differ by the width
    #[arg(long, value_name = "width=1,least=0", help_heading = "Weighting")]
    pub negative_soft: Option<String>,

    /// sgd, adam or adamw
    #[arg(long, help_heading = "Optimiser")]
    pub optimizer: Option<String>,
    /// Learning rate
    #[arg(long, help_heading = "Optimiser")]
    pub lr: Option<f32>,
    /// The trunk's learning rate over the head's
    #[arg(long, help_heading = "Optimiser")]
    pub backbone_lr_factor: Option<f32>,
    /// First steps, in which only the head is trained
    #[arg(long, value_name = "STEPS", help_heading = "Optimiser")]
    pub head_warmup: Option<u64>,
    /// Weight decay
    #[arg(long, help_heading = "Optimiser")]
    pub weight_decay: Option<f32>,
    /// Momentum of SGD, first decay of Adam
    #[arg(long, help_heading = "Optimiser")]
    pub beta1: Option<f32>,
    /// Second decay of Adam
    #[arg(long, help_heading = "Optimiser")]
    pub beta2: Option<f32>,
    /// Largest norm of the gradient; 0 does not clip
    #[arg(long, help_heading = "Optimiser")]
    pub clip_norm: Option<f32>,
    /// constant, step, cosine or plateau
    #[arg(long, help_heading = "Optimiser")]
    pub schedule: Option<String>,
    /// Steps of linear warm-up
    #[arg(long, help_heading = "Optimiser")]
    pub warmup: Option<u64>,
    /// Steps between two drops of the step schedule
    #[arg(long, help_heading = "Optimiser")]
    pub schedule_steps: Option<u64>,
    /// Factor of a drop
    #[arg(long, help_heading = "Optimiser")]
    pub schedule_factor: Option<f32>,
    /// Evaluations without improvement before the plateau schedule drops
    #[arg(long, help_heading = "Optimiser")]
    pub schedule_patience: Option<u32>,

    /// Steps between two lines of the log
    #[arg(long, help_heading = "Record")]
    pub log_every: Option<u64>,
    /// Steps between two evaluations; 0 evaluates only at the end
    #[arg(long, help_heading = "Record")]
    pub eval_every: Option<u64>,
    /// Steps between two checkpoints; 0 keeps only the last
    #[arg(long, help_heading = "Record")]
    pub checkpoint_every: Option<u64>,
    /// Checkpoints kept beside the best model
    #[arg(long, help_heading = "Record")]
    pub keep_checkpoints: Option<usize>,
}

impl TrainFlags {
    /// The first flag whose whole number is larger than any of TOML's.
    fn beyond_toml(&self) -> Option<(String, u64)> {
        let given = serde_json::to_value(self).ok()?;
        let large = |(name, value): (&String, &serde_json::Value)| {
            let number = value.as_u64().filter(|&number| i64::try_from(number).is_err())?;
            Some((name.replace('_', "-"), number))
        };
        given.as_object()?.iter().find_map(large)
    }

    /// The flags that were given, as TOML settings.
    ///
    /// # Errors
    /// [`Error::Config`] on what TOML cannot hold: a whole number above 2^63 - 1, a path that is not Unicode.
    pub fn table(&self) -> Result<toml::Table> {
        let unwritable = |error: toml::ser::Error| match self.beyond_toml() {
            Some((name, number)) => Error::config(format!("--{name} must be at most {}, found {number}", i64::MAX)),
            None => Error::config(format!("a flag does not fit into config.toml: {error}")),
        };
        let mut table = toml::Table::try_from(self).map_err(unwritable)?;
        if self.no_graph {
            table.insert("graph".to_owned(), false.into());
        }
        if self.same_set {
            table.insert("same_set".to_owned(), true.into());
        }
        if self.no_flip {
            table.insert("flip".to_owned(), false.into());
        }
        if self.freeze_batch_norm {
            table.insert("freeze_batch_norm".to_owned(), true.into());
        }
        Ok(table)
    }
}

impl TrainArgs {
    /// Reads the settings, those of the run to continue included.
    ///
    /// # Errors
    /// Settings that are unknown, ill-typed or contradict each other; a folder without a run.
    pub fn prepare(self) -> Result<TrainJob> {
        let resumed = self.resume.as_deref().map(RunFolder::open).transpose()?;
        let file = resumed.as_ref().map(RunFolder::config).or(self.config);
        let mut settings = match &self.recipe {
            Some(name) => Recipe::named(name)?.table()?,
            None => toml::Table::new(),
        };
        let given = self.flags.table()?;
        settings.extend(given.clone());
        let mut config = TrainConfig::merged(file.as_deref(), settings)?;
        let mut idle = config.idle(&given);
        if let Some(folder) = &resumed {
            config.out = folder.root().to_owned();
            if given.contains_key("pretrained") && folder.last_checkpoint()?.is_some() {
                idle.push("--pretrained has no effect with --resume: the run goes on from its checkpoint".to_owned());
            }
        }
        Ok(TrainJob { config, resumed, idle, json: self.json })
    }
}

/// A run that is ready to start or to go on.
#[derive(Debug)]
pub struct TrainJob {
    config: TrainConfig,
    resumed: Option<RunFolder>,
    /// Sentences about flags without effect.
    idle: Vec<String>,
    json: bool,
}

impl Job for TrainJob {
    fn device(&self) -> DeviceRequest {
        DeviceRequest {
            choice: self.config.device,
            threads: self.config.threads,
            numbers: self.config.precision,
            pair_loss: self.config.pair_loss,
        }
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        let interrupt = Interrupt::listen("step")?;
        self.idle.iter().for_each(|words| say(format_args!("note      {words}")));
        let ending = match self.resumed {
            Some(folder) => run::resume(backend, folder, self.config, interrupt.flag(), Verbosity::Aloud)?,
            None => run::start(backend, self.config, interrupt.flag(), Verbosity::Aloud)?,
        };
        match ending {
            Ending::Finished(summary, folder, unreported) => {
                let (before, after) = (100.0 * summary.initial_recall_at_1, 100.0 * summary.recall_at_1);
                let score = summary.classes.headline();
                say(format_args!("{score}: {before:.1} % before, {after:.1} % after {:.0} s", summary.seconds));
                if self.json {
                    print_json(&*summary)?;
                }
                if let Some(reason) = unreported {
                    let root = folder.root().display();
                    let words = format!("the run is whole, its report could not be written: {reason}; try --resume {root} again");
                    return Err(Error::config(words));
                }
                say(format_args!("report    {}", folder.report().display()));
                Ok(ExitCode::SUCCESS)
            }
            Ending::Interrupted(checkpoint, folder) => {
                say(format_args!("interrupted; saved {}", checkpoint.display()));
                say(format_args!("continue with: xbm-fast train --resume {}", quoted(&folder.root().to_string_lossy())));
                if self.json {
                    print_failure(&format!("interrupted; saved {}", checkpoint.display()))?;
                }
                Ok(interrupt.exit_code())
            }
        }
    }
}
