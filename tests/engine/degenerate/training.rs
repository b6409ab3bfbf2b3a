//! A step, its balance and what is logged of it, before the memory takes part, at its first step and after.

use crate::support::{Batch, config, cpu, normals};
use xbm_fast::loss::Named;
use xbm_fast::memory::{EnqueueOrder, MemoryKind, SelfPairs};
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
        noise.iter().map(|value| (128.0 + 50.0 * value).clamp(0.0, 255.0) as u8).collect()
    };
    let ids = (0..BATCH as i32).map(|position| position + BATCH as i32 * (step % 2) as i32).collect();
    Batch { step, images: (0..BATCH).map(image).collect(), side: 18, labels: vec![0, 0, 1, 1], ids }
}

/// Every kind of memory with every way to be no pair that it has, and both orders of a step.
fn memories() -> Vec<(MemoryKind, SelfPairs, EnqueueOrder, f32)> {
    use EnqueueOrder::{After, Before};
    let mut all = vec![(MemoryKind::None, SelfPairs::Instance, Before, 0.0)];
    for kind in [MemoryKind::CrossBatch, MemoryKind::Momentum] {
        let gated = (kind, SelfPairs::Instance, Before, 0.5);
        all.extend([(kind, SelfPairs::Slot, Before, 0.0), (kind, SelfPairs::Instance, Before, 0.0), gated]);
        all.push((kind, SelfPairs::Instance, After, 0.0));
    }
    let by_owner = [(MemoryKind::Instance, SelfPairs::Slot), (MemoryKind::Instance, SelfPairs::Instance)];
    all.extend(by_owner.map(|(kind, own)| (kind, own, Before, 0.0)));
    all.push((MemoryKind::Prototype, SelfPairs::Instance, Before, 0.0));
    all.push((MemoryKind::Prototype, SelfPairs::Instance, After, 0.0));
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
