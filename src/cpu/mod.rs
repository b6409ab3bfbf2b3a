//! The micro-kernels of the CPU: loops over rows of numbers, on one thread, that know no operation. [`crate::ops`] splits the work, calls
//! them and says when (`ops/heuristics.rs`).
//!
//! | kernel | algorithm | used by | reached | where measured |
//! |---|---|---|---|---|
//! | [`gemm::IndexedGemm`] | packed GEMM over listed rows | convolutions, evaluation | 218 of a core's 253 GFLOP/s in a step of ResNet-50 | log, 2026-11-28 |
//! | [`gemm::OuterGemm`] | sums of outer products of listed rows | gradients of filters | 163 of 253 GFLOP/s, there | log, 2026-11-28 |
//! | `gemm::streamed` | GEMM with an unpacked, streamed operand | pair loss | 76 % of the peak at batch 64, 80 % at 256, the whole loss with every pair kept | BENCHMARKS.md |
//! | [`gemm::matmul`] | packed GEMM (the `gemm` crate) | linear layer, nearest neighbours | not measured alone | |
//! | `int8_prune` | exact pruning by an 8-bit scalar quantizer | pair loss, evaluation | products of codes 2.3 times as fast with VNNI as with AVX2 | log, 2026-11-28 |
//! | `dot` | dot products, sums of squares | pruning's candidates, norms | not measured alone | |
//! | `simd` | plain loops with the processor's vectors | pooling, augmentation, optimiser, normalisation | bound by memory | |
//!
//! Kernels of one operation alone stay with it: Winograd's transforms (`ops/conv/winograd/`, 8 % of that step), batch normalisation
//! (`ops/batch_norm/tile.rs`, 14 %), pooling (`ops/pool/window.rs`, 2 %), the resampling filter (`ops/augment/filter.rs`), weights of
//! pairs (`ops/pair_loss/cpu/epilogue/`). The log is `docs/performance-log.md`; GFLOP/s are of one thread of Zen 5.

pub(crate) mod dot;
pub mod gemm;
// Where there is no kernel for codes, nothing is quantised.
#[cfg_attr(not(target_arch = "x86_64"), allow(unreachable_code, unused))]
pub mod int8_prune;
pub(crate) mod simd;
