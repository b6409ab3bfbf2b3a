//! Operations against the CPU backend: convolutions, linear layers and the pair loss in each number format.

use crate::support::{assert_close, cpu, cuda, integer_values, integers, normals, on_gpu, on_gpu_in, unit_rows, values};
use xbm_fast::device::cuda::{PairLossPath, Precision};
use xbm_fast::device::{NumberFormat, Span, SpanMut, Storage};
use xbm_fast::loss::PairWeighting;
use xbm_fast::ops::Backend;
use xbm_fast::ops::batch_norm::{Affine, BatchNormGeometry};
use xbm_fast::ops::conv::{ConvGeometry, Filter};
use xbm_fast::ops::conv_norm::ConvNormInputs;
use xbm_fast::ops::linear::{LinearGeometry, LinearGradients};
use xbm_fast::ops::pair_loss::{CompareWith, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask};

/// Another order of sums in 32 bit.
const FULL: f64 = 1e-5;
/// Operands and results rounded to 10 bits of mantissa, relative to the largest result.
const HALF: f64 = 4e-3;
/// To 7 bits.
const BFLOAT: f64 = 3e-2;
/// Anchors and memory rounded to 16 bit, weights 0 or 1 and exact.
const PAIRS: f64 = 2e-3;

const PRECISIONS: [(Precision, f64); 3] = [(Precision::Fp32, FULL), (Precision::Fp16, HALF), (Precision::Bf16, BFLOAT)];

fn compute<B: Storage>(backend: &B, values: &[f32]) -> B::Buffer {
    let mut buffer = backend.zeros(values.len(), NumberFormat::Compute).unwrap();
    backend.upload(values, SpanMut::new(&mut buffer, 0, values.len())).unwrap();
    buffer
}

fn full<B: Storage>(backend: &B, values: &[f32]) -> B::Buffer {
    crate::support::buffer(backend, values)
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Output, input gradient, added input gradient, filter gradient.
fn convolve<B: Backend>(backend: &B, geometry: &ConvGeometry) -> [Vec<f32>; 4] {
    let (inputs, filters, outputs) = (geometry.input_len(), geometry.filter_len(), geometry.output_len());
    let input = compute(backend, &normals("input", inputs));
    let filter = full(backend, &normals("filter", filters));
    let gradient = compute(backend, &normals("gradient", outputs));
    let mut output = compute(backend, &vec![9.0; outputs]);
    let mut input_gradient = compute(backend, &vec![9.0; inputs]);
    let mut filter_gradient = full(backend, &vec![9.0; filters]);
    let (input_span, filter_span) = (Span::new(&input, 0, inputs), Span::new(&filter, 0, filters));
    let gradient_span = Span::new(&gradient, 0, outputs);
    backend.conv_forward(geometry, input_span, filter_span, SpanMut::new(&mut output, 0, outputs)).unwrap();
    let mut backward = |accumulate| {
        let to = SpanMut::new(&mut input_gradient, 0, inputs);
        backend.conv_backward_input(geometry, gradient_span, filter_span, to, accumulate).unwrap();
        values(backend, &input_gradient, inputs)
    };
    let (once, twice) = (backward(false), backward(true));
    let to = SpanMut::new(&mut filter_gradient, 0, filters);
    backend.conv_backward_filter(geometry, input_span, gradient_span, to).unwrap();
    [values(backend, &output, outputs), once, twice, values(backend, &filter_gradient, filters)]
}

#[test]
fn convolutions_agree_with_the_cpu() {
    let sizes = |[kernel, stride, padding]: [usize; 3], [in_channels, out_channels]: [usize; 2]| ConvGeometry {
        batch: 2,
        height: 6,
        width: 5,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
    };
    for geometry in [sizes([3, 1, 1], [8, 16]), sizes([3, 2, 1], [8, 8]), sizes([1, 2, 0], [16, 8]), sizes([7, 2, 3], [3, 8])] {
        let expected = convolve(&cpu(1), &geometry).map(|values| double(&values));
        for (precision, tolerance) in PRECISIONS {
            on_gpu_in(precision, |cuda| {
                for (found, expected) in convolve(cuda, &geometry).iter().zip(&expected) {
                    assert_close(&format!("{precision:?} {geometry:?}"), found, expected, tolerance);
                }
            });
        }
    }
}

/// Output, input gradient, parameter gradients.
fn linear<B: Backend>(backend: &B, geometry: &LinearGeometry) -> [Vec<f32>; 3] {
    let LinearGeometry { batch, in_features, out_features } = *geometry;
    let (inputs, outputs, weights) = (batch * in_features, batch * out_features, out_features * in_features);
    let input = compute(backend, &normals("input", inputs));
    let parameters = full(backend, &normals("parameters", weights + out_features));
    let gradient = compute(backend, &normals("gradient", outputs));
    let mut output = compute(backend, &vec![9.0; outputs]);
    let mut input_gradient = compute(backend, &vec![9.0; inputs]);
    let mut parameter_gradient = full(backend, &vec![9.0; weights + out_features]);
    let (weight, bias) = (Span::new(&parameters, 0, weights), Span::new(&parameters, weights, out_features));
    let input_span = Span::new(&input, 0, inputs);
    backend.linear_forward(geometry, input_span, weight, bias, SpanMut::new(&mut output, 0, outputs)).unwrap();
    let gradients = LinearGradients {
        input: SpanMut::new(&mut input_gradient, 0, inputs),
        parameters: SpanMut::new(&mut parameter_gradient, 0, weights + out_features),
    };
    backend.linear_backward(geometry, input_span, weight, Span::new(&gradient, 0, outputs), gradients).unwrap();
    [
        values(backend, &output, outputs),
        values(backend, &input_gradient, inputs),
        values(backend, &parameter_gradient, weights + out_features),
    ]
}

#[test]
fn linear_layers_agree_with_the_cpu() {
    let geometry = LinearGeometry { batch: 5, in_features: 24, out_features: 16 };
    let expected = linear(&cpu(1), &geometry).map(|values| double(&values));
    for (precision, tolerance) in PRECISIONS {
        on_gpu_in(precision, |cuda| {
            for (found, expected) in linear(cuda, &geometry).iter().zip(&expected) {
                assert_close(&format!("{precision:?}"), found, expected, tolerance);
            }
        });
    }
}

/// Gradient, losses and kept pairs; labels such that similarities near the gate are rare.
fn pair_loss<B: Backend>(backend: &B, [anchors, rows, dim]: [usize; 3]) -> (Vec<f32>, Vec<f32>, Vec<i32>) {
    let anchor_rows = full(backend, &unit_rows("anchors", anchors, dim));
    let memory = compute(backend, &unit_rows("memory", rows, dim));
    let labels = |count: usize| integers(backend, &(0..count as i32).map(|row| row % 3).collect::<Vec<_>>());
    let ids = |count: usize| integers(backend, &(0..count as i32).map(|row| row % 50).collect::<Vec<_>>());
    let (anchor_labels, memory_labels, anchor_ids, memory_ids) = (labels(anchors), labels(rows), ids(anchors), ids(rows));
    let mut gradient = full(backend, &vec![0.25; anchors * dim]);
    let mut row_losses = full(backend, &vec![9.0; anchors]);
    let mut kept = integers(backend, &vec![9; 2 * anchors]);
    let inputs = PairLossInputs {
        anchors: Span::new(&anchor_rows, 0, anchors * dim),
        anchor_labels: Span::new(&anchor_labels, 0, anchors),
        memory: CompareWith::Numbers(Span::new(&memory, 0, rows * dim)),
        memory_labels: Span::new(&memory_labels, 0, rows),
        self_pairs: SelfPairMask::Instance { anchors: Span::new(&anchor_ids, 0, anchors), rows: Span::new(&memory_ids, 0, rows) },
        soft: None,
    };
    let outputs = PairLossOutputs {
        gradient: SpanMut::new(&mut gradient, 0, anchors * dim),
        row_losses: SpanMut::new(&mut row_losses, 0, anchors),
        kept: SpanMut::new(&mut kept, 0, 2 * anchors),
    };
    let geometry = PairLossGeometry { anchors, rows, dim };
    backend
        .pair_loss(PairLossCall {
            geometry,
            weighting: &PairWeighting::default().valid().unwrap(),
            scale: 0.5,
            accumulate: true,
            inputs,
            outputs,
        })
        .unwrap();
    let (gradient, losses) = (values(backend, &gradient, anchors * dim), values(backend, &row_losses, anchors));
    (gradient, losses, integer_values(backend, &kept, 2 * anchors))
}

#[test]
fn both_ways_of_the_pair_loss_agree_with_the_cpu() {
    let ways = [
        (Precision::Fp32, PairLossPath::Unfused, FULL),
        (Precision::Fp16, PairLossPath::Unfused, PAIRS),
        (Precision::Fp16, PairLossPath::Fused, PAIRS),
        (Precision::Bf16, PairLossPath::Auto, BFLOAT),
    ];
    for sizes in [[5, 0, 64], [5, 77, 64], [17, 130, 128]] {
        let (gradient, losses, kept) = pair_loss(&cpu(1), sizes);
        for (precision, path, tolerance) in ways {
            let Some(cuda) = cuda(precision, path) else { return };
            let found = pair_loss(&cuda, sizes);
            assert_close(&format!("gradient, {precision:?} {path:?} {sizes:?}"), &found.0, &double(&gradient), tolerance);
            assert_close(&format!("losses, {precision:?} {path:?} {sizes:?}"), &found.1, &double(&losses), tolerance);
            assert_eq!(found.2, kept, "kept pairs, {precision:?} {path:?} {sizes:?}");
            assert_eq!(software_gpu::take_reports(), Vec::<String>::new());
        }
    }
}

#[test]
fn the_way_of_the_pair_loss_follows_device_and_sizes_unless_one_is_wished() {
    use PairLossPath::{Auto, Fused, Unfused};
    for (capability, anchors, dim, expected) in
        [(64, 512, Fused), (512, 1024, Fused), (255, 2048, Fused), (256, 1032, Unfused), (64, 2056, Unfused)]
            .map(|(anchors, dim, expected)| ((90, true), anchors, dim, expected))
    {
        assert_eq!(Auto.chosen(capability, anchors, dim), expected, "{capability:?} {anchors} {dim}");
    }
    for (capability, anchors, dim, expected) in [
        (80, 256, 512, Fused),
        (80, 128, 1024, Unfused),
        (80, 127, 1024, Fused),
        (90, 127, 512, Fused),
        (90, 256, 128, Fused),
        (90, 128, 136, Unfused),
        (90, 16, 520, Unfused),
        (100, 512, 128, Fused),
        (103, 64, 256, Unfused),
        (120, 256, 512, Fused),
    ] {
        assert_eq!(Auto.chosen((capability, false), anchors, dim), expected, "{capability} {anchors} {dim}");
        assert_eq!(
            (Fused.chosen((capability, false), anchors, dim), Unfused.chosen((capability, false), anchors, dim)),
            (Fused, Unfused)
        );
    }
}

#[test]
fn the_fused_pair_loss_is_refused_where_there_is_no_such_kernel() {
    let Some(cuda) = cuda(Precision::Fp32, PairLossPath::Fused) else { return };
    let refused = std::panic::catch_unwind(|| pair_loss(&cuda, [2, 2, 64])).unwrap_err();
    let words = refused.downcast_ref::<String>().unwrap();
    assert!(words.contains("expected: \"fp16 or bf16 of a multiple of 8 up to 1024\"") && words.contains("fp32 of 64"), "{words}");
}

/// Output of a convolution with its batch norm, in one and one after the other.
fn conv_norm<B: Backend>(backend: &B, geometry: &ConvGeometry, residual: bool) -> [Vec<f32>; 2] {
    let (inputs, outputs, channels) = (geometry.input_len(), geometry.output_len(), geometry.out_channels);
    let input = compute(backend, &normals("input", inputs));
    let filter = full(backend, &normals("filter", geometry.filter_len()));
    let shortcut = compute(backend, &normals("shortcut", outputs));
    let [weight, bias, mean] = ["weight", "bias", "mean"].map(|name| full(backend, &normals(name, channels)));
    let variance = full(backend, &normals("variance", channels).iter().map(|value| 9.0 + value * value).collect::<Vec<_>>());
    let norm =
        BatchNormGeometry { rows: outputs / channels, channels, epsilon: 1e-5, momentum: 0.1, relu: residual, synced: false };
    let affine = || Affine { weight: Span::new(&weight, 0, channels), bias: Span::new(&bias, 0, channels) };
    let running = (Span::new(&mean, 0, channels), Span::new(&variance, 0, channels));
    let residual = residual.then(|| Span::new(&shortcut, 0, outputs));
    let (input, filter) = (Span::new(&input, 0, inputs), Span::new(&filter, 0, geometry.filter_len()));
    let (mut between, mut together) = (compute(backend, &vec![9.0; outputs]), compute(backend, &vec![9.0; outputs]));
    let mut apart = compute(backend, &vec![9.0; outputs]);
    let prepared = Filter::prepared(backend, geometry, filter).unwrap();
    let parts = ConvNormInputs { input, filter: &prepared, affine: affine(), running, residual };
    let (between_span, output) = (SpanMut::new(&mut between, 0, outputs), SpanMut::new(&mut together, 0, outputs));
    backend.conv_norm_eval((geometry, &norm), parts, between_span, output).unwrap();
    backend.conv_forward(geometry, input, filter, SpanMut::new(&mut between, 0, outputs)).unwrap();
    let sums = Span::new(&between, 0, outputs);
    backend.batch_norm_eval(&norm, sums, affine(), residual, running, SpanMut::new(&mut apart, 0, outputs)).unwrap();
    [values(backend, &together, outputs), values(backend, &apart, outputs)]
}

#[test]
fn a_convolution_with_its_frozen_batch_norm_is_both_one_after_the_other() {
    let sizes = |[kernel, stride, in_channels]: [usize; 3]| ConvGeometry {
        batch: 2,
        height: 6,
        width: 5,
        in_channels,
        out_channels: 8,
        kernel,
        stride,
        padding: kernel / 2,
    };
    for (geometry, residual) in [(sizes([3, 1, 8]), true), (sizes([1, 2, 16]), false), (sizes([7, 2, 3]), false)] {
        let [expected, apart] = conv_norm(&cpu(1), &geometry, residual);
        assert_eq!(expected, apart, "on the CPU the two are what they are");
        for (precision, tolerance) in PRECISIONS {
            on_gpu_in(precision, |cuda| {
                for found in conv_norm(cuda, &geometry, residual) {
                    assert_close(&format!("{precision:?} {geometry:?}"), &found, &double(&expected), tolerance);
                }
            });
        }
    }
}

#[test]
fn in_one_the_sums_between_keep_32_bits_and_in_32_bit_nothing_changes() {
    let geometry =
        ConvGeometry { batch: 1, height: 3, width: 3, in_channels: 8, out_channels: 8, kernel: 1, stride: 1, padding: 0 };
    on_gpu_in(Precision::Fp16, |cuda| {
        let [together, apart] = conv_norm(cuda, &geometry, true);
        assert_ne!(together, apart, "in one, the sums between are not rounded to 16 bit");
    });
    on_gpu(|cuda| {
        let [together, apart] = conv_norm(cuda, &geometry, true);
        assert_eq!(together, apart, "in 32 bit they are run one after the other");
    });
}
