//! Convolution: forward and both gradients against plain loops in 64 bit.


use proptest::prelude::*;
use crate::support::{assert_close, buffer, cpu, normals, values};
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::conv::{ConvGeometry, Convolution};

/// Sums of up to some thousand products in 32 bit, through tile transforms that lose about a decimal digit.
const TOLERANCE: f64 = 2e-5;

/// Kernel, stride and padding of every convolution of a ResNet.
const KERNELS: [(usize, usize, usize); 5] = [(7, 2, 3), (3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0)];

/// Calls `visit(input, filter, output)` with the indices of every product of the convolution.
fn products(geometry: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let g = geometry;
    for image in 0..g.batch {
        for y in 0..g.out_height() {
            for x in 0..g.out_width() {
                for r in 0..g.kernel {
                    for s in 0..g.kernel {
                        let (row, column) = (y * g.stride + r, x * g.stride + s);
                        let inside = |p: usize, size: usize| p >= g.padding && p - g.padding < size;
                        if !inside(row, g.height) || !inside(column, g.width) {
                            continue;
                        }
                        let pixel = (image * g.height + row - g.padding) * g.width + column - g.padding;
                        let out_pixel = (image * g.out_height() + y) * g.out_width() + x;
                        for o in 0..g.out_channels {
                            for i in 0..g.in_channels {
                                let weight = ((o * g.kernel + r) * g.kernel + s) * g.in_channels + i;
                                visit(pixel * g.in_channels + i, weight, out_pixel * g.out_channels + o);
                            }
                        }
                    }
                }
            }
        }
    }
}

struct Operands {
    input: Vec<f32>,
    filter: Vec<f32>,
    gradient: Vec<f32>,
    /// What the input gradient holds before it is added to.
    before: Vec<f32>,
}

impl Operands {
    fn new(geometry: &ConvGeometry) -> Self {
        Self {
            input: normals("input", geometry.input_len()),
            filter: normals("filter", geometry.filter_len()),
            gradient: normals("gradient", geometry.output_len()),
            before: normals("before", geometry.input_len()),
        }
    }
}

struct Results {
    output: Vec<f32>,
    input_gradient: Vec<f32>,
    added: Vec<f32>,
    filter_gradient: Vec<f32>,
}

fn run<B: Convolution>(backend: &B, geometry: &ConvGeometry, operands: &Operands) -> Results {
    let (input_len, filter_len, output_len) = (geometry.input_len(), geometry.filter_len(), geometry.output_len());
    let [input, filter, gradient] = [&operands.input, &operands.filter, &operands.gradient].map(|values| buffer(backend, values));
    let (input, filter) = (Span::new(&input, 0, input_len), Span::new(&filter, 0, filter_len));
    let gradient = Span::new(&gradient, 0, output_len);
    let mut output = buffer(backend, &vec![f32::NAN; output_len]);
    backend.conv_forward(geometry, input, filter, SpanMut::new(&mut output, 0, output_len)).unwrap();
    let mut fresh = buffer(backend, &vec![f32::NAN; input_len]);
    backend.conv_backward_input(geometry, gradient, filter, SpanMut::new(&mut fresh, 0, input_len), false).unwrap();
    let mut added = buffer(backend, &operands.before);
    backend.conv_backward_input(geometry, gradient, filter, SpanMut::new(&mut added, 0, input_len), true).unwrap();
    let mut filter_gradient = buffer(backend, &vec![f32::NAN; filter_len]);
    backend.conv_backward_filter(geometry, input, gradient, SpanMut::new(&mut filter_gradient, 0, filter_len)).unwrap();
    Results {
        output: values(backend, &output, output_len),
        input_gradient: values(backend, &fresh, input_len),
        added: values(backend, &added, input_len),
        filter_gradient: values(backend, &filter_gradient, filter_len),
    }
}

fn check<B: Convolution>(backend: &B, geometry: &ConvGeometry) {
    let operands = Operands::new(geometry);
    let mut output = vec![0.0; geometry.output_len()];
    let mut input_gradient = vec![0.0; geometry.input_len()];
    let mut filter_gradient = vec![0.0; geometry.filter_len()];
    products(geometry, |input, filter, at| {
        let gradient = f64::from(operands.gradient[at]);
        output[at] += f64::from(operands.input[input]) * f64::from(operands.filter[filter]);
        input_gradient[input] += gradient * f64::from(operands.filter[filter]);
        filter_gradient[filter] += gradient * f64::from(operands.input[input]);
    });
    let found = run(backend, geometry, &operands);
    let added: Vec<f64> = input_gradient.iter().zip(&operands.before).map(|(sum, &before)| sum + f64::from(before)).collect();
    assert_close(&format!("output of {geometry:?}"), &found.output, &output, TOLERANCE);
    assert_close(&format!("input gradient of {geometry:?}"), &found.input_gradient, &input_gradient, TOLERANCE);
    assert_close(&format!("accumulated input gradient of {geometry:?}"), &found.added, &added, TOLERANCE);
    assert_close(&format!("filter gradient of {geometry:?}"), &found.filter_gradient, &filter_gradient, TOLERANCE);
}

fn geometry(kernel: (usize, usize, usize), images: [usize; 3], channels: [usize; 2]) -> ConvGeometry {
    let (kernel, stride, padding) = kernel;
    let [batch, height, width] = images;
    let [in_channels, out_channels] = channels;
    ConvGeometry { batch, height, width, in_channels, out_channels, kernel, stride, padding }
}

/// Shapes that reach every path: small and large images, few and many channels, sizes that no tile divides.
fn shapes() -> Vec<ConvGeometry> {
    let mut shapes = Vec::new();
    for kernel in KERNELS {
        for images in [[1, 1, 1], [3, 2, 2], [2, 4, 4], [1, 7, 9], [2, 13, 6]] {
            for channels in [[3, 5], [16, 33], [40, 16]] {
                shapes.push(geometry(kernel, images, channels));
            }
        }
        shapes.push(geometry(kernel, [9, 8, 8], [32, 32]));
        shapes.push(geometry(kernel, [5, 4, 4], [128, 72]));
        shapes.push(geometry(kernel, [2, 30, 21], [3, 64]));
    }
    shapes.push(geometry((3, 1, 1), [20, 4, 4], [144, 160]));
    shapes.push(geometry((3, 1, 1), [2, 13, 14], [48, 16]));
    shapes.push(geometry((3, 1, 1), [1, 15, 22], [16, 80]));
    shapes.push(geometry((3, 1, 1), [70, 3, 5], [160, 112]));
    shapes.push(geometry((3, 1, 1), [34, 4, 4], [272, 304]));
    shapes.push(geometry((1, 1, 0), [2, 4, 4], [300, 130]));
    shapes.push(geometry((5, 3, 0), [2, 11, 14], [6, 7]));
    shapes.push(geometry((3, 1, 0), [2, 9, 8], [20, 24]));
    shapes.push(geometry((2, 1, 1), [2, 5, 5], [18, 24]));
    shapes
}

#[test]
fn agrees_with_plain_loops() {
    let backend = cpu(2);
    shapes().iter().for_each(|geometry| check(&backend, geometry));
}

#[test]
fn gives_the_same_bits_on_one_thread_and_on_two() {
    let (one, two) = (cpu(1), cpu(2));
    for geometry in shapes() {
        let operands = Operands::new(&geometry);
        let results = [run(&one, &geometry, &operands), run(&two, &geometry, &operands)];
        let bits = results.map(|r| {
            [r.output, r.input_gradient, r.added, r.filter_gradient]
                .map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        });
        assert!(bits[0] == bits[1], "{geometry:?}");
    }
}

#[test]
fn an_empty_batch_has_a_zero_filter_gradient() {
    for kernel in KERNELS {
        let geometry = geometry(kernel, [0, 8, 8], [128, 128]);
        let found = run(&cpu(1), &geometry, &Operands::new(&geometry));
        assert_eq!(found.filter_gradient, vec![0.0; geometry.filter_len()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn agrees_with_plain_loops_on_any_shape(
        kernel in prop::sample::select(KERNELS.to_vec()),
        images in (1_usize..4, 1_usize..12, 1_usize..12),
        channels in (1_usize..70, 1_usize..70),
    ) {
        check(&cpu(2), &geometry(kernel, [images.0, images.1, images.2], [channels.0, channels.1]));
    }
}

/// The message of the failure when operand `wrong` (0 read, 1 filter, 2 result) is one number short.
fn failure(wrong: usize, call: impl Fn(&Cpu, &ConvGeometry, [usize; 3]) -> xbm_fast::Result<()>) -> String {
    let geometry = geometry((3, 1, 1), [1, 4, 4], [2, 2]);
    let mut lens = [geometry.input_len(), geometry.filter_len(), geometry.output_len()];
    lens[wrong] -= 1;
    call(&cpu(1), &geometry, lens).unwrap_err().to_string()
}

#[test]
fn rejects_operands_of_the_wrong_length() {
    for wrong in 0..3 {
        let found = ["expected 32 values, found 31 values", "expected 36 values, found 35 values"][usize::from(wrong == 1)];
        let forward = failure(wrong, |backend, geometry, [input, filter, output]| {
            let (input, filter, mut output) = (vec![0.0; input], vec![0.0; filter], vec![0.0; output]);
            backend.conv_forward(geometry, Span::all(&input), Span::all(&filter), SpanMut::all(&mut output))
        });
        let backward_input = failure(wrong, |backend, geometry, [input, filter, output]| {
            let (mut input, filter, output) = (vec![0.0; input], vec![0.0; filter], vec![0.0; output]);
            backend.conv_backward_input(geometry, Span::all(&output), Span::all(&filter), SpanMut::all(&mut input), false)
        });
        let backward_filter = failure(wrong, |backend, geometry, [input, filter, output]| {
            let (input, mut filter, output) = (vec![0.0; input], vec![0.0; filter], vec![0.0; output]);
            backend.conv_backward_filter(geometry, Span::all(&input), Span::all(&output), SpanMut::all(&mut filter))
        });
        for message in [forward, backward_input, backward_filter] {
            assert!(message.contains(found), "operand {wrong}: {message}");
        }
    }
}
