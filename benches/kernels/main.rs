//! Criterion benchmarks of the operations, one module and one group per stem: `cargo bench --bench kernels -- pair_loss`.

mod retrieval;
mod pair_loss;

use criterion::{Criterion, criterion_main};

fn groups() {
    let mut criterion = Criterion::default().configure_from_args();
    retrieval::group(&mut criterion);
    pair_loss::benches(&mut criterion);
}

criterion_main!(groups);
