//! Criterion benchmarks of the operations, one module and one group per stem: `cargo bench --bench kernels -- pair_loss`.

mod conv;
mod linear;

use criterion::{Criterion, criterion_main};

fn groups() {
    let mut criterion = Criterion::default().configure_from_args();
    conv::bench(&mut criterion);
    linear::bench(&mut criterion);
}

criterion_main!(groups);
