//! The embedding memory: embeddings of past batches with their labels and instance ids, and the loss of anchors against them.
//!
//! How a batch is stored is the memory's [`Filling`]:
//! * a **ring** holds the embeddings seen last. Enqueueing a batch is the same as enqueueing its rows one by one: each takes the slot at
//!   the head, and the head moves on, starting over at the end. Of a batch larger than the ring the last `capacity` rows stay;
//! * an **instance** memory has one row for each image: its latest embedding, or a moving average of its embeddings, made a unit row
//!   again;
//! * a **prototype** memory has one row for each class: a moving average of the embeddings of its images.
//!
//! Slots `0 .. count` are in use; `count` grows to `capacity` and stays. Each row knows when it was written, and when an image comes
//! again its new embedding is compared with its stored one ([`DriftMeter`]). A ring can be gated by that drift: the loss then uses only
//! rows so young that the drift measured at their age is below a limit.
//!
//! A training step may enqueue its batch before its loss or after it. An anchor must never be a pair with itself, so:
//! * [`SelfPairs::Instance`] (the default) leaves out every row with the anchor's instance id: right in either order. An older
//!   embedding of the same image is left out too. A prototype belongs to no image and is never left out.
//! * [`SelfPairs::Slot`] leaves out the slots that the last batch took, row by row: right only if the anchors are the
//!   batch that was just enqueued.
//! * [`SelfPairs::None`] leaves out nothing: right only if no row is an embedding of an anchor's image.
//!
//! ```
//! use xbm_fast::device::{Cpu, Span};
//! use xbm_fast::memory::EmbeddingMemory;
//!
//! let cpu = Cpu::new(Some(1))?;
//! let mut memory = EmbeddingMemory::new(&cpu, 3, 1)?;
//! for (embedding, label) in [(0.1, 7), (0.2, 7), (0.3, 8), (0.4, 8)] {
//!     memory.enqueue(&cpu, Span::all(&vec![embedding]), &[label], &[label * 10])?;
//! }
//! let state = memory.export(&cpu)?;
//! assert_eq!((state.rows, state.labels, state.head), (vec![0.4, 0.2, 0.3], vec![8, 7, 8], 1));
//! # Ok::<(), xbm_fast::Error>(())
//! ```

mod drift;
mod enqueue;
mod loss;
mod ring;
mod rows;
mod schedule;
mod settings;
mod shard;
mod slots;
mod state;

pub use drift::DriftMeter;
pub use loss::{Anchors, LossSettings};
pub use schedule::MemorySchedule;
pub use settings::{EnqueueOrder, MemoryKind, MemorySettings, SelfPairs};
pub use state::MemoryState;

use crate::device::{RowPrecision, Span, Storage, host_memory};
use crate::error::{Error, Result};
use crate::ops::{IntegersIn, RowsIn};
use enqueue::Samples;
use serde::{Deserialize, Serialize};
use shard::Shard;
use slots::SlotTable;

/// How batches are stored; see the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Filling {
    /// The embeddings seen last.
    Ring {
        /// Only rows of an age at which the measured drift is below this take part in the loss.
        max_drift: Option<f32>,
    },
    /// A row for each image.
    Instance {
        /// Share of the old row in the new one, in `[0, 1)`; 0 keeps the latest embedding.
        average: f32,
    },
    /// A row for each class.
    Prototype {
        /// Share of the old row in the new one, in `[0, 1)`.
        average: f32,
    },
}

/// Embeddings on a device.
#[derive(Debug)]
pub struct EmbeddingMemory<B: Storage> {
    filling: Filling,
    rows: B::Rows,
    labels: B::Integers,
    ids: B::Integers,
    last_slots: B::Integers,
    last_batch: usize,
    capacity: usize,
    dim: usize,
    head: usize,
    slots: SlotTable,
    /// Which slots have their rows here.
    shard: Shard,
    drift: DriftMeter,
    samples: Samples<B>,
    /// The batch and one stored row, on the host.
    scratch: (Vec<f32>, Vec<f32>),
}

impl<B: Storage> EmbeddingMemory<B> {
    /// An empty ring of `capacity` rows of length `dim`.
    ///
    /// # Errors
    /// As [`EmbeddingMemory::with_filling`].
    pub fn new(backend: &B, capacity: usize, dim: usize) -> Result<Self> {
        Self::with_filling(backend, capacity, dim, Filling::Ring { max_drift: None })
    }

    /// An empty memory of `capacity` rows of length `dim`.
    ///
    /// # Errors
    /// As [`EmbeddingMemory::with_precision`].
    pub fn with_filling(backend: &B, capacity: usize, dim: usize, filling: Filling) -> Result<Self> {
        Self::with_precision(backend, capacity, dim, filling, RowPrecision::Compute)
    }

    /// An empty memory of `capacity` rows of length `dim`, held in `precision`.
    ///
    /// # Errors
    /// [`Error::Config`] if either is 0 or too large, a number of `filling` is out of its range, or the device does not have the
    /// precision; out of memory, where it can tell.
    pub fn with_precision(backend: &B, capacity: usize, dim: usize, filling: Filling, precision: RowPrecision) -> Result<Self> {
        Self::of_shard(backend, (capacity, dim), filling, precision, Shard::whole())
    }

    /// As [`EmbeddingMemory::with_precision`], shared out among the ranks of [`Storage::group`], which enqueue batches of `batch` rows
    /// together: all of them know all slots, and each holds the rows of its own.
    ///
    /// # Errors
    /// As [`EmbeddingMemory::with_precision`].
    pub fn in_parts(
        backend: &B,
        (capacity, dim): (usize, usize),
        filling: Filling,
        precision: RowPrecision,
        batch: usize,
    ) -> Result<Self> {
        Self::of_shard(backend, (capacity, dim), filling, precision, Shard::new(backend.group(), filling, batch))
    }

    fn of_shard(
        backend: &B,
        (capacity, dim): (usize, usize),
        filling: Filling,
        precision: RowPrecision,
        shard: Shard,
    ) -> Result<Self> {
        let fits = i32::try_from(capacity).is_ok()
            && capacity.checked_mul(2 * filling.copies()).is_some_and(|held| held.checked_mul(dim).is_some());
        if capacity == 0 || dim == 0 || !fits {
            let limit = i32::MAX;
            return Err(Error::config(format!(
                "memory of {capacity} rows of length {dim}: expected 1 to {limit} rows of length 1 or more"
            )));
        }
        filling.validate()?;
        let held = shard.count(capacity) * filling.copies();
        let too_large = |error: Error| {
            error.allocating(&format!("the memory of {capacity} rows of {dim} numbers"), "its number of rows (--memory-size)")
        };
        Ok(Self {
            filling,
            rows: backend.zero_rows(held * dim, precision).map_err(too_large)?,
            labels: backend.zero_integers(held).map_err(too_large)?,
            ids: backend.zero_integers(held).map_err(too_large)?,
            last_slots: backend.zero_integers(0)?,
            last_batch: 0,
            capacity,
            dim,
            head: 0,
            slots: SlotTable::new(capacity).map_err(too_large)?,
            shard,
            drift: DriftMeter::default(),
            samples: Samples::new(backend, dim).map_err(too_large)?,
            scratch: (Vec::new(), host_memory::zeros(dim)?),
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
        self.slots.count()
    }

    /// Slot that the next row of a ring takes.
    pub fn head(&self) -> usize {
        self.head
    }

    /// Slots in use whose rows are here: all of them, but in a memory [in parts](Self::in_parts).
    fn held(&self) -> usize {
        self.shard.count(self.count())
    }

    /// Rows that there is room for here.
    fn room(&self) -> usize {
        self.shard.count(self.capacity)
    }

    /// `(count, dim)`: the embeddings in use, in order of slot; of a memory in parts those that are here.
    pub fn rows(&self) -> RowsIn<'_, B> {
        Span::new(&self.rows, 0, self.held() * self.dim)
    }

    /// `(count)`: their labels.
    pub fn labels(&self) -> IntegersIn<'_, B> {
        Span::new(&self.labels, 0, self.held())
    }

    /// `(count)`: their instance ids; -1 of a prototype.
    pub fn ids(&self) -> IntegersIn<'_, B> {
        Span::new(&self.ids, 0, self.held())
    }

    /// For each row of the batch enqueued last its slot, or -1 if it did not stay, or not here. Empty after [`Self::clear`] and
    /// [`Self::restore`].
    pub fn last_slots(&self) -> IntegersIn<'_, B> {
        Span::new(&self.last_slots, 0, self.last_batch)
    }

    /// How far embeddings have moved since they were stored, as far as it was read back. Nothing is measured in a prototype memory.
    pub fn drift(&self) -> &DriftMeter {
        &self.drift
    }

    /// Forgets every row. What was measured of the drift stays.
    pub fn clear(&mut self) {
        (self.head, self.last_batch) = (0, 0);
        self.slots.clear();
    }
}

impl Filling {
    /// Fails on a share or a drift that is none.
    fn validate(self) -> Result<()> {
        let (fine, what, found) = match self {
            Self::Ring { max_drift: None } => return Ok(()),
            Self::Ring { max_drift: Some(limit) } => ((0.0..=2.0).contains(&limit), "largest drift: expected 0 to 2", limit),
            Self::Instance { average } | Self::Prototype { average } => {
                ((0.0..1.0).contains(&average), "average: expected a share of at least 0 and less than 1", average)
            }
        };
        if fine { Ok(()) } else { Err(Error::config(format!("memory, {what}, found {found}"))) }
    }

    /// How often each row is held: twice in a ring gated by age.
    fn copies(self) -> usize {
        if matches!(self, Self::Ring { max_drift: Some(_) }) { 2 } else { 1 }
    }
}
