//! Criterion benchmarks of the operations, one module and one group per stem: `cargo bench --bench kernels -- pair_loss`.

use criterion::{Criterion, criterion_main};

fn groups() {
    let _criterion = Criterion::default().configure_from_args();
}

criterion_main!(groups);
