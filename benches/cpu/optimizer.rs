//! One optimiser step over the parameters of a ResNet-18, the gradient's norm and the key encoder's average.

use criterion::{Criterion, Throughput};
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::optimizer::{Algorithm, Gradients, Optimizer, OptimizerState, OptimizerStep, ParameterGroup, SCALER_LEN};
use xbm_fast::rng::Rng;

const PARAMETERS: usize = 11_200_000;

pub fn bench(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("optimizer");
    let mut rng = Rng::new(0).at("optimizer");
    let gradients: Vec<f32> = (0..PARAMETERS).map(|_| rng.normal()).collect();
    let (mut parameters, mut first, mut second) = (gradients.clone(), vec![0.0; PARAMETERS], vec![0.0; PARAMETERS]);
    let scaler = vec![0.0; SCALER_LEN];
    let groups = [ParameterGroup { start: 0, len: PARAMETERS, learning_rate: 1e-3, weight_decay: 1e-4 }];
    group.throughput(Throughput::Elements(PARAMETERS as u64));
    for (name, algorithm) in [("sgd", Algorithm::Sgd), ("adam", Algorithm::Adam), ("adamw", Algorithm::AdamW)] {
        let step = OptimizerStep { algorithm, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 10 };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let state = OptimizerState {
                    parameters: SpanMut::all(&mut parameters),
                    first_moment: SpanMut::all(&mut first),
                    second_moment: SpanMut::all(&mut second),
                    scaler: Span::all(&scaler),
                };
                cpu.optimizer_step(&step, &groups, Gradients::unclipped(Span::all(&gradients)), state)
            });
        });
    }
    group.bench_function("squared_norm", |bencher| bencher.iter(|| cpu.squared_norm(Span::all(&gradients))));
    group.bench_function("moving_average", |bencher| {
        bencher.iter(|| cpu.moving_average(0.999, Span::all(&gradients), SpanMut::all(&mut parameters)));
    });
    group.finish();
}
