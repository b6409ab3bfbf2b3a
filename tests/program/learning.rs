//! What the program adds to a training step: images from a data set, scores, a log of every step, and progress in checkpoints.

use crate::support::{config, cpu};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use xbm_fast::app::config::TrainConfig;
use xbm_fast::app::data::{Dataset, Image, Loader, LoaderOptions, OpenOptions, Sampler, SamplerOptions, Sampling, Split};
use xbm_fast::app::embed::{embed, embed_decoded};
use xbm_fast::app::run::{self, Ending, Progress, Verbosity};
use xbm_fast::app::runlog::read_metrics;
use xbm_fast::device::Cpu;
use xbm_fast::evaluate::evaluate_all;
use xbm_fast::loss::{Named, PairWeighting};
use xbm_fast::memory::{MemoryKind, SelfPairs};
use xbm_fast::model::plan::Purpose;
use xbm_fast::model::{Architecture, Depth, Network, Weights};
use xbm_fast::ops::optimizer::Algorithm;
use xbm_fast::ops::pool::GlobalPooling;
use xbm_fast::rng::Rng;
use xbm_fast::train::{Learner, TrainSettings};

#[test]
fn training_lowers_the_loss_and_raises_recall() {
    let backend = cpu(2);
    let config = config!(TrainSettings::default(); dim: 16, weight_decay: 0.0, image_size: 24, batch_size: 16, optimizer: Algorithm::Adam, beta1: 0.9, memory: MemoryKind::Momentum, momentum: 0.9, memory_size: 64, memory_start: 20, weighting: "contrastive:negative=0.3".parse::<PairWeighting>().unwrap());
    let dataset = Arc::new(Dataset::open("synthetic:classes=16,views=6,size=32", &OpenOptions::default()).unwrap());
    let train = dataset.indices(Split::Train);
    let sampler = Sampler::new(
        &train,
        &dataset.labels(&train),
        SamplerOptions { batch_size: 16, samples_per_class: 4, sampling: Sampling::Epochs, seed: 0 },
    )
    .unwrap();
    let mut loader = Loader::new(dataset.clone(), sampler, 0, &LoaderOptions::default()).unwrap();
    let mut learner = crate::support::learner(&backend, &config);
    let recall = |learner: &Learner<Cpu>| {
        let mut network = Network::new(&backend, learner.network().architecture().clone(), 16, Purpose::Inference).unwrap();
        let images =
            embed(&backend, &mut network, learner.state().encoder(), (&dataset, &train), &LoaderOptions::default()).unwrap();
        evaluate_all(&backend, &images.embeddings).unwrap().scores(&[1]).recall_at(1).unwrap()
    };
    let before = recall(&learner);
    let losses: Vec<f64> = (0..120).map(|_| learner.step(&loader.next().unwrap().plain(), 1e-3).unwrap().batch_loss).collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last, after) = (mean(&losses[..10]), mean(&losses[110..]), recall(&learner));
    assert!(last < 0.6 * first, "loss {first} before, {last} after");
    assert!(after > before + 0.2, "Recall@1 {before} before, {after} after");
}

/// The command's own way: defaults but for sizes, every line logged, from before the memory's first step to after it.
#[test]
fn a_run_logs_every_step_with_every_named_loss_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = [
        (MemoryKind::CrossBatch, SelfPairs::Slot),
        (MemoryKind::Momentum, SelfPairs::Slot),
        (MemoryKind::Instance, SelfPairs::Slot),
        (MemoryKind::Prototype, SelfPairs::Instance),
        (MemoryKind::Momentum, SelfPairs::Instance),
    ];
    for (index, named) in Named::all().iter().enumerate() {
        let (memory, memory_own) = kinds[index % kinds.len()];
        let out = folder.path().join(named.name);
        let settings = config!(
            TrainConfig::default(); backbone: Depth::Small, dim: 8, image_size: 16, batch_size: 4, memory_size: 8,
            data: "synthetic:classes=4,views=4,size=16", out: out.clone(), samples_per_class: 2, memory, memory_own,
            memory_start: 2, steps: 4, log_every: 1, eval_every: 2, weighting: named.weighting(),
        );
        let ending = run::start(&cpu(2), settings, &AtomicBool::new(false), Verbosity::Silent)
            .unwrap_or_else(|error| panic!("{}: {error}", named.name));
        assert!(matches!(ending, Ending::Finished(..)), "{}", named.name);
        let logged = read_metrics(&out).unwrap();
        assert_eq!(logged.iter().map(|line| line.step).collect::<Vec<_>>(), [0, 1, 2, 3, 4], "{}", named.name);
        assert!(logged[1..].iter().all(|line| line.positive_gradient.is_some_and(f64::is_finite)), "{}", named.name);
    }
}

#[test]
fn many_images_embed_to_the_same_bits_by_networks_for_training_and_for_inference() {
    const COUNT: usize = 21;
    let cpu = crate::support::cpu(2);
    let architecture = Architecture::new(Depth::ResNet18, 32, 16, GlobalPooling::Avg).unwrap();
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

fn progress() -> Progress {
    // A third is no short decimal, and 0.1 + 0.2 is next to one.
    let mut progress = Progress { initial_recall_at_1: 1.0 / 3.0, best: Some((0.1 + 0.2, 40)), ..Progress::default() };
    let outcome = xbm_fast::train::StepOutcome { batch_loss: 2.0 / 3.0, memory_rows: 3, ..Default::default() };
    progress.window.add(&outcome, Default::default(), Default::default());
    progress
}

#[test]
fn progress_is_read_back_from_a_checkpoint_but_for_times() {
    let found = Progress::from_record(progress().to_record(), Path::new("here")).unwrap();
    assert_eq!(found.to_record(), progress().to_record());
    assert_eq!((found.best, found.initial_recall_at_1), (progress().best, progress().initial_recall_at_1));
}

#[test]
fn every_score_survives_the_header_exactly() {
    // Recall is a ratio of counts; one unit in the last place decides whether an equal score counts as a better one.
    for images in 1..200u32 {
        for found in 0..=images {
            let score = f64::from(found) / f64::from(images);
            let progress = Progress { best: Some((score, 1)), ..Progress::default() };
            let text = serde_json::to_string(&progress).unwrap();
            let back: Progress = serde_json::from_str(&text).unwrap();
            assert_eq!(back.best.unwrap().0.to_bits(), score.to_bits(), "{found} of {images}");
        }
    }
    let mut stream = xbm_fast::rng::Rng::new(0).at("scores");
    for _ in 0..20_000 {
        let score = f64::from(stream.unit()) * std::f64::consts::PI;
        let text = serde_json::to_string(&Progress { initial_recall_at_1: score, ..Progress::default() }).unwrap();
        assert_eq!(serde_json::from_str::<Progress>(&text).unwrap().initial_recall_at_1.to_bits(), score.to_bits(), "{score}");
    }
}
