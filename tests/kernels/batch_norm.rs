use crate::device::{Gpu, on_every_schedule, rounded, rounding, width};
use crate::support::{assert_close, normals};
use bytemuck::Zeroable;
use cudarc::driver::CudaSlice;
use xbm_fast::device::cuda::kernel::Format::{self, Bf16, F16, F32};
use xbm_fast::kernel_args::batch_norm::BatchNormParams;

/// Sums over a few hundred rows in single precision; the mean is fifty deviations from zero.
const ARITHMETIC: f64 = 2e-5;
const EPSILON: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// Rows, channels, and where the activations begin. In turn: fewer rows than lanes; single channels in two blocks; vectors in one range;
/// vectors in several ranges, the last one ragged; vectors in two blocks of channels, the second with threads to spare; whole vectors
/// in a row of which none starts on 16 bytes, in more ranges than lanes that add them up.
const SIZES: [(usize, usize, usize); 6] = [(9, 3, 0), (70, 33, 0), (150, 40, 0), (2800, 8, 0), (70, 264, 0), (1100, 32, 1)];

#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    channels: usize,
    format: Format,
    relu: bool,
    residual: bool,
    frozen: bool,
    /// Values from the start of a buffer to the first activation.
    offset: usize,
}

/// What torch computes, in double precision.
struct Reference {
    mean: Vec<f64>,
    inverse: Vec<f64>,
    running_mean: Vec<f64>,
    running_variance: Vec<f64>,
    output: Vec<f64>,
    masked: Vec<f64>,
    weight_gradient: Vec<f64>,
    bias_gradient: Vec<f64>,
    input_gradient: Vec<f64>,
}

struct Inputs {
    input: Vec<f32>,
    residual: Vec<f32>,
    gradient: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    running: (Vec<f32>, Vec<f32>),
}

impl Inputs {
    fn new(case: Case) -> Self {
        let len = case.rows * case.channels;
        let shifted: Vec<f32> = normals("input", len).iter().map(|v| v + if case.format == F32 { 50.0 } else { 1.0 }).collect();
        Self {
            input: rounded(&shifted, case.format),
            residual: rounded(&normals("residual", len), case.format),
            gradient: rounded(&normals("gradient", len), case.format),
            weight: normals("weight", case.channels),
            bias: normals("bias", case.channels),
            running: (
                normals("running mean", case.channels),
                normals("variance", case.channels).iter().map(|v| v * v + 0.5).collect(),
            ),
        }
    }
}

fn reference(case: Case, inputs: &Inputs) -> Reference {
    let Case { rows, channels, .. } = case;
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
    let (x, residual, dy) = (wide(&inputs.input), wide(&inputs.residual), wide(&inputs.gradient));
    let (mut running_mean, mut running_variance) = (wide(&inputs.running.0), wide(&inputs.running.1));
    let mut all = Reference {
        mean: vec![],
        inverse: vec![],
        output: vec![0.0; rows * channels],
        masked: vec![0.0; rows * channels],
        weight_gradient: vec![],
        bias_gradient: vec![],
        input_gradient: vec![0.0; rows * channels],
        running_mean: vec![],
        running_variance: vec![],
    };
    let momentum = f64::from(MOMENTUM);
    for c in 0..channels {
        let at = |row: usize| row * channels + c;
        let mut mean = (0..rows).map(|r| x[at(r)]).sum::<f64>() / rows as f64;
        let mut variance = (0..rows).map(|r| (x[at(r)] - mean).powi(2)).sum::<f64>() / rows as f64;
        if case.frozen {
            (mean, variance) = (running_mean[c], running_variance[c]);
        } else {
            running_mean[c] += momentum * (mean - running_mean[c]);
            running_variance[c] += momentum * (variance * rows as f64 / (rows as f64 - 1.0) - running_variance[c]);
        }
        let inverse = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        let (weight, bias) = (f64::from(inputs.weight[c]), f64::from(inputs.bias[c]));
        let (mut sum, mut with_input) = (0.0, 0.0);
        for i in (0..rows).map(at) {
            let value = weight * (x[i] - mean) * inverse + bias + if case.residual { residual[i] } else { 0.0 };
            all.output[i] = if case.relu { value.max(0.0) } else { value };
            all.masked[i] = if case.relu && value <= 0.0 { 0.0 } else { dy[i] };
            sum += all.masked[i];
            with_input += all.masked[i] * (x[i] - mean) * inverse;
        }
        for i in (0..rows).map(at) {
            let centred = if case.frozen { 0.0 } else { (sum + (x[i] - mean) * inverse * with_input) / rows as f64 };
            all.input_gradient[i] = weight * inverse * (all.masked[i] - centred);
        }
        all.mean.push(mean);
        all.inverse.push(inverse);
        all.weight_gradient.push(with_input);
        all.bias_gradient.push(sum);
    }
    (all.running_mean, all.running_variance) = (running_mean, running_variance);
    all
}

fn check(gpu: &Gpu, case: Case) {
    let inputs = Inputs::new(case);
    let expected = reference(case, &inputs);
    let Case { rows, channels, format, .. } = case;
    let len = rows * channels;
    let per_channel = || gpu.uninitialised::<f32>(channels);
    let skipped = case.offset * width(format);
    let activations = || gpu.uninitialised::<u8>(skipped + len * width(format));
    let encode = |values: &[f32]| gpu.encode(&[&vec![f32::NAN; case.offset], values].concat(), format);
    let decode = |buffer| gpu.decode(buffer, format).split_off(case.offset);
    let address = |buffer: &CudaSlice<u8>| gpu.address(buffer) + skipped as u64;
    let (input, residual, gradient) = (encode(&inputs.input), encode(&inputs.residual), encode(&inputs.gradient));
    let (weight, bias) = (gpu.upload(&inputs.weight), gpu.upload(&inputs.bias));
    let (running_mean, running_variance) = (gpu.upload(&inputs.running.0), gpu.upload(&inputs.running.1));
    let (mean, inverse, weight_gradient, bias_gradient) = (per_channel(), per_channel(), per_channel(), per_channel());
    let (output, input_gradient, residual_gradient) = (activations(), activations(), activations());
    let params = BatchNormParams {
        input: address(&input),
        output: address(&output),
        residual: if case.residual { address(&residual) } else { 0 },
        output_gradient: address(&gradient),
        result: address(&output),
        residual_gradient: if case.residual { address(&residual_gradient) } else { 0 },
        weight: gpu.address(&weight),
        bias: gpu.address(&bias),
        mean: gpu.address(&mean),
        inverse_deviation: gpu.address(&inverse),
        running_mean: gpu.address(&running_mean),
        running_variance: gpu.address(&running_variance),
        weight_gradient: gpu.address(&weight_gradient),
        bias_gradient: gpu.address(&bias_gradient),
        rows: rows as u64,
        channels: channels as u32,
        epsilon: EPSILON,
        momentum: MOMENTUM,
        relu: u32::from(case.relu),
        frozen: u32::from(case.frozen),
        ..BatchNormParams::zeroed()
    }
    .divided(format);
    let partials = gpu.uninitialised::<u8>(params.partial_bytes());
    let params = BatchNormParams { partials: gpu.address(&partials), ..params };
    let typed = |name: &str| gpu.kernel::<BatchNormParams>("batch_norm", &format!("batch_norm_{name}_{}", format.suffix()), 0);
    let plain = |name: &str| gpu.kernel::<BatchNormParams>("batch_norm", &format!("batch_norm_{name}"), 0);
    if case.frozen {
        gpu.launch(&plain("freeze"), params.channel_shape(), params);
    } else {
        gpu.launch(&typed("range_moments"), params.range_shape(), params);
        gpu.launch(&plain("statistics"), params.sum_shape(), params);
    }
    gpu.launch(&typed("normalise"), params.range_shape(), params);
    let backward = BatchNormParams { result: address(&input_gradient), ..params };
    gpu.launch(&typed("range_gradients"), params.range_shape(), backward);
    gpu.launch(&plain("parameter_gradients"), params.sum_shape(), backward);
    gpu.launch(&typed("input_gradient"), params.range_shape(), backward);

    let close = |what: &str, found: &CudaSlice<f32>, expected: &[f64]| {
        assert_close(&format!("{what} of {case:?}"), &gpu.download(found), expected, ARITHMETIC)
    };
    close("mean", &mean, &expected.mean);
    close("inverse deviation", &inverse, &expected.inverse);
    close("running mean", &running_mean, &expected.running_mean);
    close("running variance", &running_variance, &expected.running_variance);
    let tolerance = ARITHMETIC + rounding(format);
    assert_close("output", &decode(&output), &expected.output, tolerance);
    close("weight gradient", &weight_gradient, &expected.weight_gradient);
    close("bias gradient", &bias_gradient, &expected.bias_gradient);
    assert_close("input gradient", &decode(&input_gradient), &expected.input_gradient, tolerance);
    if case.residual {
        assert_close("residual gradient", &decode(&residual_gradient), &expected.masked, tolerance);
    }
}

/// Every size in training, with all that a block can be followed by.
pub fn check_thoroughly(gpu: &Gpu) {
    for (rows, channels, offset) in SIZES {
        check(gpu, Case { rows, channels, format: F16, relu: true, residual: true, frozen: false, offset });
    }
}

#[test]
fn training_frozen_and_backward_equal_the_formula_for_every_format() {
    on_every_schedule(|gpu| {
        for format in [F32, F16, Bf16] {
            for (rows, channels, offset) in SIZES {
                for (relu, residual, frozen) in [(false, false, false), (true, true, false), (true, false, true)] {
                    check(gpu, Case { rows, channels, format, relu, residual, frozen, offset });
                }
            }
        }
    });
}
