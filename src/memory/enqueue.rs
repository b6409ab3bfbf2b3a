//! A batch joins the memory, and the drift of images that come again is measured.
//!
//! What is measured is read back apart from the storing, so that a step need not wait for the device.

use super::{EmbeddingMemory, Filling, rows};
use crate::cpu::dot::dot_f64;
use crate::device::Tensor;
use crate::device::{Span, SpanMut, Storage};
use crate::error::{Error, Result, expect_len};
use crate::ops::In;
use crate::ops::rows::Rows;

/// Rows of a batch whose drift is measured, at most.
const DRIFT_SAMPLES: usize = 16;
/// Instance id of a row that belongs to no image.
const NO_IMAGE: i32 = -1;

/// Embeddings of images that came again with the batch stored last, beside the rows that these had.
#[derive(Debug)]
pub(super) struct Samples<B: Storage> {
    /// `(2, DRIFT_SAMPLES, dim)`: new rows, then stored rows.
    rows: Tensor<B>,
    /// How many batches ago each stored row was written.
    ages: Vec<u32>,
}

impl<B: Storage> Samples<B> {
    pub fn new(backend: &B, dim: usize) -> Result<Self> {
        Ok(Self { rows: Tensor::zeros(backend, 2 * DRIFT_SAMPLES * dim)?, ages: Vec::new() })
    }
}

impl<B: Rows> EmbeddingMemory<B> {
    /// Stores a batch: embeddings `(batch, dim)`, unit rows, with their labels and instance ids, and measures the drift.
    ///
    /// A memory [in parts](Self::in_parts) takes the batch of all ranks on every rank. Of a ring's embeddings it reads only those of this
    /// rank, [`crate::group::Group::part`] of the batch.
    ///
    /// # Errors
    /// [`Error::Shape`] if the three do not describe one batch; then the memory is as before. [`Error::Config`] if a memory of one row
    /// for each image or class meets more of them than it has rows.
    pub fn enqueue(&mut self, backend: &B, embeddings: In<'_, B>, labels: &[i32], ids: &[i32]) -> Result<()> {
        self.store(backend, embeddings, labels, ids)?;
        let (ages, samples) = (self.samples.ages.clone(), self.samples.rows.to_host(backend)?);
        self.measure(&ages, &samples);
        Ok(())
    }

    /// Stores a batch as [`Self::enqueue`] does; a ring reads nothing back. [`Self::samples`] are to be read and handed to
    /// [`Self::measure`] before the memory is exported, batch by batch in their order.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    pub fn store(&mut self, backend: &B, embeddings: In<'_, B>, labels: &[i32], ids: &[i32]) -> Result<()> {
        expect_len("embeddings to enqueue", labels.len() * self.dim, embeddings.len)?;
        expect_len("instance ids to enqueue", labels.len(), ids.len())?;
        if matches!(self.filling, Filling::Ring { .. }) {
            self.shard.check_batch(self.head, labels.len())?;
        }
        self.slots.tick();
        match self.filling {
            Filling::Ring { .. } => {
                self.take_samples(backend, embeddings, ids)?;
                self.enqueue_in_ring(backend, embeddings, labels, ids)
            }
            Filling::Instance { average } => {
                self.take_samples(backend, embeddings, ids)?;
                self.enqueue_by_owner(backend, embeddings, average, (ids, labels, ids))
            }
            Filling::Prototype { average } => {
                let nobody = vec![NO_IMAGE; ids.len()];
                self.enqueue_by_owner(backend, embeddings, average, (labels, labels, &nobody))
            }
        }
    }

    /// What is to be measured of the batch stored last: the ages of the stored rows, and on the device the new rows and the stored ones.
    pub fn samples(&self) -> (&[u32], In<'_, B>) {
        (&self.samples.ages, self.samples.rows.all())
    }

    /// Takes the samples of one batch into the drift.
    pub fn measure(&mut self, ages: &[u32], samples: &[f32]) {
        self.drift.fade();
        let (new, stored) = samples.split_at(samples.len() / 2);
        for (&age, (new, stored)) in ages.iter().zip(new.chunks_exact(self.dim).zip(stored.chunks_exact(self.dim))) {
            self.drift.add(age, dot_f64::<1>(new, stored));
        }
    }

    /// Whether a loss needs what was measured of the batch before it.
    pub fn needs_measurements(&self) -> bool {
        matches!(self.filling, Filling::Ring { max_drift: Some(_) })
    }

    /// Copies the embeddings of images that come again, and their stored rows before these are overwritten.
    fn take_samples(&mut self, backend: &B, embeddings: In<'_, B>, ids: &[i32]) -> Result<()> {
        let (mut places, mut slots) = ([-1; DRIFT_SAMPLES], [-1; DRIFT_SAMPLES]);
        self.samples.ages.clear();
        let again = ids.iter().enumerate().filter(|&(_, &id)| id != NO_IMAGE);
        let again = again.filter_map(|(place, &id)| Some((place, self.slots.slot_of(id)?)));
        let own = self.shard.group().part(ids.len());
        for (sample, (place, slot)) in again.take(DRIFT_SAMPLES).enumerate() {
            places[sample] = if own.contains(&place) { place as i32 } else { -1 };
            slots[sample] = self.shard.local(slot).map_or(-1, |slot| slot as i32);
            self.samples.ages.push(self.slots.age(slot));
        }
        let (dim, held) = (self.dim, self.room() * self.filling.copies());
        let (len, stored) = (DRIFT_SAMPLES * dim, Span::new(&self.rows, 0, held * dim));
        backend.gather_rows(dim, embeddings, &places, self.samples.rows.part_mut(0, len))?;
        backend.gather_stored_rows(dim, stored, &slots, self.samples.rows.part_mut(len, len))?;
        if self.samples.ages.is_empty() || self.shard.group().is_alone() {
            return Ok(());
        }
        // Each row comes from the one rank that has it, and is added to zeros.
        backend.sum_over_ranks("the rows of images that came again", self.samples.rows.all_mut())
    }

    fn enqueue_in_ring(&mut self, backend: &B, embeddings: In<'_, B>, labels: &[i32], ids: &[i32]) -> Result<()> {
        let (batch, dim, capacity, copies) = (labels.len(), self.dim, self.capacity, self.filling.copies());
        let room = self.room();
        let (dropped, mut slots) = (batch.saturating_sub(capacity), vec![-1; batch]);
        for (row, &id) in ids.iter().enumerate() {
            self.slots.record(self.head, id);
            if row >= dropped {
                slots[row] = self.shard.local(self.head).map_or(-1, |slot| slot as i32);
            }
            self.head = (self.head + 1) % capacity;
        }
        self.note_slots(backend, &slots)?;
        for _ in 0..copies {
            backend.scatter_rows(dim, embeddings, &slots, SpanMut::new(&mut self.rows, 0, room * copies * dim))?;
            backend.scatter_integers(labels, &slots, SpanMut::new(&mut self.labels, 0, room * copies))?;
            backend.scatter_integers(ids, &slots, SpanMut::new(&mut self.ids, 0, room * copies))?;
            slots.iter_mut().filter(|slot| **slot >= 0).for_each(|slot| *slot += room as i32);
        }
        Ok(())
    }

    /// Each row goes to the slot of its owner, an image or a class; `columns` are owners, labels and instance ids.
    fn enqueue_by_owner(
        &mut self,
        backend: &B,
        embeddings: In<'_, B>,
        average: f32,
        columns: (&[i32], &[i32], &[i32]),
    ) -> Result<()> {
        let (owners, labels, ids) = columns;
        self.scratch.0.resize(embeddings.len, 0.0);
        backend.download(embeddings, &mut self.scratch.0)?;
        let mut slots = vec![-1; owners.len()];
        for (row, &owner) in owners.iter().enumerate() {
            let (known, new) = (self.slots.slot_of(owner), &self.scratch.0[row * self.dim..][..self.dim]);
            let slot = known.unwrap_or(self.count());
            if slot == self.capacity {
                let words = format!("the memory has {slot} rows, one for each image or class, and all are taken; give it more");
                return Err(Error::config(words));
            }
            self.slots.record(slot, owner);
            let Some(here) = self.shard.local(slot) else { continue };
            slots[row] = here as i32;
            let stored = &mut self.scratch.1;
            stored.copy_from_slice(new);
            if known.is_some() && average > 0.0 {
                rows::read(backend, &self.rows, here, stored)?;
                rows::blend(stored, new, average);
            }
            rows::write(backend, &mut self.rows, here, stored)?;
            backend.upload_integers(&labels[row..=row], SpanMut::new(&mut self.labels, here, 1))?;
            backend.upload_integers(&ids[row..=row], SpanMut::new(&mut self.ids, here, 1))?;
        }
        self.head = self.count() % self.capacity;
        self.note_slots(backend, &slots)
    }

    fn note_slots(&mut self, backend: &B, slots: &[i32]) -> Result<()> {
        if slots.len() != self.last_batch {
            self.last_slots = backend.zero_integers(slots.len())?;
            self.last_batch = slots.len();
        }
        backend.upload_integers(slots, SpanMut::new(&mut self.last_slots, 0, slots.len()))
    }
}
