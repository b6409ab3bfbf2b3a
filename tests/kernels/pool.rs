use crate::device::{Gpu, on_every_schedule, rounded, rounding, width};
use crate::support::{assert_close, normals};
use cudarc::driver::CudaSlice;
use xbm_fast::device::cuda::kernel::Format::{self, Bf16, F16, F32};
use xbm_fast::kernel_args::pool::PoolParams;

/// Means of up to a hundred values in single precision.
const ARITHMETIC: f64 = 1e-6;

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// Values from the start of a buffer to the first one used: vectors of channels need buffers that start on 16 bytes.
    offset: usize,
}

/// The last two are more than one strip of the backward pass, of even and odd heights.
const SIZES: [Sizes; 8] = [
    Sizes { batch: 2, height: 7, width: 8, channels: 5, offset: 0 },
    Sizes { batch: 1, height: 1, width: 1, channels: 3, offset: 0 },
    Sizes { batch: 1, height: 2, width: 3, channels: 33, offset: 0 },
    Sizes { batch: 3, height: 9, width: 5, channels: 4, offset: 0 },
    Sizes { batch: 2, height: 5, width: 6, channels: 16, offset: 0 },
    Sizes { batch: 2, height: 5, width: 6, channels: 16, offset: 1 },
    Sizes { batch: 2, height: 18, width: 3, channels: 8, offset: 0 },
    Sizes { batch: 1, height: 35, width: 4, channels: 8, offset: 0 },
];

impl Sizes {
    fn out(self) -> (usize, usize) {
        (self.height.div_ceil(2), self.width.div_ceil(2))
    }

    fn at(self, image: usize, row: usize, column: usize, channel: usize) -> usize {
        ((image * self.height + row) * self.width + column) * self.channels + channel
    }

    /// For every output in order: its inputs in row-major order.
    fn windows(self, global: bool) -> Vec<Vec<usize>> {
        let (rows, columns) = if global { (1, 1) } else { self.out() };
        let mut windows = Vec::new();
        for image in 0..self.batch {
            for (out_row, out_column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                let near = |out: usize, at: usize| global || (2 * out).abs_diff(at) <= 1;
                for channel in 0..self.channels {
                    let inside = (0..self.height).flat_map(|r| (0..self.width).map(move |c| (r, c)));
                    let inside = inside.filter(|&(r, c)| near(out_row, r) && near(out_column, c));
                    windows.push(inside.map(|(r, c)| self.at(image, r, c, channel)).collect());
                }
            }
        }
        windows
    }
}

/// Small whole numbers: many equal maxima.
fn values_with_ties(len: usize, format: Format) -> Vec<f32> {
    rounded(&normals("pool", len).iter().map(|v| (2.0 * v).round()).collect::<Vec<_>>(), format)
}

/// The first NaN, or the first of equal maxima.
fn first_maximum(input: &[f32], window: &[usize]) -> usize {
    let larger = |at: usize, best: usize| !input[best].is_nan() && (input[at] > input[best] || input[at].is_nan());
    window.iter().copied().reduce(|best, at| if larger(at, best) { at } else { best }).unwrap()
}

fn check(gpu: &Gpu, sizes: Sizes, format: Format, name: &str, nans: bool) {
    let (global, average) = (name != "max_pool", name == "global_avg_pool");
    let mut input = values_with_ties(sizes.batch * sizes.height * sizes.width * sizes.channels, format);
    if nans {
        input.iter_mut().skip(3).step_by(11).for_each(|value| *value = f32::NAN);
    }
    let windows = sizes.windows(global);
    let gradient = rounded(&normals("output gradient", windows.len()), format);
    let (mut output, mut input_gradient) = (Vec::new(), vec![0.0; input.len()]);
    for (window, &gradient) in windows.iter().zip(&gradient) {
        if average {
            output.push(window.iter().map(|&at| f64::from(input[at])).sum::<f64>() / window.len() as f64);
            window.iter().for_each(|&at| input_gradient[at] += f64::from(gradient) / window.len() as f64);
        } else {
            let best = first_maximum(&input, window);
            output.push(f64::from(input[best]));
            input_gradient[best] += f64::from(gradient);
        }
    }
    let skipped = sizes.offset * width(format);
    let encode = |values: &[f32]| gpu.encode(&[&vec![f32::NAN; sizes.offset], values].concat(), format);
    let decode = |buffer| gpu.decode(buffer, format).split_off(sizes.offset);
    let address = |buffer: &CudaSlice<u8>| gpu.address(buffer) + skipped as u64;
    let (input_buffer, gradient_buffer) = (encode(&input), encode(&gradient));
    let output_buffer = gpu.uninitialised::<u8>(skipped + output.len() * width(format));
    let input_gradient_buffer = gpu.uninitialised::<u8>(skipped + input.len() * width(format));
    let params = PoolParams {
        input: address(&input_buffer),
        output: address(&output_buffer),
        output_gradient: address(&gradient_buffer),
        input_gradient: address(&input_gradient_buffer),
        batch: sizes.batch as u32,
        height: sizes.height as u32,
        width: sizes.width as u32,
        channels: sizes.channels as u32,
        out_height: sizes.out().0 as u32,
        out_width: sizes.out().1 as u32,
        channels_at_once: 1,
        padding: 0,
    }
    .in_vectors(format);
    let kernel = |direction: &str| gpu.kernel("pool", &format!("{name}_{direction}_{}", format.suffix()), 0);
    gpu.launch(&kernel("forward"), params.shape(output.len()), params);
    gpu.launch(&kernel("backward"), params.shape(if global { output.len() } else { params.strips() }), params);
    let tolerance = ARITHMETIC + rounding(format);
    let found = decode(&output_buffer);
    for (value, expected) in found.iter().zip(&output) {
        assert_eq!(value.is_nan(), expected.is_nan(), "{name}: found {value}, expected {expected}");
    }
    let numbers: (Vec<f32>, Vec<f64>) = found.into_iter().zip(output).filter(|(value, _)| !value.is_nan()).unzip();
    assert_close(&format!("{name} output"), &numbers.0, &numbers.1, tolerance);
    assert_close(&format!("{name} gradient"), &decode(&input_gradient_buffer), &input_gradient, tolerance);
}

/// The stem's maximum in one format, for every size.
pub fn check_thoroughly(gpu: &Gpu) {
    for (sizes, nans) in SIZES.into_iter().flat_map(|sizes| [(sizes, false), (sizes, true)]) {
        check(gpu, sizes, F16, "max_pool", nans);
    }
}

#[test]
fn poolings_and_their_gradients_equal_their_definition_and_the_first_maximum_or_nan_wins() {
    on_every_schedule(|gpu| {
        for sizes in SIZES {
            for format in [F32, F16, Bf16] {
                for name in ["max_pool", "global_avg_pool", "global_max_pool"] {
                    check(gpu, sizes, format, name, false);
                    check(gpu, sizes, format, name, true);
                }
            }
        }
    });
}
