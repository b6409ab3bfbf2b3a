//! The normalising pass of training batch norm, with residual and ReLU.

use crate::gpu::{Gpu, agree, halves, normals};
use crate::measure::Floor;
use bytemuck::Zeroable;
use criterion::Criterion;
use half::f16;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::batch_norm::BatchNormParams;

/// Half a unit in the last place of 16 bit, relative to the largest value.
const ROUNDING: f64 = 1e-3;

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let sizes: &[(usize, usize)] = if gpu.software { &[(16, 32)] } else { &[(64 * 56 * 56, 256), (64 * 7 * 7, 2048)] };
    for &(rows, channels) in sizes {
        let len = rows * channels;
        let all = halves(&normals(2 * len));
        let (input, residual) = all.split_at(len);
        let by_channel = normals(4 * channels);
        let statistic = |which: usize| &by_channel[which * channels..][..channels];
        let activations = [gpu.upload(input), gpu.upload(residual), gpu.zeros::<f16>(len)];
        let statistics: Vec<_> = (0..4).map(|which| gpu.upload(statistic(which))).collect();
        let params = BatchNormParams {
            input: gpu.address(&activations[0]),
            residual: gpu.address(&activations[1]),
            result: gpu.address(&activations[2]),
            weight: gpu.address(&statistics[0]),
            bias: gpu.address(&statistics[1]),
            mean: gpu.address(&statistics[2]),
            inverse_deviation: gpu.address(&statistics[3]),
            rows: rows as u64,
            channels: channels as u32,
            relu: 1,
            ..BatchNormParams::zeroed()
        }
        .divided(Format::F16);
        let kernel = gpu.kernel("batch_norm", "batch_norm_normalise_f16", 0);
        gpu.launch(&kernel, params.range_shape(), params);
        agree("batch_norm", &gpu.download(&activations[2]), ROUNDING, |i| {
            let [weight, bias, mean, inverse] = [0, 1, 2, 3].map(|which| f64::from(statistic(which)[i % channels]));
            ((f64::from(input[i]) - mean) * inverse * weight + bias + f64::from(residual[i])).max(0.0)
        });
        let name = format!("batch_norm/normalise/{rows}x{channels}");
        gpu.measure(criterion, &name, Floor::bytes(3 * 2 * len), (&kernel, params.range_shape(), params));
    }
}
