//! Arguments and launch shapes of the CUDA kernels: one module for each source in `kernels/`, of the same stem, with
//! its argument structs field by field.
//!
//! What the kernels compute is written in the `.cu`; what an operation means, and who launches it, in [`crate::ops`].

pub mod augment;
pub mod batch_norm;
pub mod l2_normalize;
pub mod optimizer;
pub mod pad;
pub mod pair_loss;
pub mod pool;
pub mod retrieval;
pub mod rows;
pub mod similarity;
