//! Pair loss and gradient of a batch against a memory: batch 64 and 256, memory 8k and 60k, length 128 and 512; throughput in
//! pairs. Regimes are named by the share of pairs that are kept.
//!
//! The Python side of the comparison is `benches/peers/pair_loss.py`. It generates the same inputs and starts this benchmark with
//! `XBM_FAST_PEER` set to a folder; then every case is timed a few times, its gradient is left in the folder, and criterion is
//! not involved.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::path::Path;
use std::time::{Duration, Instant};
use xbm_fast::backend::{Cpu, Span, SpanMut};
use xbm_fast::ops::pair_loss::{OwnRows, PairLoss, PairLossGeometry, PairLossInputs, PairLossOutputs};
use xbm_fast::rng::Rng;
use xbm_fast::weighting::{Curve, Gate, PairWeighting, Side};

/// Rows of equal label lie together, as a memory filled by a class-balanced sampler has them.
const ROWS_PER_CLASS: usize = 5;
/// The anchors are these rows of the memory.
const FIRST_ANCHOR: usize = 1000;

struct Case {
    geometry: PairLossGeometry,
    memory: Vec<f32>,
    labels: Vec<i32>,
    slots: Vec<i32>,
}

impl Case {
    fn new(anchors: usize, rows: usize, dim: usize) -> Self {
        let mut rng = Rng::new(0).at("pair_loss benchmark");
        let mut memory: Vec<f32> = (0..rows * dim).map(|_| rng.uniform(-1.0, 1.0)).collect();
        for row in memory.chunks_mut(dim) {
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            row.iter_mut().for_each(|value| *value /= norm);
        }
        Self {
            geometry: PairLossGeometry { anchors, rows, dim },
            memory,
            labels: (0..rows).map(|row| (row / ROWS_PER_CLASS) as i32).collect(),
            slots: (0..anchors).map(|anchor| (FIRST_ANCHOR + anchor) as i32).collect(),
        }
    }

    fn run(&self, cpu: &Cpu, weighting: &PairWeighting, outputs: &mut Outputs) {
        let PairLossGeometry { anchors, dim, .. } = self.geometry;
        let inputs = PairLossInputs {
            anchors: Span::new(&self.memory, FIRST_ANCHOR * dim, anchors * dim),
            anchor_labels: Span::new(&self.labels, FIRST_ANCHOR, anchors),
            memory: Span::all(&self.memory),
            memory_labels: Span::all(&self.labels),
            own: OwnRows::Slot(Span::all(&self.slots)),
            soft: None,
        };
        let outputs = PairLossOutputs {
            gradient: SpanMut::all(&mut outputs.gradient),
            row_losses: SpanMut::all(&mut outputs.row_losses),
            kept: SpanMut::all(&mut outputs.kept),
        };
        cpu.pair_loss(&self.geometry, weighting, 1.0, inputs, outputs, false).expect("inputs are sound");
    }
}

struct Outputs {
    gradient: Vec<f32>,
    row_losses: Vec<f32>,
    kept: Vec<i32>,
}

impl Outputs {
    fn new(geometry: &PairLossGeometry) -> Self {
        let PairLossGeometry { anchors, dim, .. } = *geometry;
        Self { gradient: vec![0.0; anchors * dim], row_losses: vec![0.0; anchors], kept: vec![0; 2 * anchors] }
    }
}

/// A threshold above which about `share` of the negatives lie: similarities of random rows are normal with variance `1 / dim`.
fn kept_share(quantile: f32, dim: usize) -> PairWeighting {
    let gate = Gate::Above(quantile / (dim as f32).sqrt());
    PairWeighting { negative: Side::new(Curve::Constant(1.0), gate), ..PairWeighting::contrastive() }
}

fn regimes(dim: usize) -> [(&'static str, PairWeighting); 4] {
    let exponential: Curve = "exp:k=10,s0=0.5".parse().expect("a known curve");
    let all = Side::ungated(Curve::Constant(1.0));
    [
        ("rule", PairWeighting::contrastive()),
        ("kept 1e-2", kept_share(2.326, dim)),
        ("kept all", PairWeighting { negative: all, ..PairWeighting::contrastive() }),
        ("exp, kept all", PairWeighting { negative: Side::ungated(exponential), ..PairWeighting::contrastive() }),
    ]
}

/// Times every case of the comparison `repeats` times and prints one line of milliseconds each.
fn measure_for_peer(folder: &Path) {
    const REPEATS: usize = 3;
    let cpu = Cpu::new(None).expect("threads start");
    let (rows, dim) = (60_000, 512);
    for anchors in [64, 256] {
        let case = Case::new(anchors, rows, dim);
        let mut outputs = Outputs::new(&case.geometry);
        for (name, weighting) in regimes(dim) {
            case.run(&cpu, &weighting, &mut outputs);
            let times = [(); REPEATS].map(|()| {
                let start = Instant::now();
                case.run(&cpu, &weighting, &mut outputs);
                format!("{:.3}", start.elapsed().as_secs_f64() * 1e3)
            });
            let bytes: Vec<u8> = outputs.gradient.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(folder.join(format!("{name} {anchors}.f32")), bytes).expect("the folder can be written to");
            println!("{name}|{anchors}|{}", times.join(" "));
        }
    }
}

pub fn benches(criterion: &mut Criterion) {
    if let Some(folder) = std::env::var_os("XBM_FAST_PEER") {
        return measure_for_peer(Path::new(&folder));
    }
    let mut group = criterion.benchmark_group("pair_loss");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let cpu = Cpu::new(None).expect("threads start");
    for (rows, dim) in [(8192, 128), (8192, 512), (60_000, 128), (60_000, 512)] {
        for anchors in [64, 256] {
            let case = Case::new(anchors, rows, dim);
            let mut outputs = Outputs::new(&case.geometry);
            group.throughput(Throughput::Elements((anchors * rows) as u64));
            for (name, weighting) in regimes(dim) {
                let id = BenchmarkId::new(name, format!("{anchors}x{rows}x{dim}"));
                group.bench_function(id, |bencher| bencher.iter(|| case.run(&cpu, &weighting, &mut outputs)));
            }
        }
    }
}
