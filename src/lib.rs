//! xbm-fast: training image-retrieval embeddings with an embedding memory.

pub mod backbone;
pub mod backend;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod embed;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod memory;
pub mod ops;
pub mod report;
pub mod rng;
pub mod schedule;
pub mod tensor;
pub mod train;
pub mod runlog;
pub mod tensorboard;
pub mod weighting;

pub use error::{Error, Result};
