//! Every kernel, launched through the engine's own launch code on a real device or on the software GPU, against plain references in
//! double precision. Without a C++ compiler and without a device these tests are skipped, and say so.

#[path = "../support/mod.rs"]
mod support;

mod device;
mod l2_normalize;
mod pair_loss;
mod weighting;
