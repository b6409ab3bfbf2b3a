//! xbm-fast: training image-retrieval embeddings with an embedding memory.
//!
//! Each step a batch is compared with every row of a ring of past embeddings. Positive and negative pairs get directly assigned
//! weights, curves of their similarity; easy negatives are discarded; a fused operation turns that into a loss and a gradient
//! without storing the similarities. The method is that of "Rethinking Deep Contrastive Learning with Embedding Memory"
//! ([arXiv 2103.14003](https://arxiv.org/abs/2103.14003)).
//!
//! # The loss
//!
//! A loss is two curves: what a positive pair weighs and what a negative one does, each a function of similarity with a gate in
//! front ([`PairWeighting`]). Published losses are such curves by name:
//!
//! ```
//! use xbm_fast::PairWeighting;
//!
//! let rule = PairWeighting::contrastive().valid()?; // mine hard negatives, discard easy ones, do not weight positives
//! let published = "multi-similarity:alpha=2,beta=50".parse::<PairWeighting>()?.valid()?;
//! # Ok::<(), xbm_fast::Error>(())
//! ```
//!
//! # The memory
//!
//! ```
//! use xbm_fast::{Anchors, Cpu, EmbeddingMemory, IntegerTensor, LossSettings, PairLossOutputs, PairWeighting, SelfPairs, Tensor};
//!
//! let cpu = Cpu::new(None)?; // all cores
//! let mut memory = EmbeddingMemory::new(&cpu, 1000, 2)?; // 1000 rows of 2 numbers
//! let rows = Tensor::from_host(&cpu, &[1.0, 0.0, 0.6, 0.8])?; // unit rows of a batch
//! memory.enqueue(&cpu, rows.all(), &[7, 8], &[0, 1])?; // with their classes and instance ids
//!
//! let mut labels = IntegerTensor::zeros(&cpu, 2)?;
//! let mut ids = IntegerTensor::zeros(&cpu, 2)?;
//! labels.upload(&cpu, &[7, 8])?;
//! ids.upload(&cpu, &[0, 1])?;
//! let (mut gradient, mut losses) = (Tensor::zeros(&cpu, 4)?, Tensor::zeros(&cpu, 2)?);
//! let mut kept = IntegerTensor::zeros(&cpu, 4)?;
//! let weighting = PairWeighting::contrastive().valid()?;
//! let settings = LossSettings { weighting: &weighting, scale: 0.5, self_pairs: SelfPairs::Instance, accumulate: false };
//! let anchors = Anchors { embeddings: rows.all(), labels: labels.all(), ids: ids.all(), soft_labels: None };
//! let outputs = PairLossOutputs { gradient: gradient.all_mut(), row_losses: losses.all_mut(), kept: kept.all_mut() };
//! assert_eq!(memory.pair_loss(&cpu, settings, anchors, outputs)?, 2); // rows compared with
//! assert!((losses.to_host(&cpu)?[0] - 0.1).abs() < 1e-6); // the other class is 0.1 more similar than the gate allows
//! # Ok::<(), xbm_fast::Error>(())
//! ```
//!
//! [`save_memory`] and [`load_memory`] keep it in a file; what was loaded goes on with the same bits.
//!
//! # The ResNet
//!
//! [`Learner`] trains a [`Network`] by steps on plain pixels and labels ([`Batch`]), from a [`State`] that is drawn, read from
//! published weights or taken from a checkpoint; [`evaluate_all`] scores its embeddings. [`ffi`] is the memory, the loss and the
//! evaluation for C, and `docs/embedding.md` the guide to all three, with what a version promises.
//!
//! # Inside
//!
//! What is listed below is the public interface. The rooms it comes from are open to this package's own program, tests and
//! benchmarks only, and promise nothing. A reader begins with `train/mod.rs`, the algorithm on one page, then `memory/` (what is
//! remembered), `ops/pair_loss/` (the fused comparison) and `loss/` (the curves). Imports run one way:
//!
//! ```text
//! error, settings, rng, words <- loss, files <- group <- device <- cpu, kernel_args <- ops <- memory, model, evaluate <- train <- checkpoint <- ffi, app <- main
//! ```

// Text leaves through `app::terminal`, where a reader that has gone and a full disk are thought of.
#![deny(clippy::print_stdout, clippy::print_stderr)]

// The door for this package's own program, tests and benchmarks.
#[cfg(feature = "app")]
#[doc(hidden)]
pub mod app;
#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod cpu;
#[doc(hidden)]
pub mod device;
#[doc(hidden)]
pub mod evaluate;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod group;
#[doc(hidden)]
pub mod kernel_args;
#[doc(hidden)]
pub mod loss;
#[doc(hidden)]
pub mod memory;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod ops;
#[doc(hidden)]
pub mod rng;
#[doc(hidden)]
pub mod settings;
#[doc(hidden)]
pub mod train;
#[doc(hidden)]
pub mod words;

mod error;
pub mod ffi;
mod unit;

#[doc(inline)]
pub use crate::{
    checkpoint::{load_encoder, load_memory, load_pretrained, save_memory, save_model},
    device::{Cpu, Cuda, IntegerTensor, NumberFormat, Span, SpanMut, Storage, Tensor, cuda::CudaOptions},
    error::{Error, Result},
    evaluate::{Embeddings, EvaluationSet, Neighbours, Scores, evaluate, evaluate_all, nearest},
    loss::{Curve, Gate, Mining, Normalization, PairWeighting, Side, ValidWeighting},
    memory::{Anchors, EmbeddingMemory, Filling, LossSettings, MemoryState, SelfPairs},
    model::{Architecture, Depth, Network, Prepared, Weights},
    ops::Backend,
    ops::augment::Pixels,
    ops::pair_loss::{CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask},
    ops::pool::GlobalPooling,
    rng::Rng,
    train::{Batch, Learner, State, StepOutcome, TrainSettings},
};
