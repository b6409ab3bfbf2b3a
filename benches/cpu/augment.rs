//! A batch of crops: a photograph's to 224 pixels, a small picture's to 48.

use criterion::{Criterion, Throughput};
use xbm_fast::device::{Cpu, SpanMut};
use xbm_fast::ops::augment::{Augment, Crop, Pixels};
use xbm_fast::rng::Rng;

const IMAGES: usize = 32;

pub fn bench(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("augment");
    for (side, size) in [(256, 224), (500, 224), (64, 48)] {
        let mut rng = Rng::new(0).at("augment");
        let rgb: Vec<u8> = (0..side * side * 3).map(|_| rng.below(256) as u8).collect();
        let images = [Pixels { rgb: &rgb, height: side, width: side }; IMAGES];
        let crop = Crop { top: 0.0, left: 0.0, height: side as f32, width: side as f32, sees_surroundings: false, flip: true };
        let mut output = vec![0.0; IMAGES * size * size * 3];
        group.throughput(Throughput::Elements(IMAGES as u64));
        group.bench_function(format!("{side}_to_{size}"), |bencher| {
            bencher.iter(|| cpu.augment(size, &images, &[crop; IMAGES], SpanMut::all(&mut output)));
        });
    }
    group.finish();
}
