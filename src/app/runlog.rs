//! What a run leaves behind beside its checkpoints: `metrics.jsonl`, one JSON object per logged step; `summary.json`; and the same
//! numbers as a TensorBoard event file.

use crate::app::data::{Content, Copies, TestClasses};
use crate::error::{Error, Result};
use crate::files::{input, write_atomically};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the log of steps inside a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// Name of the summary inside a run's folder.
pub const SUMMARY_FILE: &str = "summary.json";

/// One logged step. What was not measured is absent from the line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepMetrics {
    /// Number of optimiser steps done.
    pub step: u64,
    /// Batch loss plus weighted memory loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Loss of the batch against itself, mean over anchors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_loss: Option<f64>,
    /// Loss of the batch against the memory, mean over anchors, times its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_loss: Option<f64>,
    /// Positive pairs per anchor with a weight other than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_positives: Option<f64>,
    /// Negative pairs per anchor with a weight other than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_negatives: Option<f64>,
    /// Rows of the memory that the loss compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_rows: Option<u64>,
    /// Mean drift (1 - similarity) of an image's embedding since it was stored, by the least age of its row in steps: ages 4 to 7 are
    /// under 4.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub memory_drift: BTreeMap<u32, f64>,
    /// Mean similarity of two embeddings of the batch: near 1 when the embedding has collapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_similarity: Option<f64>,
    /// Embeddings since the last logged step that had no length to be divided by: they are rows of zeros and get no gradient. Absent
    /// where there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_rows: Option<u64>,
    /// Norm of the loss's gradient with respect to the batch's embeddings, positive pairs alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positive_gradient: Option<f64>,
    /// The same of negative pairs alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_gradient: Option<f64>,
    /// `|G-| / |G+|`: the second over the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_balance: Option<f64>,
    /// Learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Training images per second since the last logged step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// Share of that time spent waiting for images, in `[0, 1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_wait: Option<f64>,
    /// Seconds of training steps since the run began, resumed parts included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Recall at 1 on the evaluation classes, where this step was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_1: Option<f64>,
    /// MAP at R, where this step was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_at_r: Option<f64>,
}

impl StepMetrics {
    /// The measured values with their names in the log, the step left out.
    pub fn scalars(&self) -> impl Iterator<Item = (Cow<'static, str>, f64)> {
        let named = [
            ("loss", self.loss),
            ("batch_loss", self.batch_loss),
            ("memory_loss", self.memory_loss),
            ("kept_positives", self.kept_positives),
            ("kept_negatives", self.kept_negatives),
            ("memory_rows", self.memory_rows.map(|rows| rows as f64)),
            ("mean_similarity", self.mean_similarity),
            ("zero_rows", self.zero_rows.map(|rows| rows as f64)),
            ("positive_gradient", self.positive_gradient),
            ("negative_gradient", self.negative_gradient),
            ("gradient_balance", self.gradient_balance),
            ("lr", self.lr),
            ("images_per_second", self.images_per_second),
            ("data_wait", self.data_wait),
            ("seconds", self.seconds),
            ("recall_at_1", self.recall_at_1),
            ("map_at_r", self.map_at_r),
        ];
        let drift = self.memory_drift.iter().map(|(age, &drift)| (format!("memory_drift/age_{age:05}").into(), drift));
        named.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).chain(drift)
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Recall at 1 on the test images after training: of the last step, or of the best checkpoint where validation classes chose that.
    /// Absent, as the other scores, where nothing was held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall_at_1: Option<f64>,
    /// Recall at 10, if the data set is scored by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_10: Option<f64>,
    /// MAP at R.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_at_r: Option<f64>,
    /// R-precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r_precision: Option<f64>,
    /// Recall at 1 before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_recall_at_1: Option<f64>,
    /// What chose the checkpoint whose scores these are, where validation classes did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validated>,
    /// Optimiser steps done.
    pub steps: u64,
    /// Seconds of training steps, resumed parts included, evaluation left out.
    pub seconds: f64,
    /// Training images per second, evaluation left out.
    pub images_per_second: f64,
    /// What the run ran on.
    pub device: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Version of the program.
    pub version: String,
    /// SPEC of the data.
    #[serde(default)]
    pub data: String,
    /// A hash of the names and classes of its images: runs are compared only on the same ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Content>,
    /// How many of the test classes are new.
    #[serde(flatten)]
    pub classes: TestClasses,
    /// The same pictures in more than one place of the data, where that misleads.
    #[serde(default)]
    pub copies: Vec<Copies>,
}

/// The best checkpoint of a run with validation classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// Classes that chose it; they were neither trained on nor tested.
    pub classes: usize,
    /// Its step.
    pub step: u64,
    /// Its recall at 1 on these classes.
    pub recall_at_1: f64,
}

impl Summary {
    /// Reads `summary.json` of a finished run's folder.
    ///
    /// # Errors
    /// [`Error::Io`] if there is none, [`Error::Data`] if it is no summary.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SUMMARY_FILE);
        let bytes = input::read(&path)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::data(&path, format!("expected the summary of a run, found: {error}")))
    }

    /// Writes `summary.json` into the run's folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_atomically(folder.join(SUMMARY_FILE), |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })
    }
}

/// Appends steps to a run's `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// The log of a run's folder: a new, empty one, or, for a run resumed after `resume_step`, the old one without later steps and
    /// without a last line cut short by a kill.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`read_metrics`] when resuming.
    pub fn open(folder: &Path, resume_step: Option<u64>) -> Result<Self> {
        let path = folder.join(METRICS_FILE);
        let kept = match resume_step {
            Some(last) if path.exists() => read_metrics(folder)?.into_iter().filter(|metrics| metrics.step <= last).collect(),
            _ => Vec::new(),
        };
        write_atomically(&path, |file| kept.iter().try_for_each(|metrics| file.write_all(line(metrics)?.as_bytes())))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }

    /// Appends a step. The line is handed to the system at once, so that it outlives the process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log(&mut self, metrics: &StepMetrics) -> Result<()> {
        let line = line(metrics).map_err(Error::io(&self.path))?;
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))
    }
}

fn line(metrics: &StepMetrics) -> std::io::Result<String> {
    Ok(serde_json::to_string(metrics)? + "\n")
}

/// The logged steps of a run's folder; a last line without its end is left out.
///
/// # Errors
/// [`Error::Io`], and [`Error::Data`] on a line that is not a logged step.
pub fn read_metrics(folder: &Path) -> Result<Vec<StepMetrics>> {
    let path = folder.join(METRICS_FILE);
    let bytes = input::read(&path)?;
    let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..complete].split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let parse = |(index, line): (usize, &[u8])| {
        serde_json::from_slice(line)
            .map_err(|error| Error::data(&path, format!("line {}: expected a logged step, found: {error}", index + 1)))
    };
    lines.map(parse).collect()
}
