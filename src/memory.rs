//! The embedding memory: a ring of the embeddings, labels and instance ids seen last, and the loss of anchors against it.
//!
//! Enqueueing a batch is the same as enqueueing its rows one by one: each takes the slot at the head, and the head moves on,
//! starting over at the end of the ring. A batch that does not fit between head and end is written in two segments; of a batch
//! larger than the ring the last `capacity` rows stay. Slots `0 .. count` are in use; `count` grows to `capacity` and stays.
//!
//! A training step may enqueue its batch before its loss or after it. An anchor must never be a pair with itself, so:
//! * [`Exclusion::Instance`] (the default) leaves out every row with the anchor's instance id: right in either order. An older
//!   embedding of the same image is left out too.
//! * [`Exclusion::LastEnqueue`] leaves out the slots that the last batch took, row by row: right only if the anchors are the
//!   batch that was just enqueued.
//! * [`Exclusion::None`] leaves out nothing: right only if no row is an embedding of an anchor's image.
//!
//! ```
//! use xbm_fast::backend::{Cpu, Span};
//! use xbm_fast::memory::EmbeddingMemory;
//!
//! let cpu = Cpu::new(Some(1))?;
//! let mut memory = EmbeddingMemory::new(&cpu, 3, 1)?;
//! for (embedding, label) in [(0.1, 7), (0.2, 7), (0.3, 8), (0.4, 8)] {
//!     memory.enqueue(&cpu, Span::all(&vec![embedding]), Span::all(&vec![label]), Span::all(&vec![label * 10]))?;
//! }
//! let state = memory.export(&cpu)?;
//! assert_eq!((state.rows, state.labels, state.head), (vec![0.4, 0.2, 0.3], vec![8, 7, 8], 1));
//! # Ok::<(), xbm_fast::Error>(())
//! ```

use crate::backend::{Precision, Span, SpanMut, Storage};
use crate::error::{Error, Result, expect_len};
use crate::ops::pair_loss::{OwnRows, PairLoss, PairLossGeometry, PairLossInputs, PairLossOutputs};
use crate::ops::{In, IntegersIn};
use crate::weighting::PairWeighting;
use serde::{Deserialize, Serialize};

/// A ring of embeddings on a device.
#[derive(Debug)]
pub struct EmbeddingMemory<B: Storage> {
    rows: B::Buffer,
    labels: B::Integers,
    ids: B::Integers,
    last_slots: B::Integers,
    last_batch: usize,
    capacity: usize,
    dim: usize,
    head: usize,
    count: usize,
}

/// Everything a memory holds, on the host: what a checkpoint stores.
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
}

/// How an anchor is kept from being a pair with itself; see the module's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclusion {
    /// Rows with the anchor's instance id.
    #[default]
    Instance,
    /// The slots of the batch enqueued last, which must be the anchors.
    LastEnqueue,
    /// No row.
    None,
}

/// Anchors of a loss against the memory.
#[derive(Debug)]
pub struct Anchors<'a, B: Storage> {
    /// `(anchors, dim)`, unit rows.
    pub embeddings: In<'a, B>,
    /// `(anchors)`.
    pub labels: IntegersIn<'a, B>,
    /// `(anchors)`: instance ids.
    pub ids: IntegersIn<'a, B>,
}

/// How a loss against the memory is taken.
#[derive(Clone, Copy, Debug)]
pub struct LossSettings<'a> {
    /// Weights of the pairs.
    pub weighting: &'a PairWeighting,
    /// Factor of the gradient.
    pub scale: f32,
    /// Which rows are an anchor itself.
    pub exclusion: Exclusion,
    /// Whether the gradient is added to what its buffer holds.
    pub accumulate: bool,
}

impl<B: Storage> EmbeddingMemory<B> {
    /// An empty memory of `capacity` rows of length `dim`.
    ///
    /// # Errors
    /// [`Error::Config`] if either is 0 or too large; out of memory, where the device can tell.
    pub fn new(backend: &B, capacity: usize, dim: usize) -> Result<Self> {
        let fits = i32::try_from(capacity).is_ok() && capacity.checked_mul(dim).is_some();
        if capacity == 0 || dim == 0 || !fits {
            let limit = i32::MAX;
            return Err(Error::config(format!(
                "memory of {capacity} rows of length {dim}: expected 1 to {limit} rows of length 1 or more"
            )));
        }
        Ok(Self {
            rows: backend.zeros(capacity * dim, Precision::Compute)?,
            labels: backend.zero_integers(capacity)?,
            ids: backend.zero_integers(capacity)?,
            last_slots: backend.zero_integers(0)?,
            last_batch: 0,
            capacity,
            dim,
            head: 0,
            count: 0,
        })
    }

    /// Number of slots.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Length of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Slots in use.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Slot that the next row takes.
    pub fn head(&self) -> usize {
        self.head
    }

    /// `(count, dim)`: the embeddings in use, in order of slot.
    pub fn rows(&self) -> In<'_, B> {
        Span::new(&self.rows, 0, self.count * self.dim)
    }

    /// `(count)`: their labels.
    pub fn labels(&self) -> IntegersIn<'_, B> {
        Span::new(&self.labels, 0, self.count)
    }

    /// `(count)`: their instance ids.
    pub fn ids(&self) -> IntegersIn<'_, B> {
        Span::new(&self.ids, 0, self.count)
    }

    /// For each row of the batch enqueued last its slot, or -1 if it did not stay. Empty after [`Self::clear`] and
    /// [`Self::restore`].
    pub fn last_slots(&self) -> IntegersIn<'_, B> {
        Span::new(&self.last_slots, 0, self.last_batch)
    }

    /// Forgets every row.
    pub fn clear(&mut self) {
        (self.head, self.count, self.last_batch) = (0, 0, 0);
    }

    /// Writes a batch into the ring: embeddings `(batch, dim)`, labels and instance ids `(batch)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the three do not describe one batch; then the memory is as before.
    pub fn enqueue(&mut self, backend: &B, embeddings: In<'_, B>, labels: IntegersIn<'_, B>, ids: IntegersIn<'_, B>) -> Result<()> {
        let (batch, dim) = (labels.len, self.dim);
        expect_len("embeddings to enqueue", batch * dim, embeddings.len)?;
        expect_len("instance ids to enqueue", batch, ids.len)?;
        self.note_slots(backend, batch)?;
        let kept = batch.min(self.capacity);
        let start = (self.head + batch - kept) % self.capacity;
        let until_end = kept.min(self.capacity - start);
        for (from, slot, len) in [(batch - kept, start, until_end), (batch - kept + until_end, 0, kept - until_end)] {
            let rows = SpanMut::new(&mut self.rows, slot * dim, len * dim);
            backend.copy(embeddings.part(from * dim, len * dim), rows)?;
            backend.copy_integers(labels.part(from, len), SpanMut::new(&mut self.labels, slot, len))?;
            backend.copy_integers(ids.part(from, len), SpanMut::new(&mut self.ids, slot, len))?;
        }
        self.head = (self.head + batch) % self.capacity;
        self.count = (self.count + batch).min(self.capacity);
        Ok(())
    }

    fn note_slots(&mut self, backend: &B, batch: usize) -> Result<()> {
        let dropped = batch.saturating_sub(self.capacity);
        let slot = |row: usize| if row < dropped { -1 } else { ((self.head + row) % self.capacity) as i32 };
        let slots: Vec<i32> = (0..batch).map(slot).collect();
        if batch != self.last_batch {
            self.last_slots = backend.zero_integers(batch)?;
            self.last_batch = batch;
        }
        backend.upload_integers(&slots, SpanMut::new(&mut self.last_slots, 0, batch))
    }

    /// Everything the memory holds, for a checkpoint.
    ///
    /// # Errors
    /// Those of the device.
    pub fn export(&self, backend: &B) -> Result<MemoryState> {
        let mut state = MemoryState {
            capacity: self.capacity,
            dim: self.dim,
            head: self.head,
            rows: vec![0.0; self.count * self.dim],
            labels: vec![0; self.count],
            ids: vec![0; self.count],
        };
        backend.download(self.rows(), &mut state.rows)?;
        backend.download_integers(self.labels(), &mut state.labels)?;
        backend.download_integers(self.ids(), &mut state.ids)?;
        Ok(state)
    }

    /// Takes over an exported state; from then on the memory behaves, bit for bit, like the one that was exported.
    ///
    /// # Errors
    /// [`Error::Shape`] if the state is of another capacity or dimension, or does not agree with itself; then the memory is as
    /// before.
    pub fn restore(&mut self, backend: &B, state: &MemoryState) -> Result<()> {
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
        let heads = if count == self.capacity { 0..self.capacity } else { count..count + 1 };
        if !heads.contains(&state.head) {
            let expected = format_args!("{} to {} with {count} rows in use", heads.start, heads.end - 1);
            return Err(Error::shape("saved memory head", expected, state.head));
        }
        backend.upload(&state.rows, SpanMut::new(&mut self.rows, 0, count * self.dim))?;
        backend.upload_integers(&state.labels, SpanMut::new(&mut self.labels, 0, count))?;
        backend.upload_integers(&state.ids, SpanMut::new(&mut self.ids, 0, count))?;
        (self.head, self.count, self.last_batch) = (state.head, count, 0);
        Ok(())
    }
}

impl<B: PairLoss> EmbeddingMemory<B> {
    /// Loss and gradient of anchors against the rows in use; see [`PairLoss::pair_loss`]. An empty memory gives zeros.
    ///
    /// # Errors
    /// Those of [`PairLoss::pair_loss`]; [`Error::Shape`] if [`Exclusion::LastEnqueue`] meets another number of anchors than
    /// were enqueued.
    pub fn pair_loss(
        &self,
        backend: &B,
        settings: LossSettings<'_>,
        anchors: Anchors<'_, B>,
        outputs: PairLossOutputs<'_, B>,
    ) -> Result<()> {
        let geometry = PairLossGeometry { anchors: anchors.labels.len, rows: self.count, dim: self.dim };
        let own = match settings.exclusion {
            Exclusion::Instance => OwnRows::Instance { anchors: anchors.ids, rows: self.ids() },
            Exclusion::LastEnqueue => OwnRows::Slot(self.last_slots()),
            Exclusion::None => OwnRows::None,
        };
        let inputs = PairLossInputs {
            anchors: anchors.embeddings,
            anchor_labels: anchors.labels,
            memory: self.rows(),
            memory_labels: self.labels(),
            own,
        };
        backend.pair_loss(&geometry, settings.weighting, settings.scale, inputs, outputs, settings.accumulate)
    }
}

/// When the memory takes part in the loss: not before `start`, then with a weight that rises linearly over `ramp` steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySchedule {
    /// First step of the memory.
    pub start: u64,
    /// Steps from weight 0 to the full weight; 0 for the full weight at once.
    pub ramp: u64,
    /// Full weight of the memory's loss.
    pub weight: f32,
}

impl MemorySchedule {
    /// Weight of the memory's loss at a step.
    pub fn weight_at(&self, step: u64) -> f32 {
        match step.checked_sub(self.start) {
            None => 0.0,
            Some(since) if since < self.ramp => self.weight * (since as f64 / self.ramp as f64) as f32,
            Some(_) => self.weight,
        }
    }
}
