//! Flags of the commands that compute on a device of one's choice.

use super::{DeviceRequest, one_of};
use crate::app::config::DeviceChoice;
use crate::device::cuda::{PairLossPath, Precision};
use clap::Args;

/// Where a command computes.
#[derive(Debug, Args)]
pub struct DeviceFlags {
    /// auto, cpu or cuda
    #[arg(long, value_parser = one_of::<DeviceChoice>(), default_value = "auto")]
    pub device: DeviceChoice,
    /// What a GPU computes in
    #[arg(long, value_parser = one_of::<Precision>(), default_value = "fp16")]
    pub precision: Precision,
    /// Worker threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

impl DeviceFlags {
    /// The device that they ask for.
    pub fn request(&self) -> DeviceRequest {
        DeviceRequest { choice: self.device, threads: self.threads, precision: self.precision, pair_loss: PairLossPath::Auto }
    }
}
