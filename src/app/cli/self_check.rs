//! `xbm-fast self-check`: the process in which `auto` and `doctor --check` try the GPU. Not for people: it talks in JSON.

use super::one_of;
use crate::app::selfcheck;
use crate::device::cuda::{CudaOptions, PairLossPath, Precision};
use crate::error::Result;
use clap::Args;
use std::process::ExitCode;

/// What the GPU is asked to compute in.
#[derive(Debug, Args)]
pub struct SelfCheckArgs {
    /// As of `train`.
    #[arg(long, value_parser = one_of::<Precision>(), default_value = "fp16")]
    pub precision: Precision,
    /// As of `train`.
    #[arg(long, value_parser = one_of::<PairLossPath>(), default_value = "auto")]
    pub pair_loss: PairLossPath,
}

impl SelfCheckArgs {
    /// Runs the steps that are asked for on standard input.
    ///
    /// # Errors
    /// None; the result is that of every command.
    pub fn run(self) -> Result<ExitCode> {
        Ok(selfcheck::work(CudaOptions { precision: self.precision, pair_loss: self.pair_loss }))
    }
}
