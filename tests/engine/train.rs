//! The training step: that it learns, its gradient against differences of its loss, and what it does with the memory and the key encoder.

use crate::support::{Batch, config, cpu, normals, unit_rows};
use xbm_fast::Error;
use xbm_fast::device::Tensor;
use xbm_fast::device::{Cpu, RowPrecision};
use xbm_fast::loss::{Curve, Gate, PairWeighting, Side};
use xbm_fast::memory::MemoryState;
use xbm_fast::memory::{EnqueueOrder, MemoryKind};
use xbm_fast::model::Weights;
use xbm_fast::ops::optimizer::Algorithm;
use xbm_fast::train::TrainSettings;
use xbm_fast::train::{Learner, State};

const BATCH: usize = 8;
const DIM: usize = 16;

/// Plain descent on tiny images, so that the first moment is the gradient.
fn config() -> TrainSettings {
    config!(TrainSettings::default(); dim: DIM, image_size: 16, batch_size: BATCH, memory_size: 32, memory_start: 0, optimizer: Algorithm::Sgd, beta1: 0.0, weight_decay: 0.0, weighting: gated(-1.0))
}

/// The rule with another threshold.
fn gated(threshold: f32) -> PairWeighting {
    let gate = if threshold > -1.0 { Gate::Above(threshold) } else { Gate::None };
    PairWeighting { negative: Side::new(Curve::Constant(1.0), gate), ..PairWeighting::contrastive() }
}

/// A batch of noise: two images of each of four classes.
fn batch(step: u64) -> Batch {
    let image = |position: usize| {
        let noise = normals(&format!("image {position} of {step}"), 20 * 20 * 3);
        noise.iter().map(|value| (128.0 + 50.0 * value).clamp(0.0, 255.0) as u8).collect()
    };
    let ids = (0..BATCH as i32).map(|position| position + 100 * step as i32).collect();
    let labels = (0..BATCH as i32).map(|position| position / 2).collect();
    Batch { step, images: (0..BATCH).map(image).collect(), side: 20, labels, ids }
}

fn ring(backend: &Cpu, learner: &Learner<Cpu>) -> MemoryState {
    learner.state().memory.as_ref().unwrap().export(backend).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A learner whose memory holds rows of its own, and the loss of `batch(0)` for given parameters.
struct Probe {
    backend: Cpu,
    config: TrainSettings,
    learner: Learner<Cpu>,
    memory: MemoryState,
}

impl Probe {
    fn new() -> Self {
        let backend = cpu(2);
        let config = config!(config(); memory: MemoryKind::CrossBatch, memory_enqueue: EnqueueOrder::After, memory_weight: 0.5, weighting: PairWeighting {
            positive: Side::ungated(Curve::Linear { a: 2.0, b: -1.0 }),
            negative: Side::ungated(Curve::Exponential { k: 2.0, s0: 0.5 }),
        });
        let learner = crate::support::learner(&backend, &config);
        let labels = (0..12).map(|row| row % 5).collect();
        let ids = (0..12).map(|row| 1000 + row).collect();
        let rows = unit_rows("memory", 12, DIM);
        let memory =
            MemoryState { capacity: 32, dim: DIM, head: 12, rows, labels, ids, written: vec![0; 12], ..Default::default() };
        Self { backend, config, learner, memory }
    }

    fn loss(&mut self, parameters: &[f32]) -> f64 {
        let mut state = State::initial(&self.backend, &self.config).unwrap();
        state.memory.as_mut().unwrap().restore(&self.backend, &self.memory).unwrap();
        state.query.parameters = Tensor::from_host(&self.backend, parameters).unwrap();
        self.learner.replace_state(state).unwrap();
        let outcome = self.learner.step(&batch(0).plain(), 0.0).unwrap();
        assert_eq!(outcome.memory_rows, 12);
        assert!(outcome.memory_loss != 0.0 && outcome.batch_loss != 0.0);
        outcome.batch_loss + outcome.memory_loss
    }
}

#[test]
fn the_gradient_is_the_slope_of_batch_and_memory_loss_through_both_sides() {
    /// Change of the loss on either side: large beside the rounding of a 32-bit forward pass (1e-6), small beside its curvature.
    const CHANGE: f64 = 4e-3;
    /// Third-order terms and ReLUs that switch within the difference. A side left out would be wrong by half.
    const TOLERANCE: f64 = 0.03;
    let mut probe = Probe::new();
    let start = probe.learner.state().query.parameters.to_host(&probe.backend).unwrap();
    probe.loss(&start);
    let gradient = probe.learner.state().first_moment.to_host(&probe.backend).unwrap();
    let architecture = probe.learner.network().architecture().clone();
    for name in [
        "conv1.weight",
        "layer1.0.bn1.weight",
        "layer2.0.downsample.0.weight",
        "layer4.1.conv2.weight",
        "layer4.1.bn2.bias",
        "fc.weight",
    ] {
        let parameter = architecture.parameters.iter().find(|parameter| parameter.name == name).unwrap();
        let range = parameter.start..parameter.start + parameter.len();
        let norm = gradient[range.clone()].iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 0.0, "{name} has no gradient");
        let distance = CHANGE / norm;
        let mut moved = |sign: f64| {
            let mut parameters = start.clone();
            for index in range.clone() {
                parameters[index] += (sign * distance * f64::from(gradient[index]) / norm) as f32;
            }
            probe.loss(&parameters)
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * distance);
        assert!((slope / norm - 1.0).abs() < TOLERANCE, "{name}: slope {slope}, length of the gradient {norm}");
    }
}

#[test]
fn a_batch_joins_the_memory_before_or_after_its_loss() {
    let backend = cpu(2);
    let mut rings = Vec::new();
    for (memory_enqueue, rows) in [(EnqueueOrder::Before, [8, 16, 24]), (EnqueueOrder::After, [0, 8, 16])] {
        let config = config!(config(); memory: MemoryKind::CrossBatch, memory_enqueue);
        let mut learner = crate::support::learner(&backend, &config);
        let outcomes: Vec<_> = (0..3).map(|step| learner.step(&batch(step).plain(), 0.0).unwrap()).collect();
        assert_eq!([0, 1, 2].map(|step: usize| outcomes[step].memory_rows), rows);
        let first = outcomes[0];
        // Alone in the memory, a batch meets itself again, without each image's own row.
        let expected = if memory_enqueue == EnqueueOrder::Before { first.batch_loss } else { 0.0 };
        assert_eq!(first.memory_loss, expected);
        rings.push(ring(&backend, &learner));
    }
    assert_eq!(rings[0], rings[1]);
    assert_eq!(rings[0].labels, [0, 0, 1, 1, 2, 2, 3, 3].repeat(3));
}

#[test]
fn the_memory_starts_and_ramps_up_as_set() {
    let backend = cpu(2);
    // A ring of one batch that is enqueued first holds the batch itself: its loss is the batch loss times the weight.
    let config =
        config!(config(); memory: MemoryKind::CrossBatch, memory_size: BATCH, memory_start: 2, memory_ramp: 2, memory_weight: 0.5);
    let mut learner = crate::support::learner(&backend, &config);
    let shares = [0, 1, 2, 3, 4, 5].map(|_| {
        let outcome = learner.step(&batch(0).plain(), 0.0).unwrap();
        outcome.memory_loss / outcome.batch_loss
    });
    assert_eq!(shares, [0.0, 0.0, 0.0, 0.25, 0.5, 0.5]);
}

#[test]
fn a_memory_of_16_bit_rows_gives_the_losses_of_32_bit_ones_but_for_rounding() {
    /// Each similarity is off by at most 2^-11 of itself; two steps with a small rate add little to that.
    const ROUNDING: f64 = 2e-3;
    let backend = cpu(2);
    let [full, half] = [RowPrecision::Compute, RowPrecision::F16].map(|memory_precision| {
        let config = config!(config(); memory: MemoryKind::CrossBatch, memory_start: 0, memory_precision);
        let mut learner = crate::support::learner(&backend, &config);
        [0, 1, 2].map(|step| learner.step(&batch(step).plain(), 1e-3).unwrap().memory_loss)
    });
    assert_ne!(full, half);
    for (full, half) in full.into_iter().zip(half) {
        assert!(full > 0.0 && (full - half).abs() < ROUNDING * full, "{full} and {half}");
    }
}

#[test]
fn the_memory_holds_nothing_from_before_its_start() {
    let backend = cpu(1);
    for memory in [MemoryKind::CrossBatch, MemoryKind::Momentum] {
        let mut learner = crate::support::learner(&backend, &config!(config(); memory, memory_start: 2));
        let counts = [0, 1, 2, 3].map(|step| {
            learner.step(&batch(step).plain(), 0.01).unwrap();
            learner.state().memory.as_ref().unwrap().count()
        });
        assert_eq!(counts, [0, 0, BATCH, 2 * BATCH]);
        assert_eq!(ring(&backend, &learner).ids, [batch(2).ids, batch(3).ids].concat());
    }
}

#[test]
fn the_key_encoder_follows_the_query_encoder_by_a_moving_average() {
    /// Two products and a sum of 32-bit numbers.
    const ROUNDING: f64 = 1e-6;
    let backend = cpu(2);
    let config = config!(config(); memory: MemoryKind::Momentum, momentum: 0.75);
    let mut learner = crate::support::learner(&backend, &config);
    learner.step(&batch(0).plain(), 0.05).unwrap();
    learner.step(&batch(1).plain(), 0.05).unwrap();
    let parameters = |weights: &Weights<Cpu>| weights.parameters.to_host(&backend).unwrap();
    let (key, query) = (parameters(learner.state().key.as_ref().unwrap()), parameters(&learner.state().query));
    assert!(bits(&key) != bits(&query));
    learner.step(&batch(2).plain(), 0.05).unwrap();
    let average: Vec<f64> = key.iter().zip(&query).map(|(key, query)| 0.75 * f64::from(*key) + 0.25 * f64::from(*query)).collect();
    crate::support::assert_close("key", &parameters(learner.state().key.as_ref().unwrap()), &average, ROUNDING);
    assert_eq!(learner.state().key.as_ref().unwrap().batches_tracked, 3);

    let statistics = |weights: &Weights<Cpu>| {
        [&weights.running_means, &weights.running_variances].map(|tensor| tensor.to_host(&backend).unwrap()).concat()
    };
    let State { key, query, .. } = learner.replace_state(State::initial(&backend, &config).unwrap()).unwrap();
    let mut key = key.unwrap();
    let (before, source) = (statistics(&key), statistics(&query));
    assert!(bits(&before) != bits(&source));
    key.follow(&backend, &query, 0.75).unwrap();
    let pairs = before.iter().zip(&source);
    let average: Vec<f64> = pairs.map(|(key, query)| 0.75 * f64::from(*key) + 0.25 * f64::from(*query)).collect();
    crate::support::assert_close("statistics", &statistics(&key), &average, ROUNDING);
    assert_eq!(query.batches_tracked, 3);
}

#[test]
fn a_momentum_memory_holds_the_key_encoders_rows_of_another_view() {
    let backend = cpu(2);
    let rows = |memory| {
        let mut learner = crate::support::learner(&backend, &config!(config(); memory));
        learner.step(&batch(0).plain(), 0.0).unwrap();
        ring(&backend, &learner).rows
    };
    // Both encoders start equal: only the view differs.
    assert!(bits(&rows(MemoryKind::Momentum)) != bits(&rows(MemoryKind::CrossBatch)));
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    let trained = [1, 2].map(|threads| {
        let backend = cpu(threads);
        let config = config!(config(); memory: MemoryKind::Momentum, optimizer: Algorithm::AdamW, clip_norm: 1.0);
        let mut learner = crate::support::learner(&backend, &config);
        let outcomes = [0, 1, 2].map(|step| learner.step(&batch(step).plain(), 1e-2).unwrap());
        let ring = ring(&backend, &learner);
        (bits(&learner.state().query.parameters.to_host(&backend).unwrap()), bits(&ring.rows), outcomes)
    });
    assert!(trained[0].0 == trained[1].0, "parameters differ");
    assert!(trained[0].1 == trained[1].1, "memories differ");
    assert_eq!(trained[0].2, trained[1].2);
}

#[test]
fn a_gradient_longer_than_the_clip_norm_is_scaled_to_it() {
    let backend = cpu(2);
    let moved = |clip_norm| {
        let mut learner = crate::support::learner(&backend, &config!(config(); memory: MemoryKind::None, clip_norm));
        learner.step(&batch(0).plain(), 1.0).unwrap();
        let gradient = learner.state().first_moment.to_host(&backend).unwrap();
        gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    };
    let free = moved(0.0);
    let clip = (0.5 * free) as f32;
    assert!((moved(clip) / f64::from(clip) - 1.0).abs() < 1e-4, "{free} clipped to {clip}");
    assert_eq!(moved((2.0 * free) as f32), free);
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_and_takes_no_step() {
    let backend = cpu(2);
    let mut learner = crate::support::learner(&backend, &config!(config(); memory: MemoryKind::None));
    learner.step(&batch(0).plain(), f32::MAX).unwrap();
    let error = learner.step(&batch(1).plain(), 0.1).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. } | Error::Training(_)), "{error}");
    assert_eq!(learner.state().step, 1);
}

#[test]
fn the_balance_is_that_of_pushing_and_pulling_alone_and_changes_no_step() {
    let gradients = |factors: [f32; 2]| {
        let mut weighting = gated(0.0);
        (weighting.positive.factor, weighting.negative.factor) = (factors[0], factors[1]);
        let config = config!(config(); weighting, memory: MemoryKind::CrossBatch);
        let mut learner = crate::support::learner(&cpu(1), &config);
        learner.step(&batch(0).plain(), 0.0).unwrap();
        learner.advance_balanced(&batch(1).plain(), 0.0).unwrap()
    };
    let (both, pull, push) = (gradients([1.0, 1.0]), gradients([1.0, 0.0]), gradients([0.0, 1.0]));
    assert!(both.positive > 0.0 && both.negative > 0.0);
    let near = |found: f64, expected: f64| assert!((found - expected).abs() <= 1e-5 * expected, "{found}, {expected}");
    near(pull.positive, both.positive);
    near(push.negative, both.negative);
    assert_eq!((pull.negative, push.positive, push.ratio()), (0.0, 0.0, None));
    near(gradients([0.5, 2.0]).ratio().unwrap(), 4.0 * both.ratio().unwrap());

    let trained = |looks: bool| {
        let backend = cpu(1);
        let mut learner = crate::support::learner(&backend, &config!(config(); memory: MemoryKind::Momentum));
        for step in 0..3 {
            if looks {
                learner.advance_balanced(&batch(step).plain(), 0.1).unwrap();
            } else {
                learner.advance(&batch(step).plain(), 0.1).unwrap();
            }
        }
        bits(&learner.state().query.parameters.to_host(&backend).unwrap())
    };
    assert_eq!(trained(true), trained(false));
}
