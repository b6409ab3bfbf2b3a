//! Several ranks against one process: with batch norms in step they compute the same, to rounding, whatever the memory and the weighting.
//! Ranks are threads here, which exchange messages as processes do ([`crate::support::ranks`]).

use crate::support::ranks::{groups, on_ranks};
use crate::support::{Batch, config, cpu, normals, unit_rows};
use std::time::Duration;
use xbm_fast::checkpoint::{Record, save};
use xbm_fast::evaluate::{Embeddings, evaluate_all};
use xbm_fast::loss::PairWeighting;
use xbm_fast::memory::{EnqueueOrder, MemoryKind, MemoryState, SelfPairs};
use xbm_fast::model::Depth;
use xbm_fast::ops::optimizer::Algorithm;
use xbm_fast::train::{Learner, State, StepOutcome, TrainSettings};
use xbm_fast::{Cpu, Storage};

const BATCH: usize = 8;
const DIM: usize = 8;
const STEPS: u64 = 20;
/// Relative to the largest number of its kind: sums are taken in another order, which is 1e-7 of themselves in each layer.
const ROUNDING: f64 = 1e-4;
/// Of gradients, by their norm: where rounding moves an activation across 0, its ReLU lets another gradient through. A wrong factor, and a
/// pair too many or too few, is wrong by far more.
const ROUNDING_OF_GRADIENTS: f64 = 1e-2;
/// Small, for what one such activation changes grows from step to step, the faster the larger the rate. Plain descent, as Adam divides a
/// gradient by its own size: where that is all rounding, so is the step.
const RATE: f32 = 1e-6;

fn config() -> TrainSettings {
    config!(TrainSettings::default(); backbone: Depth::Small, dim: DIM, image_size: 16, batch_size: BATCH, memory_size: 48,
        memory_start: 2, optimizer: Algorithm::Sgd, sync_batch_norm: true, seed: 3)
}

/// Two images of each of four classes, of images that come again every fifth step.
fn batch(step: u64) -> Batch {
    let position = |position: usize| position + BATCH * (step % 5) as usize;
    let image = |image: usize| {
        let noise = normals(&format!("image {}", position(image)), 20 * 20 * 3);
        noise.iter().map(|value| (128.0 + 50.0 * value).clamp(0.0, 255.0) as u8).collect()
    };
    let ids: Vec<i32> = (0..BATCH).map(|image| position(image) as i32).collect();
    let labels = ids.iter().map(|id| id / 2 % 7).collect();
    Batch { step, images: (0..BATCH).map(image).collect(), side: 20, labels, ids }
}

/// The images of this rank.
fn own(cpu: &Cpu, step: u64) -> Batch {
    let (all, part) = (batch(step), cpu.group().part(BATCH));
    Batch {
        images: all.images[part.clone()].to_vec(),
        labels: all.labels[part.clone()].to_vec(),
        ids: all.ids[part].to_vec(),
        ..all
    }
}

/// What a run comes to.
struct Trained {
    outcomes: Vec<StepOutcome>,
    parameters: Vec<f32>,
    statistics: Vec<f32>,
    moments: Vec<f32>,
    /// On the first rank.
    memory: MemoryState,
    drift: Vec<(u32, f64)>,
}

fn go_on(cpu: &Cpu, learner: &mut Learner<Cpu>, steps: std::ops::Range<u64>) -> Vec<StepOutcome> {
    steps.map(|step| learner.step(&own(cpu, step).plain(), RATE).unwrap()).collect()
}

fn come_to(cpu: &Cpu, learner: &Learner<Cpu>, outcomes: Vec<StepOutcome>) -> Trained {
    let state = learner.state();
    let memory = state.memory.as_ref().map(|memory| memory.export(cpu).unwrap()).unwrap_or_default();
    Trained {
        outcomes,
        parameters: state.query.parameters.to_host(cpu).unwrap(),
        statistics: [&state.query.running_means, &state.query.running_variances]
            .map(|values| values.to_host(cpu).unwrap())
            .concat(),
        moments: state.first_moment.to_host(cpu).unwrap(),
        drift: memory.drift.by_age().collect(),
        memory,
    }
}

fn trained(cpu: &Cpu, config: &TrainSettings) -> Trained {
    let mut learner = crate::support::learner(cpu, config);
    let outcomes = go_on(cpu, &mut learner, 0..STEPS);
    come_to(cpu, &learner, outcomes)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[track_caller]
fn assert_same(what: &str, found: &Trained, expected: &Trained) {
    let losses = |trained: &Trained| -> Vec<f32> {
        trained.outcomes.iter().flat_map(|outcome| [outcome.batch_loss as f32, outcome.memory_loss as f32]).collect()
    };
    let rows = |trained: &Trained| trained.outcomes.iter().map(|outcome| outcome.memory_rows).collect::<Vec<_>>();
    assert_eq!(rows(found), rows(expected), "{what}");
    for (name, found, expected) in [
        ("losses", losses(found), losses(expected)),
        ("parameters", found.parameters.clone(), expected.parameters.clone()),
        ("statistics", found.statistics.clone(), expected.statistics.clone()),
        ("rows", found.memory.rows.clone(), expected.memory.rows.clone()),
    ] {
        crate::support::assert_close(&format!("{what}: {name}"), &found, &wide(&expected), ROUNDING);
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let moments = || found.moments.iter().zip(&expected.moments).map(|(&found, &expected)| (f64::from(found), f64::from(expected)));
    let off = norm(&mut moments().map(|(found, expected)| found - expected)) / norm(&mut moments().map(|(_, expected)| expected));
    assert!(off < ROUNDING_OF_GRADIENTS, "{what}: the gradients' momentum is off by {off:.1e} of its norm");
    let known = |memory: &MemoryState| {
        (memory.labels.clone(), memory.ids.clone(), memory.written.clone(), memory.head, memory.clock, memory.capacity)
    };
    assert_eq!(known(&found.memory), known(&expected.memory), "{what}");
    assert_eq!(found.drift.len(), expected.drift.len(), "{what}");
    for ((age, found), (expected_age, expected)) in found.drift.iter().zip(&expected.drift) {
        assert_eq!(age, expected_age, "{what}");
        assert!((found - expected).abs() < ROUNDING, "{what}: drift {found} at age {age}, expected {expected}");
    }
}

#[track_caller]
fn assert_ranks_train_as_one(what: &str, config: &TrainSettings, ranks: &[usize]) {
    let expected = trained(&cpu(1), config);
    assert!(expected.outcomes.iter().any(|outcome| outcome.batch_loss > 0.0), "{what}: there is nothing to compare");
    for &ranks in ranks {
        let found = on_ranks(ranks, |cpu| trained(&cpu, config));
        for other in &found[1..] {
            assert_eq!(other.parameters, found[0].parameters, "{what}: parameters of {ranks} ranks");
            assert_eq!(other.outcomes, found[0].outcomes, "{what}: outcomes of {ranks} ranks");
        }
        assert_same(&format!("{what} on {ranks} ranks"), &found[0], &expected);
    }
}

#[test]
fn every_memory_shared_out_is_that_of_one_process() {
    for memory in [MemoryKind::None, MemoryKind::CrossBatch, MemoryKind::Momentum, MemoryKind::Instance, MemoryKind::Prototype] {
        assert_ranks_train_as_one(&format!("{memory:?}"), &config!(config(); memory), &[2, 4]);
    }
}

#[test]
fn gates_orders_and_own_rows_are_those_of_one_process() {
    let base = config!(config(); memory: MemoryKind::CrossBatch);
    for (what, config) in [
        ("gated by drift", config!(base; memory_max_drift: 0.2)),
        ("enqueued after", config!(base; memory_enqueue: EnqueueOrder::After)),
        ("own slots", config!(base; memory_own: SelfPairs::Slot)),
        ("head first", config!(base; head_warmup: 6, clip_norm: 0.5)),
    ] {
        assert_ranks_train_as_one(what, &config, &[4]);
    }
}

#[test]
fn every_kind_of_weighting_sees_the_rows_of_all_ranks() {
    for weighting in ["multi-similarity", "triplet", "circle", "lifted-structure", "nca", "info-nce", "n-pair", "binomial-deviance"]
    {
        let weighting: PairWeighting = weighting.parse().unwrap();
        let config = config!(config(); memory: MemoryKind::CrossBatch, weighting);
        assert_ranks_train_as_one(&format!("{}", config.weighting), &config, &[2]);
    }
    let mut hardest = PairWeighting::contrastive();
    hardest.negative.mining = "hardest:5".parse().unwrap();
    hardest.positive.mining = "hardest:2".parse().unwrap();
    hardest.negative.scale = "mean-all".parse().unwrap();
    let config = config!(config(); memory: MemoryKind::CrossBatch, weighting: hardest);
    assert_ranks_train_as_one("hardest", &config, &[4]);
}

#[test]
fn equal_runs_on_as_many_ranks_give_equal_bits() {
    let config = config!(config(); memory: MemoryKind::Momentum, sync_batch_norm: false, weighting: "multi-similarity".parse::<PairWeighting>().unwrap());
    let [first, second] = [(), ()].map(|()| on_ranks(4, |cpu| trained(&cpu, &config)));
    assert_eq!((&first[0].outcomes, &first[0].parameters), (&second[0].outcomes, &second[0].parameters));
    assert_eq!((&first[0].statistics, &first[0].memory), (&second[0].statistics, &second[0].memory));
    // Statistics of each rank's own images are other ones than those of all, and are averaged, so that all ranks evaluate alike.
    assert!(first[0].statistics != trained(&cpu(1), &config).statistics);
    assert!(first.iter().all(|rank| rank.statistics == first[0].statistics));
}

#[test]
fn a_checkpoint_goes_on_with_any_number_of_ranks() {
    let config = config!(config(); memory: MemoryKind::Momentum);
    let expected = trained(&cpu(1), &config);
    let folder = tempfile::tempdir().unwrap();
    let path = |step: u64| folder.path().join(format!("{step}.safetensors"));
    let mut outcomes = Vec::new();
    let mut last = None;
    for (ranks, steps) in [(2, 0..8), (1, 8..13), (4, 13..STEPS)] {
        let begun = steps.start;
        let results = on_ranks(ranks, |cpu| {
            let state = match begun {
                0 => State::initial(&cpu, &config).unwrap(),
                _ => State::from_checkpoint(&cpu, &config, &path(begun)).unwrap().0,
            };
            let mut learner = Learner::new(&cpu, &config, state).unwrap();
            let outcomes = go_on(&cpu, &mut learner, steps.clone());
            save(&cpu, &path(steps.end), &config, learner.state(), &Record::default()).unwrap();
            come_to(&cpu, &learner, outcomes)
        });
        let first = results.into_iter().next().unwrap();
        outcomes.extend(first.outcomes.clone());
        last = Some(first);
    }
    assert_same("2, 1, then 4 ranks", &Trained { outcomes, ..last.unwrap() }, &expected);
}

#[test]
fn scores_are_exactly_those_of_one_process() {
    // Few directions, so that many similarities are equal.
    let directions = unit_rows("directions", 5, DIM);
    let rows: Vec<f32> = (0..103).flat_map(|row| directions[row % 5 * DIM..][..DIM].to_vec()).collect();
    for rows in [rows, unit_rows("gallery", 103, DIM)] {
        let set = Embeddings::new(rows, (0..103).map(|row| row % 10).collect(), DIM).unwrap();
        let expected = evaluate_all(&cpu(1), &set).unwrap();
        for ranks in [2, 4] {
            let found = on_ranks(ranks, |cpu| evaluate_all(&cpu, &set).unwrap());
            assert!(found.iter().all(|found| *found == expected), "{ranks} ranks");
        }
    }
}

/// The formula of docs/scaling.md, of a step with a cross-batch memory and a weighting by similarity alone.
fn bytes_of_a_step(ranks: u64, parameters: u64) -> u64 {
    let (others, batch, dim) = (ranks - 1, BATCH as u64, DIM as u64);
    let sum = |numbers: u64| 2 * 4 * numbers * others / ranks;
    let gather = |numbers: u64| 4 * numbers * others / ranks;
    let labels_and_ids = 2 * gather(batch);
    let embeddings = gather(batch * dim);
    let memory = sum(batch * dim) + sum(batch) + sum(2 * batch);
    labels_and_ids + embeddings + memory + sum(parameters)
}

#[test]
fn a_step_sends_the_bytes_that_the_formula_says() {
    let config = config!(config(); memory: MemoryKind::CrossBatch, memory_start: 0, freeze_batch_norm: true);
    for ranks in [2, 4] {
        let sent = on_ranks(ranks, |cpu| {
            let mut learner = crate::support::learner(&cpu, &config);
            // Images that have not come before, so that no drift is measured.
            let sent = [0, 1, 2].map(|step| {
                let before = cpu.group().bytes_sent();
                learner.step(&own(&cpu, step).plain(), 0.0).unwrap();
                cpu.group().bytes_sent() - before
            });
            (sent, learner.network().architecture().parameters_len as u64)
        });
        let parameters = sent[0].1;
        for step in 0..3 {
            let of_all: u64 = sent.iter().map(|(sent, _)| sent[step]).sum();
            assert_eq!(of_all, ranks as u64 * bytes_of_a_step(ranks as u64, parameters), "step {step} of {ranks} ranks");
        }
    }
}

#[test]
fn what_cannot_be_shared_out_is_refused_with_numbers_that_can() {
    for (settings, words) in [
        (
            config!(config(); batch_size: 10),
            "--batch-size 10 is the batch of all 4 processes: expected a multiple of 4, such as 8 or 12",
        ),
        (config!(config(); memory_size: 50), "expected a multiple of --batch-size 8, such as 48 or 56"),
    ] {
        for error in on_ranks(4, |cpu| State::initial(&cpu, &settings).unwrap_err().to_string()) {
            assert!(error.contains(words), "{error}");
        }
    }
}

#[test]
fn whoever_waits_in_vain_says_for_what_and_for_whom() {
    let all = groups(3);
    all[1].wait_at_most(Duration::from_millis(20));
    let error = all[1].sum("the gradients", &mut [1.0, 2.0, 3.0]).unwrap_err().to_string();
    assert!(error.starts_with("rank 1 waited 0.02 s for the gradients of rank 0"), "{error}");
    assert!(error.contains("--resume") && error.contains("--group-timeout"), "{error}");
}
