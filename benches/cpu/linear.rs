//! The embedding head of a network: 64 rows of 512 or 2048 features to 128 or 512 dimensions.

use criterion::{Criterion, Throughput};
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::linear::{Linear, LinearGeometry, LinearGradients};

/// Measures forward and backward of every shape.
pub fn bench(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    for [batch, in_features, out_features] in [[64, 512, 128], [64, 512, 512], [64, 2048, 128], [64, 2048, 512]] {
        let geometry = LinearGeometry { batch, in_features, out_features };
        let mut input = vec![0.5; batch * in_features];
        let (weight, bias) = (vec![0.25; out_features * in_features], vec![0.0; out_features]);
        let mut parameters = vec![0.0; out_features * (in_features + 1)];
        let mut output = vec![0.0; batch * out_features];
        let (fixed_input, fixed_weight) = (input.clone(), weight.clone());
        let (read, fixed_weight) = (Span::all(&fixed_input), Span::all(&fixed_weight));
        let mut group = criterion.benchmark_group(format!("linear/{batch}x{in_features}x{out_features}"));
        group.throughput(Throughput::Elements(2 * (batch * in_features * out_features) as u64));
        group.bench_function("forward", |bencher| {
            let written = &mut output;
            bencher.iter(|| cpu.linear_forward(&geometry, read, fixed_weight, Span::all(&bias), SpanMut::all(written)).unwrap());
        });
        group.bench_function("backward", |bencher| {
            bencher.iter(|| {
                let gradients = LinearGradients { input: SpanMut::all(&mut input), parameters: SpanMut::all(&mut parameters) };
                cpu.linear_backward(&geometry, read, fixed_weight, Span::all(&output), gradients).unwrap();
            });
        });
        group.finish();
    }
}
