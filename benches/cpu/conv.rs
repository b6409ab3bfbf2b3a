//! Convolution over the layers of ResNet-18 (64 images of 64 pixels) and ResNet-50 (16 images); throughput counts two operations
//! per product of the direct sum. `benches/peers/conv.py` measures the same in PyTorch.

use criterion::{Criterion, Throughput};
use std::time::Duration;
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::conv::{ConvGeometry, Convolution};
use xbm_fast::rng::Rng;

/// Image side, input channels, output channels, kernel, stride of the distinct convolutions.
const RESNET18: [[usize; 5]; 11] = [
    [64, 3, 64, 7, 2],
    [16, 64, 64, 3, 1],
    [16, 64, 128, 3, 2],
    [16, 64, 128, 1, 2],
    [8, 128, 128, 3, 1],
    [8, 128, 256, 3, 2],
    [8, 128, 256, 1, 2],
    [4, 256, 256, 3, 1],
    [4, 256, 512, 3, 2],
    [4, 256, 512, 1, 2],
    [2, 512, 512, 3, 1],
];

/// As [`RESNET18`].
const RESNET50: [[usize; 5]; 23] = [
    [64, 3, 64, 7, 2],
    [16, 64, 64, 1, 1],
    [16, 256, 64, 1, 1],
    [16, 64, 64, 3, 1],
    [16, 64, 256, 1, 1],
    [16, 256, 128, 1, 1],
    [16, 128, 128, 3, 2],
    [16, 256, 512, 1, 2],
    [8, 512, 128, 1, 1],
    [8, 128, 128, 3, 1],
    [8, 128, 512, 1, 1],
    [8, 512, 256, 1, 1],
    [8, 256, 256, 3, 2],
    [8, 512, 1024, 1, 2],
    [4, 1024, 256, 1, 1],
    [4, 256, 256, 3, 1],
    [4, 256, 1024, 1, 1],
    [4, 1024, 512, 1, 1],
    [4, 512, 512, 3, 2],
    [4, 1024, 2048, 1, 2],
    [2, 2048, 512, 1, 1],
    [2, 512, 512, 3, 1],
    [2, 512, 2048, 1, 1],
];

fn normals(len: usize) -> Vec<f32> {
    let mut rng = Rng::new(0).at("bench");
    (0..len).map(|_| rng.normal()).collect()
}

/// Measures the three directions of every layer.
pub fn bench(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    for (network, batch, layers) in [("resnet18", 64, RESNET18.as_slice()), ("resnet50", 16, &RESNET50)] {
        for &[side, in_channels, out_channels, kernel, stride] in layers {
            let geometry =
                ConvGeometry { batch, height: side, width: side, in_channels, out_channels, kernel, stride, padding: kernel / 2 };
            bench_layer(
                criterion,
                &cpu,
                &geometry,
                &format!("{network}/{side}px-{in_channels}-{out_channels}-{kernel}x{kernel}s{stride}"),
            );
        }
    }
}

fn bench_layer(criterion: &mut Criterion, cpu: &Cpu, geometry: &ConvGeometry, layer: &str) {
    let (input, filter) = (normals(geometry.input_len()), normals(geometry.filter_len()));
    let gradient = normals(geometry.output_len());
    let mut output = vec![0.0; geometry.output_len()];
    let mut input_gradient = vec![0.0; geometry.input_len()];
    let mut filter_gradient = vec![0.0; geometry.filter_len()];
    let mut group = criterion.benchmark_group(format!("conv/{layer}"));
    let products = geometry.output_len() * geometry.kernel * geometry.kernel * geometry.in_channels;
    group.throughput(Throughput::Elements(2 * products as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| cpu.conv_forward(geometry, Span::all(&input), Span::all(&filter), SpanMut::all(&mut output)).unwrap());
    });
    if geometry.in_channels > 3 {
        group.bench_function("backward_input", |bencher| {
            bencher.iter(|| {
                let written = SpanMut::all(&mut input_gradient);
                cpu.conv_backward_input(geometry, Span::all(&gradient), Span::all(&filter), written, false).unwrap();
            });
        });
    }
    group.bench_function("backward_filter", |bencher| {
        bencher.iter(|| {
            let written = SpanMut::all(&mut filter_gradient);
            cpu.conv_backward_filter(geometry, Span::all(&input), Span::all(&gradient), written).unwrap();
        });
    });
    group.finish();
}
