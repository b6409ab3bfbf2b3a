//! xbm-fast: training image-retrieval embeddings with an embedding memory.
//!
//! Each step a batch is compared with every row of a ring of past embeddings. Positive and negative pairs get directly assigned weights,
//! curves of their similarity; easy negatives are discarded; a fused operation turns that into a loss and a gradient without storing the
//! similarities. The method is that of "Rethinking Deep Contrastive Learning with Embedding Memory" (arXiv 2103.14003).
//!
//! Inside other programs: [`memory::EmbeddingMemory`] with its loss, [`weighting::PairWeighting`], [`ops::pair_loss`], [`evaluate`],
//! [`checkpoint::save_memory`] and the ResNets of [`backbone`] are the stable surface, on [`backend::Cpu`]; `docs/embedding.md` is their guide
//! and says what a version promises, [`ffi`] the same for C. The rest is public for the program, its tests and its benchmarks.
//!
//! Reading order: [`train`] is the algorithm on one page; [`memory`] the ring; [`ops::pair_loss`] the fused comparison; [`weighting`] the
//! curves. Imports run one way only:
//!
//! ```text
//! words, error, unit <- terminal, weighting, rng <- backend <- cpu <- ops <- tensor <- memory, backbone <- update <- train, embed, evaluate, index, checkpoint (<- data) <- run <- study <- main, ffi
//! ```
//!
//! [`selfcheck`] stands beside `run`: it tries a GPU before `main` takes it.

// Text leaves through `terminal`, where a reader that has gone and a full disk are thought of.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "app")]
pub mod app;
pub mod checkpoint;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod ffi;
pub mod files;
pub mod loss;
pub mod memory;
pub mod model;
pub mod ops;
pub mod rng;
pub mod settings;
pub mod train;
mod unit;
pub mod words;

pub use error::{Error, Result};
