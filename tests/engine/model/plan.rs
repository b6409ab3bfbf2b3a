//! Where activations and gradients lie.

use super::{DEPTHS, DIM};
use xbm_fast::model::plan::{ActivationPlan, Purpose, Region, lifetimes, uses};
use xbm_fast::model::{Architecture, Depth};
use xbm_fast::ops::pool::GlobalPooling;

/// Every network at sizes that are and are not powers of two, with every way of planning it.
fn plans() -> impl Iterator<Item = (Architecture, Purpose, bool)> {
    let depths = DEPTHS.map(|(_, depth)| depth).into_iter().chain([Depth::Small]);
    let networks =
        depths.flat_map(|depth| [16, 50, 64].map(|size| Architecture::new(depth, size, DIM, GlobalPooling::Avg).unwrap()));
    networks.flat_map(|network| {
        let ways = [(Purpose::Training, false), (Purpose::Training, true), (Purpose::Inference, true)];
        ways.map(|(purpose, again)| (network.clone(), purpose, again))
    })
}

/// Places of a plan's tensors, numbered as in `uses`.
fn planned(plan: &ActivationPlan) -> Vec<Region> {
    plan.activations.iter().chain(&plan.gradients).chain(plan.recomputed.iter().flatten()).copied().collect()
}

#[test]
fn tensors_alive_at_once_never_overlap_and_fit_their_buffers() {
    for (architecture, purpose, recompute) in plans() {
        let plan = ActivationPlan::new(&architecture, purpose, recompute);
        let (regions, spans) = (planned(&plan), lifetimes(&architecture, purpose, recompute));
        assert_eq!(spans.len(), regions.len());
        for (index, (span, region)) in spans.iter().zip(&regions).enumerate() {
            assert!(
                region.start + span.len <= plan.buffers[region.buffer],
                "{:?} {purpose:?}: tensor {index} does not fit",
                architecture.depth
            );
            for (other, other_region) in spans[..index].iter().zip(&regions).filter(|(_, other)| other.buffer == region.buffer) {
                let apart = other.last < span.first || span.last < other.first;
                let beside = other_region.start + other.len <= region.start || region.start + span.len <= other_region.start;
                assert!(apart || beside, "{:?} {purpose:?}: the region of tensor {index} is taken", architecture.depth);
            }
        }
    }
}

#[test]
fn tensors_of_one_operation_lie_in_different_buffers() {
    for (architecture, purpose, recompute) in plans() {
        let regions = planned(&ActivationPlan::new(&architecture, purpose, recompute));
        for tensors in uses(&architecture, purpose, recompute) {
            for (index, tensor) in tensors.iter().enumerate() {
                let shared = tensors[..index].iter().find(|other| regions[**other].buffer == regions[*tensor].buffer);
                assert_eq!(
                    shared.filter(|other| *other != tensor),
                    None,
                    "{:?} {purpose:?}: {tensor} of {tensors:?}",
                    architecture.depth
                );
            }
        }
    }
}

#[test]
fn planned_memory_is_a_fraction_of_all_tensors() {
    for (name, depth) in DEPTHS {
        let architecture = Architecture::new(depth, 64, DIM, GlobalPooling::Avg).unwrap();
        let planned = |purpose| ActivationPlan::new(&architecture, purpose, false).buffers.iter().sum::<usize>() as f64;
        let naive: usize = lifetimes(&architecture, Purpose::Training, false).iter().map(|span| span.len).sum();
        let outputs: usize = architecture.nodes.iter().map(|node| node.output.len()).sum();
        let (training, inference) = (planned(Purpose::Training), planned(Purpose::Inference));
        let frugal = ActivationPlan::new(&architecture, Purpose::Training, true).buffers.iter().sum::<usize>() as f64;
        assert!(frugal < 0.9 * training, "{name}: {frugal} planned where outputs are recomputed, {training} where they are kept");
        let spans = lifetimes(&architecture, Purpose::Training, true);
        let alive = |time: usize| spans.iter().filter(|span| (span.first..=span.last).contains(&time)).map(|span| span.len).sum();
        let most: usize = (0..2 * architecture.nodes.len()).map(alive).max().unwrap();
        assert!(frugal < 1.15 * most as f64, "{name}: {frugal} planned where at most {most} are alive at once");
        println!("{name}: {naive} values per image without a plan, {training} for training, {inference} for inference");
        // The activations themselves must stay; their gradients need room for the few that are alive at a time.
        assert!(training < 1.1 * outputs as f64, "{name}: {training} planned of {outputs} activations");
        assert!(inference < 0.4 * outputs as f64, "{name}: {inference} planned for inference of {outputs} activations");
    }
}
