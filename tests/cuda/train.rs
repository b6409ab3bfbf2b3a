//! Training steps against the CPU backend, checkpoints across backends, and what a step does with a gradient that overflows.

use crate::support::{assert_close, config, cpu, normals, on_gpu, on_gpu_in};
use std::sync::Arc;
use xbm_fast::app::data::{Batch, Image};
use xbm_fast::checkpoint::{self, Record};
use xbm_fast::device::cuda::Precision;
use xbm_fast::loss::{Curve, PairWeighting, Side};
use xbm_fast::memory::MemoryKind;
use xbm_fast::ops::Backend;
use xbm_fast::ops::optimizer::Algorithm;
use xbm_fast::train::TrainSettings;
use xbm_fast::train::{Learner, State, StepOutcome};

const BATCH: usize = 4;
const DIM: usize = 64;
/// A loss after a forward pass of 20 layers in another order of sums.
const LOSS: f64 = 1e-4;
/// A gradient through 20 layers and batch norms of few rows, relative to its largest value.
const GRADIENT: f64 = 2e-3;
/// The same in 16 bit, whose rounding is 5e-4.
const LOSS_HALF: f64 = 1e-3;
/// Cosine between embeddings of 16 and of 32 bit, after 20 roundings.
const ROWS_HALF: f64 = 0.9999;
/// Cosine between the gradients of 16 and of 32 bit.
const GRADIENT_HALF: f64 = 0.97;

/// Plain descent on tiny images, so that the first moment is the gradient.
pub fn config() -> TrainSettings {
    config!(TrainSettings::default(); dim: DIM, image_size: 16, batch_size: BATCH, memory: MemoryKind::Momentum, memory_size: 16, memory_start: 0, optimizer: Algorithm::Sgd, beta1: 0.0, weight_decay: 0.0, weighting: every_negative())
}

/// The rule without its gate, so that every pair has a gradient.
fn every_negative() -> PairWeighting {
    PairWeighting { negative: Side::ungated(Curve::Constant(1.0)), ..PairWeighting::contrastive() }
}

/// Images whose batch norms see 32 values at least: of four values they magnify rounding without bound.
fn larger() -> TrainSettings {
    config!(config(); image_size: 64, batch_size: 2 * BATCH)
}

fn batch(step: u64) -> Batch {
    batch_for(&config(), step)
}

pub fn batch_for(config: &TrainSettings, step: u64) -> Batch {
    let (size, count) = (config.model.image_size * 9 / 8, config.batch.size);
    let image = |position: usize| {
        let noise = normals(&format!("image {position} of {step}"), size * size * 3);
        let rgb = noise.iter().map(|value| (128.0 + 50.0 * value).clamp(0.0, 255.0) as u8).collect::<Vec<u8>>().into();
        Arc::new(Image { rgb, height: size, width: size })
    };
    let ids = (0..count as i32).map(|position| position + 100 * step as i32).collect();
    let labels = (0..count as i32).map(|position| position / 2).collect();
    Batch { step, images: (0..count).map(image).collect(), labels, ids, waited: Default::default() }
}

/// Outcome, gradient and embeddings in the memory after the first step.
fn first_step<B: Backend>(backend: &B, config: &TrainSettings) -> (StepOutcome, Vec<f32>, Vec<f32>) {
    let mut learner = crate::support::learner(backend, config);
    let outcome = learner.step(&batch_for(config, 0).plain(), 0.01).unwrap();
    let rows = learner.state().memory.as_ref().unwrap().export(backend).unwrap().rows;
    (outcome, learner.state().first_moment.to_host(backend).unwrap(), rows)
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// Weights that depend on the similarity alone, and on the row: smooth ones, which magnify no rounding.
#[test]
fn a_step_in_32_bit_is_the_cpus() {
    for weighting in [every_negative(), "nca".parse().unwrap(), "n-pair".parse().unwrap()] {
        same_step(&config!(config(); weighting));
    }
}

#[test]
fn a_clipped_step_is_the_cpus() {
    for clip_norm in [0.01, 1e6] {
        same_step(&config!(config(); clip_norm));
    }
}

fn same_step(config: &TrainSettings) {
    on_gpu(|cuda| {
        let (expected, gradient, rows) = first_step(&cpu(2), config);
        let (found, found_gradient, found_rows) = first_step(cuda, config);
        let losses = |outcome: &StepOutcome| [outcome.batch_loss, outcome.memory_loss];
        assert_close("losses", &losses(&found).map(|loss| loss as f32), &losses(&expected), LOSS);
        assert_eq!(found.memory_rows, expected.memory_rows);
        assert_close("memory", &found_rows, &double(&rows), LOSS);
        assert_close("gradient", &found_gradient, &double(&gradient), GRADIENT);
    });
}

#[test]
fn a_step_in_16_bit_is_nearly_the_cpus() {
    on_gpu_in(Precision::Fp16, |cuda| {
        let (expected, gradient, rows) = first_step(&cpu(2), &larger());
        let (found, found_gradient, found_rows) = first_step(cuda, &larger());
        assert_close("loss", &[found.batch_loss as f32], &[expected.batch_loss], LOSS_HALF);
        for (row, (found, expected)) in found_rows.chunks(DIM).zip(rows.chunks(DIM)).enumerate() {
            assert!(cosine(found, expected) > ROWS_HALF, "row {row} of the memory: cosine {}", cosine(found, expected));
        }
        let cosine = cosine(&found_gradient, &gradient);
        assert!(cosine > GRADIENT_HALF, "cosine of the gradients {cosine}");
    });
}

#[test]
fn a_run_in_16_bit_resumes_with_the_same_bits() {
    on_gpu_in(Precision::Fp16, |cuda| {
        let config = config!(config(); optimizer: Algorithm::Adam);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step.safetensors");
        let mut whole = crate::support::learner(cuda, &config);
        whole.step(&batch(0).plain(), 1e-3).unwrap();
        checkpoint::save(cuda, &path, &config, whole.state(), &Record::default()).unwrap();
        let mut resumed = Learner::new(cuda, &config, State::from_checkpoint(cuda, &config, &path).unwrap().0).unwrap();
        let outcomes = [&mut whole, &mut resumed].map(|learner| learner.step(&batch(1).plain(), 1e-3).unwrap());
        assert_eq!(outcomes[0], outcomes[1]);
        let bits = |learner: &Learner<_>| {
            learner.state().query.parameters.to_host(cuda).unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert!(bits(&whole) == bits(&resumed), "parameters");
    });
}

#[test]
fn checkpoints_pass_between_cpu_and_gpu() {
    on_gpu(|cuda| {
        let (config, cpu) = (config(), cpu(2));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step.safetensors");
        let mut on_cpu = crate::support::learner(&cpu, &config);
        on_cpu.step(&batch(0).plain(), 0.01).unwrap();
        checkpoint::save(&cpu, &path, &config, on_cpu.state(), &Record::default()).unwrap();
        let mut on_gpu = Learner::new(cuda, &config, State::from_checkpoint(cuda, &config, &path).unwrap().0).unwrap();
        checkpoint::save(cuda, &path, &config, on_gpu.state(), &Record::default()).unwrap();
        let back = State::from_checkpoint(&cpu, &config, &path).unwrap().0;
        let bits = |state: &xbm_fast::train::State<_>| {
            state.query.parameters.to_host(&cpu).unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert!(bits(on_cpu.state()) == bits(&back), "parameters, there and back");
        let (expected, found) = (on_cpu.step(&batch(1).plain(), 0.01).unwrap(), on_gpu.step(&batch(1).plain(), 0.01).unwrap());
        assert_close("loss of the next step", &[found.batch_loss as f32], &[expected.batch_loss], GRADIENT);
    });
}

#[test]
fn a_gradient_that_overflows_changes_nothing_but_the_loss_scale() {
    on_gpu_in(Precision::Fp16, |cuda| {
        let mut learner = crate::support::learner(cuda, &config());
        let start = learner.state().query.parameters.to_host(cuda).unwrap();
        set_scaler(cuda, &mut learner, [1e30, 0.0, 0.0, 1.0]);
        learner.step(&batch(0).plain(), 0.1).unwrap();
        assert!(learner.state().query.parameters.to_host(cuda).unwrap() == start, "the step is left out");
        assert_eq!(learner.state().scaler.to_host(cuda).unwrap(), [5e29, 0.0, 1.0, 0.0]);
        set_scaler(cuda, &mut learner, [64.0, 1999.0, 1.0, 0.0]);
        learner.step(&batch(1).plain(), 0.1).unwrap();
        assert!(learner.state().query.parameters.to_host(cuda).unwrap() != start, "the next step is made");
        assert_eq!(learner.state().scaler.to_host(cuda).unwrap(), [128.0, 0.0, 1.0, 1.0]);
    });
}

fn set_scaler<B: Backend>(backend: &B, learner: &mut Learner<B>, scaler: [f32; 4]) {
    let mut state = learner.replace_state(State::initial(backend, &config()).unwrap()).unwrap();
    backend.upload(&scaler, state.scaler.all_mut()).unwrap();
    learner.replace_state(state).unwrap();
}
