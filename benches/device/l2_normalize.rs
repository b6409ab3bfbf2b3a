//! Rows to unit length.

use crate::gpu::{Floor, Gpu};
use criterion::Criterion;
use xbm_fast::kernel::l2_normalize::{L2NormalizeParams, shape};

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let sizes: &[(usize, usize)] = if gpu.software { &[(8, 64)] } else { &[(64, 512), (1024, 512), (100_000, 512)] };
    for &(rows, dim) in sizes {
        let (input, output, norms) = (gpu.normals(rows * dim), gpu.zeros::<u16>(rows * dim), gpu.zeros::<f32>(rows));
        let params = L2NormalizeParams {
            input: gpu.address(&input),
            output: gpu.address(&output),
            norms: gpu.address(&norms),
            rows: rows as u32,
            dim: dim as u32,
        };
        let floor = Floor { bytes: 6.0 * (rows * dim) as f64, flops: 0.0 };
        let kernel = gpu.kernel("l2_normalize", "l2_normalize_forward_f32_f16", 0);
        gpu.measure(criterion, &format!("l2_normalize/{rows}x{dim}"), floor, (&kernel, shape(rows), params));
    }
}
