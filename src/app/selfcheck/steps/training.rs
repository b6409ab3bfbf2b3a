//! Steps about training: a small network with a memory, and the same steps captured as one graph.

use super::inputs::{labels, values};
use super::{Bench, Values};
use crate::app::data::{Batch, Image};
use crate::app::selfcheck::compare::{Closeness, Comparison, Quantity};
use crate::device::Cuda;
use crate::error::{Error, Result};
use crate::loss::{Curve, PairWeighting, Side};
use crate::memory::{MemoryKind, MemorySettings};
use crate::model::{Depth, ModelSettings};
use crate::ops::Backend;
use crate::ops::optimizer::Algorithm;
use crate::train::{BatchSettings, ExecutionSettings, Learner, OptimizerSettings, State, TrainSettings};
use std::sync::Arc;

const LEARNING_RATE: f32 = 0.01;
const CLASS_SIZE: usize = 2;
/// Steps of which the last come as one launch: two fill the ring, two more are alike, and the others repeat them.
const REPEATED_STEPS: u64 = 6;

/// Plain descent, so that the first moment is the gradient; a ring that wraps around within the second batch; no gate, so that every
/// pair has a gradient.
fn config() -> TrainSettings {
    let every_negative = PairWeighting { negative: Side::ungated(Curve::Constant(1.0)), ..PairWeighting::contrastive() };
    TrainSettings {
        execution: ExecutionSettings { graph: false, ..ExecutionSettings::default() },
        model: ModelSettings { backbone: Depth::Small, dim: super::inputs::DIM, image_size: 24, ..ModelSettings::default() },
        batch: BatchSettings { size: 8, ..BatchSettings::default() },
        memory: MemorySettings { kind: MemoryKind::Momentum, size: 13, start: 0, ..MemorySettings::default() },
        optimizer: OptimizerSettings { algorithm: Algorithm::Sgd, beta1: 0.0, weight_decay: 0.0, ..OptimizerSettings::default() },
        weighting: every_negative,
        ..TrainSettings::default()
    }
}

fn batch(config: &TrainSettings, step: u64) -> Batch {
    let (size, count) = (config.model.image_size * 9 / 8, config.batch.size);
    let image = |position: usize| {
        let pixels = values(&format!("image {position} of batch {step}"), size * size * 3);
        let rgb = pixels.iter().map(|value| (128.0 + 60.0 * value) as u8).collect::<Vec<u8>>().into();
        Arc::new(Image { rgb, height: size, width: size })
    };
    Batch {
        step,
        images: (0..count).map(image).collect(),
        labels: labels(count, count / CLASS_SIZE),
        ids: (0..count as i32).map(|position| position + 100 * step as i32).collect(),
        waited: Default::default(),
    }
}

/// Two steps: losses, gradient, embeddings in the ring.
pub fn training<B: Backend>(backend: &B) -> Result<Values> {
    let config = config();
    let mut learner = Learner::new(backend, &config, State::initial(backend, &config)?)?;
    let first = learner.step(&batch(&config, 0).plain(), LEARNING_RATE)?;
    let gradient = learner.state().first_moment.to_host(backend)?;
    let second = learner.step(&batch(&config, 1).plain(), LEARNING_RATE)?;
    let memory = learner.state().memory.as_ref().ok_or_else(|| Error::config("the self-check trains with a memory"))?;
    let ring = memory.export(backend)?;
    let losses = [first.batch_loss, first.memory_loss, second.batch_loss, second.memory_loss].map(|loss| loss as f32);
    let mut found = vec![
        Quantity::new("losses", Closeness::Rounded, losses.to_vec()),
        Quantity::new("gradient", Closeness::Directed, gradient),
        Quantity::integers("rows compared with", &[first.memory_rows as i32, second.memory_rows as i32]),
        Quantity::integers("ring's labels", &ring.labels),
        Quantity::integers("ring's instance ids", &ring.ids),
    ];
    for (row, embedding) in ring.rows.chunks(config.model.dim).enumerate() {
        found.push(Quantity::new(format!("embedding in row {row} of the ring"), Closeness::Directed, embedding.to_vec()));
    }
    Ok(found)
}

/// Steps one operation after the other and steps as a captured graph: the same.
pub fn captured_graph(bench: &Bench) -> Result<Vec<Comparison>> {
    let mut settings = config();
    (settings.model.image_size, settings.batch.size, settings.memory.size) = (16, 4, 7);
    let mut run = |graph: bool| {
        settings.execution.graph = graph;
        repeated_steps(&bench.cuda, &settings)
    };
    let (one_by_one, _) = run(false)?;
    let (as_graph, replays) = run(true)?;
    if replays == 0 {
        let reason = format!("none of {REPEATED_STEPS} equal steps was run as one");
        return Err(Error::Device { what: "capturing a training step".into(), reason });
    }
    Ok(bench.beside(&one_by_one, &as_graph))
}

/// Losses and parameters after steps, and how many of them were one launch.
fn repeated_steps(cuda: &Cuda, config: &TrainSettings) -> Result<(Values, u64)> {
    let mut learner = Learner::new(cuda, config, State::initial(cuda, config)?)?;
    for step in 0..REPEATED_STEPS {
        learner.advance(&batch(config, step).plain(), LEARNING_RATE)?;
    }
    let losses = learner.outcomes()?.iter().map(|outcome| (outcome.batch_loss + outcome.memory_loss) as f32).collect();
    let parameters = learner.state().query.parameters.to_host(cuda)?;
    let found = vec![
        Quantity::new("losses of captured steps", Closeness::Rounded, losses),
        Quantity::new("parameters after captured steps", Closeness::Rounded, parameters),
    ];
    Ok((found, learner.repeated().replays))
}
