//! The backward pass of a network: the nodes in reverse, each turning the gradient of its output into that of its input.

use super::architecture::{Layer, Node};
use super::network::{Network, conv_geometry, linear_geometry, norm_geometry, pool_geometry};
use super::plan::Region;
use super::weights::Weights;
use crate::device::Tensor;
use crate::error::{Error, Result, expect_len};
use crate::ops::batch_norm::{Affine, BatchNormBackward, BatchNormGeometry, BatchNormGradients};
use crate::ops::l2_normalize::RowGeometry;
use crate::ops::linear::LinearGradients;
use crate::ops::{Backend, In};

impl<B: Backend> Network<B> {
    /// Gradient of every parameter, overwriting `gradients` (laid out as the parameters), after a [`Network::forward_train`] of the same
    /// `images`; `embedding_gradient` is `(batch, dim)`.
    ///
    /// # Errors
    /// [`Error::Shape`] on spans of another length than the forward pass's, [`Error::Config`] on a network planned for inference.
    pub fn backward(
        &mut self,
        weights: &Weights<B>,
        images: In<'_, B>,
        embedding_gradient: In<'_, B>,
        gradients: &mut Tensor<B>,
    ) -> Result<()> {
        self.backward_from(0, weights, images, embedding_gradient, gradients)
    }

    /// As [`Network::backward`], of the head's parameters alone; the others' gradients are left as they were.
    ///
    /// # Errors
    /// As [`Network::backward`].
    pub fn backward_head(
        &mut self,
        weights: &Weights<B>,
        images: In<'_, B>,
        embedding_gradient: In<'_, B>,
        gradients: &mut Tensor<B>,
    ) -> Result<()> {
        let is_linear = |node: &Node| matches!(node.layer, Layer::Linear { .. });
        let linear = self.architecture.nodes.iter().position(is_linear).expect("the head has a linear layer");
        self.backward_from(linear, weights, images, embedding_gradient, gradients)
    }

    /// The nodes from the last one down to `first`.
    fn backward_from(
        &mut self,
        first: usize,
        weights: &Weights<B>,
        images: In<'_, B>,
        embedding_gradient: In<'_, B>,
        gradients: &mut Tensor<B>,
    ) -> Result<()> {
        if !self.trains() {
            return Err(Error::config("a network planned for inference has no backward pass"));
        }
        expect_len("images", self.batch * self.architecture.image().len(), images.len)?;
        expect_len("embedding gradient", self.batch * self.architecture.dim, embedding_gradient.len)?;
        let backend = self.backend.clone();
        backend.install(|| {
            for index in (first..self.architecture.nodes.len()).rev() {
                let node = self.architecture.nodes[index];
                match node.layer {
                    Layer::Conv { filter, .. } => self.backward_conv(index, node, weights, (images, filter), gradients)?,
                    Layer::BatchNorm { .. } => self.backward_norm(index, node, weights, gradients)?,
                    Layer::Linear { weight } => self.backward_linear(index, node, weights, weight, gradients)?,
                    Layer::Normalize => self.backward_normalize(index, node, embedding_gradient)?,
                    Layer::MaxPool | Layer::GlobalPool(_) => self.backward_pool(index, node, weights)?,
                }
            }
            Ok(())
        })
    }

    fn backward_conv(
        &mut self,
        index: usize,
        node: Node,
        weights: &Weights<B>,
        (images, filter): (In<'_, B>, usize),
        gradients: &mut Tensor<B>,
    ) -> Result<()> {
        let geometry = conv_geometry(self.batch, self.architecture.input(index), node);
        let filter = &self.architecture.parameters[filter];
        let (filter_values, filter_gradient) = (weights.parameter(filter), gradients.part_mut(filter.start, filter.len()));
        let Some(input) = node.input else {
            let output_gradient = self.arena.get(self.gradient(index));
            return self.backend.conv_backward_filter(&geometry, images, output_gradient, filter_gradient);
        };
        let tensors = [self.recomputed_output(input, weights)?, self.gradient(index), self.gradient(input)];
        let [input, output_gradient, input_gradient] = self.arena.take(tensors);
        self.backend.conv_backward_filter(&geometry, input.read(), output_gradient.read(), filter_gradient)?;
        let accumulate = self.plan.accumulates[index];
        self.backend.conv_backward_input(&geometry, output_gradient.read(), filter_values, input_gradient, accumulate)
    }

    /// Where the output of a node is that a convolution or a pooling reads; computed once more where it was not kept.
    fn recomputed_output(&mut self, index: usize, weights: &Weights<B>) -> Result<(Region, usize)> {
        let node = self.architecture.nodes[index];
        let (Some(region), Layer::BatchNorm { scale, statistics, .. }, Some(input)) =
            (self.plan.recomputed[index], node.layer, node.input)
        else {
            return Ok(self.output(index));
        };
        let channels = node.output.channels;
        let recomputed = (region, self.batch * node.output.len());
        let [input, output] = self.arena.take([self.output(input), recomputed]);
        let parameter = |number: usize| weights.parameter(&self.architecture.parameters[number]);
        let affine = Affine { weight: parameter(scale), bias: parameter(scale + 1) };
        let used = (self.batch_means.part(statistics, channels), self.batch_inverse_deviations.part(statistics, channels));
        self.backend.batch_norm_recompute(&norm_geometry(self.batch, node), input.read(), affine, used, output)?;
        Ok(recomputed)
    }

    fn backward_norm(&mut self, index: usize, node: Node, weights: &Weights<B>, gradients: &mut Tensor<B>) -> Result<()> {
        let (Layer::BatchNorm { scale, statistics, residual, relu }, Some(input)) = (node.layer, node.input) else {
            unreachable!("a batch norm reads a node")
        };
        let geometry = BatchNormGeometry { synced: self.synced, ..norm_geometry(self.batch, node) };
        let channels = node.output.channels;
        // Without a ReLU the output is not read, and its region may hold something else by now.
        let output = relu.then(|| self.plan.recomputed[index].map_or(self.output(index), |region| (region, self.output(index).1)));
        let residual = residual.map(|residual| self.gradient(residual));
        let tensors = [Some(self.output(input)), output, Some(self.gradient(index)), Some(self.gradient(input)), residual];
        let [Some(input), output, Some(output_gradient), Some(input_gradient), residual] = self.arena.take_some(tensors) else {
            unreachable!("`take_some` returns what was requested")
        };
        let scale = &self.architecture.parameters[scale];
        let inputs = BatchNormBackward {
            input: input.read(),
            output: output.as_ref().unwrap_or(&input).read(),
            output_gradient: output_gradient.read(),
            weight: weights.parameter(scale),
            mean: self.batch_means.part(statistics, channels),
            inverse_deviation: self.batch_inverse_deviations.part(statistics, channels),
            frozen: self.frozen,
        };
        let outputs = BatchNormGradients { input: input_gradient, residual, affine: gradients.part_mut(scale.start, 2 * channels) };
        self.backend.batch_norm_backward(&geometry, inputs, outputs)
    }

    fn backward_pool(&mut self, index: usize, node: Node, weights: &Weights<B>) -> Result<()> {
        let from = self.architecture.input(index);
        let geometry = pool_geometry(self.batch, from);
        let input = node.input.expect("a pooling reads a node");
        let tensors = [self.recomputed_output(input, weights)?, self.gradient(index), self.gradient(input)];
        let [input, output_gradient, input_gradient] = self.arena.take(tensors);
        let (input, output_gradient) = (input.read(), output_gradient.read());
        match node.layer {
            Layer::GlobalPool(pooling) => {
                self.backend.global_pool_backward(&geometry, pooling, input, output_gradient, input_gradient)
            }
            _ => self.backend.max_pool_backward(&geometry, input, output_gradient, input_gradient),
        }
    }

    fn backward_linear(
        &mut self,
        index: usize,
        node: Node,
        weights: &Weights<B>,
        weight: usize,
        gradients: &mut Tensor<B>,
    ) -> Result<()> {
        let geometry = linear_geometry(self.batch, self.architecture.input(index), node);
        let input = node.input.expect("the head reads the pooled features");
        let tensors = [self.output(input), self.gradient(index), self.gradient(input)];
        let [input, output_gradient, input_gradient] = self.arena.take(tensors);
        let weight = &self.architecture.parameters[weight];
        let gradients = LinearGradients {
            input: input_gradient,
            parameters: gradients.part_mut(weight.start, weight.len() + geometry.out_features),
        };
        self.backend.linear_backward(&geometry, input.read(), weights.parameter(weight), output_gradient.read(), gradients)
    }

    fn backward_normalize(&mut self, index: usize, node: Node, embedding_gradient: In<'_, B>) -> Result<()> {
        let geometry = RowGeometry { rows: self.batch, dim: node.output.len() };
        let input = node.input.expect("the normalisation reads the head");
        let [output, input_gradient] = self.arena.take([self.output(index), self.gradient(input)]);
        let norms = self.norms.part(0, self.batch);
        self.backend.l2_normalize_backward(&geometry, output.read(), norms, embedding_gradient, input_gradient)
    }
}
