//! `xbm-fast embed`: a data set's images as rows of numbers.

use super::{DeviceFlags, DeviceRequest, EmbedFlags, Job, reading_model};
use crate::app::data::{DEFAULT_MAX_MEGAPIXELS, Labels, Split};
use crate::app::index;
use crate::app::run::{self, DataRequest};
use crate::app::terminal::say;
use crate::error::Result;
use crate::files::output::Outputs;
use crate::ops::Backend;
use crate::words::counted;
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to embed, and where to.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct EmbedArgs {
    /// A model or checkpoint (.safetensors), or the folder of a run, whose best model is taken
    #[arg(long, value_name = "FILE|DIR")]
    pub checkpoint: PathBuf,
    /// Images: data as for train, and more: folder:PATH of any depth, with classes or without, csv:PATH with only a column path,
    /// list:FILE with a path a line, or - for such a list on standard input
    #[arg(long, value_name = "SPEC")]
    pub data: String,
    /// File of the rows; a .csv of paths and labels and a .json for `search` are written beside it
    #[arg(long, value_name = "FILE.npy|FILE.safetensors")]
    pub out: PathBuf,
    /// Write over files that xbm-fast did not make; never over one that is read
    #[arg(long)]
    pub force: bool,
    /// Splits to embed [default: all images]
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(["train", "test", "query", "gallery"]))]
    pub split: Vec<String>,
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
}

impl Job for EmbedArgs {
    fn device(&self) -> DeviceRequest {
        self.device.request()
    }

    fn run<B: Backend>(mut self, backend: &B) -> Result<ExitCode> {
        self.checkpoint = run::model_file(&self.checkpoint)?;
        index::check_outputs(&self.out, &reading_model(Outputs::new(self.force), &self.checkpoint, Some(&self.data)))?;
        let splits: Vec<Split> = self.split.iter().filter_map(|name| Split::from_name(name)).collect();
        let request = DataRequest {
            spec: Some(&self.data),
            holdout: self.holdout.map(f64::from),
            seed: self.seed,
            max_megapixels: Some(self.max_megapixels),
            labels: Labels::Optional,
        };
        let embedded = run::embed_set(backend, &self.checkpoint, request, &splits, &self.embedding.options()?)?;
        for note in &embedded.notes {
            say(format_args!("note      {note}"));
        }
        for (path, reason) in &embedded.unreadable {
            say(format_args!("left out  {path}: {reason}"));
        }
        embedded.index.write(&self.out)?;
        let rows = counted(embedded.index.images.len(), "embedding");
        say(format_args!("{rows} of length {} in {}", embedded.index.dim, self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
