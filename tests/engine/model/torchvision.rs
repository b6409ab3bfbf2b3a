//! Features and gradients against torchvision's (`golden/resnet.txt`, written by `golden/resnet.py`), and their bits on several threads.

use super::{DEPTHS, DIM, images, uniform};
use std::collections::HashMap;
use xbm_fast::device::{Storage, Tensor};
use xbm_fast::model::plan::Purpose;
use xbm_fast::model::{Architecture, Depth, Network, Parameter, Role, Weights};
use xbm_fast::ops::Backend;
use xbm_fast::ops::pool::GlobalPooling;

/// Sizes of the golden runs; see `golden/resnet.py`.
const EVAL_BATCH: usize = 2;
const TRAIN_BATCH: usize = 8;
const TRAIN_SIZE: usize = 64;

/// Unit rows in 32 bits after a hundred layers, against double precision.
const FEATURES: f64 = 1e-4;
/// Gradients and batch statistics sum many more terms, and a ReLU or a maximum may fall to the other side of a tie.
const GRADIENTS: f64 = 5e-4;

fn golden() -> HashMap<&'static str, Vec<f64>> {
    let lines = include_str!("../../golden/resnet.txt").lines().filter(|line| !line.starts_with('#'));
    let numbers = |text: &str| text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    lines.map(|line| line.split_once(": ").expect("a key and numbers")).map(|(key, text)| (key, numbers(text))).collect()
}

/// The generator's values of a parameter, in torch's order.
fn generated(parameter: &Parameter) -> Vec<f32> {
    let shape = &parameter.shape;
    let limits = match parameter.role {
        Role::Filter => {
            let bound = (6.0 / (shape[0] * shape[2] * shape[3]) as f64).sqrt();
            (-bound, bound)
        }
        Role::Scale => (0.1, 0.3),
        Role::Shift => (0.2, 0.4),
        Role::Head { fan_in } => (-(fan_in as f64).powf(-0.5), (fan_in as f64).powf(-0.5)),
    };
    uniform(&parameter.name, parameter.len(), limits)
}

/// For each element in torch's order, where it lies in ours: filters are OIHW there, OHWI here.
fn places(parameter: &Parameter) -> Vec<usize> {
    let Role::Filter = parameter.role else { return (0..parameter.len()).collect() };
    let (inputs, side) = (parameter.shape[1], parameter.shape[2]);
    let place = |index: usize| {
        let (position, plane) = (index % (side * side), index / (side * side));
        (plane / inputs * side * side + position) * inputs + plane % inputs
    };
    (0..parameter.len()).map(place).collect()
}

fn generated_weights<B: Storage>(backend: &B, architecture: &Architecture) -> Weights<B> {
    let mut parameters = vec![0.0; architecture.parameters_len];
    for parameter in &architecture.parameters {
        for (value, place) in generated(parameter).into_iter().zip(places(parameter)) {
            parameters[parameter.start + place] = value;
        }
    }
    let statistics = |suffix: &str, limits| -> Vec<f32> {
        architecture.norms.iter().flat_map(|(name, channels, _)| uniform(&format!("{name}.{suffix}"), *channels, limits)).collect()
    };
    Weights {
        parameters: Tensor::from_host(backend, &parameters).unwrap(),
        running_means: Tensor::from_host(backend, &statistics("running_mean", (-0.1, 0.1))).unwrap(),
        running_variances: Tensor::from_host(backend, &statistics("running_var", (0.5, 1.5))).unwrap(),
        batches_tracked: 0,
    }
}

fn eval_features<B: Backend>(backend: &B, depth: Depth, size: usize, pooling: GlobalPooling) -> Vec<f32> {
    let architecture = Architecture::new(depth, size, DIM, pooling).unwrap();
    let weights = generated_weights(backend, &architecture);
    let images = images(backend, &architecture, EVAL_BATCH);
    let mut network = Network::new(backend, architecture, EVAL_BATCH, Purpose::Inference).unwrap();
    let mut embeddings = Tensor::zeros(backend, EVAL_BATCH * DIM).unwrap();
    network.forward_eval(&weights, images.all(), EVAL_BATCH, embeddings.all_mut()).unwrap();
    embeddings.to_host(backend).unwrap()
}

/// A network after a forward pass in training mode and its backward pass.
struct Trained {
    architecture: Architecture,
    embeddings: Vec<f32>,
    gradients: Vec<f32>,
    means: Vec<f32>,
    variances: Vec<f32>,
}

fn train_once<B: Backend>(backend: &B, depth: Depth, frozen: bool) -> Trained {
    let architecture = Architecture::new(depth, TRAIN_SIZE, DIM, GlobalPooling::Avg).unwrap();
    let mut weights = generated_weights(backend, &architecture);
    let images = images(backend, &architecture, TRAIN_BATCH);
    let gradient = uniform("embedding gradient", TRAIN_BATCH * DIM, (-1.0, 1.0));
    let embedding_gradient = Tensor::from_host(backend, &gradient).unwrap();
    let mut embeddings = Tensor::zeros(backend, TRAIN_BATCH * DIM).unwrap();
    let mut gradients = Tensor::zeros(backend, architecture.parameters_len).unwrap();
    let mut network = Network::new(backend, architecture.clone(), TRAIN_BATCH, Purpose::Training).unwrap();
    if frozen {
        network.freeze_batch_norms(&weights).unwrap();
    }
    network.forward_train(&mut weights, images.all(), TRAIN_BATCH, embeddings.all_mut()).unwrap();
    network.backward(&weights, images.all(), embedding_gradient.all(), &mut gradients).unwrap();
    assert_eq!(weights.batches_tracked, u64::from(!frozen));
    Trained {
        architecture,
        embeddings: embeddings.to_host(backend).unwrap(),
        gradients: gradients.to_host(backend).unwrap(),
        means: weights.running_means.to_host(backend).unwrap(),
        variances: weights.running_variances.to_host(backend).unwrap(),
    }
}

impl Trained {
    /// What a key of the golden file names: the length of a tensor and its first values, in torch's order.
    fn summary(&self, kind: &str, name: &str, shown: usize) -> Vec<f32> {
        let values: Vec<f32> = if kind == "gradient" {
            let parameter = self.architecture.parameters.iter().find(|parameter| parameter.name == name).expect("a parameter");
            places(parameter).into_iter().map(|place| self.gradients[parameter.start + place]).collect()
        } else {
            let (name, suffix) = name.rsplit_once('.').expect("a layer's statistic");
            let (_, channels, start) = self.architecture.norms.iter().find(|norm| norm.0 == name).expect("a batch norm");
            let all = if suffix == "running_mean" { &self.means } else { &self.variances };
            all[*start..start + channels].to_vec()
        };
        let norm = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        std::iter::once(norm as f32).chain(values.into_iter().take(shown)).collect()
    }
}

/// Compares the first numbers among each other: beside the length of a whole tensor they would all be small.
#[track_caller]
fn assert_summary_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    crate::support::assert_close(&format!("{what}, length"), &found[..1], &expected[..1], tolerance);
    crate::support::assert_close(what, &found[1..], &expected[1..], tolerance);
}

fn features_equal_torchvisions(backend: &impl Backend) {
    let golden = golden();
    for (name, depth) in DEPTHS {
        for size in [64, 50] {
            for (pooling_name, pooling) in [("avg", GlobalPooling::Avg), ("max", GlobalPooling::Max)] {
                let key = format!("eval {name} {size} {pooling_name}");
                let found = eval_features(backend, depth, size, pooling);
                crate::support::assert_close(&key, &found, &golden[key.as_str()], FEATURES);
            }
        }
    }
}

fn training_equals_torchvisions(backend: &impl Backend) {
    let golden = golden();
    for (name, depth) in [DEPTHS[0], DEPTHS[2]] {
        let trained = train_once(backend, depth, false);
        let prefix = format!("train {name} ");
        let mut compared = 0;
        for (key, expected) in &golden {
            let Some(what) = key.strip_prefix(&prefix) else { continue };
            match what.split_once(' ') {
                None => crate::support::assert_close(key, &trained.embeddings, expected, FEATURES),
                Some((kind, tensor)) => {
                    assert_summary_close(key, &trained.summary(kind, tensor, expected.len() - 1), expected, GRADIENTS);
                }
            }
            compared += 1;
        }
        assert_eq!(compared, 12, "embeddings, seven gradients, four statistics");
    }
}

fn training_with_frozen_batch_norms_equals_torchvisions(backend: &impl Backend) {
    let golden = golden();
    let trained = train_once(backend, Depth::ResNet18, true);
    let keys: Vec<_> = golden.keys().filter(|key| key.starts_with("frozen ")).collect();
    assert_eq!(keys.len(), 4);
    for key in keys {
        let tensor = key.strip_prefix("frozen resnet18 gradient ").expect("a gradient");
        let expected = &golden[key];
        assert_summary_close(key, &trained.summary("gradient", tensor, expected.len() - 1), expected, GRADIENTS);
    }
}

#[test]
fn cpu_training_with_frozen_batch_norms_equals_torchvisions() {
    training_with_frozen_batch_norms_equals_torchvisions(&crate::support::cpu(2));
}

#[test]
fn cpu_features_equal_torchvisions() {
    features_equal_torchvisions(&crate::support::cpu(2));
}

#[test]
fn cpu_training_equals_torchvisions() {
    training_equals_torchvisions(&crate::support::cpu(2));
}

#[test]
fn a_training_step_has_the_same_bits_on_one_and_two_threads() {
    for depth in [Depth::ResNet18, Depth::ResNet50] {
        let [one, two] = [1, 2].map(|threads| train_once(&crate::support::cpu(threads), depth, false));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for (what, one, two) in [
            ("embeddings", &one.embeddings, &two.embeddings),
            ("gradients", &one.gradients, &two.gradients),
            ("running means", &one.means, &two.means),
            ("running variances", &one.variances, &two.variances),
        ] {
            assert!(bits(one) == bits(two), "{depth:?}: {what} differ");
        }
    }
}
