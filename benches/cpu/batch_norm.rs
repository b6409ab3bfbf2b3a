//! Batch normalisation with ReLU, with and without a residual, at a ResNet's shapes.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::batch_norm::{Affine, BatchNorm, BatchNormBackward, BatchNormGeometry, BatchNormGradients, Statistics};
use xbm_fast::rng::Rng;

const SHAPES: [(usize, usize); 4] = [(64 * 32 * 32, 64), (64 * 8 * 8, 256), (64, 512), (16 * 14 * 14, 1024)];

pub fn bench(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("batch_norm");
    for (rows, channels) in SHAPES {
        let geometry = BatchNormGeometry { rows, channels, epsilon: 1e-5, momentum: 0.1, relu: true, synced: false };
        let mut rng = Rng::new(0).at("batch norm");
        let mut normals = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.normal()).collect() };
        let (input, residual, gradient) = (normals(rows * channels), normals(rows * channels), normals(rows * channels));
        let (weight, bias) = (normals(channels), normals(channels));
        let (mut mean, mut inverse, mut running_mean, mut running_variance) =
            (weight.clone(), weight.clone(), weight.clone(), weight.clone());
        let (mut output, mut input_gradient, mut residual_gradient) = (input.clone(), input.clone(), input.clone());
        let mut affine_gradient = vec![0.0; 2 * channels];
        group.throughput(Throughput::Elements((rows * channels) as u64));
        for with_residual in [false, true] {
            let name = |pass: &str| {
                BenchmarkId::new(format!("{pass}{}", if with_residual { "_residual" } else { "" }), format!("{rows}x{channels}"))
            };
            group.bench_function(name("train"), |bencher| {
                bencher.iter(|| {
                    let statistics = Statistics {
                        mean: SpanMut::all(&mut mean),
                        inverse_deviation: SpanMut::all(&mut inverse),
                        running_mean: SpanMut::all(&mut running_mean),
                        running_variance: SpanMut::all(&mut running_variance),
                    };
                    let affine = Affine { weight: Span::all(&weight), bias: Span::all(&bias) };
                    let residual = with_residual.then(|| Span::all(&residual));
                    cpu.batch_norm_train(&geometry, Span::all(&input), affine, residual, statistics, SpanMut::all(&mut output))
                });
            });
            for frozen in [false, true] {
                group.bench_function(name(if frozen { "backward_frozen" } else { "backward" }), |bencher| {
                    bencher.iter(|| {
                        let inputs = BatchNormBackward {
                            input: Span::all(&input),
                            output: Span::all(&output),
                            output_gradient: Span::all(&gradient),
                            weight: Span::all(&weight),
                            mean: Span::all(&mean),
                            inverse_deviation: Span::all(&inverse),
                            frozen,
                        };
                        let gradients = BatchNormGradients {
                            input: SpanMut::all(&mut input_gradient),
                            residual: with_residual.then(|| SpanMut::all(&mut residual_gradient)),
                            affine: SpanMut::all(&mut affine_gradient),
                        };
                        black_box(cpu.batch_norm_backward(&geometry, inputs, gradients))
                    });
                });
            }
        }
    }
    group.finish();
}
