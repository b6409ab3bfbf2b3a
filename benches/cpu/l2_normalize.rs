//! Row-wise normalisation at an embedding head's shape.

use criterion::{Criterion, Throughput};
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::l2_normalize::{L2Normalize, RowGeometry};
use xbm_fast::rng::Rng;

pub fn bench(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("l2_normalize");
    for (rows, dim) in [(64, 512), (1024, 512)] {
        let geometry = RowGeometry { rows, dim };
        let mut rng = Rng::new(0).at("l2 normalize");
        let input: Vec<f32> = (0..rows * dim).map(|_| rng.normal()).collect();
        let (mut output, mut norms, mut gradient) = (input.clone(), vec![0.0; rows], input.clone());
        group.throughput(Throughput::Elements((rows * dim) as u64));
        group.bench_function(format!("forward/{rows}x{dim}"), |bencher| {
            bencher.iter(|| {
                cpu.l2_normalize_forward(&geometry, Span::all(&input), SpanMut::all(&mut output), SpanMut::all(&mut norms))
            });
        });
        group.bench_function(format!("backward/{rows}x{dim}"), |bencher| {
            bencher.iter(|| {
                let result = SpanMut::all(&mut gradient);
                cpu.l2_normalize_backward(&geometry, Span::all(&output), Span::all(&norms), Span::all(&input), result)
            });
        });
    }
    group.finish();
}
