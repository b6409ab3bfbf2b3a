//! Every kernel, launched through the engine's own launch code on a real device or on the software GPU, against plain references in
//! double precision. Without a C++ compiler and without a device these tests are skipped, and say so.

#[path = "../support/mod.rs"]
mod support;

mod augment;
mod batch_norm;
mod cast;
mod device;
mod faults;
mod image;
mod l2_normalize;
mod optimizer;
mod pair_loss;
mod pool;
mod retrieval;
