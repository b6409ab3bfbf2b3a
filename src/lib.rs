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

pub mod backbone;
pub mod backend;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod cpu;
pub mod data;
pub mod embed;
pub mod error;
pub mod evaluate;
pub mod ffi;
pub mod files;
pub mod index;
pub mod kernel;
pub mod memory;
pub mod ops;
pub mod recipes;
pub mod report;
pub mod rng;
pub mod run;
pub mod runlog;
pub mod schedule;
pub mod selfcheck;
pub mod study;
pub mod tensor;
pub mod tensorboard;
pub mod terminal;
pub mod train;
mod unit;
pub mod update;
pub mod weighting;
pub mod window;
pub mod words;

pub use error::{Error, Result};
