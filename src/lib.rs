//! xbm-fast: training image-retrieval embeddings with an embedding memory.

pub mod backbone;
pub mod backend;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod ops;
pub mod rng;
pub mod tensor;
pub mod weighting;

pub use error::{Error, Result};
