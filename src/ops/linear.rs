//! Fully connected layer: `output = input weight^T + bias`, weight `(out_features, in_features)` as torch stores it.

use super::{In, Out};
use crate::backend::Storage;
use crate::error::Result;

/// Sizes of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearGeometry {
    /// Rows of input and output.
    pub batch: usize,
    /// Columns of the input.
    pub in_features: usize,
    /// Columns of the output.
    pub out_features: usize,
}

/// Where [`Linear::linear_backward`] writes.
#[derive(Debug)]
pub struct LinearGradients<'a, B: Storage> {
    /// `(batch, in_features)`.
    pub input: Out<'a, B>,
    /// Gradient of the weight `(out_features, in_features)` and then of the bias `(out_features)`: neighbours in the flat gradient buffer.
    pub parameters: Out<'a, B>,
}

/// Fully connected layer and its gradients.
pub trait Linear: Storage {
    /// `output = input weight^T + bias`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a span has not the length the geometry says.
    fn linear_forward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        bias: In<'_, Self>,
        output: Out<'_, Self>,
    ) -> Result<()>;

    /// Gradients of input, weight and bias, each overwritten.
    ///
    /// # Errors
    /// As [`Linear::linear_forward`].
    fn linear_backward(
        &self,
        geometry: &LinearGeometry,
        input: In<'_, Self>,
        weight: In<'_, Self>,
        output_gradient: In<'_, Self>,
        gradients: LinearGradients<'_, Self>,
    ) -> Result<()>;
}
