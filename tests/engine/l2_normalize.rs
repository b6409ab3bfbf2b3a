//! Row-wise normalisation against a double-precision reference, whose own gradient is checked by finite differences.

use crate::support::{assert_close, buffer, cpu, normals, on_gpu, values};
use xbm_fast::device::{NumberFormat, Span, SpanMut, Storage};
use xbm_fast::ops::l2_normalize::{L2Normalize, RowGeometry};

/// A few roundings of 32-bit numbers; sums are taken in double precision.
const ROUNDING: f64 = 5e-7;
const SMALLEST_NORM: f64 = 1e-12;
const SHAPES: [(usize, usize); 5] = [(1, 1), (3, 7), (64, 512), (130, 129), (5, 2048)];

/// Unit rows, zeros for those shorter than the smallest norm, and norms.
fn forward_reference(dim: usize, input: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let norms: Vec<f64> = input.chunks(dim).map(|row| row.iter().map(|value| value * value).sum::<f64>().sqrt()).collect();
    let divided = |value: f64, norm: f64| if norm < SMALLEST_NORM { 0.0 } else { value / norm };
    let unit = input.chunks(dim).zip(&norms).flat_map(|(row, &norm)| row.iter().map(move |&value| divided(value, norm)));
    (unit.collect(), norms)
}

fn backward_reference(dim: usize, input: &[f64], gradient: &[f32]) -> Vec<f64> {
    let (unit, norms) = forward_reference(dim, input);
    let mut result = Vec::new();
    for ((unit, gradient), norm) in unit.chunks(dim).zip(gradient.chunks(dim)).zip(norms) {
        let radial: f64 = unit.iter().zip(gradient).map(|(unit, &gradient)| unit * f64::from(gradient)).sum();
        let slope = |(unit, &g): (&f64, &f32)| if norm < SMALLEST_NORM { 0.0 } else { (f64::from(g) - unit * radial) / norm };
        result.extend(unit.iter().zip(gradient).map(slope));
    }
    result
}

fn run<B: L2Normalize>(backend: &B, (rows, dim): (usize, usize), input: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
    let geometry = RowGeometry { rows, dim };
    let (input, gradient, len) = (buffer(backend, input), buffer(backend, gradient), rows * dim);
    let poison = |len| buffer(backend, &vec![f32::NAN; len]);
    let (mut output, mut norms, mut input_gradient) = (poison(len), poison(rows), poison(len));
    let (unit, lengths) = (SpanMut::new(&mut output, 0, len), SpanMut::new(&mut norms, 0, rows));
    backend.l2_normalize_forward(&geometry, Span::new(&input, 0, len), unit, lengths).unwrap();
    let (unit, lengths) = (Span::new(&output, 0, len), Span::new(&norms, 0, rows));
    let result = SpanMut::new(&mut input_gradient, 0, len);
    backend.l2_normalize_backward(&geometry, unit, lengths, Span::new(&gradient, 0, len), result).unwrap();
    [values(backend, &output, len), values(backend, &norms, rows), values(backend, &input_gradient, len)]
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn agrees_with_the_reference<B: L2Normalize>(backend: &B) {
    for (rows, dim) in SHAPES {
        let (input, gradient) = (normals("input", rows * dim), normals("gradient", rows * dim));
        let [output, norms, input_gradient] = run(backend, (rows, dim), &input, &gradient);
        let (expected_output, expected_norms) = forward_reference(dim, &double(&input));
        assert_close("unit rows", &output, &expected_output, ROUNDING);
        assert_close("norms", &norms, &expected_norms, ROUNDING);
        // A row of one value has no direction to turn to: its gradient is rounding only.
        if dim > 1 {
            assert_close("gradient", &input_gradient, &backward_reference(dim, &double(&input), &gradient), ROUNDING);
        }
    }
}

#[test]
fn rows_and_gradients_agree_with_the_reference() {
    agrees_with_the_reference(&cpu(1));
}

#[test]
fn two_threads_give_the_same_bits_as_one() {
    for shape in SHAPES {
        let (input, gradient) = (normals("input", shape.0 * shape.1), normals("gradient", shape.0 * shape.1));
        assert_eq!(run(&cpu(1), shape, &input, &gradient), run(&cpu(2), shape, &input, &gradient));
    }
}

#[test]
fn the_references_gradient_is_the_slope_of_its_output() {
    const STEP: f64 = 1e-5;
    const DISCRETISATION: f64 = 1e-8;
    let (input, gradient) = (double(&normals("input", 21)), normals("gradient", 21));
    let loss = |input: &[f64]| -> f64 { forward_reference(7, input).0.iter().zip(&gradient).map(|(f, &g)| f * f64::from(g)).sum() };
    for (index, analytic) in backward_reference(7, &input, &gradient).into_iter().enumerate() {
        let moved = |step: f64| {
            let mut input = input.clone();
            input[index] += step;
            loss(&input)
        };
        let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        assert!((slope - analytic).abs() < DISCRETISATION, "{index}: slope {slope}, gradient {analytic}");
    }
}

#[test]
fn rows_of_any_magnitude_become_unit_rows() {
    let input = [3e-11, 4e-11, 3e30, 4e30];
    let [output, norms, _] = run(&cpu(1), (2, 2), &input, &[1.0; 4]);
    assert_close("unit rows", &output, &[0.6, 0.8, 0.6, 0.8], ROUNDING);
    assert_close("norms", &norms[..1], &[5e-11], ROUNDING);
    assert_close("norms", &norms[1..], &[5e30], ROUNDING);
}

/// Rows of zeros, of the smallest numbers there are, of some that cannot be squared, and of one just too short and one just long enough.
fn rows_without_a_direction_are_zeros_and_get_no_gradient<B: L2Normalize>(backend: &B) {
    let short = [0.0, 0.0, -0.0, 1e-45, 3e-30, 4e-30, -5.9e-13, 7.9e-13];
    let input: Vec<f32> = short.into_iter().chain([6.1e-13, 8.1e-13]).collect();
    let [output, norms, input_gradient] = run(backend, (5, 2), &input, &[1e4, -1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0]);
    assert_eq!((&output[..8], &input_gradient[..8]), (&[0.0; 8][..], &[0.0; 8][..]));
    assert!(norms[..4].iter().all(|norm| *norm < 1e-12), "{norms:?}");
    assert!(output[8] > 0.6 && input_gradient[8] > 1e11, "{output:?} {input_gradient:?}");
}

#[test]
fn a_row_without_a_direction_is_zeros_and_gets_no_gradient() {
    rows_without_a_direction_are_zeros_and_get_no_gradient(&cpu(1));
}

#[test]
fn a_row_without_a_direction_is_zeros_and_gets_no_gradient_on_a_gpu() {
    on_gpu(rows_without_a_direction_are_zeros_and_get_no_gradient);
}

#[test]
fn wrong_lengths_are_refused() {
    let backend = cpu(1);
    let zeros = |len| backend.zeros(len, NumberFormat::Full).unwrap();
    let forward = |input: usize, norms: usize| {
        let geometry = RowGeometry { rows: 3, dim: 4 };
        backend.l2_normalize_forward(
            &geometry,
            Span::all(&zeros(input)),
            SpanMut::all(&mut zeros(12)),
            SpanMut::all(&mut zeros(norms)),
        )
    };
    assert!(forward(12, 3).is_ok());
    assert_eq!(forward(13, 3).unwrap_err().to_string(), "rows to normalise: expected 12 values, found 13 values");
    assert_eq!(forward(12, 2).unwrap_err().to_string(), "norms: expected 3 values, found 2 values");
}

#[test]
fn a_gpu_agrees_with_the_reference() {
    on_gpu(agrees_with_the_reference);
}
