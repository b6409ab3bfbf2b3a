//! Steps that are repeated as one captured graph: the same bits as operation by operation, whatever changes between them.

use crate::support::{config, cuda, on_gpu_in};
use crate::train::{batch_for, config};
use xbm_fast::device::Cuda;
use xbm_fast::device::cuda::{PairLossPath, Precision};
use xbm_fast::memory::{EnqueueOrder, MemoryKind, SelfPairs};
use xbm_fast::model::Depth;
use xbm_fast::ops::optimizer::Algorithm;
use xbm_fast::train::TrainSettings;
use xbm_fast::train::{State, StepOutcome};

/// A small network and a ring that wraps within the run.
fn small() -> TrainSettings {
    config!(config(); backbone: Depth::Small, optimizer: Algorithm::Adam, memory_size: 14, memory_start: 1)
}

/// Outcomes and bits of parameters, key encoder and memory after some steps of a falling rate; how many were one launch.
type Trace = (Vec<StepOutcome>, Vec<u32>, u64);

fn run(cuda: &Cuda, config: &TrainSettings, steps: u64) -> Trace {
    let mut learner = crate::support::learner(cuda, config);
    for step in 0..steps {
        learner.advance(&batch_for(config, step).plain(), 1e-3 / (step + 1) as f32).unwrap();
    }
    let outcomes = learner.outcomes().unwrap();
    let mut values = learner.state().query.parameters.to_host(cuda).unwrap();
    values.extend(learner.state().query.running_means.to_host(cuda).unwrap());
    if let Some(key) = &learner.state().key {
        values.extend(key.parameters.to_host(cuda).unwrap());
    }
    if let Some(memory) = &learner.state().memory {
        let state = memory.export(cuda).unwrap();
        values.extend(state.rows.iter().copied().chain(state.labels.iter().chain(&state.ids).map(|&number| number as f32)));
        values.extend(memory.drift().by_age().map(|(age, drift)| age as f32 + drift as f32));
    }
    (outcomes, values.into_iter().map(f32::to_bits).collect(), learner.repeated().replays)
}

/// Fails unless a run is the same with and without graphs; returns how many steps were one launch.
#[track_caller]
fn expect_equal(cuda: &Cuda, config: &TrainSettings, steps: u64) -> u64 {
    let (outcomes, bits, none) = run(cuda, &config!(config; graph: false), steps);
    let (found, found_bits, replays) = run(cuda, config, steps);
    assert_eq!(none, 0, "--no-graph captures nothing");
    assert_eq!(outcomes.len() as u64, steps);
    assert_eq!(found, outcomes);
    assert!(found_bits == bits, "parameters, key encoder, memory and drift");
    assert_eq!(software_gpu::take_reports(), Vec::<String>::new());
    replays
}

#[test]
fn captured_steps_are_the_eager_ones() {
    on_gpu_in(Precision::Fp16, |cuda| {
        assert!(expect_equal(cuda, &small(), 9) >= 2, "most steps are one launch");
    });
}

#[test]
fn clipped_steps_are_captured_like_any_other() {
    on_gpu_in(Precision::Fp16, |cuda| {
        let clipped = config!(small(); clip_norm: 0.01, head_warmup: 2);
        assert!(expect_equal(cuda, &clipped, 9) >= 2, "no norm returns to the host in between");
        assert!(run(cuda, &clipped, 3).1 != run(cuda, &small(), 3).1, "it clips");
    });
}

#[test]
fn every_kind_of_run_is_the_same_with_graphs() {
    let kinds = [
        config!(small(); memory: MemoryKind::CrossBatch, memory_own: SelfPairs::Slot, head_warmup: 2),
        config!(small(); memory: MemoryKind::CrossBatch, memory_enqueue: EnqueueOrder::After, memory_ramp: 3),
        config!(small(); memory: MemoryKind::Instance, memory_size: 3000, clip_norm: 1.0),
        config!(small(); memory_max_drift: 0.5, freeze_batch_norm: true, optimizer: Algorithm::Sgd),
    ];
    for kind in kinds {
        let Some(cuda) = cuda(Precision::Fp32, PairLossPath::Auto) else { return };
        expect_equal(&cuda, &kind, 5);
    }
}

#[test]
fn a_captured_step_notices_what_others_have_changed() {
    on_gpu_in(Precision::Fp16, |cuda| {
        let config = small();
        let after = |graph| {
            let mut learner = crate::support::learner(cuda, &config!(config; graph));
            (0..5).for_each(|step| learner.advance(&batch_for(&config, step).plain(), 1e-3).unwrap());
            let State { query, .. } = State::initial(cuda, &config).unwrap();
            let mut state = learner.replace_state(State::initial(cuda, &config).unwrap()).unwrap();
            state.key = state.key.map(|_| query.duplicate(cuda).unwrap());
            state.query = query;
            learner.replace_state(state).unwrap();
            learner.step(&batch_for(&config, 5).plain(), 1e-3).unwrap()
        };
        assert_eq!(after(true), after(false));
    });
}
