//! `xbm-fast eval`: scores a trained network.

use super::{DeviceFlags, DeviceRequest, EmbedFlags, Job, reading_model};
use crate::app::data::DEFAULT_MAX_MEGAPIXELS;
use crate::app::run::{self, DataRequest, EvalOptions, EvalReport};
use crate::app::terminal;
use crate::error::{Error, Result};
use crate::files::output::Outputs;
use crate::ops::Backend;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to score.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct EvalArgs {
    /// A model or checkpoint (.safetensors), or the folder of a run, whose best model is taken
    #[arg(long, value_name = "FILE|DIR")]
    pub checkpoint: PathBuf,
    /// Data, as for train [default: the data that the model was trained on]
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceFlags,
    /// How images are embedded.
    #[command(flatten)]
    pub embedding: EmbedFlags,
    /// Share of the classes held out for testing, where the data has no split of its own [default: the test classes of the model's run]
    #[arg(long)]
    pub holdout: Option<f32>,
    /// Seed of the held-out classes [default: the test classes of the model's run]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Largest image that is decoded, in millions of pixels
    #[arg(long, default_value_t = DEFAULT_MAX_MEGAPIXELS, value_name = "MPX")]
    pub max_megapixels: u32,
    /// Take queries and gallery as one set of pictures: a query finds neither itself nor a copy of itself
    #[arg(long)]
    pub same_set: bool,
    /// Also name test images at least as similar as this to training images, to the gallery, or to images of another class
    #[arg(long, value_name = "SIMILARITY")]
    pub near_duplicates: Option<f32>,
    /// Print everything as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Also write a table of every class's scores
    #[arg(long, value_name = "FILE.csv")]
    pub per_class: Option<PathBuf>,
    /// Write over files that xbm-fast did not make; never over one that is read
    #[arg(long)]
    pub force: bool,
}

impl Job for EvalArgs {
    fn device(&self) -> DeviceRequest {
        self.device.request()
    }

    fn run<B: Backend>(mut self, backend: &B) -> Result<ExitCode> {
        self.checkpoint = run::model_file(&self.checkpoint)?;
        let (same_set, near_duplicates) = (self.same_set, self.near_duplicates);
        if let Some(similarity) = near_duplicates.filter(|similarity| !(-1.0..=1.0).contains(similarity)) {
            return Err(Error::config(format!(
                "--near-duplicates: expected a similarity in -1..=1, such as 0.98, found {similarity}"
            )));
        }
        let options = EvalOptions { embedding: self.embedding.options()?, same_set, near_duplicates };
        if let Some(path) = &self.per_class {
            reading_model(Outputs::new(self.force), &self.checkpoint, self.data.as_deref()).check(path, EvalReport::is_table)?;
        }
        let request = DataRequest {
            spec: self.data.as_deref(),
            holdout: self.holdout.map(f64::from),
            seed: self.seed,
            max_megapixels: Some(self.max_megapixels),
            ..DataRequest::default()
        };
        let report = run::eval(backend, &self.checkpoint, request, &options)?;
        for note in report.remarks() {
            terminal::say(format_args!("note      {note}"));
        }
        for (path, reason) in &report.unreadable {
            terminal::say(format_args!("left out  {path}: {reason}"));
        }
        let printed = if self.json { terminal::print_json(&report) } else { terminal::print(&format!("{}\n", report.words())) };
        if let Some(path) = &self.per_class {
            report.write_per_class(path)?;
        }
        printed.map(|()| ExitCode::SUCCESS)
    }
}
