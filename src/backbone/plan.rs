//! Where each activation and each gradient lives: a few slots, planned once from lifetimes, reused step after step.
//!
//! Time runs through the nodes forward and, for training, backward again. A tensor occupies a slot from the moment it is written to the
//! last moment it is read; two tensors share a slot when those spans of time do not meet. Largest first, first slot that fits.

use super::architecture::{Architecture, Layer, Node};

/// What a plan must keep alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Activations until their backward pass, and gradients.
    Training,
    /// Activations until they are read.
    Inference,
}

/// The time from a tensor's first write to its last read, and its size per image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Values per image.
    pub len: usize,
    /// Time of the first write.
    pub first: usize,
    /// Time of the last read.
    pub last: usize,
}

/// The slots of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Slot of each node's output.
    pub activations: Vec<usize>,
    /// Slot of the gradient of each node's output; the last node's gradient comes from outside and its entry is unused.
    pub gradients: Vec<usize>,
    /// Slot of each node's output computed once more for the backward pass, where it is not kept for that.
    pub again: Vec<Option<usize>>,
    /// Whether each node's backward pass finds a gradient of its input already written, by a later reader of the same node, and adds to it.
    pub accumulates: Vec<bool>,
    /// Values per image of each slot.
    pub slots: Vec<usize>,
}

impl Plan {
    /// Plans `architecture` for `purpose`; with `again`, what a batch norm can give once more is not kept in between.
    pub fn new(architecture: &Architecture, purpose: Purpose, again: bool) -> Self {
        let nodes = architecture.nodes.len();
        let lifetimes = lifetimes(architecture, purpose, again);
        let (assignment, slots) = assign(&lifetimes);
        let (mut gradients, mut places) = (Vec::new(), vec![None; nodes]);
        if purpose == Purpose::Training {
            gradients = assignment[nodes..2 * nodes].to_vec();
            for ((node, _), &slot) in given_again(architecture).zip(&assignment[2 * nodes..]) {
                places[node] = Some(slot);
            }
        }
        let activations = assignment[..nodes].to_vec();
        Self { activations, gradients, again: places, accumulates: accumulates(architecture), slots }
    }
}

/// Batch norms whose output, but for the ReLU's mask, is only read by one convolution or max pooling, with that.
fn given_again(architecture: &Architecture) -> impl Iterator<Item = (usize, usize)> + '_ {
    architecture.nodes.iter().enumerate().filter_map(|(index, node)| {
        let Layer::BatchNorm { relu: true, residual: None, .. } = node.layer else { return None };
        let adds = |other: &Layer| matches!(other, Layer::BatchNorm { residual: Some(residual), .. } if *residual == index);
        let mut readers =
            architecture.nodes.iter().enumerate().filter(|(_, other)| other.input == Some(index) || adds(&other.layer));
        match (readers.next(), readers.next()) {
            (Some((reader, Node { layer: Layer::Conv { .. } | Layer::MaxPool, .. })), None) => Some((index, reader)),
            _ => None,
        }
    })
}

/// Lifetimes of all outputs, followed for training by those of their gradients and, with `again`, of the outputs computed once more.
pub fn lifetimes(architecture: &Architecture, purpose: Purpose, again: bool) -> Vec<Lifetime> {
    let count = architecture.nodes.len();
    let training = purpose == Purpose::Training;
    let backward = |node: usize| 2 * count - 1 - node;
    let mut outputs: Vec<Lifetime> = architecture
        .nodes
        .iter()
        .enumerate()
        .map(|(time, node)| Lifetime { len: node.output.len(), first: time, last: time })
        .collect();
    let mut gradients: Vec<Lifetime> = architecture
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| Lifetime { len: node.output.len(), first: backward(index), last: backward(index) })
        .collect();
    for (index, node) in architecture.nodes.iter().enumerate() {
        let residual = if let Layer::BatchNorm { residual, .. } = node.layer { residual } else { None };
        for read in node.input.into_iter().chain(residual) {
            outputs[read].last = outputs[read].last.max(index);
            gradients[read].first = gradients[read].first.min(backward(index));
        }
        if !training {
            // In evaluation a convolution runs with the batch norm after it.
            if let Some((conv, read)) = architecture.convolution_before(index) {
                outputs[conv].first = index;
                read.into_iter().for_each(|read| outputs[read].last = outputs[read].last.max(index));
            }
            continue;
        }
        if let Some(input) = node.input {
            outputs[input].last = outputs[input].last.max(backward(index));
        }
        if matches!(node.layer, Layer::BatchNorm { relu: true, .. } | Layer::Normalize) {
            outputs[index].last = outputs[index].last.max(backward(index));
        }
    }
    if training {
        outputs.extend(gradients);
        for (node, reader) in given_again(architecture).filter(|_| again) {
            // In an evaluation with this plan the reader runs with the batch norm after it.
            outputs[node].last = architecture.nodes.iter().position(|other| other.input == Some(reader)).unwrap_or(reader);
            outputs.push(Lifetime { len: outputs[node].len, first: backward(reader), last: backward(node) });
        }
    }
    outputs
}

/// Walks the backward pass and notes which gradients have been written before.
///
/// A shortcut's gradient is written by the batch norm that closes the block; the block's first convolution comes to it second. Only
/// convolutions can add, and only they need to.
fn accumulates(architecture: &Architecture) -> Vec<bool> {
    let mut written = vec![false; architecture.nodes.len()];
    let mut accumulates = vec![false; architecture.nodes.len()];
    for (index, node) in architecture.nodes.iter().enumerate().rev() {
        if let Layer::BatchNorm { residual: Some(residual), .. } = node.layer {
            assert!(!written[residual], "a closing batch norm is the last reader of its shortcut");
            written[residual] = true;
        }
        if let Some(input) = node.input {
            accumulates[index] = written[input];
            assert!(!written[input] || matches!(node.layer, Layer::Conv { .. }), "only convolutions add to a gradient");
            written[input] = true;
        }
    }
    accumulates
}

/// Slot of each tensor, and the slots' sizes.
fn assign(lifetimes: &[Lifetime]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&tensor| (std::cmp::Reverse(lifetimes[tensor].len), lifetimes[tensor].first));
    let mut assignment = vec![0; lifetimes.len()];
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for tensor in order {
        let free = |tenants: &Vec<usize>| {
            tenants
                .iter()
                .all(|&other| lifetimes[other].last < lifetimes[tensor].first || lifetimes[tensor].last < lifetimes[other].first)
        };
        let slot = tenants.iter().position(free).unwrap_or_else(|| {
            tenants.push(Vec::new());
            tenants.len() - 1
        });
        tenants[slot].push(tensor);
        assignment[tensor] = slot;
    }
    let slots = tenants.iter().map(|tenants| lifetimes[tenants[0]].len).collect();
    (assignment, slots)
}
