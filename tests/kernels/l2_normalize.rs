use crate::device::{Gpu, on_every_schedule, rounded, rounding, width};
use crate::support::{assert_close, normals};
use xbm_fast::device::cuda::kernel::Format::{self, Bf16, F16, F32};
use xbm_fast::kernel_args::l2_normalize::{L2NormalizeBackwardParams, L2NormalizeParams, shape};

/// Sums of up to 600 squares in single precision, in a tree.
const ARITHMETIC: f64 = 1e-6;
const SHAPES: [(usize, usize); 5] = [(1, 1), (3, 5), (8, 32), (9, 64), (17, 600)];
const FORWARD: [(Format, Format); 5] = [(F32, F32), (F32, F16), (F32, Bf16), (F16, F16), (Bf16, Bf16)];

fn norms_of(rows: &[f32], dim: usize) -> Vec<f64> {
    rows.chunks(dim).map(|row| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()).collect()
}

fn unit_rows_of(rows: &[f32], dim: usize) -> Vec<f64> {
    let norms = norms_of(rows, dim);
    rows.iter().enumerate().map(|(i, &v)| if norms[i / dim] < 1e-12 { 0.0 } else { f64::from(v) / norms[i / dim] }).collect()
}

#[test]
fn rows_become_unit_rows_and_norms_are_kept() {
    on_every_schedule(|gpu| {
        for (input_format, output_format) in FORWARD {
            for (rows, dim) in SHAPES {
                forward_case(gpu, input_format, output_format, (rows, dim));
            }
        }
    });
}

fn forward_case(gpu: &Gpu, input_format: Format, output_format: Format, (rows, dim): (usize, usize)) {
    let mut values = rounded(&normals("l2", rows * dim), input_format);
    values[..dim].fill(0.0);
    let name = format!("l2_normalize_forward_{}_{}", input_format.suffix(), output_format.suffix());
    let kernel = gpu.kernel("l2_normalize", &name, 0);
    let (input, output) = (gpu.encode(&values, input_format), gpu.uninitialised::<u8>(rows * dim * width(output_format)));
    let norms = gpu.uninitialised::<f32>(rows);
    let params = L2NormalizeParams {
        input: gpu.address(&input),
        output: gpu.address(&output),
        norms: gpu.address(&norms),
        rows: rows as u32,
        dim: dim as u32,
    };
    gpu.launch(&kernel, shape(rows), params);
    let tolerance = ARITHMETIC + rounding(output_format);
    assert_close(&name, &gpu.decode(&output, output_format), &unit_rows_of(&values, dim), tolerance);
    assert_close("norms", &gpu.download(&norms), &norms_of(&values, dim), ARITHMETIC);
}

#[test]
fn the_gradient_is_projected_and_divided_by_the_norm() {
    on_every_schedule(|gpu| {
        for format in [F32, F16, Bf16] {
            for (rows, dim) in SHAPES {
                backward_case(gpu, format, (rows, dim));
            }
        }
    });
}

fn backward_case(gpu: &Gpu, format: Format, (rows, dim): (usize, usize)) {
    let mut raw = normals("before", rows * dim);
    if rows > 1 {
        raw[..dim].fill(0.0);
    }
    let unit: Vec<f32> = unit_rows_of(&raw, dim).iter().map(|&v| v as f32).collect();
    let unit = rounded(&unit, format);
    let norm_values: Vec<f32> = norms_of(&raw, dim).iter().map(|&v| v as f32).collect();
    let gradient_values = normals("gradient", rows * dim);
    let mut expected = vec![0.0; rows * dim];
    for (row, norm) in norm_values.iter().enumerate() {
        let part = row * dim..(row + 1) * dim;
        let along: f64 = part.clone().map(|i| f64::from(unit[i]) * f64::from(gradient_values[i])).sum();
        for i in part {
            let turned = f64::from(gradient_values[i]) - f64::from(unit[i]) * along;
            expected[i] = if *norm == 0.0 { 0.0 } else { turned / f64::from(*norm) };
        }
    }
    let kernel = gpu.kernel("l2_normalize", &format!("l2_normalize_backward_{}", format.suffix()), 0);
    let (output, norms) = (gpu.encode(&unit, format), gpu.upload(&norm_values));
    let (gradient, result) = (gpu.upload(&gradient_values), gpu.uninitialised::<u8>(rows * dim * width(format)));
    let params = L2NormalizeBackwardParams {
        output: gpu.address(&output),
        norms: gpu.address(&norms),
        output_gradient: gpu.address(&gradient),
        input_gradient: gpu.address(&result),
        rows: rows as u32,
        dim: dim as u32,
    };
    gpu.launch(&kernel, shape(rows), params);
    assert!(rows == 1 || gpu.decode(&result, format)[..dim].iter().all(|&value| value == 0.0), "a row of zeros has no gradient");
    assert_close("input gradient", &gpu.decode(&result, format), &expected, ARITHMETIC + rounding(format));
}
