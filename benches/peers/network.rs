//! A training step and an embedding pass of a ResNet.
//!
//! `training` and `inference`: `network`, `size`, `threads`, and the files `weights` (safetensors, torchvision's names), `head` (weight and bias)
//! and `images` (NHWC).

use crate::fixture_network::{DIM, Trainer};
use crate::{Settings, Work, clock};
use serde_json::{Value, json};
use std::path::Path;
use xbm_fast::checkpoint::load_pretrained;
use xbm_fast::device::Cpu;
use xbm_fast::device::Tensor;
use xbm_fast::model::plan::Purpose;
use xbm_fast::model::{Architecture, Depth, Network, Prepared, Weights};
use xbm_fast::ops::pool::GlobalPooling;

struct Start {
    cpu: Cpu,
    architecture: Architecture,
    weights: Weights<Cpu>,
    pixels: Vec<f32>,
    held_before: f64,
}

impl Start {
    fn new(settings: &Settings) -> xbm_fast::Result<Self> {
        let depth = match settings.text("network") {
            "resnet18" => Depth::ResNet18,
            "resnet50" => Depth::ResNet50,
            other => panic!("no network `{other}`"),
        };
        let held_before = clock::held_megabytes();
        let cpu = Cpu::new(Some(settings.number("threads")))?;
        let architecture = Architecture::new(depth, settings.number("size"), DIM, GlobalPooling::Avg)?;
        let mut weights = load_pretrained(&cpu, Path::new(settings.text("weights")), &architecture, 0)?;
        let head = numbers(settings.text("head"));
        weights.parameters.part_mut(architecture.head_start(), head.len()).into_slice().copy_from_slice(&head);
        Ok(Self { cpu, architecture, weights, pixels: numbers(settings.text("images")), held_before })
    }
}

fn numbers(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a file of numbers");
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

/// A training step.
pub struct Training {
    trainer: Trainer,
    held_before: f64,
}

impl Training {
    pub fn open(settings: &Settings) -> xbm_fast::Result<Self> {
        let Start { cpu, architecture, weights, pixels, held_before } = Start::new(settings)?;
        Ok(Self { trainer: Trainer::new(cpu, architecture, weights, &pixels)?, held_before })
    }
}

impl Work for Training {
    fn run(&mut self) {
        self.trainer.step().expect("inputs are sound");
    }

    /// Embeddings, then the loss, then the norm of the gradient.
    fn result(&self) -> Vec<f32> {
        // Read where they are: a copy would be among what the process holds at most.
        let Trainer { row_losses, gradients, embeddings, .. } = &self.trainer;
        let loss: f32 = row_losses.all().as_slice().iter().sum();
        let squares: f64 = gradients.all().as_slice().iter().map(|value| f64::from(*value).powi(2)).sum();
        [embeddings.all().as_slice(), &[loss, squares.sqrt() as f32]].concat()
    }

    fn facts(&self) -> Value {
        json!({ "held_before_megabytes": self.held_before })
    }
}

/// An embedding pass, one of many with the same weights.
pub struct Inference {
    encoder: Prepared<'static, Cpu>,
    images: Tensor<Cpu>,
    embeddings: Tensor<Cpu>,
    held_before: f64,
}

impl Inference {
    pub fn open(settings: &Settings) -> xbm_fast::Result<Self> {
        let Start { cpu, architecture, weights, pixels, held_before } = Start::new(settings)?;
        let batch = pixels.len() / architecture.image().len();
        let images = Tensor::from_host(&cpu, &pixels)?;
        let embeddings = Tensor::zeros(&cpu, batch * DIM)?;
        // The case is what this process lives for.
        let network = Box::leak(Box::new(Network::new(&cpu, architecture, batch, Purpose::Inference)?));
        let encoder = network.prepare(Box::leak(Box::new(weights)), usize::MAX)?;
        Ok(Self { encoder, images, embeddings, held_before })
    }
}

impl Work for Inference {
    fn run(&mut self) {
        let batch = self.embeddings.len() / DIM;
        let embeddings = self.embeddings.all_mut();
        self.encoder.embed(self.images.all(), batch, embeddings).expect("inputs are sound");
    }

    fn result(&self) -> Vec<f32> {
        self.embeddings.all().as_slice().to_vec()
    }

    fn facts(&self) -> Value {
        json!({ "held_before_megabytes": self.held_before })
    }
}
