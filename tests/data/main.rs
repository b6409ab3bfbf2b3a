//! Data sets: published layouts, files of all kinds and none, sampling, packed files, and batches prepared ahead.

mod catalog;
mod identity;
mod images;
mod input;
mod loader;
mod opening;
mod packed;
mod sampler;
#[path = "../support/mod.rs"]
mod support;
