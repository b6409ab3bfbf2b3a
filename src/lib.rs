//! xbm-fast: training image-retrieval embeddings with an embedding memory.

pub mod backend;
pub mod error;
pub mod kernel;
pub mod ops;
pub mod rng;
pub mod weighting;

pub use error::{Error, Result};
