//! The sources of `kernels/pair_loss/`.

pub mod fused;
pub mod materialized;
