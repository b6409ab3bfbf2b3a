//! The buffers of a plan in a device's memory.

use super::plan::{ActivationPlan, Region};
use crate::device::Tensor;
use crate::device::{NumberFormat, Span, SpanMut};
use crate::error::Result;
use crate::ops::Backend;

/// Memory for the tensors of a plan, for batches of up to a fixed size.
#[derive(Debug)]
pub(super) struct Arena<B: Backend> {
    buffers: Vec<Tensor<B>>,
    capacity: usize,
}

impl<B: Backend> Arena<B> {
    pub fn new(backend: &B, plan: &ActivationPlan, capacity: usize) -> Result<Self> {
        let buffer = |len| Tensor::with_format(backend, len * capacity, NumberFormat::Compute);
        Ok(Self { buffers: plan.buffers.iter().map(buffer).collect::<Result<_>>()?, capacity })
    }

    /// `len` values of the tensor at `region`, to be read.
    pub fn get(&self, (region, len): (Region, usize)) -> Span<'_, B::Buffer> {
        self.buffers[region.buffer].part(region.start * self.capacity, len)
    }

    /// The tensors of one operation, with their lengths. The plan gives them different buffers.
    pub fn take<const N: usize>(&mut self, tensors: [(Region, usize); N]) -> [SpanMut<'_, B::Buffer>; N] {
        self.take_some(tensors.map(Some)).map(|span| span.expect("all were asked for"))
    }

    /// As [`Arena::take`], where some may not be needed.
    pub fn take_some<const N: usize>(&mut self, tensors: [Option<(Region, usize)>; N]) -> [Option<SpanMut<'_, B::Buffer>>; N] {
        let mut spans = [const { None }; N];
        for (number, buffer) in self.buffers.iter_mut().enumerate() {
            let wanted = tensors.iter().zip(&mut spans).find_map(|(tensor, span)| match tensor {
                Some((region, len)) if region.buffer == number => Some((region.start, *len, span)),
                _ => None,
            });
            if let Some((start, len, span)) = wanted {
                *span = Some(buffer.part_mut(start * self.capacity, len));
            }
        }
        let missing = tensors.iter().zip(&spans).any(|(tensor, span)| tensor.is_some() && span.is_none());
        assert!(!missing, "tensors of one operation have buffers of their own");
        spans
    }
}
