//! Rows to unit length.

use crate::gpu::{Gpu, agree, normals};
use crate::measure::Floor;
use criterion::Criterion;
use half::f16;
use xbm_fast::kernel_args::l2_normalize::{L2NormalizeParams, shape};

/// Half a unit in the last place of 16 bit, relative to the largest value.
const ROUNDING: f64 = 1e-3;

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let sizes: &[(usize, usize)] = if gpu.software { &[(8, 64)] } else { &[(64, 512), (1024, 512), (100_000, 512)] };
    for &(rows, dim) in sizes {
        let values = normals(rows * dim);
        let (input, output, norms) = (gpu.upload(&values), gpu.zeros::<f16>(rows * dim), gpu.zeros::<f32>(rows));
        let params = L2NormalizeParams {
            input: gpu.address(&input),
            output: gpu.address(&output),
            norms: gpu.address(&norms),
            rows: rows as u32,
            dim: dim as u32,
        };
        let kernel = gpu.kernel("l2_normalize", "l2_normalize_forward_f32_f16", 0);
        gpu.launch(&kernel, shape(rows), params);
        agree("l2_normalize", &gpu.download(&output), ROUNDING, |i| {
            let row = &values[i / dim * dim..][..dim];
            f64::from(values[i]) / row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
        });
        let floor = Floor::bytes((4 + 2) * rows * dim);
        gpu.measure(criterion, &format!("l2_normalize/{rows}x{dim}"), floor, (&kernel, shape(rows), params));
    }
}
