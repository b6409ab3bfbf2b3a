//! The engine: operations, losses, memory, network, training step, evaluation and checkpoints, on both backends where there are two. Needs
//! nothing of the program: `cargo test --no-default-features --test engine`.

mod augment;
mod batch_norm;
mod checkpoint;
mod conv;
mod conv_norm;
mod degenerate;
mod evaluate;
mod l2_normalize;
mod linear;
mod loss;
mod memory;
mod memory_fillings;
mod model;
mod optimizer;
mod pair_loss;
mod pool;
mod pretrained;
mod published_losses;
mod ranks;
mod retrieval;
mod rows;
mod schedule;
#[path = "../support/mod.rs"]
mod support;
mod train;
