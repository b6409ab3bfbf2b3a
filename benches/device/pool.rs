//! The poolings of a ResNet-50 of 64 images, forward.

use crate::gpu::{Gpu, agree, halves, normals};
use crate::measure::Floor;
use criterion::Criterion;
use half::f16;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::pool::PoolParams;

/// Half a unit in the last place of 16 bit.
const ROUNDING: f64 = 1e-3;

/// A pooling, its input `(batch, size, size, channels)`, and the number of rows and columns it makes of it.
struct Case {
    name: &'static str,
    batch: usize,
    size: usize,
    channels: usize,
    out: usize,
}

impl Case {
    /// The inputs of an output, by index.
    fn window(&self, output: usize) -> impl Iterator<Item = usize> {
        let &Self { size, channels, out, .. } = self;
        let (channel, pixel) = (output % channels, output / channels);
        let (image, row, column) = (pixel / out / out, pixel / out % out, pixel % out);
        let near = move |out_place: usize, place: usize| out == 1 || (2 * out_place).abs_diff(place) <= 1;
        let places = (0..size * size).filter(move |place| near(row, place / size) && near(column, place % size));
        places.map(move |place| (image * size * size + place) * channels + channel)
    }
}

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let (batch, size, channels) = if gpu.software { (1, 8, 4) } else { (64, 112, 64) };
    let (small, deep) = if gpu.software { (4, 8) } else { (7, 2048) };
    let cases = [
        Case { name: "max_pool", batch, size, channels, out: size / 2 },
        Case { name: "global_avg_pool", batch, size: small, channels: deep, out: 1 },
    ];
    for case in cases {
        let values = halves(&normals(case.batch * case.size * case.size * case.channels));
        let out_len = case.batch * case.out * case.out * case.channels;
        let (input, output) = (gpu.upload(&values), gpu.zeros::<f16>(out_len));
        let params = PoolParams {
            input: gpu.address(&input),
            output: gpu.address(&output),
            output_gradient: 0,
            input_gradient: 0,
            batch: case.batch as u32,
            height: case.size as u32,
            width: case.size as u32,
            channels: case.channels as u32,
            out_height: case.out as u32,
            out_width: case.out as u32,
            channels_at_once: 1,
            padding: 0,
        }
        .in_vectors(Format::F16);
        let kernel = gpu.kernel("pool", &format!("{}_forward_f16", case.name), 0);
        gpu.launch(&kernel, params.shape(out_len), params);
        agree(case.name, &gpu.download(&output), ROUNDING, |i| {
            let window: Vec<f64> = case.window(i).map(|at| values[at].to_f64()).collect();
            if case.name == "max_pool" {
                window.into_iter().fold(f64::MIN, f64::max)
            } else {
                window.iter().sum::<f64>() / window.len() as f64
            }
        });
        let name = format!("pool/{}/{}x{}x{}x{}", case.name, case.batch, case.size, case.size, case.channels);
        gpu.measure(criterion, &name, Floor::bytes(2 * (values.len() + out_len)), (&kernel, params.shape(out_len), params));
    }
}
