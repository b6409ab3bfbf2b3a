//! Which network a run trains.

use super::{Architecture, Depth};
use crate::error::{Error, Result};
use crate::ops::pool::GlobalPooling;
use crate::settings::settings;

settings! {
    /// The network.
    pub struct ModelSettings in "Network" {
        /// The ResNet; small has 10 layers and half the channels.
        "backbone" => backbone: Depth = Depth::ResNet18, unit("NAME");
        /// Global pooling before the embedding layer.
        "pooling" => pooling: GlobalPooling = GlobalPooling::Avg, unit("KIND");
        /// Length of the embedding, at most 65536.
        "dim" => dim: usize = 128, unit("NUMBERS");
        /// Keep the batch norms' running statistics, scales and shifts as they are.
        "freeze_batch_norm" => freeze_batch_norm: bool = false;
        /// On several processes: batch norms take mean and variance over the images of all of them, as one process with the whole batch
        /// does, and not over their own.
        "sync_batch_norm" => sync_batch_norm: bool = false;
        /// Side of the network's input, at most 16384.
        "image_size" => image_size: usize = 40, unit("PIXELS"), under("Data");
    }
}

impl ModelSettings {
    /// The layers.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if a size is zero or beyond all reason.
    pub fn architecture(&self) -> Result<Architecture> {
        Architecture::new(self.backbone, self.image_size, self.dim, self.pooling)
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.check_ranges().map_err(Error::config)?;
        self.architecture().map(|_| ())
    }
}
