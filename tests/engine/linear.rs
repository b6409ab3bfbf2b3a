//! Fully connected layer: forward and gradients against plain loops in 64 bit.


use crate::support::{assert_close, buffer, cpu, normals, values};
use xbm_fast::cpu::gemm::{Matrix, MatrixMut, matmul};
use xbm_fast::device::{Span, SpanMut};
use xbm_fast::ops::linear::{Linear, LinearGeometry, LinearGradients};

/// Sums of up to some hundred products in 32 bit.
const TOLERANCE: f64 = 2e-6;

const SHAPES: [[usize; 3]; 6] = [[1, 1, 1], [5, 7, 3], [64, 512, 128], [33, 100, 65], [3, 300, 1], [130, 17, 40]];

fn run<B: Linear>(backend: &B, shape: [usize; 3]) -> [Vec<f32>; 3] {
    let [batch, in_features, out_features] = shape;
    let geometry = LinearGeometry { batch, in_features, out_features };
    let names = [("input", batch * in_features), ("weight", out_features * in_features), ("bias", out_features)];
    let [input, weight, bias] = names.map(|(name, len)| buffer(backend, &normals(name, len)));
    let gradient = buffer(backend, &normals("gradient", batch * out_features));
    let (input, weight) = (Span::new(&input, 0, batch * in_features), Span::new(&weight, 0, out_features * in_features));
    let lens = [batch * out_features, batch * in_features, out_features * (in_features + 1)];
    let mut results = lens.map(|len| buffer(backend, &vec![f32::NAN; len]));
    let [output, input_gradient, parameter_gradient] = &mut results;
    backend.linear_forward(&geometry, input, weight, Span::new(&bias, 0, out_features), SpanMut::new(output, 0, lens[0])).unwrap();
    let gradients = LinearGradients {
        input: SpanMut::new(input_gradient, 0, lens[1]),
        parameters: SpanMut::new(parameter_gradient, 0, lens[2]),
    };
    backend.linear_backward(&geometry, input, weight, Span::new(&gradient, 0, lens[0]), gradients).unwrap();
    let mut lens = lens.into_iter();
    results.map(|result| values(backend, &result, lens.next().unwrap()))
}

#[test]
fn agrees_with_plain_loops() {
    for shape in SHAPES {
        let [batch, in_features, out_features] = shape;
        let named = |name, len| normals(name, len).into_iter().map(f64::from).collect::<Vec<_>>();
        let (input, weight) = (named("input", batch * in_features), named("weight", out_features * in_features));
        let (mut output, gradient) = (Vec::new(), named("gradient", batch * out_features));
        (0..batch).for_each(|_| output.extend(named("bias", out_features)));
        let (mut input_gradient, mut weight_gradient) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
        let mut bias_gradient = vec![0.0; out_features];
        for n in 0..batch {
            for o in 0..out_features {
                bias_gradient[o] += gradient[n * out_features + o];
                for i in 0..in_features {
                    output[n * out_features + o] += input[n * in_features + i] * weight[o * in_features + i];
                    input_gradient[n * in_features + i] += gradient[n * out_features + o] * weight[o * in_features + i];
                    weight_gradient[o * in_features + i] += gradient[n * out_features + o] * input[n * in_features + i];
                }
            }
        }
        let found = run(&cpu(2), shape);
        assert_close("output", &found[0], &output, TOLERANCE);
        assert_close("input gradient", &found[1], &input_gradient, TOLERANCE);
        let (found_weight, found_bias) = found[2].split_at(weight_gradient.len());
        assert_close("weight gradient", found_weight, &weight_gradient, TOLERANCE);
        assert_close("bias gradient", found_bias, &bias_gradient, TOLERANCE);
    }
}

#[test]
fn gives_the_same_bits_on_one_thread_and_on_two() {
    for shape in SHAPES {
        let bits = |threads| run(&cpu(threads), shape).map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>());
        assert!(bits(1) == bits(2), "{shape:?}");
    }
}

#[test]
fn rejects_operands_of_the_wrong_length() {
    let geometry = LinearGeometry { batch: 2, in_features: 3, out_features: 4 };
    let lens = [6, 12, 4, 8];
    for wrong in 0..lens.len() {
        let mut short = lens;
        short[wrong] -= 1;
        let [input, weight, bias, mut output] = short.map(|len| vec![0.0; len]);
        let result =
            cpu(1).linear_forward(&geometry, Span::all(&input), Span::all(&weight), Span::all(&bias), SpanMut::all(&mut output));
        let message = result.unwrap_err().to_string();
        assert!(message.contains(&format!("expected {} values", lens[wrong])), "{message}");
    }
    let lens = [6, 12, 8, 6, 16];
    for wrong in 0..lens.len() {
        let mut short = lens;
        short[wrong] -= 1;
        let [input, weight, gradient, mut input_gradient, mut parameter_gradient] = short.map(|len| vec![0.0; len]);
        let gradients =
            LinearGradients { input: SpanMut::all(&mut input_gradient), parameters: SpanMut::all(&mut parameter_gradient) };
        let result = cpu(1).linear_backward(&geometry, Span::all(&input), Span::all(&weight), Span::all(&gradient), gradients);
        let message = result.unwrap_err().to_string();
        assert!(message.contains(&format!("expected {} values", lens[wrong])), "{message}");
    }
}

#[test]
fn a_product_over_nothing_is_zero() {
    let mut output = [f32::NAN; 6];
    matmul(Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), MatrixMut::new(&mut output, 2, 3), false);
    assert_eq!(output, [0.0; 6]);
    let mut output = [1.5; 6];
    matmul(Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), MatrixMut::new(&mut output, 2, 3), true);
    assert_eq!(output, [1.5; 6]);
}
