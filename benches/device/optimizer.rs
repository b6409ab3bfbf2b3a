//! One AdamW step with 16-bit copy over a flat buffer.

use crate::gpu::{Gpu, agree, normals};
use crate::measure::Floor;
use criterion::Criterion;
use xbm_fast::kernel_args::optimizer::{DeviceGroup, OptimizerParams, OptimizerScalars, shape};

/// Parameters, gradient and moments read, all but the gradient written; the copy written.
const BYTES: usize = 28 + 2;
const RATE: f32 = 1e-2;
const DECAY: f32 = 1e-2;
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// A few single-precision operations.
const ARITHMETIC: f64 = 1e-6;

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    // ResNet-50 without its classifier has 23.5 million parameters.
    let len = if gpu.software { 1000 } else { 23_508_032 };
    let before = normals(len);
    let gradient_of = |i: usize| before[len - 1 - i];
    let gradients = gpu.upload(&(0..len).map(gradient_of).collect::<Vec<_>>());
    let parameters = gpu.upload(&before);
    let (first, second, copy) = (gpu.zeros::<f32>(len), gpu.zeros::<f32>(len), gpu.zeros::<u16>(len));
    let groups = [DeviceGroup { start: 0, len: len as u64, learning_rate: RATE, weight_decay: DECAY }];
    let scalars = OptimizerScalars { gradient_scale: 1.0, first_correction: 1.0, second_correction: 1.0, ..Default::default() };
    let groups = gpu.upload(bytemuck::cast_slice::<_, u8>(&groups));
    let scalars = gpu.upload(bytemuck::bytes_of(&scalars));
    let params = OptimizerParams {
        gradients: gpu.address(&gradients),
        parameters: gpu.address(&parameters),
        first_moment: gpu.address(&first),
        second_moment: gpu.address(&second),
        copy: gpu.address(&copy),
        groups: gpu.address(&groups),
        scalars: gpu.address(&scalars),
        len: len as u64,
        group_count: 1,
        rule: 2,
        copy_format: 1,
        beta1: BETA1,
        beta2: BETA2,
        epsilon: EPSILON,
    };
    let kernel = gpu.kernel("optimizer", "optimizer_step", 0);
    gpu.launch(&kernel, shape(len), params);
    agree("optimizer", &gpu.download(&parameters), ARITHMETIC, |i| {
        let (gradient, [rate, decay, beta1, beta2]) = (f64::from(gradient_of(i)), [RATE, DECAY, BETA1, BETA2].map(f64::from));
        let (first, second) = ((1.0 - beta1) * gradient, (1.0 - beta2) * gradient * gradient);
        f64::from(before[i]) * (1.0 - rate * decay) - rate * first / (second.sqrt() + f64::from(EPSILON))
    });
    gpu.measure(criterion, &format!("optimizer/adamw/{len}"), Floor::bytes(BYTES * len), (&kernel, shape(len), params));
}
