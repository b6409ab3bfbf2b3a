//! The slots of a plan in a device's memory.

use super::plan::{Place, Plan};
use crate::backend::{Precision, Span, SpanMut};
use crate::error::Result;
use crate::ops::Backend;
use crate::tensor::Tensor;

/// Memory for the tensors of a plan, for batches of up to a fixed size.
#[derive(Debug)]
pub(super) struct Slots<B: Backend> {
    slots: Vec<Tensor<B>>,
    capacity: usize,
}

impl<B: Backend> Slots<B> {
    pub fn new(backend: &B, plan: &Plan, capacity: usize) -> Result<Self> {
        let slot = |len| Tensor::with_precision(backend, len * capacity, Precision::Compute);
        Ok(Self { slots: plan.slots.iter().map(slot).collect::<Result<_>>()?, capacity })
    }

    /// `len` values of the tensor at `place`, to be read.
    pub fn get(&self, (place, len): (Place, usize)) -> Span<'_, B::Buffer> {
        self.slots[place.slot].part(place.start * self.capacity, len)
    }

    /// The tensors of one operation, with their lengths. The plan gives them different slots.
    pub fn take<const N: usize>(&mut self, tensors: [(Place, usize); N]) -> [SpanMut<'_, B::Buffer>; N] {
        self.take_some(tensors.map(Some)).map(|span| span.expect("all were asked for"))
    }

    /// As [`Slots::take`], where some may not be needed.
    pub fn take_some<const N: usize>(&mut self, tensors: [Option<(Place, usize)>; N]) -> [Option<SpanMut<'_, B::Buffer>>; N] {
        let mut spans = [const { None }; N];
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let wanted = tensors.iter().zip(&mut spans).find_map(|(tensor, span)| match tensor {
                Some((place, len)) if place.slot == number => Some((place.start, *len, span)),
                _ => None,
            });
            if let Some((start, len, span)) = wanted {
                *span = Some(slot.part_mut(start * self.capacity, len));
            }
        }
        let missing = tensors.iter().zip(&spans).any(|(tensor, span)| tensor.is_some() && span.is_none());
        assert!(!missing, "tensors of one operation have slots of their own");
        spans
    }
}
