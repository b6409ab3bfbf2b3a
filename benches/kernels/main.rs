//! Criterion benchmarks of the operations, one module and one group per stem: `cargo bench --bench kernels -- pair_loss`.

mod retrieval;

use criterion::{Criterion, criterion_main};

fn groups() {
    let mut criterion = Criterion::default().configure_from_args();
    retrieval::group(&mut criterion);
}

criterion_main!(groups);
