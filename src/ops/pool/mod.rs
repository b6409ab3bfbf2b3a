//! Pooling of NHWC activations: 3x3 maximum with stride 2 and padding 1 (the ResNet stem), and global average or maximum.
//! Among equal maxima the first in row-major order wins, as in torch.

mod cpu;
mod cuda;
mod window;

use super::{In, Out};
use crate::device::Storage;
use crate::error::Result;
use crate::settings::choice;

/// Sizes of a pooling's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

choice! {
    /// What a global pooling computes per channel.
    pub enum GlobalPooling {
        /// Mean over all positions.
        Avg = "avg",
        /// Maximum over all positions.
        Max = "max",
    }
}

impl PoolGeometry {
    /// Rows after the stem's max pooling.
    pub fn out_height(&self) -> usize {
        self.height.div_ceil(2)
    }
    /// Columns after the stem's max pooling.
    pub fn out_width(&self) -> usize {
        self.width.div_ceil(2)
    }
    /// Length of the input `(batch, height, width, channels)`.
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
    /// Length of the max pooling's output `(batch, out_height, out_width, channels)`.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.channels
    }
}

/// Poolings and their gradients.
pub trait Pool: Storage {
    /// 3x3 maximum, stride 2, padding 1.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a span has not the length the geometry says.
    fn max_pool_forward(&self, geometry: &PoolGeometry, input: In<'_, Self>, output: Out<'_, Self>) -> Result<()>;

    /// Gradient of [`Pool::max_pool_forward`]; overwrites `input_gradient`.
    ///
    /// # Errors
    /// As [`Pool::max_pool_forward`].
    fn max_pool_backward(
        &self,
        geometry: &PoolGeometry,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        input_gradient: Out<'_, Self>,
    ) -> Result<()>;

    /// Global pooling to `(batch, channels)`.
    ///
    /// # Errors
    /// As [`Pool::max_pool_forward`].
    fn global_pool_forward(
        &self,
        geometry: &PoolGeometry,
        pooling: GlobalPooling,
        input: In<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()>;

    /// Gradient of [`Pool::global_pool_forward`]; overwrites `input_gradient`.
    ///
    /// # Errors
    /// As [`Pool::max_pool_forward`].
    fn global_pool_backward(
        &self,
        geometry: &PoolGeometry,
        pooling: GlobalPooling,
        input: In<'_, Self>,
        output_gradient: In<'_, Self>,
        input_gradient: Out<'_, Self>,
    ) -> Result<()>;
}
