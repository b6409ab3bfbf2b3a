//! Where the comparisons of a step leave their results.

use crate::device::{IntegerTensor, Tensor};
use crate::error::Result;
use crate::ops::Backend;

/// What the comparisons of a batch with itself and with the memory give.
#[derive(Debug)]
pub(super) struct Compared<B: Backend> {
    /// `(batch, dim)`: of both losses together.
    pub gradient: Tensor<B>,
    /// `(2, batch)`: against the batch, then against the memory.
    pub row_losses: Tensor<B>,
    /// `(2, batch, 2)`, likewise.
    pub kept: IntegerTensor<B>,
}

impl<B: Backend> Compared<B> {
    pub fn new(backend: &B, batch: usize, dim: usize) -> Result<Self> {
        Ok(Self {
            gradient: Tensor::zeros(backend, batch * dim)?,
            row_losses: Tensor::zeros(backend, 2 * batch)?,
            kept: IntegerTensor::zeros(backend, 4 * batch)?,
        })
    }
}
