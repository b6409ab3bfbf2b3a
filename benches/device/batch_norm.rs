//! The normalising pass of training batch norm, with residual and ReLU.

use crate::gpu::{Floor, Gpu};
use bytemuck::Zeroable;
use criterion::Criterion;
use xbm_fast::kernel::batch_norm::{BatchNormParams, item_shape};

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let sizes: &[(usize, usize)] = if gpu.software { &[(16, 32)] } else { &[(64 * 56 * 56, 256), (64 * 7 * 7, 2048)] };
    for &(rows, channels) in sizes {
        let len = rows * channels;
        let activations: Vec<_> = (0..3).map(|_| gpu.zeros::<u16>(len)).collect();
        let statistics: Vec<_> = (0..4).map(|_| gpu.normals(channels)).collect();
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
        };
        let kernel = gpu.kernel("batch_norm", "batch_norm_normalise_f16", 0);
        let floor = Floor { bytes: 6.0 * len as f64, flops: 0.0 };
        gpu.measure(criterion, &format!("batch_norm/normalise/{rows}x{channels}"), floor, (&kernel, item_shape(len), params));
    }
}
