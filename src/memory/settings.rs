//! Which past embeddings a run compares with, from when on, and how much they weigh.

use super::{Filling, MemorySchedule};
use crate::device::RowPrecision;
use crate::error::{Error, Result};
use crate::settings::Range::{AtLeast, Closed, HalfOpen};
use crate::settings::{choice, settings};

choice! {
    /// Which rows an anchor is compared with beside its own batch.
    pub enum MemoryKind {
        /// Its own batch only.
        None = "none",
        /// Embeddings of past batches as they were (XBM).
        CrossBatch = "cross-batch",
        /// Embeddings of past batches by a slowly moving copy of the network (the key encoder).
        Momentum = "momentum",
        /// A row for each training image: its latest embedding, or their moving average.
        Instance = "instance",
        /// A row for each training class: the moving average of its images' embeddings.
        Prototype = "prototype",
    }
}

choice! {
    /// Whether the batch's own rows are in the memory when its loss is computed. Pairs of an image with itself are excluded either way.
    pub enum EnqueueOrder {
        /// Enqueue, then compute the loss.
        Before = "before",
        /// Compute the loss, then enqueue.
        After = "after",
    }
}

choice! {
    /// Which memory rows are an anchor itself, and therefore no pair; see the head of [`crate::memory`].
    pub enum SelfPairs {
        /// Every row with the anchor's instance id.
        Instance = "instance",
        /// The row that the anchor has just been enqueued to. Older embeddings of the same image are positives, as in
        /// pytorch-metric-learning's `CrossBatchMemory`.
        Slot = "slot",
        /// No row: an anchor may be its own positive.
        None = "none",
    }
}

/// Memories of past batches.
const RINGS: &[&str] = &["cross-batch", "momentum"];
/// Memories with a row for each image or class.
const TABLES: &[&str] = &["instance", "prototype"];
/// All memories.
const ANY: &[&str] = &["cross-batch", "momentum", "instance", "prototype"];

settings! {
    /// The memory of past embeddings.
    pub struct MemorySettings in "Memory" {
        /// Past embeddings to compare with: of past batches as they were (cross-batch) or by a slowly moving copy of the network
        /// (momentum), or a row for each training image (instance) or class (prototype).
        "memory" => kind: MemoryKind = MemoryKind::Momentum, unit("KIND");
        /// Rows of a cross-batch or momentum memory, at least one batch.
        "memory_size" => size: usize = 2048, unit("ROWS"), needs("memory", RINGS);
        /// How rows are held: as activations (32 bit on the CPU, --precision on a GPU), or in 16 bit, which is half the memory.
        "memory_precision" => precision: RowPrecision = RowPrecision::Compute, unit("FORMAT"), needs("memory", ANY);
        /// First step that fills the memory and compares with it.
        "memory_start" => start: u64 = 100, unit("STEP"), needs("memory", ANY);
        /// Steps over which the memory's weight grows to its full value.
        "memory_ramp" => ramp: u64 = 0, unit("STEPS"), needs("memory", ANY);
        /// Weight of the memory loss beside the batch loss.
        "memory_weight" => weight: f32 = 1.0, unit("FACTOR"), within(AtLeast(0.0)), needs("memory", ANY);
        /// Whether a batch joins the memory before or after its loss.
        "memory_enqueue" => enqueue: EnqueueOrder = EnqueueOrder::Before, unit("WHEN"), needs("memory", ANY);
        /// Which memory rows are an image itself, and no pair of it: all its embeddings (instance), only the one just enqueued (slot), or
        /// none.
        "memory_own" => self_pairs: SelfPairs = SelfPairs::Instance, unit("ROWS"), needs("memory", ANY);
        /// Share of the old row in the new one, with a row for each image or class; 0 keeps the latest embedding.
        "memory_average" => average: f32 = 0.5, unit("SHARE"), within(HalfOpen(0.0, 1.0)), needs("memory", TABLES);
        /// Use only rows of an age at which embeddings have drifted less than this (1 - similarity) since they were stored; 0 uses all.
        "memory_max_drift" => max_drift: f32 = 0.0, unit("DRIFT"), within(Closed(0.0, 2.0)), needs("memory", ANY);
        /// Share of the old key encoder in the new one, each step of a momentum memory.
        "momentum" => momentum: f32 = 0.99, unit("SHARE"), within(HalfOpen(0.0, 1.0)), needs("memory", &["momentum"]);
    }
}

impl MemorySettings {
    /// When the memory takes part in the loss.
    pub fn schedule(&self) -> MemorySchedule {
        MemorySchedule { start: self.start, ramp: self.ramp, weight: self.weight }
    }

    /// How the memory stores a batch; `None` without a memory.
    pub fn filling(&self) -> Option<Filling> {
        let average = self.average;
        match self.kind {
            MemoryKind::None => None,
            MemoryKind::CrossBatch | MemoryKind::Momentum => {
                Some(Filling::Ring { max_drift: (self.max_drift > 0.0).then_some(self.max_drift) })
            }
            MemoryKind::Instance => Some(Filling::Instance { average }),
            MemoryKind::Prototype => Some(Filling::Prototype { average }),
        }
    }

    /// A memory with a row for each image or class has as many rows as there are of them to train on.
    pub fn set_size(&mut self, images: usize, classes: usize) {
        match self.kind {
            MemoryKind::Instance => self.size = images,
            MemoryKind::Prototype => self.size = classes,
            MemoryKind::None | MemoryKind::CrossBatch | MemoryKind::Momentum => {}
        }
    }

    /// What gives a run that goes on the memory that its checkpoint holds.
    pub fn size_advice(&self) -> &'static str {
        if self.is_ring() { "resume without --memory-size" } else { "resume with the training images it began with" }
    }

    /// Fails on a memory that cannot be shared out among `ranks` processes which enqueue batches of `batch` rows together.
    pub(crate) fn check_ranks(&self, ranks: usize, batch: usize) -> Result<()> {
        if ranks == 1 || !self.is_ring() || self.size.is_multiple_of(batch) {
            return Ok(());
        }
        let below = self.size / batch * batch;
        Err(Error::config(format!(
            "--memory-size {}: {ranks} processes share a memory by whole batches; expected a multiple of --batch-size {batch}, such as \
             {below} or {}",
            self.size,
            below + batch
        )))
    }

    /// Whether its rows are those of past batches, as many as `size` says.
    pub fn is_ring(&self) -> bool {
        matches!(self.kind, MemoryKind::CrossBatch | MemoryKind::Momentum)
    }

    pub(crate) fn check(&self, batch_size: usize) -> Result<()> {
        let ensure = |fine: bool, words: &str| if fine { Ok(()) } else { Err(Error::config(words)) };
        self.check_ranges().map_err(Error::config)?;
        if self.is_ring() && self.size < batch_size {
            return Err(Error::config(format!(
                "--memory-size {} is smaller than --batch-size {batch_size}; a memory must hold at least one batch",
                self.size
            )));
        }
        ensure(
            self.self_pairs != SelfPairs::Slot || self.enqueue == EnqueueOrder::Before,
            "--memory-own slot needs --memory-enqueue before: afterwards the memory holds no row of the batch to leave out",
        )?;
        let gated = self.max_drift > 0.0;
        ensure(
            !gated || self.is_ring(),
            "--memory-max-drift needs --memory cross-batch or momentum: only their rows lie in order of age",
        )?;
        ensure(
            !gated || self.self_pairs != SelfPairs::Slot,
            "--memory-max-drift needs --memory-own instance: the slots of young rows move",
        )?;
        ensure(
            self.kind != MemoryKind::Prototype || self.self_pairs != SelfPairs::Slot,
            "--memory-own slot would leave an image without its class's prototype; use --memory-own instance",
        )
    }
}
