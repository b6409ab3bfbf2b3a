//! A step, its balance and what is logged of it, before the memory takes part, at its first step and after.

use crate::support::{config, cpu, normals};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use xbm_fast::app::config::TrainConfig;
use xbm_fast::app::data::{Batch, Image};
use xbm_fast::app::run::{self, Ending, Verbosity};
use xbm_fast::app::runlog::read_metrics;
use xbm_fast::loss::Named;
use xbm_fast::memory::{EnqueueOrder, MemoryKind, OwnPairs};
use xbm_fast::model::Depth;
use xbm_fast::train::TrainSettings;
use xbm_fast::train::{Balance, StepOutcome};

const BATCH: usize = 4;
/// What two orders of the same sums differ by.
const ROUNDING: f64 = 1e-5;

fn config() -> TrainSettings {
    config!(TrainSettings::default(); backbone: Depth::Small, dim: 8, image_size: 16, batch_size: BATCH, memory_size: 8, memory_start: 1)
}

/// Noise: two images of each of two classes, those of every other batch over again.
fn batch(step: u64) -> Batch {
    let image = |position: usize| {
        let noise = normals(&format!("image {position} of {}", step % 2), 18 * 18 * 3);
        let rgb = noise.iter().map(|value| (128.0 + 50.0 * value).clamp(0.0, 255.0) as u8).collect();
        Arc::new(Image { rgb, height: 18, width: 18 })
    };
    let ids = (0..BATCH as i32).map(|position| position + BATCH as i32 * (step % 2) as i32).collect();
    Batch { step, images: (0..BATCH).map(image).collect(), labels: vec![0, 0, 1, 1], ids, waited: Default::default() }
}

/// Every kind of memory with every way to be no pair that it has, and both orders of a step.
fn memories() -> Vec<(MemoryKind, OwnPairs, EnqueueOrder, f32)> {
    use EnqueueOrder::{After, Before};
    let mut all = vec![(MemoryKind::None, OwnPairs::Instance, Before, 0.0)];
    for kind in [MemoryKind::CrossBatch, MemoryKind::Momentum] {
        let gated = (kind, OwnPairs::Instance, Before, 0.5);
        all.extend([(kind, OwnPairs::Slot, Before, 0.0), (kind, OwnPairs::Instance, Before, 0.0), gated]);
        all.push((kind, OwnPairs::Instance, After, 0.0));
    }
    let by_owner = [(MemoryKind::Instance, OwnPairs::Slot), (MemoryKind::Instance, OwnPairs::Instance)];
    all.extend(by_owner.map(|(kind, own)| (kind, own, Before, 0.0)));
    all.push((MemoryKind::Prototype, OwnPairs::Instance, Before, 0.0));
    all.push((MemoryKind::Prototype, OwnPairs::Instance, After, 0.0));
    all
}

#[test]
fn every_loss_trains_with_every_memory_and_its_balance_is_that_of_the_step() {
    let backend = cpu(2);
    for named in Named::all() {
        for (memory, memory_own, memory_enqueue, memory_max_drift) in memories() {
            let what = format!("{} {memory:?} {memory_own:?} {memory_enqueue:?} {memory_max_drift}", named.name);
            let settings = config!(config(); weighting: named.weighting(), memory, memory_own, memory_enqueue, memory_max_drift);
            let mut learner = crate::support::learner(&backend, &settings);
            let mut rows = Vec::new();
            for step in 0..4 {
                let balance =
                    learner.advance_balanced(&batch(step).plain(), 1e-4).unwrap_or_else(|error| panic!("{what}: {error}"));
                let outcome = learner.outcomes().unwrap().pop().unwrap();
                let StepOutcome { batch_loss, memory_loss, mean_similarity, .. } = outcome;
                assert!(
                    [batch_loss, memory_loss, balance.positive, balance.negative].iter().all(|value| value.is_finite()),
                    "{what}"
                );
                assert!((-1.0..=1.0).contains(&mean_similarity), "{what}: {mean_similarity}");
                rows.push(outcome.memory_rows);
            }
            let expected = match (memory, memory_enqueue) {
                (MemoryKind::None, _) => [0, 0, 0, 0],
                // Of the last step's rows two are known to be young: those that were measured come from before.
                _ if memory_max_drift > 0.0 => [0, rows[1], rows[2], rows[3]],
                (MemoryKind::Prototype, EnqueueOrder::Before) => [0, 2, 2, 2],
                (MemoryKind::Prototype, EnqueueOrder::After) => [0, 0, 2, 2],
                (_, EnqueueOrder::Before) => [0, 4, 8, 8],
                (_, EnqueueOrder::After) => [0, 0, 4, 8],
            };
            assert_eq!(rows, expected, "{what}");
        }
    }
}

/// Without a memory there is one comparison, and at the memory's first step with a weight of nearly nothing there is as good as one.
#[test]
fn the_balance_has_the_weight_that_the_memory_had_in_the_step() {
    let backend = cpu(1);
    let at_the_first_two_steps = |memory, weight| -> [Balance; 2] {
        let settings = config!(config(); memory, memory_weight: weight, memory_enqueue: EnqueueOrder::Before);
        let mut learner = crate::support::learner(&backend, &settings);
        [0, 1].map(|step| learner.advance_balanced(&batch(step).plain(), 0.0).unwrap())
    };
    let near = |one: Balance, other: Balance| {
        (one.positive - other.positive).abs() <= ROUNDING * one.positive
            && (one.negative - other.negative).abs() <= ROUNDING * one.negative
    };
    let alone = at_the_first_two_steps(MemoryKind::None, 1.0);
    let unheard = at_the_first_two_steps(MemoryKind::CrossBatch, 1e-9);
    let heard = at_the_first_two_steps(MemoryKind::CrossBatch, 1.0);
    assert!(alone[1].positive > 0.0, "{alone:?}");
    assert!(near(alone[0], heard[0]) && near(alone[1], unheard[1]), "{alone:?} {unheard:?} {heard:?}");
    assert!(!near(alone[1], heard[1]), "{alone:?} {heard:?}");
}

/// The command's own way: defaults but for sizes, every line logged, from before the memory's first step to after it.
#[test]
fn a_run_logs_every_step_with_every_named_loss_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = [
        (MemoryKind::CrossBatch, OwnPairs::Slot),
        (MemoryKind::Momentum, OwnPairs::Slot),
        (MemoryKind::Instance, OwnPairs::Slot),
        (MemoryKind::Prototype, OwnPairs::Instance),
        (MemoryKind::Momentum, OwnPairs::Instance),
    ];
    for (index, named) in Named::all().iter().enumerate() {
        let (memory, memory_own) = kinds[index % kinds.len()];
        let out = folder.path().join(named.name);
        let settings = config!(
            TrainConfig { train: config(), ..TrainConfig::default() };
            data: "synthetic:classes=4, views=4, size=16", out: out.clone(), samples_per_class: 2, memory, memory_own,
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
