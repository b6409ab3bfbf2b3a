//! xbm-fast: training image-retrieval embeddings with an embedding memory.

pub mod backend;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod ops;
pub mod report;
pub mod rng;
pub mod runlog;
pub mod tensorboard;
pub mod weighting;

pub use error::{Error, Result};
