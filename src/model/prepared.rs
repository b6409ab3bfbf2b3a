//! A network whose weights stay as they are for many batches, so that what a device makes of their filters is made once.

use super::architecture::Layer;
use super::network::{Network, conv_geometry};
use super::weights::Weights;
use crate::error::Result;
use crate::ops::conv::Filter;
use crate::ops::{Backend, In, Out};

/// A network with weights that nobody can change meanwhile; made by [`Network::prepare`].
#[derive(Debug)]
pub struct Prepared<'a, B: Backend> {
    network: &'a mut Network<B>,
    weights: &'a Weights<B>,
    /// Of the nodes that are convolutions; empty where none is prepared.
    filters: Vec<Option<Filter<'a, B>>>,
}

/// Fewest batches for which filters are prepared: on the CPU the pages of the memory for them take as long as packing them six times.
const MANY_BATCHES: usize = 8;

impl<B: Backend> Network<B> {
    /// Prepares for about `batches` batches (a service: `usize::MAX`), full ones above all, with the same weights. Their embeddings are
    /// those of [`Network::forward_eval`] to the bit. On the CPU, where there are enough of them, they come quicker and the large filters
    /// are in memory once more, until the result is dropped.
    ///
    /// A network planned for training prepares nothing: its activations are what a training process needs memory for, and they stay.
    ///
    /// ```
    /// # use xbm_fast::model::{Architecture, Depth, Network, Weights, plan::Purpose};
    /// # use xbm_fast::{Cpu, Tensor, ops::pool::GlobalPooling};
    /// # let backend = Cpu::new(Some(1))?;
    /// # let architecture = Architecture::new(Depth::Small, 16, 8, GlobalPooling::Avg)?;
    /// # let weights = Weights::initialised(&backend, &architecture, 0)?;
    /// # let images = Tensor::zeros(&backend, 4 * architecture.image().len())?;
    /// # let mut embeddings = Tensor::zeros(&backend, 4 * 8)?;
    /// let mut network = Network::new(&backend, architecture, 4, Purpose::Inference)?;
    /// let mut encoder = network.prepare(&weights, 100)?;
    /// for _ in 0..100 {
    ///     encoder.embed(images.all(), 4, embeddings.all_mut())?;
    /// }
    /// # Ok::<(), xbm_fast::Error>(())
    /// ```
    ///
    /// Meanwhile the weights cannot be changed:
    ///
    /// ```compile_fail,E0502
    /// # use xbm_fast::model::{Network, Weights};
    /// # use xbm_fast::{Cpu, Tensor};
    /// # fn f(network: &mut Network<Cpu>, weights: &mut Weights<Cpu>, images: &Tensor<Cpu>, embeddings: &mut Tensor<Cpu>) {
    /// let mut encoder = network.prepare(weights, 100).unwrap();
    /// weights.parameters.all_mut();
    /// encoder.embed(images.all(), 4, embeddings.all_mut()).unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the device reports.
    pub fn prepare<'a>(&'a mut self, weights: &'a Weights<B>, batches: usize) -> Result<Prepared<'a, B>> {
        let pays = batches >= MANY_BATCHES && !self.trains();
        let nodes = if pays { &self.architecture.nodes[..] } else { &[] };
        let filters = nodes.iter().enumerate().map(|(index, &node)| {
            let Layer::Conv { filter, .. } = node.layer else { return Ok(None) };
            let geometry = conv_geometry(self.capacity(), self.architecture.input(index), node);
            let filter = weights.parameter(&self.architecture.parameters[filter]);
            Filter::prepared(&self.backend, &geometry, filter).map(Some)
        });
        Ok(Prepared { filters: filters.collect::<Result<_>>()?, network: self, weights })
    }
}

impl<B: Backend> Prepared<'_, B> {
    /// The network.
    pub fn network(&self) -> &Network<B> {
        self.network
    }

    /// How many filters the device has made something of.
    pub fn prepared_filters(&self) -> usize {
        self.filters.iter().flatten().filter(|filter| filter.is_prepared()).count()
    }

    /// Embeds a batch, as [`Network::forward_eval`].
    ///
    /// # Errors
    /// As there.
    pub fn embed(&mut self, images: In<'_, B>, batch: usize, embeddings: Out<'_, B>) -> Result<()> {
        self.network.evaluate((self.weights, &self.filters), images, batch, embeddings)
    }
}
