//! `xbm-fast eval`: scores a trained network.

use super::{DeviceRequest, Job};
use crate::backend::cuda::{Numbers, PairLossPath};
use crate::config::DeviceChoice;
use crate::data::OpenOptions;
use crate::error::Result;
use crate::ops::Backend;
use crate::run;
use crate::terminal;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to score.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A model or checkpoint (.safetensors)
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    /// Data, as for train
    #[arg(long, value_name = "SPEC", default_value = "synthetic")]
    pub data: String,
    /// auto, cpu or cuda
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceChoice,
    /// What a GPU computes in
    #[arg(long, value_enum, default_value = "fp16")]
    pub precision: Numbers,
    /// Worker threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Images embedded at a time
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Share of the classes held out for testing, where the data has no split of its own
    #[arg(long, default_value_t = 0.5)]
    pub holdout: f32,
    /// Seed of the held-out classes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print everything as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Also write a table of every class's scores
    #[arg(long, value_name = "FILE.csv")]
    pub per_class: Option<PathBuf>,
}

impl Job for EvalArgs {
    fn device(&self) -> DeviceRequest {
        DeviceRequest { choice: self.device, threads: self.threads, numbers: self.precision, pair_loss: PairLossPath::Auto }
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        let options = OpenOptions { holdout: f64::from(self.holdout), seed: self.seed, ..OpenOptions::default() };
        let report = run::eval(backend, &self.checkpoint, &self.data, &options, self.batch_size)?;
        for (path, reason) in &report.unreadable {
            terminal::say(format_args!("left out  {path}: {reason}"));
        }
        let printed = if self.json { terminal::print_json(&report) } else { terminal::print(&format!("{}\n", report.scores)) };
        if let Some(path) = &self.per_class {
            report.write_per_class(path)?;
        }
        printed.map(|()| ExitCode::SUCCESS)
    }
}
