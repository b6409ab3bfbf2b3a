//! The seeded faults, by the source that a test compiles with them.

mod batch_norm;
mod optimizer;
mod pair_loss;
mod pool;
mod retrieval;

pub use batch_norm::{BATCH_NORM, BATCH_NORM_FAULTS};
pub use optimizer::{OPTIMIZER, OPTIMIZER_FAULTS};
pub use pair_loss::PAIR_LOSS_FAULTS;
pub use pool::{POOL, POOL_FAULTS};
pub use retrieval::{RETRIEVAL, RETRIEVAL_FAULTS};

/// What is removed, the file it is in, its text, and what replaces it.
pub type Fault = (&'static str, &'static str, &'static str, &'static str);
