//! The network against torchvision's (`golden/resnet.txt`, written by `golden/resnet.py`), its plan and its initialisation.


use std::collections::HashMap;
use xbm_fast::app::data::Image;
use xbm_fast::app::embed::embed_decoded;
use xbm_fast::device::Tensor;
use xbm_fast::device::{Cpu, SpanMut, Storage};
use xbm_fast::model::plan::{Plan, Purpose, Region, lifetimes, uses};
use xbm_fast::model::{Architecture, Depth, Network, Parameter, Role, Weights};
use xbm_fast::ops::Backend;
use xbm_fast::ops::pool::GlobalPooling;
use xbm_fast::rng::Rng;

const DEPTHS: [(&str, Depth); 4] =
    [("resnet18", Depth::ResNet18), ("resnet34", Depth::ResNet34), ("resnet50", Depth::ResNet50), ("resnet101", Depth::ResNet101)];
/// Sizes of the golden runs; see `golden/resnet.py`.
const DIM: usize = 4;
const EVAL_BATCH: usize = 2;
const TRAIN_BATCH: usize = 8;
const TRAIN_SIZE: usize = 64;

/// Unit rows in 32 bits after a hundred layers, against double precision.
const FEATURES: f64 = 1e-4;
/// Gradients and batch statistics sum many more terms, and a ReLU or a maximum may fall to the other side of a tie.
const GRADIENTS: f64 = 5e-4;

fn golden() -> HashMap<&'static str, Vec<f64>> {
    let lines = include_str!("../golden/resnet.txt").lines().filter(|line| !line.starts_with('#'));
    let numbers = |text: &str| text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    lines.map(|line| line.split_once(": ").expect("a key and numbers")).map(|(key, text)| (key, numbers(text))).collect()
}

fn uniform(name: &str, len: usize, (low, high): (f64, f64)) -> Vec<f32> {
    let mut rng = Rng::new(0).at(name);
    (0..len).map(|_| (low + (high - low) * f64::from(rng.unit())) as f32).collect()
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

fn images<B: Storage>(backend: &B, architecture: &Architecture, batch: usize) -> Tensor<B> {
    Tensor::from_host(backend, &uniform("images", batch * architecture.image().len(), (-1.0, 1.0))).unwrap()
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

#[test]
fn parameter_counts_equal_torchvisions() {
    // The models' documented sizes with 1000 outputs, and their batch norms' channels.
    for (depth, parameters, statistics) in [
        (Depth::ResNet18, 11_689_512, 4_800),
        (Depth::ResNet34, 21_797_672, 8_512),
        (Depth::ResNet50, 25_557_032, 26_560),
        (Depth::ResNet101, 44_549_160, 52_672),
    ] {
        let architecture = Architecture::new(depth, 64, 1000, GlobalPooling::Avg).unwrap();
        assert_eq!((architecture.parameters_len, architecture.statistics_len), (parameters, statistics), "{depth:?}");
    }
}

#[test]
fn the_small_network_has_a_block_in_each_stage_and_half_the_channels() {
    let architecture = Architecture::new(Depth::Small, 64, DIM, GlobalPooling::Avg).unwrap();
    let block = |from: usize, to: usize| 9 * from * to + 9 * to * to + 4 * to;
    let shortcut = |from: usize, to: usize| from * to + 2 * to;
    let stages = [(32, 64), (64, 128), (128, 256)].map(|(from, to)| block(from, to) + shortcut(from, to));
    let expected = 7 * 7 * 3 * 32 + 2 * 32 + block(32, 32) + stages.iter().sum::<usize>() + 257 * DIM;
    assert_eq!(architecture.parameters_len, expected);
}

#[test]
fn parameters_lie_one_after_the_other_under_names_of_their_own() {
    for (_, depth) in DEPTHS {
        let architecture = Architecture::new(depth, 64, DIM, GlobalPooling::Avg).unwrap();
        let mut end = 0;
        for parameter in &architecture.parameters {
            assert_eq!(parameter.start, end, "{}", parameter.name);
            end += parameter.len();
        }
        assert_eq!(end, architecture.parameters_len);
        let names: std::collections::HashSet<_> = architecture.parameters.iter().map(|parameter| &parameter.name).collect();
        assert_eq!(names.len(), architecture.parameters.len());
    }
}

#[test]
fn a_bottleneck_has_torchvisions_names_and_shapes() {
    let architecture = Architecture::new(Depth::ResNet50, 64, 7, GlobalPooling::Avg).unwrap();
    let shape = |name: &str| {
        let found = architecture.parameters.iter().find(|parameter| parameter.name == name);
        found.unwrap_or_else(|| panic!("no parameter {name}")).shape.clone()
    };
    assert_eq!(shape("conv1.weight"), [64, 3, 7, 7]);
    assert_eq!(shape("bn1.bias"), [64]);
    assert_eq!(shape("layer2.0.conv1.weight"), [128, 256, 1, 1]);
    assert_eq!(shape("layer2.0.conv2.weight"), [128, 128, 3, 3]);
    assert_eq!(shape("layer2.0.conv3.weight"), [512, 128, 1, 1]);
    assert_eq!(shape("layer2.0.downsample.0.weight"), [512, 256, 1, 1]);
    assert_eq!(shape("layer2.0.downsample.1.weight"), [512]);
    assert_eq!(shape("layer4.2.bn3.weight"), [2048]);
    assert_eq!(shape("fc.weight"), [7, 2048]);
    assert_eq!(shape("fc.bias"), [7]);
}

#[test]
fn initial_filters_have_kaimings_deviation_and_follow_the_seed() {
    // The sample deviation of n normal values is off by about 1 / sqrt(2 n); 5 of these, at the smallest filter's n.
    const DEVIATION: f64 = 0.05;
    let cpu = crate::support::cpu(1);
    let architecture = Architecture::new(Depth::ResNet18, 64, DIM, GlobalPooling::Avg).unwrap();
    let initial = |seed| Weights::initialised(&cpu, &architecture, seed).unwrap().parameters.to_host(&cpu).unwrap();
    let values = initial(1);
    assert_eq!(values, initial(1));
    assert_ne!(values, initial(2));
    for parameter in &architecture.parameters {
        let values = &values[parameter.start..][..parameter.len()];
        match parameter.role {
            Role::Filter => {
                let expected = (2.0 / (parameter.shape[0] * parameter.shape[2] * parameter.shape[3]) as f64).sqrt();
                let variance = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / values.len() as f64;
                let error = (variance.sqrt() / expected - 1.0).abs();
                assert!(error < DEVIATION, "{}: deviation {}, expected {expected}", parameter.name, variance.sqrt());
            }
            Role::Scale => assert!(values.iter().all(|&value| value == 1.0), "{}", parameter.name),
            Role::Shift => assert!(values.iter().all(|&value| value == 0.0), "{}", parameter.name),
            Role::Head { fan_in } => {
                let bound = (fan_in as f32).sqrt().recip();
                assert!(values.iter().all(|&value| value.abs() <= bound), "{}", parameter.name);
                assert!(values.iter().any(|&value| value != 0.0), "{}", parameter.name);
            }
        }
    }
}

/// Every network at sizes that are and are not powers of two, with every way of planning it.
fn plans() -> impl Iterator<Item = (Architecture, Purpose, bool)> {
    let depths = DEPTHS.map(|(_, depth)| depth).into_iter().chain([Depth::Small]);
    let networks =
        depths.flat_map(|depth| [16, 50, 64].map(|size| Architecture::new(depth, size, DIM, GlobalPooling::Avg).unwrap()));
    networks.flat_map(|network| {
        let ways = [(Purpose::Training, false), (Purpose::Training, true), (Purpose::Inference, true)];
        ways.map(|(purpose, again)| (network.clone(), purpose, again))
    })
}

/// Places of a plan's tensors, numbered as in `uses`.
fn planned(plan: &Plan) -> Vec<Region> {
    plan.activations.iter().chain(&plan.gradients).chain(plan.recomputed.iter().flatten()).copied().collect()
}

#[test]
fn tensors_alive_at_once_never_overlap_and_fit_their_buffers() {
    for (architecture, purpose, recompute) in plans() {
        let plan = Plan::new(&architecture, purpose, recompute);
        let (regions, spans) = (planned(&plan), lifetimes(&architecture, purpose, recompute));
        assert_eq!(spans.len(), regions.len());
        for (index, (span, region)) in spans.iter().zip(&regions).enumerate() {
            assert!(
                region.start + span.len <= plan.buffers[region.buffer],
                "{:?} {purpose:?}: tensor {index} does not fit",
                architecture.depth
            );
            for (other, other_region) in spans[..index].iter().zip(&regions).filter(|(_, other)| other.buffer == region.buffer) {
                let apart = other.last < span.first || span.last < other.first;
                let beside = other_region.start + other.len <= region.start || region.start + span.len <= other_region.start;
                assert!(apart || beside, "{:?} {purpose:?}: the region of tensor {index} is taken", architecture.depth);
            }
        }
    }
}

#[test]
fn tensors_of_one_operation_lie_in_different_buffers() {
    for (architecture, purpose, recompute) in plans() {
        let regions = planned(&Plan::new(&architecture, purpose, recompute));
        for tensors in uses(&architecture, purpose, recompute) {
            for (index, tensor) in tensors.iter().enumerate() {
                let shared = tensors[..index].iter().find(|other| regions[**other].buffer == regions[*tensor].buffer);
                assert_eq!(
                    shared.filter(|other| *other != tensor),
                    None,
                    "{:?} {purpose:?}: {tensor} of {tensors:?}",
                    architecture.depth
                );
            }
        }
    }
}

#[test]
fn a_network_planned_for_training_evaluates_like_one_planned_for_inference() {
    let cpu = crate::support::cpu(2);
    for (name, depth) in DEPTHS {
        let architecture = Architecture::new(depth, 32, DIM, GlobalPooling::Avg).unwrap();
        let weights = Weights::initialised(&cpu, &architecture, 0).unwrap();
        let images = images(&cpu, &architecture, 2);
        let [trained, inferred] = [Purpose::Training, Purpose::Inference].map(|purpose| {
            let mut embeddings = Tensor::zeros(&cpu, 2 * DIM).unwrap();
            let mut network = Network::new(&cpu, architecture.clone(), 2, purpose).unwrap();
            network.forward_eval(&weights, images.all(), 2, embeddings.all_mut()).unwrap();
            embeddings.to_host(&cpu).unwrap()
        });
        assert_eq!(trained, inferred, "{name}");
    }
}

/// Embeddings of `batch` images with weights as they are.
fn as_they_are(network: &mut Network<Cpu>, weights: &Weights<Cpu>, images: &Tensor<Cpu>, batch: usize) -> Vec<f32> {
    let mut embeddings = vec![0.0; batch * DIM];
    let images = images.part(0, batch * network.architecture().image().len());
    network.forward_eval(weights, images, batch, SpanMut::all(&mut embeddings)).unwrap();
    embeddings
}

/// The same with prepared filters.
fn prepared(network: &mut Network<Cpu>, weights: &Weights<Cpu>, images: &Tensor<Cpu>, batch: usize) -> Vec<f32> {
    let mut encoder = network.prepare(weights, usize::MAX).unwrap();
    assert!(encoder.prepared_filters() > 0);
    let mut embeddings = vec![0.0; batch * DIM];
    let images = images.part(0, batch * encoder.network().architecture().image().len());
    encoder.embed(images, batch, SpanMut::all(&mut embeddings)).unwrap();
    embeddings
}

#[test]
fn prepared_weights_embed_to_the_same_bits_in_batches_of_any_size() {
    const CAPACITY: usize = 32;
    let [one, two] = [1, 2].map(crate::support::cpu);
    for (name, depth) in [DEPTHS[0], DEPTHS[2]] {
        let architecture = Architecture::new(depth, 32, DIM, GlobalPooling::Avg).unwrap();
        let weights = Weights::initialised(&one, &architecture, 0).unwrap();
        let images = images(&one, &architecture, CAPACITY);
        let [mut alone, mut together] =
            [&one, &two].map(|cpu| Network::new(cpu, architecture.clone(), CAPACITY, Purpose::Inference).unwrap());
        for batch in [1, 5, CAPACITY] {
            let expected = as_they_are(&mut alone, &weights, &images, batch);
            assert_eq!(prepared(&mut alone, &weights, &images, batch), expected, "{name}, {batch} images");
            assert_eq!(prepared(&mut together, &weights, &images, batch), expected, "{name}, {batch} images, 2 threads");
        }
    }
}

#[test]
fn weights_that_changed_are_prepared_anew() {
    let cpu = crate::support::cpu(2);
    let architecture = Architecture::new(Depth::ResNet18, 32, DIM, GlobalPooling::Avg).unwrap();
    let mut weights = Weights::initialised(&cpu, &architecture, 0).unwrap();
    let other = Weights::initialised(&cpu, &architecture, 1).unwrap();
    let images = images(&cpu, &architecture, 2);
    let mut network = Network::new(&cpu, architecture, 2, Purpose::Inference).unwrap();
    let before = prepared(&mut network, &weights, &images, 2);
    weights.follow(&cpu, &other, 0.5).unwrap();
    let after = prepared(&mut network, &weights, &images, 2);
    assert_eq!(after, as_they_are(&mut network, &weights, &images, 2));
    assert_ne!(after, before);
}

#[test]
fn filters_are_prepared_for_many_batches_and_not_beside_the_activations_of_training() {
    let cpu = crate::support::cpu(1);
    let architecture = Architecture::new(Depth::ResNet18, 32, DIM, GlobalPooling::Avg).unwrap();
    let weights = Weights::initialised(&cpu, &architecture, 0).unwrap();
    for (purpose, batches, expected) in
        [(Purpose::Inference, usize::MAX, true), (Purpose::Inference, 1, false), (Purpose::Training, usize::MAX, false)]
    {
        let mut network = Network::new(&cpu, architecture.clone(), 2, purpose).unwrap();
        let encoder = network.prepare(&weights, batches).unwrap();
        assert_eq!(encoder.prepared_filters() > 0, expected, "{purpose:?}, {batches} batches");
    }
}

#[test]
fn many_images_embed_to_the_same_bits_by_networks_for_training_and_for_inference() {
    const COUNT: usize = 21;
    let cpu = crate::support::cpu(2);
    let architecture = Architecture::new(Depth::ResNet18, 32, DIM, GlobalPooling::Avg).unwrap();
    let weights = Weights::initialised(&cpu, &architecture, 0).unwrap();
    let image = |number: usize| {
        let mut rng = Rng::new(0).at("image").after(1000 * number as u64);
        Image { rgb: (0..32 * 32 * 3).map(|_| (256.0 * rng.unit()) as u8).collect::<Vec<_>>().into(), height: 32, width: 32 }
    };
    let images: Vec<Image> = (0..COUNT).map(image).collect();
    let [trained, inferred] = [Purpose::Training, Purpose::Inference].map(|purpose| {
        let mut network = Network::new(&cpu, architecture.clone(), 2, purpose).unwrap();
        embed_decoded(&cpu, &mut network, &weights, &images.iter().collect::<Vec<_>>()).unwrap()
    });
    assert_eq!(trained, inferred);
}

#[test]
fn planned_memory_is_a_fraction_of_all_tensors() {
    for (name, depth) in DEPTHS {
        let architecture = Architecture::new(depth, 64, DIM, GlobalPooling::Avg).unwrap();
        let planned = |purpose| Plan::new(&architecture, purpose, false).buffers.iter().sum::<usize>() as f64;
        let naive: usize = lifetimes(&architecture, Purpose::Training, false).iter().map(|span| span.len).sum();
        let outputs: usize = architecture.nodes.iter().map(|node| node.output.len()).sum();
        let (training, inference) = (planned(Purpose::Training), planned(Purpose::Inference));
        let frugal = Plan::new(&architecture, Purpose::Training, true).buffers.iter().sum::<usize>() as f64;
        assert!(frugal < 0.9 * training, "{name}: {frugal} planned where outputs are recomputed, {training} where they are kept");
        let spans = lifetimes(&architecture, Purpose::Training, true);
        let alive = |time: usize| spans.iter().filter(|span| (span.first..=span.last).contains(&time)).map(|span| span.len).sum();
        let most: usize = (0..2 * architecture.nodes.len()).map(alive).max().unwrap();
        assert!(frugal < 1.15 * most as f64, "{name}: {frugal} planned where at most {most} are alive at once");
        println!("{name}: {naive} values per image without a plan, {training} for training, {inference} for inference");
        // The activations themselves must stay; their gradients need room for the few that are alive at a time.
        assert!(training < 1.1 * outputs as f64, "{name}: {training} planned of {outputs} activations");
        assert!(inference < 0.4 * outputs as f64, "{name}: {inference} planned for inference of {outputs} activations");
    }
}

#[test]
fn batches_of_another_size_are_rejected() {
    let cpu = crate::support::cpu(1);
    let architecture = Architecture::new(Depth::ResNet18, 32, DIM, GlobalPooling::Avg).unwrap();
    let weights = Weights::initialised(&cpu, &architecture, 0).unwrap();
    let images = images(&cpu, &architecture, 3);
    let mut embeddings = Tensor::zeros(&cpu, 3 * DIM).unwrap();
    let mut network = Network::new(&cpu, architecture, 2, Purpose::Inference).unwrap();
    for batch in [0, 3] {
        let error = network.forward_eval(&weights, images.all(), batch, embeddings.all_mut()).unwrap_err().to_string();
        assert!(error.contains("1 to 2 images"), "{error}");
    }
    let error = network.forward_eval(&weights, images.all(), 2, embeddings.all_mut()).unwrap_err().to_string();
    assert!(error.contains("images"), "{error}");
}

#[test]
fn a_network_planned_for_inference_has_no_backward_pass() {
    let cpu = crate::support::cpu(1);
    let architecture = Architecture::new(Depth::ResNet18, 32, DIM, GlobalPooling::Avg).unwrap();
    let weights = Weights::initialised(&cpu, &architecture, 0).unwrap();
    let images = images(&cpu, &architecture, 2);
    let (mut embeddings, mut gradients) =
        (Tensor::zeros(&cpu, 2 * DIM).unwrap(), Tensor::zeros(&cpu, architecture.parameters_len).unwrap());
    let mut network = Network::new(&cpu, architecture, 2, Purpose::Inference).unwrap();
    network.forward_eval(&weights, images.all(), 2, embeddings.all_mut()).unwrap();
    let error = network.backward(&weights, images.all(), embeddings.all(), &mut gradients).unwrap_err().to_string();
    assert!(error.contains("planned for inference"), "{error}");
}
