//! Optimiser steps against golden values of torch (`golden/optimizer.py`) and against a double-precision reference.

use crate::support::{assert_close, buffer, cpu, normals, on_gpu, values};
use xbm_fast::device::{NumberFormat, Span, SpanMut};
use xbm_fast::ops::optimizer::{Algorithm, Gradients, Optimizer, OptimizerState, OptimizerStep, ParameterGroup, SCALER_LEN};

/// Three steps of a few roundings each, and decay rates that are themselves rounded to 32 bits.
const ROUNDING: f64 = 3e-6;
/// A sum of squares taken in double precision of 32-bit numbers.
const DOUBLE: f64 = 1e-12;

const SGD: [f64; 5] = [0.490640389, -1.256344479, 1.926088568, -0.061680000, -0.760920000];
const ADAM: [f64; 5] = [0.339018996, -1.200807511, 1.820733254, -0.047959452, -0.742993485];
const ADAM_W: [f64; 5] = [0.340299024, -1.207239268, 1.829603651, -0.047959452, -0.742993485];

const PARAMETERS: [f32; 5] = [0.5, -1.25, 2.0, 0.0, -0.75];
const GRADIENTS: [[f32; 5]; 3] = [[0.1, -0.2, 0.3, 0.4, -0.5], [0.05, 0.25, -0.15, 0.0, 1.0], [-0.3, 0.2, 0.1, 2.0, 0.001]];
const GROUPS: [ParameterGroup; 2] = [
    ParameterGroup { start: 0, len: 3, learning_rate: 0.1, weight_decay: 0.01 },
    ParameterGroup { start: 3, len: 2, learning_rate: 0.02, weight_decay: 0.0 },
];

fn settings(algorithm: Algorithm, step: u64) -> OptimizerStep {
    OptimizerStep { algorithm, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step }
}

/// Parameters after a step for each of the gradients, which are clipped to a norm of their own where they have one.
fn descend<B: Optimizer>(
    backend: &B,
    algorithm: Algorithm,
    groups: &[ParameterGroup],
    start: &[f32],
    gradients: &[(&[f32], Option<f32>)],
) -> Vec<f32> {
    let len = start.len();
    let mut parameters = buffer(backend, start);
    let mut first = backend.zeros(len, NumberFormat::Full).unwrap();
    // SGD has no second moment.
    let second_len = if algorithm == Algorithm::Sgd { 0 } else { len };
    let mut second = backend.zeros(second_len, NumberFormat::Full).unwrap();
    let scaler = buffer(backend, &backend.initial_scaler());
    for (index, &(gradient, clip_norm)) in gradients.iter().enumerate() {
        let gradient = buffer(backend, gradient);
        let values = Span::new(&gradient, 0, len);
        let norm = backend.squared_norm_of(groups, values).unwrap();
        let gradients = Gradients { values, clip: clip_norm.map(|largest| (largest, &norm)) };
        let state = OptimizerState {
            parameters: SpanMut::new(&mut parameters, 0, len),
            first_moment: SpanMut::new(&mut first, 0, len),
            second_moment: SpanMut::new(&mut second, 0, second_len),
            scaler: Span::new(&scaler, 0, SCALER_LEN),
        };
        backend.optimizer_step(&settings(algorithm, index as u64 + 1), groups, gradients, state).unwrap();
    }
    values(backend, &parameters, len)
}

fn steps_are_torchs<B: Optimizer>(backend: &B) {
    for (algorithm, expected) in [(Algorithm::Sgd, SGD), (Algorithm::Adam, ADAM), (Algorithm::AdamW, ADAM_W)] {
        let gradients = GRADIENTS.each_ref().map(|gradient| (&gradient[..], None));
        assert_close("parameters", &descend(backend, algorithm, &GROUPS, &PARAMETERS, &gradients), &expected, ROUNDING);

        let norm = |gradient: &[f32]| gradient.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32;
        let doubled = GRADIENTS.map(|gradient| gradient.map(|value| value * 2.0));
        let clipped: Vec<_> = doubled.iter().zip(&GRADIENTS).map(|(doubled, once)| (&doubled[..], Some(norm(once)))).collect();
        assert_close("clipped", &descend(backend, algorithm, &GROUPS, &PARAMETERS, &clipped), &expected, ROUNDING);

        let short = GRADIENTS.each_ref().map(|gradient| (&gradient[..], Some(1.5 * norm(gradient))));
        let [found, unclipped] = [&short, &gradients].map(|gradients| descend(backend, algorithm, &GROUPS, &PARAMETERS, gradients));
        assert_eq!(found, unclipped, "a gradient that is short enough is left as it is");
    }
}

#[test]
fn three_steps_of_each_rule_are_torchs_and_a_gradient_that_is_too_long_is_clipped_first() {
    steps_are_torchs(&cpu(1));
}

#[test]
fn parameters_outside_of_all_groups_are_untouched() {
    let len = 40_000;
    let (start, gradient) = (normals("start", len), normals("gradient", len));
    let groups = [
        ParameterGroup { start: 5, len: 20_000, learning_rate: 0.1, weight_decay: 0.0 },
        ParameterGroup { start: 30_000, len: 10_000, learning_rate: 0.2, weight_decay: 0.5 },
    ];
    let rate = |index: usize| match index {
        5..20_005 => (0.1, 0.0),
        30_000.. => (0.2, 0.5),
        _ => (0.0, 0.0),
    };
    let expected: Vec<f64> = (0..len)
        .map(|index| {
            let ((rate, decay), start, gradient) = (rate(index), f64::from(start[index]), f64::from(gradient[index]));
            start - rate * (gradient + decay * start)
        })
        .collect();
    let found = descend(&cpu(2), Algorithm::Sgd, &groups, &start, &[(&gradient, None)]);
    assert_close("parameters", &found, &expected, ROUNDING);
    assert_eq!(found[..5], start[..5]);
    assert_eq!(found[20_005..30_000], start[20_005..30_000]);
}

#[test]
fn the_squared_norm_is_summed_in_double_precision_and_shows_what_is_not_finite() {
    let backend = cpu(2);
    for len in [0, 1, 17, 1000, 100_003] {
        let numbers = normals("values", len);
        let expected: f64 = numbers.iter().map(|&value| f64::from(value).powi(2)).sum();
        let found = backend.squared_norm(Span::all(&numbers)).unwrap();
        assert!((found - expected).abs() <= DOUBLE * expected, "{len}: found {found}, expected {expected}");
    }
    assert_eq!(backend.squared_norm(Span::all(&vec![1e30; 4])).unwrap(), 4.0 * f64::from(1e30_f32).powi(2));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut numbers = normals("values", 1000);
        numbers[777] = bad;
        assert!(!backend.squared_norm(Span::all(&numbers)).unwrap().is_finite());
    }
}

#[test]
fn the_norm_that_clips_is_that_of_all_groups_in_their_order() {
    let (backend, numbers) = (cpu(2), normals("values", 50_000));
    let groups = [(7, 20_000), (40_000, 0), (30_001, 12_345)];
    let groups = groups.map(|(start, len)| ParameterGroup { start, len, learning_rate: 0.1, weight_decay: 0.0 });
    let parts = groups.map(|group| backend.squared_norm(Span::new(&numbers, group.start, group.len)).unwrap());
    let found = backend.squared_norm_of(&groups, Span::all(&numbers)).unwrap();
    assert_eq!(found.to_bits(), (parts[0] + parts[1] + parts[2]).to_bits());
}

#[test]
fn the_moving_average_keeps_its_share_of_the_target() {
    let backend = cpu(2);
    let (source, mut target) = (normals("source", 20_001), normals("target", 20_001));
    let expected: Vec<f64> = source.iter().zip(&target).map(|(&s, &t)| 0.75 * f64::from(t) + 0.25 * f64::from(s)).collect();
    backend.moving_average(0.75, Span::all(&source), SpanMut::all(&mut target)).unwrap();
    assert_close("target", &target, &expected, ROUNDING);
}

#[test]
fn two_threads_give_the_same_bits_as_one() {
    let (one, two, len) = (cpu(1), cpu(2), 70_001);
    let (start, gradient) = (normals("start", len), normals("gradient", len));
    let group = [ParameterGroup { start: 1, len: len - 1, learning_rate: 0.1, weight_decay: 0.1 }];
    for algorithm in [Algorithm::Sgd, Algorithm::Adam, Algorithm::AdamW] {
        let gradients = [(&gradient[..], Some(100.0)); 2];
        assert_eq!(descend(&one, algorithm, &group, &start, &gradients), descend(&two, algorithm, &group, &start, &gradients));
    }
    let norm = |backend: &xbm_fast::device::Cpu| backend.squared_norm(Span::all(&gradient)).unwrap().to_bits();
    assert_eq!(norm(&one), norm(&two));
}

#[test]
fn wrong_lengths_and_groups_past_the_end_are_refused() {
    let backend = cpu(1);
    let refused = |algorithm: Algorithm, gradient: usize, second: usize, group_len: usize| {
        let (mut parameters, mut first, mut second) = (vec![0.0; 5], vec![0.0; 5], vec![0.0; second]);
        let scaler = vec![0.0; SCALER_LEN];
        let state = OptimizerState {
            parameters: SpanMut::all(&mut parameters),
            first_moment: SpanMut::all(&mut first),
            second_moment: SpanMut::all(&mut second),
            scaler: Span::all(&scaler),
        };
        let groups = [ParameterGroup { start: 2, len: group_len, learning_rate: 0.1, weight_decay: 0.0 }];
        backend
            .optimizer_step(&settings(algorithm, 1), &groups, Gradients::unclipped(Span::all(&vec![0.0; gradient])), state)
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(refused(Algorithm::Sgd, 5, 0, 3), None);
    assert_eq!(refused(Algorithm::Sgd, 4, 0, 3).unwrap(), "gradients: expected 5 values, found 4 values");
    assert_eq!(refused(Algorithm::Adam, 5, 0, 3).unwrap(), "second moment: expected 5 values, found 0 values");
    assert_eq!(
        refused(Algorithm::Sgd, 5, 0, 4).unwrap(),
        "parameter group: expected a part of 5 parameters, found 4 parameters from 2"
    );
    let past = [ParameterGroup { start: 2, len: 2, learning_rate: 0.1, weight_decay: 0.0 }];
    let refused = backend.squared_norm_of(&past, Span::all(&vec![0.0; 3])).unwrap_err().to_string();
    assert_eq!(refused, "parameter group: expected a part of 3 parameters, found 2 parameters from 2");
    assert!(backend.moving_average(0.5, Span::all(&vec![0.0; 3]), SpanMut::all(&mut vec![0.0; 4])).is_err());
}

#[test]
fn steps_on_a_gpu_are_torchs() {
    on_gpu(steps_are_torchs);
}
