//! Sizes that an operation and the libraries that compute it share.

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Side of the filter.
    pub kernel: usize,
    /// Step of the filter.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: usize,
}

impl ConvGeometry {
    /// Output rows.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// Output columns.
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// Length of the input `(batch, height, width, in_channels)`.
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.in_channels
    }
    /// Length of the filter `(out_channels, kernel, kernel, in_channels)`.
    pub fn filter_len(&self) -> usize {
        self.out_channels * self.kernel * self.kernel * self.in_channels
    }
    /// Length of the output `(batch, out_height, out_width, out_channels)`.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.out_channels
    }
}
