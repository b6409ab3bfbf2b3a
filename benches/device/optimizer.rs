//! One AdamW step with moving average and 16-bit copy over a flat buffer.

use crate::gpu::{Floor, Gpu};
use criterion::Criterion;
use xbm_fast::kernel::optimizer::{DeviceGroup, OptimizerParams, OptimizerScalars, shape};

/// Parameters, gradient and moments read, all but the gradient written; the average read and written; the copy written.
const BYTES: f64 = 28.0 + 8.0 + 2.0;

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    // ResNet-50 without its classifier has 23.5 million parameters.
    let len = if gpu.software { 1000 } else { 23_508_032 };
    let (gradients, parameters, average) = (gpu.normals(len), gpu.normals(len), gpu.normals(len));
    let (first, second, copy) = (gpu.zeros::<f32>(len), gpu.zeros::<f32>(len), gpu.zeros::<u16>(len));
    let groups = [DeviceGroup { start: 0, len: len as u64, learning_rate: 1e-4, weight_decay: 1e-2 }];
    let scalars = OptimizerScalars { gradient_scale: 1.0, first_correction: 1.0, second_correction: 1.0, ..Default::default() };
    let groups = gpu.upload(bytemuck::cast_slice::<_, u8>(&groups));
    let scalars = gpu.upload(bytemuck::bytes_of(&scalars));
    let params = OptimizerParams {
        gradients: gpu.address(&gradients),
        parameters: gpu.address(&parameters),
        first_moment: gpu.address(&first),
        second_moment: gpu.address(&second),
        average: gpu.address(&average),
        copy: gpu.address(&copy),
        groups: gpu.address(&groups),
        scalars: gpu.address(&scalars),
        len: len as u64,
        group_count: 1,
        rule: 2,
        copy_format: 1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        average_momentum: 0.999,
        padding: 0,
    };
    let kernel = gpu.kernel("optimizer", "optimizer_step", 0);
    let floor = Floor { bytes: BYTES * len as f64, flops: 0.0 };
    gpu.measure(criterion, &format!("optimizer/adamw/{len}"), floor, (&kernel, shape(len), params));
}
