//! What is allocated, and when: a training step allocates nothing once it has run, because activations are planned and scratch memory is
//! reused; the pair loss needs little beside its inputs, however many rows the memory has. A test binary of its own, because it counts
//! every allocation of the process.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use xbm_fast::device::Span;
use xbm_fast::device::{IntegerTensor, Tensor};
use xbm_fast::loss::{Mining, Named, PairWeighting};
use xbm_fast::model::plan::Purpose;
use xbm_fast::model::{Architecture, Depth, Network, Weights};
use xbm_fast::ops::optimizer::{Algorithm, Gradients, Optimizer, OptimizerState, OptimizerStep, ParameterGroup, SCALER_LEN};
use xbm_fast::ops::pair_loss::{
    CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask,
};
use xbm_fast::ops::pool::GlobalPooling;

// A step is measured by the leanest of several: when threads first overlap in a new way, one more scratch buffer is taken, once; what a
// step allocates every time shows in every one of them.

/// Largest single allocation of a step: a block of rayon's job queue.
const LARGEST: usize = 4 * 1024;
/// All allocations of a step: a few of those blocks, 3 to 7 KB seen, far less than any activation of the first layers.
const TOTAL: usize = 64 * 1024;

/// What the pair loss may hold beside its inputs and outputs, however large the memory: the promise of the readme, "a few megabytes", is
/// kept with room; the bound itself is what users are told to plan for.
const PAIR_LOSS: usize = 64 << 20;

/// One test at a time: they share the counters.
static COUNTERS: Mutex<()> = Mutex::new(());
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static LARGEST_SEEN: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator; counting touches no allocated memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        LARGEST_SEEN.fetch_max(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`, and the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_training_step_allocates_nothing_once_warm() {
    let _alone = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    const BATCH: usize = 8;
    const DIM: usize = 16;
    const WARM_UP: u64 = 4;
    const COUNTED: u64 = 8;
    let cpu = support::cpu(2);
    for depth in [Depth::ResNet18, Depth::ResNet50] {
        let architecture = Architecture::new(depth, 64, DIM, GlobalPooling::Avg).unwrap();
        let parameters = architecture.parameters_len;
        let mut weights = Weights::initialised(&cpu, &architecture, 0).unwrap();
        let images = Tensor::from_host(&cpu, &support::normals("images", BATCH * architecture.image().len())).unwrap();
        let gradient = Tensor::from_host(&cpu, &support::normals("gradient", BATCH * DIM)).unwrap();
        let zeros = |len| Tensor::zeros(&cpu, len).unwrap();
        let (mut embeddings, mut gradients) = (zeros(BATCH * DIM), zeros(parameters));
        let (mut first_moment, mut second_moment, scaler) = (zeros(parameters), zeros(parameters), zeros(SCALER_LEN));
        let mut network = Network::new(&cpu, architecture, BATCH, Purpose::Training).unwrap();
        let group = ParameterGroup { start: 0, len: parameters, learning_rate: 1e-3, weight_decay: 1e-4 };
        let (mut total, mut largest) = (usize::MAX, usize::MAX);
        for step in 1..=WARM_UP + COUNTED {
            ALLOCATED.store(0, Relaxed);
            LARGEST_SEEN.store(0, Relaxed);
            network.forward_train(&mut weights, images.all(), BATCH, embeddings.all_mut()).unwrap();
            network.backward(&weights, images.all(), gradient.all(), &mut gradients).unwrap();
            let state = OptimizerState {
                parameters: weights.parameters.all_mut(),
                first_moment: first_moment.all_mut(),
                second_moment: second_moment.all_mut(),
                scaler: scaler.all(),
            };
            let settings = OptimizerStep { algorithm: Algorithm::Adam, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step };
            cpu.optimizer_step(&settings, &[group], Gradients::unclipped(gradients.all()), state).unwrap();
            if step > WARM_UP {
                total = total.min(ALLOCATED.load(Relaxed));
                largest = largest.min(LARGEST_SEEN.load(Relaxed));
            }
        }
        println!("{depth:?}: {total} bytes a step, the largest at once {largest}");
        assert!(largest <= LARGEST, "{depth:?}: {largest} bytes at once, at most {LARGEST} are expected");
        assert!(total <= TOTAL, "{depth:?}: {total} bytes a step, at most {TOTAL} are expected");
    }
}

#[test]
fn the_pair_loss_needs_under_64_mb_however_many_rows_the_memory_has() {
    let _alone = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    const ANCHORS: usize = 256;
    const DIM: usize = 512;
    let mut needed = Vec::new();
    for rows in [15_000, 60_000] {
        // A backend of its own, whose scratch memory is empty; equal rows, so that every pair is kept and no work is skipped.
        let cpu = support::cpu(2);
        let unit = 1.0 / (DIM as f32).sqrt();
        let anchors = Tensor::from_host(&cpu, &vec![unit; ANCHORS * DIM]).unwrap();
        let memory = Tensor::from_host(&cpu, &vec![unit; rows * DIM]).unwrap();
        let (anchor_labels, memory_labels) = (vec![0; ANCHORS], vec![1; rows]);
        let mut gradient = Tensor::zeros(&cpu, ANCHORS * DIM).unwrap();
        let mut row_losses = Tensor::zeros(&cpu, ANCHORS).unwrap();
        let mut kept = IntegerTensor::zeros(&cpu, 2 * ANCHORS).unwrap();
        let inputs = PairLossInputs {
            anchors: anchors.all(),
            anchor_labels: Span::all(&anchor_labels),
            memory: CompareWith::Numbers(memory.all()),
            memory_labels: Span::all(&memory_labels),
            self_pairs: SelfPairMask::None,
            soft: None,
        };
        let outputs = PairLossOutputs { gradient: gradient.all_mut(), row_losses: row_losses.all_mut(), kept: kept.all_mut() };
        let geometry = PairLossGeometry { anchors: ANCHORS, rows, dim: DIM };
        ALLOCATED.store(0, Relaxed);
        cpu.pair_loss(PairLossCall {
            geometry,
            weighting: &PairWeighting::contrastive().valid().unwrap(),
            scale: 1.0,
            accumulate: false,
            inputs,
            outputs,
        })
        .unwrap();
        needed.push(ALLOCATED.load(Relaxed));
        assert!(kept.to_host(&cpu).unwrap().chunks_exact(2).all(|pair| pair[1] == rows as i32), "every pair is kept");
    }
    println!("pair loss: {needed:?} bytes for 15,000 and 60,000 rows");
    assert!(needed.iter().all(|&bytes| bytes <= PAIR_LOSS), "{needed:?} bytes, at most {PAIR_LOSS} are expected");
}

#[test]
fn losses_that_depend_on_the_row_allocate_nothing_once_warm() {
    let _alone = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    const ANCHORS: usize = 32;
    const ROWS: usize = 3000;
    const DIM: usize = 32;
    const WARM_UP: usize = 4;
    const COUNTED: usize = 8;
    let cpu = support::cpu(2);
    let anchors = Tensor::from_host(&cpu, &support::unit_rows("anchors", ANCHORS, DIM)).unwrap();
    let memory = Tensor::from_host(&cpu, &support::unit_rows("memory", ROWS, DIM)).unwrap();
    let labels = |count: usize| (0..count as i32).map(|row| row % 20).collect::<Vec<_>>();
    let (anchor_labels, memory_labels) = (labels(ANCHORS), labels(ROWS));
    let mut gradient = Tensor::zeros(&cpu, ANCHORS * DIM).unwrap();
    let mut row_losses = Tensor::zeros(&cpu, ANCHORS).unwrap();
    let mut kept = IntegerTensor::zeros(&cpu, 2 * ANCHORS).unwrap();
    let mut hardest = PairWeighting::contrastive();
    (hardest.positive.mining, hardest.negative.mining) = (Mining::Hardest(3), Mining::Hardest(40));
    let named = Named::all().iter().map(|named| (named.name, named.weighting()));
    for (name, weighting) in named.chain([("hardest", hardest)]) {
        let (mut total, mut largest) = (usize::MAX, usize::MAX);
        for call in 0..WARM_UP + COUNTED {
            let inputs = PairLossInputs {
                anchors: anchors.all(),
                anchor_labels: Span::all(&anchor_labels),
                memory: CompareWith::Numbers(memory.all()),
                memory_labels: Span::all(&memory_labels),
                self_pairs: SelfPairMask::None,
                soft: None,
            };
            let outputs = PairLossOutputs { gradient: gradient.all_mut(), row_losses: row_losses.all_mut(), kept: kept.all_mut() };
            let geometry = PairLossGeometry { anchors: ANCHORS, rows: ROWS, dim: DIM };
            ALLOCATED.store(0, Relaxed);
            LARGEST_SEEN.store(0, Relaxed);
            cpu.pair_loss(PairLossCall {
                geometry,
                weighting: &weighting.clone().valid().unwrap(),
                scale: 1.0,
                accumulate: false,
                inputs,
                outputs,
            })
            .unwrap();
            if call >= WARM_UP {
                total = total.min(ALLOCATED.load(Relaxed));
                largest = largest.min(LARGEST_SEEN.load(Relaxed));
            }
        }
        println!("{name}: {total} bytes a call, the largest at once {largest}");
        assert!(largest <= LARGEST, "{name}: {largest} bytes at once, at most {LARGEST} are expected");
        assert!(total <= TOTAL, "{name}: {total} bytes a call, at most {TOTAL} are expected");
    }
}
