//! A whole training step at ResNet-18 (64 images) and ResNet-50 (16 images), 64 pixels: forward, contrastive loss of the batch
//! with itself, backward, Adam; throughput in images.

#[path = "fixtures/network.rs"]
mod fixture;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_main};
use fixture::{DIM, Trainer};
use std::time::Duration;
use xbm_fast::device::Cpu;
use xbm_fast::model::{Architecture, Depth, Weights};
use xbm_fast::ops::pool::GlobalPooling;
use xbm_fast::rng::Rng;

const CASES: [(&str, Depth, usize); 2] = [("resnet18", Depth::ResNet18, 64), ("resnet50", Depth::ResNet50, 16)];
const IMAGE_SIZE: usize = 64;

fn trainer(depth: Depth, batch: usize) -> xbm_fast::Result<Trainer> {
    let cpu = Cpu::new(None)?;
    let architecture = Architecture::new(depth, IMAGE_SIZE, DIM, GlobalPooling::Avg)?;
    let mut rng = Rng::new(0).at("train step benchmark");
    let pixels: Vec<f32> = (0..batch * architecture.image().len()).map(|_| rng.normal()).collect();
    let weights = Weights::initialised(&cpu, &architecture, 0)?;
    Trainer::new(cpu, architecture, weights, &pixels)
}

fn train_step() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(6));
    for (name, depth, batch) in CASES {
        let mut trainer = trainer(depth, batch).expect("sizes are sound");
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new(name, format!("{batch}x{IMAGE_SIZE}px")), |bencher| {
            bencher.iter(|| trainer.step().expect("inputs are sound"));
        });
    }
    group.finish();
}

criterion_main!(train_step);
