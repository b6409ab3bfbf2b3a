//! The backward pass of a network: the nodes in reverse, each turning the gradient of its output into that of its input.

use super::architecture::{Layer, Node};
use super::network::{Network, conv_geometry, disjoint, linear_geometry, norm_geometry, pool_geometry};
use super::weights::Weights;
use crate::backend::{Span, SpanMut};
use crate::error::{Error, Result, expect_len};
use crate::ops::batch_norm::{Affine, BatchNormBackward, BatchNormGradients};
use crate::ops::l2_normalize::RowGeometry;
use crate::ops::linear::LinearGradients;
use crate::ops::{Backend, In};
use crate::tensor::Tensor;

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
        let input_slot = node.input.map(|input| self.output_again(input, weights)).transpose()?;
        let filter = &self.architecture.parameters[filter];
        let filter_gradient = gradients.part_mut(filter.start, filter.len());
        let output_gradient = self.plan.gradients[index];
        let (Some(input), Some(input_slot)) = (node.input, input_slot) else {
            let output_gradient = Span::new(&self.slots[output_gradient], 0, geometry.output_len());
            return self.backend.conv_backward_filter(&geometry, images, output_gradient, filter_gradient);
        };
        let slots = [input_slot, output_gradient, self.plan.gradients[input]];
        let [input, output_gradient, input_gradient] = disjoint(&mut self.slots, slots);
        let output_gradient = Span::new(&*output_gradient, 0, geometry.output_len());
        let input = Span::new(&*input, 0, geometry.input_len());
        self.backend.conv_backward_filter(&geometry, input, output_gradient, filter_gradient)?;
        let input_gradient = SpanMut::new(input_gradient, 0, geometry.input_len());
        let accumulate = self.plan.accumulates[index];
        self.backend.conv_backward_input(&geometry, output_gradient, weights.parameter(filter), input_gradient, accumulate)
    }

    /// The slot with the output of a node that a convolution or a pooling reads; computed once more where it was not kept.
    fn output_again(&mut self, index: usize, weights: &Weights<B>) -> Result<usize> {
        let node = self.architecture.nodes[index];
        let (Some(again), Layer::BatchNorm { scale, statistics, .. }, Some(input)) =
            (self.plan.again[index], node.layer, node.input)
        else {
            return Ok(self.plan.activations[index]);
        };
        let (len, channels) = (self.batch * node.output.len(), node.output.channels);
        let [input, output] = disjoint(&mut self.slots, [self.plan.activations[input], again]);
        let (input, output) = (Span::new(&*input, 0, len), SpanMut::new(output, 0, len));
        let parameter = |number: usize| weights.parameter(&self.architecture.parameters[number]);
        let affine = Affine { weight: parameter(scale), bias: parameter(scale + 1) };
        let used = (self.batch_means.part(statistics, channels), self.batch_inverse_deviations.part(statistics, channels));
        self.backend.batch_norm_again(&norm_geometry(self.batch, node), input, affine, used, output)?;
        Ok(again)
    }

    fn backward_norm(&mut self, index: usize, node: Node, weights: &Weights<B>, gradients: &mut Tensor<B>) -> Result<()> {
        let (Layer::BatchNorm { scale, statistics, residual, relu }, Some(input)) = (node.layer, node.input) else {
            unreachable!("a batch norm reads a node")
        };
        let geometry = norm_geometry(self.batch, node);
        let (len, channels) = (self.batch * node.output.len(), node.output.channels);
        let (activations, slots) = (&self.plan.activations, &self.plan.gradients);
        let output = self.plan.again[index].unwrap_or(activations[index]);
        let three = [activations[input], slots[index], slots[input]];
        // Without a ReLU the output is not read, and its slot may hold something else by now.
        let (input, output, output_gradient, input_gradient, residual_gradient) = match (relu, residual) {
            (false, None) => {
                let [input, output_gradient, input_gradient] = disjoint(&mut self.slots, three);
                (&*input, &*input, output_gradient, input_gradient, None)
            }
            (_, None) => {
                let [a, b, c] = three;
                let [input, b, c, output] = disjoint(&mut self.slots, [a, b, c, output]);
                (&*input, &*output, b, c, None)
            }
            (_, Some(residual)) => {
                let [a, b, c] = three;
                let [input, b, c, output, residual] = disjoint(&mut self.slots, [a, b, c, output, slots[residual]]);
                (&*input, &*output, b, c, Some(SpanMut::new(residual, 0, len)))
            }
        };
        let scale = &self.architecture.parameters[scale];
        let inputs = BatchNormBackward {
            input: Span::new(input, 0, len),
            output: Span::new(output, 0, len),
            output_gradient: Span::new(&*output_gradient, 0, len),
            weight: weights.parameter(scale),
            mean: self.batch_means.part(statistics, channels),
            inverse_deviation: self.batch_inverse_deviations.part(statistics, channels),
            frozen: self.frozen,
        };
        let outputs = BatchNormGradients {
            input: SpanMut::new(input_gradient, 0, len),
            residual: residual_gradient,
            affine: gradients.part_mut(scale.start, 2 * channels),
        };
        self.backend.batch_norm_backward(&geometry, inputs, outputs)
    }

    fn backward_pool(&mut self, index: usize, node: Node, weights: &Weights<B>) -> Result<()> {
        let from = self.architecture.input(index);
        let geometry = pool_geometry(self.batch, from);
        let input = node.input.expect("a pooling reads a node");
        let slots = [self.output_again(input, weights)?, self.plan.gradients[index], self.plan.gradients[input]];
        let [input, output_gradient, input_gradient] = disjoint(&mut self.slots, slots);
        let input = Span::new(&*input, 0, self.batch * from.len());
        let output_gradient = Span::new(&*output_gradient, 0, self.batch * node.output.len());
        let input_gradient = SpanMut::new(input_gradient, 0, self.batch * from.len());
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
        let slots = [self.plan.activations[input], self.plan.gradients[index], self.plan.gradients[input]];
        let [input, output_gradient, input_gradient] = disjoint(&mut self.slots, slots);
        let (inputs, outputs) = (self.batch * geometry.in_features, self.batch * geometry.out_features);
        let weight = &self.architecture.parameters[weight];
        let gradients = LinearGradients {
            input: SpanMut::new(input_gradient, 0, inputs),
            parameters: gradients.part_mut(weight.start, weight.len() + geometry.out_features),
        };
        let (input, output_gradient) = (Span::new(&*input, 0, inputs), Span::new(&*output_gradient, 0, outputs));
        self.backend.linear_backward(&geometry, input, weights.parameter(weight), output_gradient, gradients)
    }

    fn backward_normalize(&mut self, index: usize, node: Node, embedding_gradient: In<'_, B>) -> Result<()> {
        let geometry = RowGeometry { rows: self.batch, dim: node.output.len() };
        let len = geometry.rows * geometry.dim;
        let input = node.input.expect("the normalisation reads the head");
        let [output, input_gradient] = disjoint(&mut self.slots, [self.plan.activations[index], self.plan.gradients[input]]);
        let (output, input_gradient) = (Span::new(&*output, 0, len), SpanMut::new(input_gradient, 0, len));
        self.backend.l2_normalize_backward(&geometry, output, self.norms.part(0, self.batch), embedding_gradient, input_gradient)
    }
}
