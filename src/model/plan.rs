//! Where each activation and each gradient lives: a few buffers, planned once from lifetimes, reused step after step.
//!
//! Time runs through the nodes forward and, for training, backward again. A tensor occupies its region from the moment it is written to
//! the last moment it is read; the regions of two tensors overlap only when those spans of time do not meet. Largest first, first gap of
//! the first buffer that fits, so that a buffer made for one large gradient holds several small activations before. What one operation reads
//! and writes lies in different buffers, of which a backend borrows some to be read and some to be written.

use super::architecture::{Architecture, Layer, Node};
use std::cmp::Reverse;
use std::ops::Range;

/// Values per image that regions are multiples of: 256 bytes of 16-bit numbers, as a GPU's blocks.
const ALIGNMENT: usize = 128;

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

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Which buffer.
    pub buffer: usize,
    /// Values per image before it in the buffer.
    pub start: usize,
}

/// The buffers of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationPlan {
    /// Region of each node's output.
    pub activations: Vec<Region>,
    /// Region of the gradient of each node's output; the last node's gradient comes from outside and its entry is unused.
    pub gradients: Vec<Region>,
    /// Region of each node's output computed once more for the backward pass, where it is not kept for that.
    pub recomputed: Vec<Option<Region>>,
    /// Whether each node's backward pass finds a gradient of its input already written, by a later reader of the same node, and adds to it.
    pub accumulates: Vec<bool>,
    /// Values per image of each buffer.
    pub buffers: Vec<usize>,
}

impl ActivationPlan {
    /// Plans `architecture` for `purpose`; with `recompute`, what a batch norm can give once more is not kept in between.
    pub fn new(architecture: &Architecture, purpose: Purpose, recompute: bool) -> Self {
        let nodes = architecture.nodes.len();
        let (regions, buffers) = assign(&lifetimes(architecture, purpose, recompute), &uses(architecture, purpose, recompute));
        let region = |tensor: usize| regions[tensor];
        let training = purpose == Purpose::Training;
        Self {
            activations: regions[..nodes].to_vec(),
            gradients: if training { regions[nodes..2 * nodes].to_vec() } else { Vec::new() },
            recomputed: recomputed(architecture, training && recompute).into_iter().map(|tensor| tensor.map(region)).collect(),
            accumulates: accumulates(architecture),
            buffers,
        }
    }
}

/// For each node the tensor with its output computed once more: batch norms whose output, but for the ReLU's mask, is only read by one
/// convolution or max pooling.
fn recomputed(architecture: &Architecture, recompute: bool) -> Vec<Option<usize>> {
    let mut tensors = 2 * architecture.nodes.len()..;
    let once_more = |(index, node): (usize, &Node)| {
        let Layer::BatchNorm { relu: true, residual: None, .. } = node.layer else { return None };
        let adds = |other: &Layer| matches!(other, Layer::BatchNorm { residual: Some(residual), .. } if *residual == index);
        let mut readers = architecture.nodes.iter().filter(|other| other.input == Some(index) || adds(&other.layer));
        match (readers.next(), readers.next()) {
            (Some(Node { layer: Layer::Conv { .. } | Layer::MaxPool, .. }), None) if recompute => tensors.next(),
            _ => None,
        }
    };
    architecture.nodes.iter().enumerate().map(once_more).collect()
}

/// What the operation of each time reads and writes. Tensors are numbered: the outputs of all nodes; for training their gradients and,
/// with `recompute`, the outputs computed once more.
pub fn uses(architecture: &Architecture, purpose: Purpose, recompute: bool) -> Vec<Vec<usize>> {
    let (nodes, count) = (&architecture.nodes, architecture.nodes.len());
    let training = purpose == Purpose::Training;
    let mut uses: Vec<Vec<usize>> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        // In evaluation, also with a plan for training, a convolution runs with the batch norm after it.
        let fused = architecture.convolution_before(index).and_then(|(_, read)| read);
        let runs = training || !matches!(node.layer, Layer::Conv { .. });
        let tensors = [Some(index), node.input, residual(node), fused];
        uses.push(if runs { tensors.into_iter().flatten().collect() } else { Vec::new() });
    }
    if !training {
        return uses;
    }
    let recomputed = recomputed(architecture, recompute);
    for (index, node) in nodes.iter().enumerate().rev() {
        let mut tensors = vec![count + index];
        if let Some(input) = node.input {
            tensors.extend([recomputed[input].unwrap_or(input), count + input]);
            tensors.extend(recomputed[input].and(nodes[input].input));
        }
        if matches!(node.layer, Layer::BatchNorm { relu: true, .. } | Layer::Normalize) {
            tensors.push(recomputed[index].unwrap_or(index));
        }
        tensors.extend(residual(node).map(|residual| count + residual));
        uses.push(tensors);
    }
    uses
}

fn residual(node: &Node) -> Option<usize> {
    if let Layer::BatchNorm { residual, .. } = node.layer { residual } else { None }
}

/// Lifetimes of all tensors, numbered as in [`uses`].
pub fn lifetimes(architecture: &Architecture, purpose: Purpose, recompute: bool) -> Vec<Lifetime> {
    let len = |node: &Node| node.output.len();
    let mut lens: Vec<usize> = architecture.nodes.iter().map(len).collect();
    if purpose == Purpose::Training {
        lens.extend_from_within(..);
        let given = recomputed(architecture, recompute).into_iter().zip(&architecture.nodes);
        lens.extend(given.filter(|(tensor, _)| tensor.is_some()).map(|(_, node)| len(node)));
    }
    let mut lifetimes: Vec<Lifetime> = lens.into_iter().map(|len| Lifetime { len, first: usize::MAX, last: 0 }).collect();
    for (time, tensors) in uses(architecture, purpose, recompute).into_iter().enumerate() {
        for tensor in tensors {
            let Lifetime { first, last, .. } = &mut lifetimes[tensor];
            (*first, *last) = (time.min(*first), time.max(*last));
        }
    }
    lifetimes
}

/// Walks the backward pass and notes which gradients have been written before.
///
/// A shortcut's gradient is written by the batch norm that closes the block; the block's first convolution comes to it second. Only
/// convolutions can add, and only they need to.
fn accumulates(architecture: &Architecture) -> Vec<bool> {
    let mut written = vec![false; architecture.nodes.len()];
    let mut accumulates = vec![false; architecture.nodes.len()];
    for (index, node) in architecture.nodes.iter().enumerate().rev() {
        if let Some(residual) = residual(node) {
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

/// Region of each tensor, and the buffers' sizes.
fn assign(lifetimes: &[Lifetime], uses: &[Vec<usize>]) -> (Vec<Region>, Vec<usize>) {
    let room = |tensor: usize| lifetimes[tensor].len.next_multiple_of(ALIGNMENT);
    let meet =
        |one: usize, other: usize| lifetimes[one].first <= lifetimes[other].last && lifetimes[other].first <= lifetimes[one].last;
    let mut together = vec![vec![false; lifetimes.len()]; lifetimes.len()];
    for tensors in uses {
        tensors.iter().for_each(|&one| tensors.iter().for_each(|&other| together[one][other] = true));
    }
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&tensor| (Reverse(room(tensor)), Reverse(lifetimes[tensor].last - lifetimes[tensor].first)));
    let mut regions = vec![Region { buffer: 0, start: 0 }; lifetimes.len()];
    let mut buffers = Vec::new();
    // The tenants of each buffer, by their start.
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for tensor in order {
        let gap = |buffer: usize| {
            let beside = tenants[buffer].iter().copied().filter(|&other| meet(tensor, other));
            let apart = beside.clone().all(|other| !together[tensor][other]);
            let taken = beside.map(|other| regions[other].start..regions[other].start + room(other));
            let start = apart.then(|| first_gap(taken, room(tensor), buffers[buffer]))??;
            Some(Region { buffer, start })
        };
        let region = (0..buffers.len()).find_map(gap).unwrap_or_else(|| {
            buffers.push(room(tensor));
            tenants.push(Vec::new());
            Region { buffer: buffers.len() - 1, start: 0 }
        });
        regions[tensor] = region;
        let tenants = &mut tenants[region.buffer];
        tenants.insert(tenants.partition_point(|&other| regions[other].start <= region.start), tensor);
    }
    (regions, buffers)
}

/// Start of the first gap of `room` values between parts of `len` values, which come in the order of their starts.
fn first_gap(parts: impl Iterator<Item = Range<usize>>, room: usize, len: usize) -> Option<usize> {
    let mut start = 0;
    for part in parts {
        if start + room <= part.start {
            break;
        }
        start = start.max(part.end);
    }
    (start + room <= len).then_some(start)
}
