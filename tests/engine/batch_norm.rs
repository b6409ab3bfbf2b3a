//! Batch normalisation against a double-precision reference, whose own gradient is checked by finite differences.

use crate::support::{assert_close, buffer, cpu, normals, on_gpu, values};
use xbm_fast::device::{NumberFormat, Span, SpanMut, Storage};
use xbm_fast::ops::batch_norm::{Affine, BatchNorm, BatchNormBackward, BatchNormGeometry, BatchNormGradients, Statistics};

/// Some roundings of 32-bit numbers, the first where a value close to its channel's mean is a difference of larger numbers.
const ROUNDING: f64 = 5e-6;
/// Sums of thousands of gradients that partly cancel.
const SUMS: f64 = 2e-5;
const MOMENTUM: f32 = 0.3;

/// Below one tile, exactly one and several, channels that fill no vector, and many rows of few channels.
const SHAPES: [(usize, usize); 6] = [(3, 1), (7, 5), (64, 512), (33, 64), (1030, 19), (2049, 64)];

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Train,
    Frozen,
}

struct Case {
    geometry: BatchNormGeometry,
    mode: Mode,
    input: Vec<f32>,
    residual: Option<Vec<f32>>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    running_mean: Vec<f32>,
    running_variance: Vec<f32>,
    output_gradient: Vec<f32>,
}

impl Case {
    fn new((rows, channels): (usize, usize), mode: Mode, relu: bool, residual: bool) -> Self {
        let len = rows * channels;
        let input = normals("input", len).iter().enumerate().map(|(i, v)| v * 2.0 + (i % channels) as f32 * 0.1).collect();
        Self {
            geometry: BatchNormGeometry { rows, channels, epsilon: 1e-5, momentum: MOMENTUM, relu, synced: false },
            mode,
            input,
            residual: residual.then(|| normals("residual", len)),
            weight: normals("weight", channels),
            bias: normals("bias", channels),
            running_mean: normals("running mean", channels),
            running_variance: normals("running variance", channels).iter().map(|v| v * v + 0.1).collect(),
            output_gradient: normals("gradient", len),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        SHAPES.into_iter().flat_map(|shape| {
            [Mode::Train, Mode::Frozen].into_iter().flat_map(move |mode| {
                [(false, false), (true, false), (false, true), (true, true)]
                    .map(|(relu, residual)| Self::new(shape, mode, relu, residual))
            })
        })
    }
}

/// Everything a forward and a backward pass leave behind.
#[derive(Clone, Debug, Default, PartialEq)]
struct Found<T> {
    output: Vec<T>,
    mean: Vec<T>,
    inverse_deviation: Vec<T>,
    running_mean: Vec<T>,
    running_variance: Vec<T>,
    input_gradient: Vec<T>,
    residual_gradient: Vec<T>,
    weight_gradient: Vec<T>,
    bias_gradient: Vec<T>,
}

/// Channel by channel, by the definitions.
fn reference(case: &Case, input: &[f64]) -> Found<f64> {
    let BatchNormGeometry { rows, channels, relu, .. } = case.geometry;
    let count = rows as f64;
    let blank = vec![0.0; rows * channels];
    let mut found = Found { output: blank.clone(), input_gradient: blank.clone(), residual_gradient: blank, ..Found::default() };
    for channel in 0..channels {
        let at = |row: usize| row * channels + channel;
        let batch_mean = (0..rows).map(|row| input[at(row)]).sum::<f64>() / count;
        let squares = (0..rows).map(|row| (input[at(row)] - batch_mean).powi(2)).sum::<f64>();
        let (running_mean, running_variance) = (f64::from(case.running_mean[channel]), f64::from(case.running_variance[channel]));
        let (mean, variance) = match case.mode {
            Mode::Train => (batch_mean, squares / count),
            Mode::Frozen => (running_mean, running_variance),
        };
        let inverse = 1.0 / (variance + f64::from(case.geometry.epsilon)).sqrt();
        let (weight, bias) = (f64::from(case.weight[channel]), f64::from(case.bias[channel]));
        let (mut sum, mut product) = (0.0, 0.0);
        for row in 0..rows {
            let residual = case.residual.as_ref().map_or(0.0, |residual| f64::from(residual[at(row)]));
            let output = weight * (input[at(row)] - mean) * inverse + bias + residual;
            let passes = !relu || output > 0.0;
            found.output[at(row)] = if passes { output } else { 0.0 };
            let gradient = if passes { f64::from(case.output_gradient[at(row)]) } else { 0.0 };
            found.residual_gradient[at(row)] = gradient;
            sum += gradient;
            product += gradient * (input[at(row)] - mean) * inverse;
        }
        for row in 0..rows {
            let through_statistics = match case.mode {
                Mode::Train => (sum + (input[at(row)] - mean) * inverse * product) / count,
                Mode::Frozen => 0.0,
            };
            found.input_gradient[at(row)] = weight * inverse * (found.residual_gradient[at(row)] - through_statistics);
        }
        let momentum = f64::from(MOMENTUM);
        found.mean.push(mean);
        found.inverse_deviation.push(inverse);
        found.running_mean.push((1.0 - momentum) * running_mean + momentum * batch_mean);
        found.running_variance.push((1.0 - momentum) * running_variance + momentum * squares / (count - 1.0));
        found.weight_gradient.push(product);
        found.bias_gradient.push(sum);
    }
    found
}

fn run<B: BatchNorm>(backend: &B, case: &Case) -> Found<f32> {
    let geometry = &case.geometry;
    let (len, channels) = (geometry.rows * geometry.channels, geometry.channels);
    let whole = |buffer, len| Span::new(buffer, 0, len);
    let (input, weight, bias) = (buffer(backend, &case.input), buffer(backend, &case.weight), buffer(backend, &case.bias));
    let residual = case.residual.as_ref().map(|residual| buffer(backend, residual));
    let mut output = poisoned(backend, len);
    let (mut running_mean, mut running_variance) = (buffer(backend, &case.running_mean), buffer(backend, &case.running_variance));
    let (mut mean, mut inverse_deviation) = (poisoned(backend, channels), poisoned(backend, channels));
    let affine = Affine { weight: whole(&weight, channels), bias: whole(&bias, channels) };
    let residual_span = residual.as_ref().map(|residual| whole(residual, len));
    if case.mode == Mode::Train {
        let statistics = Statistics {
            mean: SpanMut::new(&mut mean, 0, channels),
            inverse_deviation: SpanMut::new(&mut inverse_deviation, 0, channels),
            running_mean: SpanMut::new(&mut running_mean, 0, channels),
            running_variance: SpanMut::new(&mut running_variance, 0, channels),
        };
        let output = SpanMut::new(&mut output, 0, len);
        backend.batch_norm_train(geometry, whole(&input, len), affine, residual_span, statistics, output).unwrap();
    } else {
        let running = (whole(&running_mean, channels), whole(&running_variance, channels));
        let output = SpanMut::new(&mut output, 0, len);
        backend.batch_norm_eval(geometry, whole(&input, len), affine, residual_span, running, output).unwrap();
        mean = buffer(backend, &case.running_mean);
        let inverse: Vec<f32> = case.running_variance.iter().map(|v| 1.0 / (v + geometry.epsilon).sqrt()).collect();
        inverse_deviation = buffer(backend, &inverse);
    }
    if case.mode == Mode::Train && case.residual.is_none() {
        let mut again = poisoned(backend, len);
        let affine = Affine { weight: whole(&weight, channels), bias: whole(&bias, channels) };
        let used = (whole(&mean, channels), whole(&inverse_deviation, channels));
        backend.batch_norm_recompute(geometry, whole(&input, len), affine, used, SpanMut::new(&mut again, 0, len)).unwrap();
        let bits = |buffer| values(backend, buffer, len).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert!(bits(&again) == bits(&output), "the output once more, {:?}", case.geometry);
    }
    let gradient = buffer(backend, &case.output_gradient);
    let (mut input_gradient, mut residual_gradient) = (poisoned(backend, len), poisoned(backend, len));
    let mut affine_gradient = poisoned(backend, 2 * channels);
    let inputs = BatchNormBackward {
        input: whole(&input, len),
        output: whole(&output, len),
        output_gradient: whole(&gradient, len),
        weight: whole(&weight, channels),
        mean: whole(&mean, channels),
        inverse_deviation: whole(&inverse_deviation, channels),
        frozen: case.mode == Mode::Frozen,
    };
    let gradients = BatchNormGradients {
        input: SpanMut::new(&mut input_gradient, 0, len),
        residual: case.residual.is_some().then(|| SpanMut::new(&mut residual_gradient, 0, len)),
        affine: SpanMut::new(&mut affine_gradient, 0, 2 * channels),
    };
    backend.batch_norm_backward(geometry, inputs, gradients).unwrap();
    let mut weight_gradient = values(backend, &affine_gradient, 2 * channels);
    let bias_gradient = weight_gradient.split_off(channels);
    Found {
        output: values(backend, &output, len),
        mean: values(backend, &mean, channels),
        inverse_deviation: values(backend, &inverse_deviation, channels),
        running_mean: values(backend, &running_mean, channels),
        running_variance: values(backend, &running_variance, channels),
        input_gradient: values(backend, &input_gradient, len),
        residual_gradient: if case.residual.is_some() { values(backend, &residual_gradient, len) } else { Vec::new() },
        weight_gradient,
        bias_gradient,
    }
}

/// A buffer whose content shows if it is not overwritten.
fn poisoned<B: Storage>(backend: &B, len: usize) -> B::Buffer {
    buffer(backend, &vec![f32::NAN; len])
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn agrees_with_the_reference<B: BatchNorm>(backend: &B) {
    for case in Case::all() {
        let (found, expected) = (run(backend, &case), reference(&case, &double(&case.input)));
        assert_close("output", &found.output, &expected.output, ROUNDING);
        if case.mode == Mode::Train {
            assert_close("mean", &found.mean, &expected.mean, ROUNDING);
            assert_close("inverse deviation", &found.inverse_deviation, &expected.inverse_deviation, ROUNDING);
            assert_close("running mean", &found.running_mean, &expected.running_mean, ROUNDING);
            assert_close("running variance", &found.running_variance, &expected.running_variance, ROUNDING);
        }
        assert_close("input gradient", &found.input_gradient, &expected.input_gradient, SUMS);
        if case.residual.is_some() {
            assert_close("residual gradient", &found.residual_gradient, &expected.residual_gradient, ROUNDING);
        }
        assert_close("weight gradient", &found.weight_gradient, &expected.weight_gradient, SUMS);
        assert_close("bias gradient", &found.bias_gradient, &expected.bias_gradient, SUMS);
    }
}

#[test]
fn the_three_modes_agree_with_the_reference() {
    agrees_with_the_reference(&cpu(1));
}

#[test]
fn two_threads_give_the_same_bits_as_one() {
    let (one, two) = (cpu(1), cpu(2));
    for case in Case::all() {
        assert_eq!(run(&one, &case), run(&two, &case));
    }
}

#[test]
fn the_references_gradient_is_the_slope_of_its_output() {
    const STEP: f64 = 1e-5;
    const DISCRETISATION: f64 = 1e-6;
    for mode in [Mode::Train, Mode::Frozen] {
        let case = Case::new((7, 5), mode, true, true);
        let input = double(&case.input);
        let loss = |input: &[f64]| -> f64 {
            reference(&case, input).output.iter().zip(&case.output_gradient).map(|(output, &g)| output * f64::from(g)).sum()
        };
        let analytic = reference(&case, &input).input_gradient;
        for (index, &analytic) in analytic.iter().enumerate() {
            let moved = |step: f64| {
                let mut input = input.clone();
                input[index] += step;
                loss(&input)
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!((slope - analytic).abs() < DISCRETISATION, "{index}: slope {slope}, gradient {analytic}");
        }
    }
}

#[test]
fn a_large_mean_costs_the_variance_no_accuracy() {
    // The inputs themselves are rounded to 2^-11 at 10 000, where the naive difference of squares would have no digit left.
    let mut case = Case::new((4096, 3), Mode::Train, false, false);
    case.input = normals("far", 4096 * 3).iter().map(|v| 10_000.0 + v).collect();
    let (found, expected) = (run(&cpu(2), &case), reference(&case, &double(&case.input)));
    assert_close("inverse deviation", &found.inverse_deviation, &expected.inverse_deviation, ROUNDING);
}

#[test]
fn a_nan_is_not_hidden_by_the_relu() {
    let mut case = Case::new((33, 64), Mode::Train, true, false);
    case.input[70] = f32::NAN;
    assert!(run(&cpu(1), &case).output[6].is_nan());
}

#[test]
fn wrong_lengths_and_a_single_row_are_refused() {
    let backend = cpu(1);
    let train = |rows: usize, input_len: usize, mean_len: usize| {
        let geometry = BatchNormGeometry { rows, channels: 4, epsilon: 1e-5, momentum: 0.1, relu: false, synced: false };
        let zeros = |len| backend.zeros(len, NumberFormat::Full).unwrap();
        let (input, channel) = (zeros(input_len), zeros(4));
        let (mut mean, mut inverse, mut running_mean, mut running_variance) = (zeros(mean_len), zeros(4), zeros(4), zeros(4));
        let mut output = zeros(rows * 4);
        let statistics = Statistics {
            mean: SpanMut::all(&mut mean),
            inverse_deviation: SpanMut::all(&mut inverse),
            running_mean: SpanMut::all(&mut running_mean),
            running_variance: SpanMut::all(&mut running_variance),
        };
        let affine = Affine { weight: Span::all(&channel), bias: Span::all(&channel) };
        backend.batch_norm_train(&geometry, Span::all(&input), affine, None, statistics, SpanMut::all(&mut output))
    };
    assert!(train(2, 8, 4).is_ok());
    assert_eq!(train(3, 11, 4).unwrap_err().to_string(), "batch norm input: expected 12 values, found 11 values");
    assert_eq!(train(3, 12, 5).unwrap_err().to_string(), "mean: expected 4 values, found 5 values");
    assert_eq!(train(1, 4, 4).unwrap_err().to_string(), "batch norm rows in training mode: expected at least 2, found 1");
}

#[test]
fn a_gpu_agrees_with_the_reference() {
    on_gpu(agrees_with_the_reference);
}
