//! Criterion benchmarks of the CUDA kernels, one group per stem, with the floor of each (bytes and flops at the device's ceilings) and
//! the ratio to it: `cargo bench --bench device`. Without a device there is nothing to measure and it says so. With
//! `SOFTWARE_GPU=force cargo test --bench device` every benchmark runs once, tiny, on the software GPU.
//!
//! `XBM_PEAK_TFLOPS` and `XBM_PEAK_TBS` are the ceilings measured on the device (16-bit matrix products, memory).

mod batch_norm;
mod gpu;
mod l2_normalize;
mod optimizer;
mod pair_loss;

use criterion::{Criterion, criterion_main};

fn groups() {
    let mut criterion = Criterion::default().configure_from_args();
    let Some(gpu) = gpu::Gpu::new() else { return };
    pair_loss::group(&mut criterion, &gpu);
    l2_normalize::group(&mut criterion, &gpu);
    optimizer::group(&mut criterion, &gpu);
    batch_norm::group(&mut criterion, &gpu);
    criterion.final_summary();
}

criterion_main!(groups);
