//! Published weights as the start of a run, and what a step then changes.

use crate::support::{Batch, config, cpu};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;
use xbm_fast::checkpoint::{NetworkHeader, load_encoder, save_model};
use xbm_fast::device::Cpu;
use xbm_fast::device::Tensor;
use xbm_fast::memory::MemoryKind;
use xbm_fast::model::{Architecture, Depth, Role, Weights};
use xbm_fast::ops::optimizer::Algorithm;
use xbm_fast::train::TrainSettings;
use xbm_fast::train::{Learner, State};

const BATCH: usize = 4;

fn config(dim: usize) -> TrainSettings {
    config!(TrainSettings::default(); dim, image_size: 16, batch_size: BATCH, memory: MemoryKind::None)
}

fn architecture(config: &TrainSettings) -> Architecture {
    NetworkHeader::of(config).architecture().unwrap()
}

/// Weights none of which are what initialisation would give.
fn published(backend: &Cpu, architecture: &Architecture) -> Weights<Cpu> {
    let random = |name: &str, len: usize, base: f32| {
        let short = crate::support::normals(name, 4099);
        Tensor::from_host(backend, &(0..len).map(|i| base + 0.1 * short[i % 4099]).collect::<Vec<_>>()).unwrap()
    };
    Weights {
        parameters: random("parameters", architecture.parameters_len, 0.0),
        running_means: random("means", architecture.statistics_len, 0.0),
        running_variances: random("variances", architecture.statistics_len, 1.0),
        batches_tracked: 7,
    }
}

/// A file as torchvision would write it, with a classifier of 1000.
fn write_published(backend: &Cpu, path: &Path) -> Weights<Cpu> {
    let config = config(1000);
    let weights = published(backend, &architecture(&config));
    save_model(backend, path, &config, &weights).unwrap();
    weights
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors_of(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

fn write_tensors(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_trunk_is_the_files_bit_for_bit_and_goes_back_as_it_came() {
    let (backend, folder) = (cpu(2), tempfile::tempdir().unwrap());
    let (file, out) = (folder.path().join("published.safetensors"), folder.path().join("best.safetensors"));
    write_published(&backend, &file);
    let config = config(16);
    let architecture = architecture(&config);
    let weights = State::from_pretrained(&backend, &config, &file).unwrap().query;
    let fresh = Weights::initialised(&backend, &architecture, config.execution.seed).unwrap();
    let head = |weights: &Weights<Cpu>| bits(&weights.parameters.to_host(&backend).unwrap()[architecture.head_start()..]);
    assert_eq!(head(&weights), head(&fresh), "the head starts as without a file");
    save_model(&backend, &out, &config, &weights).unwrap();
    let (before, after) = (tensors_of(&file), tensors_of(&out));
    assert!(before.keys().eq(after.keys()));
    for (name, tensor) in before.iter().filter(|(name, _)| !name.starts_with("fc.") && !name.ends_with("tracked")) {
        assert!(after[name] == *tensor, "{name} came back differently");
    }
}

#[test]
fn halves_are_widened_exactly_and_counters_may_be_absent() {
    let (backend, folder) = (cpu(1), tempfile::tempdir().unwrap());
    let path = folder.path().join("halves.safetensors");
    write_published(&backend, &path);
    let mut tensors = tensors_of(&path);
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked") && !name.starts_with("fc."));
    let (_, shape, _) = tensors["bn1.weight"].clone();
    let halves: Vec<u8> = (0..64).flat_map(|i| half::f16::from_f32(i as f32 / 8.0).to_le_bytes()).collect();
    tensors.insert("bn1.weight".to_owned(), (Dtype::F16, shape.clone(), halves));
    let halves: Vec<u8> = (0..64).flat_map(|i| half::bf16::from_f32(-(i as f32)).to_le_bytes()).collect();
    tensors.insert("bn1.bias".to_owned(), (Dtype::BF16, shape, halves));
    write_tensors(&path, &tensors);
    let architecture = architecture(&config(16));
    let values = State::from_pretrained(&backend, &config(16), &path).unwrap().query.parameters.to_host(&backend).unwrap();
    let start = architecture.parameters.iter().find(|parameter| parameter.name == "bn1.weight").unwrap().start;
    assert!((0..64).all(|i| values[start + i] == i as f32 / 8.0 && values[start + 64 + i] == -(i as f32)));
}

#[track_caller]
fn refused(path: &Path, depth: Depth, words: &[&str]) {
    let config = config!(config(16); backbone: depth);
    let message = State::from_pretrained(&cpu(1), &config, path).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "expected `{word}` in: {message}");
    }
}

#[test]
fn tensors_that_are_missing_unexpected_or_of_another_shape_are_listed() {
    let (backend, folder) = (cpu(1), tempfile::tempdir().unwrap());
    let path = folder.path().join("resnet18.safetensors");
    write_published(&backend, &path);
    refused(&path, Depth::ResNet34, &["resnet34", "missing: ", "and ", "more", "--backbone resnet18"]);
    refused(&path, Depth::ResNet50, &["missing", "of another shape", "--backbone resnet18"]);
    let mut tensors = tensors_of(&path);
    let whole = tensors.clone();
    tensors.remove("layer2.0.conv1.weight");
    tensors.insert("layer9.weight".to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
    tensors.insert("bn1.bias".to_owned(), (Dtype::F32, vec![2], vec![0; 8]));
    write_tensors(&path, &tensors);
    let faults = ["1 missing: layer2.0.conv1.weight", "1 unexpected: layer9.weight", "bn1.bias (expected [64], found [2])", "timm"];
    refused(&path, Depth::ResNet18, &faults);
    let mut whole_numbers = whole;
    whole_numbers.insert("bn1.bias".to_owned(), (Dtype::I32, vec![64], vec![0; 256]));
    write_tensors(&path, &whole_numbers);
    refused(&path, Depth::ResNet18, &["bn1.bias", "F32", "I32"]);
    std::fs::write(&path, "no tensors").unwrap();
    refused(&path, Depth::ResNet18, &["resnet18.safetensors", "expected a complete safetensors file"]);
}

/// A batch of noise: two images of each of two classes.
fn batch(step: u64) -> Batch {
    let image = |position: usize| {
        let noise = crate::support::normals(&format!("image {position} of {step}"), 20 * 20 * 3);
        noise.iter().map(|value| (128.0 + 50.0 * value).clamp(0.0, 255.0) as u8).collect()
    };
    let ids = (0..BATCH as i32).collect::<Vec<_>>();
    let labels = ids.iter().map(|id| id / 2).collect();
    Batch { step, images: (0..BATCH).map(image).collect(), side: 20, labels, ids }
}

/// Parameters after each of a few steps.
fn trajectory(config: &TrainSettings, steps: u64, learning_rate: f32) -> (Learner<Cpu>, Vec<Vec<f32>>) {
    let backend = cpu(2);
    let mut learner = crate::support::learner(&backend, config);
    let mut seen = vec![learner.state().query.parameters.to_host(&backend).unwrap()];
    for step in 0..steps {
        learner.step(&batch(step).plain(), learning_rate).unwrap();
        seen.push(learner.state().query.parameters.to_host(&backend).unwrap());
    }
    (learner, seen)
}

#[test]
fn the_trunk_rests_during_the_heads_warm_up_and_then_starts_as_an_optimiser_starts() {
    const RATE: f32 = 1e-3;
    let config = config!(config(16); head_warmup: 2, optimizer: Algorithm::Adam, weight_decay: 0.0);
    let (learner, seen) = trajectory(&config, 3, RATE);
    let head = learner.network().architecture().head_start();
    for step in 0..2 {
        assert_eq!(bits(&seen[step][..head]), bits(&seen[step + 1][..head]), "step {step} moved the trunk");
        assert_ne!(bits(&seen[step][head..]), bits(&seen[step + 1][head..]), "step {step} left the head");
    }
    // Adam's first step has the length of the rate wherever there is a gradient, whatever the gradient's size.
    let moves: Vec<f32> = seen[2][..head].iter().zip(&seen[3]).map(|(a, b)| (a - b).abs()).collect();
    let count = |fits: &dyn Fn(f32) -> bool| moves.iter().filter(|&&moved| fits(moved)).count();
    let (moved, full) = (count(&|moved| moved > 0.0), count(&|moved| (moved - RATE).abs() < 0.05 * RATE));
    assert!(moved > 1_000_000 && full as f64 > 0.9 * moved as f64, "{full} of {moved} moved by the rate");
    assert!(moves.iter().all(|&moved| moved < 1.05 * RATE));
}

#[test]
fn the_trunk_has_a_rate_of_its_own() {
    let slow = config!(config(16); backbone_lr_factor: 0.25, optimizer: Algorithm::Sgd, weight_decay: 0.0);
    let (learner, slow) = trajectory(&slow, 1, 0.5);
    let (_, fast) = trajectory(&config!(config(16); optimizer: Algorithm::Sgd, weight_decay: 0.0), 1, 0.5);
    let gradient = learner.state().first_moment.to_host(&cpu(1)).unwrap();
    let head = learner.network().architecture().head_start();
    for (index, &gradient) in gradient.iter().enumerate() {
        let rate = if index < head { 0.125 } else { 0.5 };
        assert_eq!(slow[1][index], slow[0][index] - rate * gradient, "parameter {index}");
        assert_eq!(fast[1][index], fast[0][index] - 0.5 * gradient);
    }
}

#[test]
fn frozen_batch_norms_keep_statistics_scales_and_shifts() {
    let frozen = config!(config(16); freeze_batch_norm: true, weight_decay: 0.1);
    let (learner, seen) = trajectory(&frozen, 3, 1e-3);
    for parameter in &learner.network().architecture().parameters {
        let range = parameter.start..parameter.start + parameter.len();
        let kept = bits(&seen[0][range.clone()]) == bits(&seen[3][range]);
        assert_eq!(kept, matches!(parameter.role, Role::Scale | Role::Shift), "{}", parameter.name);
    }
    let query = &learner.state().query;
    assert!(query.running_means.to_host(&cpu(1)).unwrap().iter().all(|&mean| mean == 0.0));
    assert!(query.running_variances.to_host(&cpu(1)).unwrap().iter().all(|&variance| variance == 1.0));
    assert_eq!(query.batches_tracked, 0);
}

#[test]
fn a_momentum_run_starts_both_encoders_from_the_file() {
    let (backend, folder) = (cpu(1), tempfile::tempdir().unwrap());
    let path = folder.path().join("published.safetensors");
    let weights = write_published(&backend, &path);
    let config = config!(config(1000); memory: MemoryKind::Momentum, memory_size: 8);
    let (_, read) = load_encoder(&backend, &path).unwrap();
    let state = State::from_encoder(&backend, &config, read).unwrap();
    let expected = bits(&weights.parameters.to_host(&backend).unwrap());
    for encoder in [&state.query, state.key.as_ref().unwrap()] {
        assert!(bits(&encoder.parameters.to_host(&backend).unwrap()) == expected);
    }
}
