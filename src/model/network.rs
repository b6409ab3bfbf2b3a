//! Runs an architecture forward in the slots of a plan; its backward pass is in [`super::backward`]. No step allocates.

use super::architecture::{Architecture, Extent, Layer, Node};
use super::arena::Arena;
use super::plan::{ActivationPlan, Purpose, Region};
use super::weights::Weights;
use crate::device::SpanMut;
use crate::device::Tensor;
use crate::error::{Error, Result, expect_len};
use crate::ops::batch_norm::{Affine, BatchNormGeometry, Statistics};
use crate::ops::conv::{ConvGeometry, Filter};
use crate::ops::conv_norm::ConvNormInputs;
use crate::ops::l2_normalize::RowGeometry;
use crate::ops::linear::LinearGeometry;
use crate::ops::pool::PoolGeometry;
use crate::ops::{Backend, In, Out};

/// An architecture with the memory it runs in, for batches of up to a fixed size.
#[derive(Debug)]
pub struct Network<B: Backend> {
    pub(super) backend: B,
    pub(super) architecture: Architecture,
    pub(super) plan: ActivationPlan,
    capacity: usize,
    /// Images of the last forward pass.
    pub(super) batch: usize,
    pub(super) arena: Arena<B>,
    /// Mean of each batch norm's last training batch.
    pub(super) batch_means: Tensor<B>,
    /// Inverse deviation of each batch norm's last training batch.
    pub(super) batch_inverse_deviations: Tensor<B>,
    /// Length of each embedding before its normalisation.
    pub(super) norms: Tensor<B>,
    /// Whether batch norms normalise by running statistics in training too.
    pub(super) frozen: bool,
    /// Whether batch norms normalise by the statistics of all ranks in training.
    pub(super) synced: bool,
}

/// Whose statistics batch norms normalise by.
enum Values<'a, B: Backend> {
    /// The batch's own, updating the running ones of these weights.
    Training(&'a mut Weights<B>),
    /// The running ones of these weights, in a pass that a backward pass may follow.
    Frozen(&'a Weights<B>),
    /// The running ones of these weights; the filters of nodes where they were prepared.
    Evaluation(&'a Weights<B>, &'a [Option<Filter<'a, B>>]),
}

impl<B: Backend> Values<'_, B> {
    fn weights(&self) -> &Weights<B> {
        match self {
            Self::Training(weights) => weights,
            Self::Frozen(weights) | Self::Evaluation(weights, _) => weights,
        }
    }
}

impl<B: Backend> Network<B> {
    /// Allocates everything that batches of up to `capacity` images need.
    ///
    /// # Errors
    /// Out of memory, where the device can tell.
    pub fn new(backend: &B, architecture: Architecture, capacity: usize, purpose: Purpose) -> Result<Self> {
        let plan = ActivationPlan::new(&architecture, purpose, B::RECOMPUTE);
        let what = format!("activations of {capacity} images of {} pixels", architecture.image_size);
        let arena = Arena::new(backend, &plan, capacity);
        // A trained network's side is not to be chosen any more.
        let lower = if purpose == Purpose::Training { "--batch-size or --image-size" } else { "--batch-size" };
        let arena = arena.map_err(|error| error.allocating(&what, lower))?;
        Ok(Self {
            batch_means: Tensor::zeros(backend, architecture.statistics_len)?,
            batch_inverse_deviations: Tensor::zeros(backend, architecture.statistics_len)?,
            norms: Tensor::zeros(backend, capacity)?,
            frozen: false,
            synced: false,
            backend: backend.clone(),
            architecture,
            plan,
            capacity,
            batch: 0,
            arena,
        })
    }

    /// What this network computes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The largest batch it can take.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Values held for activations and gradients together.
    pub fn planned_len(&self) -> usize {
        self.plan.buffers.iter().sum::<usize>() * self.capacity
    }

    /// Whether it was planned for training.
    pub(super) fn trains(&self) -> bool {
        !self.plan.gradients.is_empty()
    }

    /// From now on training passes normalise by running statistics and leave them as they are, and backward passes take those of
    /// `weights` for constants. To be called again when `weights` are replaced.
    ///
    /// # Errors
    /// [`Error::Shape`] on weights of another architecture.
    pub fn freeze_batch_norms(&mut self, weights: &Weights<B>) -> Result<()> {
        let variances = weights.running_variances.to_host(&self.backend)?;
        let inverse: Vec<f32> = variances.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect();
        let len = self.architecture.statistics_len;
        expect_len("running variances", len, inverse.len())?;
        self.backend.upload(&inverse, self.batch_inverse_deviations.all_mut())?;
        self.backend.copy(weights.running_means.all(), self.batch_means.all_mut())?;
        self.frozen = true;
        Ok(())
    }

    /// From now on training passes normalise by the mean and variance over the batches of all ranks.
    pub fn synchronize_batch_norms(&mut self) {
        self.synced = true;
    }

    /// Embeds `batch` images `(batch, size, size, 3)` to unit rows `(batch, dim)` as in training: batch norms use the statistics of this
    /// batch and update the running ones, unless they are frozen.
    ///
    /// # Errors
    /// [`Error::Shape`] on a batch over the capacity or spans of another length.
    pub fn forward_train(
        &mut self,
        weights: &mut Weights<B>,
        images: In<'_, B>,
        batch: usize,
        embeddings: Out<'_, B>,
    ) -> Result<()> {
        if self.frozen {
            return self.forward(Values::Frozen(weights), images, batch, embeddings);
        }
        weights.batches_tracked += 1;
        self.forward(Values::Training(weights), images, batch, embeddings)
    }

    /// Embeds as in evaluation: batch norms use the running statistics.
    ///
    /// # Errors
    /// As [`Network::forward_train`].
    pub fn forward_eval(&mut self, weights: &Weights<B>, images: In<'_, B>, batch: usize, embeddings: Out<'_, B>) -> Result<()> {
        self.evaluate((weights, &[]), images, batch, embeddings)
    }

    /// As [`Network::forward_eval`], with the filters of nodes where they were prepared.
    pub(super) fn evaluate(
        &mut self,
        (weights, filters): (&Weights<B>, &[Option<Filter<'_, B>>]),
        images: In<'_, B>,
        batch: usize,
        embeddings: Out<'_, B>,
    ) -> Result<()> {
        self.forward(Values::Evaluation(weights, filters), images, batch, embeddings)
    }

    fn forward(&mut self, values: Values<'_, B>, images: In<'_, B>, batch: usize, embeddings: Out<'_, B>) -> Result<()> {
        if batch == 0 || batch > self.capacity {
            return Err(Error::shape("batch", format_args!("1 to {} images", self.capacity), format_args!("{batch} images")));
        }
        expect_len("images", batch * self.architecture.image().len(), images.len)?;
        self.batch = batch;
        let backend = self.backend.clone();
        backend.install(|| self.forward_nodes(values, images, embeddings))
    }

    fn forward_nodes(&mut self, mut values: Values<'_, B>, images: In<'_, B>, embeddings: Out<'_, B>) -> Result<()> {
        for index in 0..self.architecture.nodes.len() {
            let node = self.architecture.nodes[index];
            match (node.layer, &values) {
                (Layer::Conv { .. }, Values::Evaluation(..)) => {}
                (Layer::BatchNorm { .. }, Values::Evaluation(weights, filters)) => {
                    self.forward_conv_norm(index, (weights, filters), images)?;
                }
                (Layer::BatchNorm { .. }, _) => self.forward_norm(index, node, &mut values)?,
                _ => self.forward_node(index, node, values.weights(), images)?,
            }
        }
        self.backend.copy(self.arena.get(self.output(self.architecture.nodes.len() - 1)), embeddings)
    }

    /// Where the output of a node is in this batch, and its length.
    pub(super) fn output(&self, node: usize) -> (Region, usize) {
        (self.plan.activations[node], self.batch * self.architecture.nodes[node].output.len())
    }

    /// Where the gradient of a node's output is in this batch, and its length.
    pub(super) fn gradient(&self, node: usize) -> (Region, usize) {
        (self.plan.gradients[node], self.batch * self.architecture.nodes[node].output.len())
    }

    fn forward_node(&mut self, index: usize, node: Node, weights: &Weights<B>, images: In<'_, B>) -> Result<()> {
        let (backend, batch, from) = (&self.backend, self.batch, self.architecture.input(index));
        let parameter = |number: usize| weights.parameter(&self.architecture.parameters[number]);
        let tensors = [node.input.map(|input| self.output(input)), Some(self.output(index))];
        let [input, output] = self.arena.take_some(tensors);
        let input = input.as_ref().map_or(images, SpanMut::read);
        let output = output.expect("every node has an output");
        match node.layer {
            Layer::Conv { filter, .. } => backend.conv_forward(&conv_geometry(batch, from, node), input, parameter(filter), output),
            Layer::MaxPool => backend.max_pool_forward(&pool_geometry(batch, from), input, output),
            Layer::GlobalPool(pooling) => backend.global_pool_forward(&pool_geometry(batch, from), pooling, input, output),
            Layer::Linear { weight } => {
                backend.linear_forward(&linear_geometry(batch, from, node), input, parameter(weight), parameter(weight + 1), output)
            }
            Layer::Normalize => {
                let geometry = RowGeometry { rows: batch, dim: node.output.len() };
                backend.l2_normalize_forward(&geometry, input, output, self.norms.part_mut(0, batch))
            }
            Layer::BatchNorm { .. } => unreachable!("batch norms are run by forward_norm"),
        }
    }

    fn forward_norm(&mut self, index: usize, node: Node, values: &mut Values<'_, B>) -> Result<()> {
        let (Layer::BatchNorm { scale, statistics, residual, .. }, Some(input)) = (node.layer, node.input) else {
            unreachable!("a batch norm reads a node")
        };
        let geometry = BatchNormGeometry { synced: self.synced, ..norm_geometry(self.batch, node) };
        let channels = node.output.channels;
        let tensors = [Some(self.output(input)), residual.map(|residual| self.output(residual)), Some(self.output(index))];
        let [Some(input), residual, Some(output)] = self.arena.take_some(tensors) else {
            unreachable!("`take_some` returns what was requested")
        };
        let (input, residual) = (input.read(), residual.as_ref().map(SpanMut::read));
        let parameter = |number: usize| self.architecture.parameters[number].start;
        let (weight, bias) = (parameter(scale), parameter(scale + 1));
        match values {
            Values::Training(Weights { parameters, running_means, running_variances, .. }) => {
                let affine = Affine { weight: parameters.part(weight, channels), bias: parameters.part(bias, channels) };
                let statistics = Statistics {
                    mean: self.batch_means.part_mut(statistics, channels),
                    inverse_deviation: self.batch_inverse_deviations.part_mut(statistics, channels),
                    running_mean: running_means.part_mut(statistics, channels),
                    running_variance: running_variances.part_mut(statistics, channels),
                };
                self.backend.batch_norm_train(&geometry, input, affine, residual, statistics, output)
            }
            Values::Frozen(weights) | Values::Evaluation(weights, _) => {
                let Weights { parameters, running_means, running_variances, .. } = &**weights;
                let affine = Affine { weight: parameters.part(weight, channels), bias: parameters.part(bias, channels) };
                let running = (running_means.part(statistics, channels), running_variances.part(statistics, channels));
                self.backend.batch_norm_eval(&geometry, input, affine, residual, running, output)
            }
        }
    }
}

impl<B: Backend> Network<B> {
    /// Batch norm `index` with the convolution before it.
    fn forward_conv_norm(
        &mut self,
        index: usize,
        (weights, filters): (&Weights<B>, &[Option<Filter<'_, B>>]),
        images: In<'_, B>,
    ) -> Result<()> {
        let (Some((conv, read)), node) = (self.architecture.convolution_before(index), self.architecture.nodes[index]) else {
            unreachable!("a batch norm of a ResNet reads a convolution")
        };
        let (Layer::BatchNorm { scale, statistics, residual, .. }, Layer::Conv { filter, .. }) =
            (node.layer, self.architecture.nodes[conv].layer)
        else {
            unreachable!("as above")
        };
        let (batch, channels) = (self.batch, node.output.channels);
        let from = self.architecture.input(conv);
        let geometry = (&conv_geometry(batch, from, self.architecture.nodes[conv]), &norm_geometry(batch, node));
        let (read, residual) = (read.map(|read| self.output(read)), residual.map(|residual| self.output(residual)));
        let tensors = [read, residual, Some(self.output(conv)), Some(self.output(index))];
        let [input, residual, Some(between), Some(output)] = self.arena.take_some(tensors) else {
            unreachable!("`take_some` returns what was requested")
        };
        let parameter = |number: usize, len| weights.parameters.part(self.architecture.parameters[number].start, len);
        let as_it_is = Filter::new(weights.parameter(&self.architecture.parameters[filter]));
        let prepared = filters.get(conv).and_then(Option::as_ref);
        let inputs = ConvNormInputs {
            input: input.as_ref().map_or(images, SpanMut::read),
            filter: prepared.unwrap_or(&as_it_is),
            affine: Affine { weight: parameter(scale, channels), bias: parameter(scale + 1, channels) },
            running: (weights.running_means.part(statistics, channels), weights.running_variances.part(statistics, channels)),
            residual: residual.as_ref().map(SpanMut::read),
        };
        self.backend.conv_norm_eval(geometry, inputs, between, output)
    }
}

pub(super) fn conv_geometry(batch: usize, from: Extent, node: Node) -> ConvGeometry {
    let Layer::Conv { kernel, stride, .. } = node.layer else { unreachable!("a convolution's geometry") };
    let Extent { height, width, channels: in_channels } = from;
    ConvGeometry { batch, height, width, in_channels, out_channels: node.output.channels, kernel, stride, padding: kernel / 2 }
}

pub(super) fn pool_geometry(batch: usize, from: Extent) -> PoolGeometry {
    PoolGeometry { batch, height: from.height, width: from.width, channels: from.channels }
}

pub(super) fn linear_geometry(batch: usize, from: Extent, node: Node) -> LinearGeometry {
    LinearGeometry { batch, in_features: from.len(), out_features: node.output.len() }
}

/// Torchvision's constant.
const EPSILON: f32 = 1e-5;

/// Torchvision's momentum is 0.1.
pub(super) fn norm_geometry(batch: usize, node: Node) -> BatchNormGeometry {
    let Layer::BatchNorm { relu, .. } = node.layer else { unreachable!("a batch norm's geometry") };
    let Extent { height, width, channels } = node.output;
    BatchNormGeometry { rows: batch * height * width, channels, epsilon: EPSILON, momentum: 0.1, relu, synced: false }
}
