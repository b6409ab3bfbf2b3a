//! A memory on the host: into a checkpoint and back.

use super::{DriftMeter, EmbeddingMemory, Filling};
use crate::device::{SpanMut, Storage, host_memory};
use crate::error::{Error, Result, expect_len};
use crate::files::numbers;
use bytemuck::Pod;
use std::borrow::Cow;
use std::collections::HashSet;

/// Batches that a memory may have taken in: files hold times in 31 bits.
const LAST_TIME: u32 = i32::MAX as u32;

/// Everything a memory holds: what a checkpoint stores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryState {
    /// Number of slots.
    pub capacity: usize,
    /// Length of an embedding.
    pub dim: usize,
    /// Slot that the next row takes.
    pub head: usize,
    /// `(count, dim)`: the slots in use, in order of slot.
    pub rows: Vec<f32>,
    /// `(count)`.
    pub labels: Vec<i32>,
    /// `(count)`: instance ids.
    pub ids: Vec<i32>,
    /// `(count)`: the value of `clock` when each slot was written.
    pub written: Vec<u32>,
    /// Batches enqueued so far.
    pub clock: u32,
    /// What was measured of the drift.
    pub drift: DriftMeter,
}

impl<B: Storage> EmbeddingMemory<B> {
    /// Everything the memory holds, for a checkpoint. Of a memory in parts the first rank gets all, and the others no rows.
    ///
    /// # Errors
    /// Those of the device.
    pub fn export(&self, backend: &B) -> Result<MemoryState> {
        let held = self.held();
        let mut state = MemoryState {
            capacity: self.capacity,
            dim: self.dim,
            head: self.head,
            rows: host_memory::zeros(held * self.dim)?,
            labels: vec![0; held],
            ids: vec![0; held],
            written: self.slots.written().to_vec(),
            clock: self.slots.clock(),
            drift: self.drift,
        };
        backend.download_rows(self.rows(), &mut state.rows)?;
        backend.download_integers(self.labels(), &mut state.labels)?;
        backend.download_integers(self.ids(), &mut state.ids)?;
        if !self.shard.group().is_alone() {
            state.rows = self.assembled("the memory's rows", &state.rows, self.dim)?;
            state.labels = self.assembled("the memory's labels", &state.labels, 1)?;
            state.ids = self.assembled("the memory's instance ids", &state.ids, 1)?;
        }
        Ok(state)
    }

    /// The parts of all ranks in order of slot, `width` numbers a slot.
    fn assembled<T: Pod>(&self, what: &'static str, own: &[T], width: usize) -> Result<Vec<T>> {
        let parts = self.shard.group().collect_at_first(what, numbers::as_bytes(own))?;
        if !self.shard.group().is_first() {
            return Ok(Vec::new());
        }
        let parts: Vec<Vec<T>> = parts.iter().map(|bytes| numbers::from_bytes(bytes)).collect();
        let mut all = Vec::with_capacity(self.count() * width);
        for (rank, place) in (0..self.count()).map(|slot| self.shard.place(slot)) {
            all.extend_from_slice(&parts[rank][place * width..][..width]);
        }
        Ok(all)
    }

    /// Takes over an exported state; from then on the memory behaves, bit for bit, like the one that was exported.
    ///
    /// # Errors
    /// [`Error::Shape`] if the state is of another capacity or dimension, or does not agree with itself, [`Error::NotFinite`] if a row
    /// is not finite; then the memory is as before.
    pub fn restore(&mut self, backend: &B, state: &MemoryState) -> Result<()> {
        self.check(state)?;
        let (rows, labels) = (self.part_of(&state.rows, self.dim), self.part_of(&state.labels, 1));
        let (ids, count) = (self.part_of(&state.ids, 1), labels.len());
        for copy in 0..self.filling.copies() {
            let first = copy * self.room();
            backend.upload_rows(&rows, SpanMut::new(&mut self.rows, first * self.dim, count * self.dim))?;
            backend.upload_integers(&labels, SpanMut::new(&mut self.labels, first, count))?;
            backend.upload_integers(&ids, SpanMut::new(&mut self.ids, first, count))?;
        }
        self.slots.restore(state.clock, self.owners(state), &state.written, state.head);
        self.drift = state.drift;
        (self.head, self.last_batch) = (state.head, 0);
        Ok(())
    }

    /// What of all slots is held here, `width` numbers a slot.
    fn part_of<'a, T: Pod>(&self, all: &'a [T], width: usize) -> Cow<'a, [T]> {
        if self.shard.group().is_alone() {
            return Cow::Borrowed(all);
        }
        let here = all.chunks_exact(width).enumerate().filter(|(slot, _)| self.shard.local(*slot).is_some());
        here.flat_map(|(_, row)| row).copied().collect()
    }

    fn check(&self, state: &MemoryState) -> Result<()> {
        let count = state.labels.len();
        let found = format_args!("{} rows of length {}", state.capacity, state.dim);
        if (state.capacity, state.dim) != (self.capacity, self.dim) {
            return Err(Error::shape("saved memory", format_args!("{} rows of length {}", self.capacity, self.dim), found));
        }
        if count > self.capacity {
            return Err(Error::shape("saved memory", format_args!("at most {} rows in use", self.capacity), count));
        }
        expect_len("saved memory rows", count * self.dim, state.rows.len())?;
        expect_len("saved memory instance ids", count, state.ids.len())?;
        expect_len("saved memory times", count, state.written.len())?;
        let heads = if count == self.capacity { 0..self.capacity } else { count..count + 1 };
        if !heads.contains(&state.head) {
            let expected = format_args!("{} to {} with {count} rows in use", heads.start, heads.end - 1);
            return Err(Error::shape("saved memory head", expected, state.head));
        }
        if let (Filling::Ring { .. }, Some(rows)) = (self.filling, self.shard.batch()) {
            self.shard.check_batch(state.head, rows)?;
            self.shard.check_batch(count, rows)?;
        }
        if let Some(late) = state.written.iter().find(|&&written| written > state.clock) {
            return Err(Error::shape("saved memory times", format_args!("at most {}, the memory's clock", state.clock), late));
        }
        self.check_values(state)
    }

    /// Fails on rows, owners and counters that no memory has.
    fn check_values(&self, state: &MemoryState) -> Result<()> {
        if let Some(at) = state.rows.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { what: "the saved memory", row: at / self.dim });
        }
        let (mut met, by_owner) = (HashSet::new(), !matches!(self.filling, Filling::Ring { .. }));
        if let Some(owner) = self.owners(state).iter().find(|owner| by_owner && !met.insert(**owner)) {
            return Err(Error::shape("saved memory", "one row for each image or class", format_args!("two of {owner}")));
        }
        if state.clock > LAST_TIME {
            return Err(Error::shape("saved memory clock", format_args!("at most {LAST_TIME}"), state.clock));
        }
        if state.drift.is_sound() { Ok(()) } else { Err(Error::shape("saved memory drift", "means from 0 to 2", "others")) }
    }

    /// Whom each row belongs to: a class, or an image.
    fn owners<'a>(&self, state: &'a MemoryState) -> &'a [i32] {
        if matches!(self.filling, Filling::Prototype { .. }) { &state.labels } else { &state.ids }
    }
}
