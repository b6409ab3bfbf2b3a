//! A whole training step at ResNet-18 (64 images) and ResNet-50 (16 images), 64 pixels: forward, contrastive loss of the batch
//! with itself, backward, Adam; throughput in images.
//!
//! The Python side of the comparison is `benches/peers/train_step.py`. It starts this benchmark with `XBM_FAST_PEER` set; then every
//! case is timed a few times, the milliseconds are printed, and criterion is not involved.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_main};
use std::time::{Duration, Instant};
use xbm_fast::backbone::plan::Purpose;
use xbm_fast::backbone::{Architecture, Depth, Network, Weights};
use xbm_fast::backend::Cpu;
use xbm_fast::ops::optimizer::{Optimizer, OptimizerState, OptimizerStep, ParameterGroup, Rule, SCALER_LEN};
use xbm_fast::ops::pair_loss::{OwnRows, PairLoss, PairLossGeometry, PairLossInputs, PairLossOutputs};
use xbm_fast::ops::pool::GlobalPooling;
use xbm_fast::rng::Rng;
use xbm_fast::tensor::{IntegerTensor, Tensor};
use xbm_fast::weighting::PairWeighting;

const CASES: [(&str, Depth, usize); 2] = [("resnet18", Depth::ResNet18, 64), ("resnet50", Depth::ResNet50, 16)];
const IMAGE_SIZE: usize = 64;
const DIM: usize = 128;
const IMAGES_PER_CLASS: usize = 4;

struct Trainer {
    cpu: Cpu,
    network: Network<Cpu>,
    weights: Weights<Cpu>,
    batch: usize,
    step: u64,
    images: Tensor<Cpu>,
    embeddings: Tensor<Cpu>,
    labels: IntegerTensor<Cpu>,
    ids: IntegerTensor<Cpu>,
    row_losses: Tensor<Cpu>,
    kept: IntegerTensor<Cpu>,
    embedding_gradient: Tensor<Cpu>,
    gradients: Tensor<Cpu>,
    moments: [Tensor<Cpu>; 2],
    scaler: Tensor<Cpu>,
}

impl Trainer {
    fn new(depth: Depth, batch: usize) -> xbm_fast::Result<Self> {
        let cpu = Cpu::new(None)?;
        let architecture = Architecture::new(depth, IMAGE_SIZE, DIM, GlobalPooling::Avg)?;
        let mut rng = Rng::new(0).at("train step benchmark");
        let pixels: Vec<f32> = (0..batch * architecture.image().len()).map(|_| rng.normal()).collect();
        let labels: Vec<i32> = (0..batch).map(|image| (image / IMAGES_PER_CLASS) as i32).collect();
        let ids: Vec<i32> = (0..batch as i32).collect();
        let (mut label_tensor, mut id_tensor) = (IntegerTensor::zeros(&cpu, batch)?, IntegerTensor::zeros(&cpu, batch)?);
        label_tensor.upload(&cpu, &labels)?;
        id_tensor.upload(&cpu, &ids)?;
        let zeros = |len| Tensor::zeros(&cpu, len);
        Ok(Self {
            weights: Weights::initialised(&cpu, &architecture, 0)?,
            images: Tensor::from_host(&cpu, &pixels)?,
            embeddings: zeros(batch * DIM)?,
            labels: label_tensor,
            ids: id_tensor,
            row_losses: zeros(batch)?,
            kept: IntegerTensor::zeros(&cpu, 2 * batch)?,
            embedding_gradient: zeros(batch * DIM)?,
            gradients: zeros(architecture.parameters_len)?,
            moments: [zeros(architecture.parameters_len)?, zeros(architecture.parameters_len)?],
            scaler: zeros(SCALER_LEN)?,
            network: Network::new(&cpu, architecture, batch, Purpose::Training)?,
            batch,
            step: 0,
            cpu,
        })
    }

    fn step(&mut self) -> xbm_fast::Result<()> {
        self.step += 1;
        self.network.forward_train(&mut self.weights, self.images.all(), self.batch, self.embeddings.all_mut())?;
        self.loss()?;
        self.network.backward(&self.weights, self.images.all(), self.embedding_gradient.all(), &mut self.gradients)?;
        self.update()
    }

    fn loss(&mut self) -> xbm_fast::Result<()> {
        let geometry = PairLossGeometry { anchors: self.batch, rows: self.batch, dim: DIM };
        let inputs = PairLossInputs {
            anchors: self.embeddings.all(),
            anchor_labels: self.labels.all(),
            memory: self.embeddings.all(),
            memory_labels: self.labels.all(),
            own: OwnRows::Instance { anchors: self.ids.all(), rows: self.ids.all() },
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: self.embedding_gradient.all_mut(),
            row_losses: self.row_losses.all_mut(),
            kept: self.kept.all_mut(),
        };
        self.cpu.pair_loss(&geometry, &PairWeighting::contrastive(), 2.0 / self.batch as f32, inputs, outputs, false)
    }

    fn update(&mut self) -> xbm_fast::Result<()> {
        let step =
            OptimizerStep { rule: Rule::Adam, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: self.step, gradient_scale: 1.0 };
        let groups = [ParameterGroup { start: 0, len: self.gradients.len(), learning_rate: 1e-4, weight_decay: 5e-4 }];
        let [first, second] = &mut self.moments;
        let scaler = self.scaler.all();
        let parameters = self.weights.parameters.all_mut();
        let state = OptimizerState { parameters, first_moment: first.all_mut(), second_moment: second.all_mut(), scaler };
        self.cpu.optimizer_step(&step, &groups, self.gradients.all(), state)
    }
}

/// Times every case a few times and prints one line of milliseconds each.
fn measure_for_peer() {
    const REPEATS: usize = 7;
    for (name, depth, batch) in CASES {
        let mut trainer = Trainer::new(depth, batch).expect("sizes are sound");
        let mut timed = || {
            let start = Instant::now();
            trainer.step().expect("inputs are sound");
            start.elapsed().as_secs_f64() * 1e3
        };
        timed();
        timed();
        let times = [(); REPEATS].map(|()| format!("{:.3}", timed()));
        println!("{name}|{}", times.join(" "));
    }
}

fn train_step() {
    if std::env::var_os("XBM_FAST_PEER").is_some() {
        return measure_for_peer();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(6));
    for (name, depth, batch) in CASES {
        let mut trainer = Trainer::new(depth, batch).expect("sizes are sound");
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new(name, format!("{batch}x{IMAGE_SIZE}px")), |bencher| {
            bencher.iter(|| trainer.step().expect("inputs are sound"));
        });
    }
    group.finish();
}

criterion_main!(train_step);
