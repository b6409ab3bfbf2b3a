//! Criterion benchmarks of single launches, one module per kernel source: `cargo bench --bench device -- retrieval`. Every kernel must
//! agree with a plain reference before it is measured; the result stands beside its floor, the bytes and flops at the device's
//! ceilings. Without a device there is nothing to measure and it says so. `SOFTWARE_GPU=force cargo test --bench device` runs all of
//! them once, tiny, on the software GPU.
//!
//! `XBM_PEAK_TFLOPS` and `XBM_PEAK_TBS` are the ceilings measured on the device (16-bit matrix products, memory).

mod augment;
mod batch_norm;
mod cast;
mod gpu;
mod l2_normalize;
mod measure;
mod optimizer;
mod pair_loss;
mod pool;
mod retrieval;

use criterion::{Criterion, criterion_main};

fn groups() {
    let mut criterion = Criterion::default().configure_from_args();
    let Some(gpu) = gpu::Gpu::new() else { return };
    pair_loss::fused::group(&mut criterion, &gpu);
    pair_loss::materialized::group(&mut criterion, &gpu);
    retrieval::group(&mut criterion, &gpu);
    batch_norm::group(&mut criterion, &gpu);
    pool::group(&mut criterion, &gpu);
    l2_normalize::group(&mut criterion, &gpu);
    optimizer::group(&mut criterion, &gpu);
    augment::group(&mut criterion, &gpu);
    cast::group(&mut criterion, &gpu);
    criterion.final_summary();
}

criterion_main!(groups);
