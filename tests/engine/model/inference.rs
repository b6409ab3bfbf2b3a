//! A network that embeds: planned for training or for inference, with filters as they are or prepared, and what it refuses.

use super::{DEPTHS, DIM, images};
use xbm_fast::device::{Cpu, SpanMut, Tensor};
use xbm_fast::model::plan::Purpose;
use xbm_fast::model::{Architecture, Depth, Network, Weights};
use xbm_fast::ops::pool::GlobalPooling;

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
