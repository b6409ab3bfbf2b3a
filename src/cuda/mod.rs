//! Arguments and launch shapes of the CUDA kernels: one file for each `kernels/*.cu`, its argument structs field by field.
//!
//! What the kernels compute is written in the `.cu`; what an operation means, and who launches it, in [`crate::ops`].

pub mod augment;
pub mod batch_norm;
pub mod l2_normalize;
pub mod optimizer;
pub mod pad;
pub mod pair_loss;
pub mod pair_stored;
pub mod pool;
pub mod retrieval;
pub mod row_law;
pub mod rows;
pub mod weighting;
