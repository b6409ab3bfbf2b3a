//! Criterion benchmarks of the operations on the CPU, one module and one group per stem: `cargo bench --bench cpu -- pair_loss`.

mod augment;
mod batch_norm;
mod conv;
mod l2_normalize;
mod linear;
mod optimizer;
mod pair_loss;
mod pool;
mod retrieval;

use criterion::{Criterion, criterion_main};

fn groups() {
    let mut criterion = Criterion::default().configure_from_args();
    retrieval::group(&mut criterion);
    pair_loss::benches(&mut criterion);
    batch_norm::bench(&mut criterion);
    pool::bench(&mut criterion);
    l2_normalize::bench(&mut criterion);
    optimizer::bench(&mut criterion);
    augment::bench(&mut criterion);
    conv::bench(&mut criterion);
    linear::bench(&mut criterion);
}

criterion_main!(groups);
