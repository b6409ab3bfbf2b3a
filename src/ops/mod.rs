//! One operation, one file: its contract, its CPU implementation, its CUDA call.
//!
//! [`Backend`] is storage plus every operation; everything above this room is generic over it and never asks which device it has.

pub mod augment;
pub mod batch_norm;
pub mod conv;
pub mod conv_norm;
pub(crate) mod heuristics;
pub mod l2_normalize;
pub mod linear;
pub mod optimizer;
pub mod pair_loss;
pub mod pool;
pub mod retrieval;
pub mod rows;

use crate::device::{Span, SpanMut, Storage};

/// A span of floating-point numbers to be read.
pub type In<'a, B> = Span<'a, <B as Storage>::Buffer>;
/// A span of floating-point numbers to be written.
pub type Out<'a, B> = SpanMut<'a, <B as Storage>::Buffer>;
/// A span of memory rows to be read.
pub type RowsIn<'a, B> = Span<'a, <B as Storage>::Rows>;
/// A span of memory rows to be written.
pub type RowsOut<'a, B> = SpanMut<'a, <B as Storage>::Rows>;
/// A span of integers to be read.
pub type IntegersIn<'a, B> = Span<'a, <B as Storage>::Integers>;
/// A span of integers to be written.
pub type IntegersOut<'a, B> = SpanMut<'a, <B as Storage>::Integers>;

/// A device on which a network can be trained: storage and every operation.
pub trait Backend:
    Storage
    + augment::Augment
    + batch_norm::BatchNorm
    + conv::Convolution
    + conv_norm::ConvNorm
    + l2_normalize::L2Normalize
    + linear::Linear
    + optimizer::Optimizer
    + pair_loss::PairLoss
    + pool::Pool
    + retrieval::Retrieval
    + rows::Rows
{
}

impl<B> Backend for B where
    B: Storage
        + augment::Augment
        + batch_norm::BatchNorm
        + conv::Convolution
        + conv_norm::ConvNorm
        + l2_normalize::L2Normalize
        + linear::Linear
        + optimizer::Optimizer
        + pair_loss::PairLoss
        + pool::Pool
        + retrieval::Retrieval
        + rows::Rows
{
}
