//! Copies between number formats: a gradient the size of ResNet-50's to 16 bit and back.

use crate::gpu::{Gpu, agree, normals};
use crate::measure::Floor;
use criterion::Criterion;
use half::f16;
use xbm_fast::device::cuda::cast::{CastParams, shape};

const SCALE: f32 = 0.375;
const BYTES: usize = 4 + 2;

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let len = if gpu.software { 1000 } else { 23_508_032 };
    let values = normals(len);
    let (wide, narrow) = (gpu.upload(&values), gpu.zeros::<f16>(len));
    let params = CastParams { input: gpu.address(&wide), output: gpu.address(&narrow), len: len as u64, scale: SCALE, padding: 0 };
    let kernel = gpu.kernel("cast", "cast_f32_f16", 0);
    gpu.launch(&kernel, shape(len), params);
    let halves = gpu.download(&narrow);
    agree("cast_f32_f16", &halves, 0.0, |i| f16::from_f32(values[i] * SCALE).into());
    gpu.measure(criterion, &format!("cast/f32_f16/{len}"), Floor::bytes(BYTES * len), (&kernel, shape(len), params));

    let params = CastParams { input: gpu.address(&narrow), output: gpu.address(&wide), ..params };
    let kernel = gpu.kernel("cast", "cast_f16_f32", 0);
    gpu.launch(&kernel, shape(len), params);
    agree("cast_f16_f32", &gpu.download(&wide), 0.0, |i| f64::from(halves[i].to_f32() * SCALE));
    gpu.measure(criterion, &format!("cast/f16_f32/{len}"), Floor::bytes(BYTES * len), (&kernel, shape(len), params));
}
