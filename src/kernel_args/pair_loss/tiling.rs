//! Host side of `kernels/pair_loss/similarity.cuh`: how the kernels that multiply anchors with memory rows divide their work.

use crate::device::cuda::kernel::{LaunchShape, WARP_SIZE};

/// Longest rows that the tilings are made for, in ascending order; shorter rows take the next.
pub const LENGTHS: [usize; 5] = [64, 128, 256, 512, 1024];
/// Lengths of a row are multiples of this, so that every row begins on 16 bytes.
pub const DIM_MULTIPLE: usize = 8;
/// Shared memory of a block that tilings named `large` need, in bytes; the others need at most 99 KiB, which every device has.
pub const LARGE_SHARED_LIMIT: usize = 163 << 10;
/// Part of a row that one warp multiplies, in numbers.
const SLICE: usize = 128;
const WARP_ANCHORS: usize = 32;

/// How a block of threads divides the work: the twin of `TileShape` in `kernels/pair_loss/similarity.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Longest row.
    pub length: usize,
    /// Whether it needs [`LARGE_SHARED_LIMIT`].
    pub large: bool,
    /// Anchors of a block.
    pub anchors: usize,
    /// Memory rows of a tile.
    pub rows: usize,
}

/// Ranges of the memory that different blocks go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splits {
    /// Number of ranges.
    pub count: usize,
    /// Tiles of a range.
    pub tiles: usize,
}

impl Tiling {
    /// For rows of `dim` numbers on a device that allows a block `shared_limit` bytes; `None` where there is none: for rows longer than
    /// the longest, and for those whose length is no multiple of [`DIM_MULTIPLE`].
    pub fn new(dim: usize, shared_limit: usize) -> Option<Self> {
        let length = LENGTHS.into_iter().find(|&length| length >= dim)?;
        let large = length >= 512 && shared_limit >= LARGE_SHARED_LIMIT;
        let exists = dim > 0 && dim.is_multiple_of(DIM_MULTIPLE) && (length <= 512 || large);
        exists.then(|| Self::of_length(length, large))
    }

    /// One of [`LENGTHS`]; the longest is large.
    pub fn of_length(length: usize, large: bool) -> Self {
        let narrow = length > 512 || (length == 512 && !large);
        let (anchors, rows) = if narrow { (WARP_ANCHORS, 16) } else { (2 * WARP_ANCHORS, 32) };
        Self { length, large, anchors, rows }
    }

    /// That of a kernel of this name; `None` for kernels without one.
    pub fn of_kernel(name: &str) -> Option<Self> {
        let named = |tiling: &Self| name.ends_with(&format!("_{}", tiling.suffix()));
        let all = LENGTHS.into_iter().flat_map(|length| [false, true].map(|large| Self::of_length(length, large)));
        all.into_iter().find(named)
    }

    /// The end of the names of its kernels, such as `512_large`.
    pub fn suffix(&self) -> String {
        format!("{}{}", self.length, if self.large { "_large" } else { "" })
    }

    /// Warps that share the length of a row.
    pub fn slices(&self) -> usize {
        self.length.div_ceil(SLICE)
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        (self.anchors / WARP_ANCHORS * self.slices()) as u32 * WARP_SIZE
    }

    /// Shared memory of a block in bytes: anchors, two stages of memory rows, labels and instance ids, and what slices exchange.
    pub fn shared_bytes(&self) -> u32 {
        let (anchors, rows, ids) = (self.anchors * self.length * 2, self.rows * self.length * 2, self.rows * 4);
        let exchanged = self.anchors * self.rows * 4 * (self.slices() - 1);
        (anchors + 2 * rows + 4 * ids + exchanged) as u32
    }

    /// The split of a memory of `capacity` rows into as many ranges as `resident_blocks`, the blocks that run on the device at a time,
    /// allow for: one more would run alone after all others. Depends on sizes and the device only, never on how many rows are in use, so
    /// that sums are always added in the same order.
    pub fn splits(&self, anchors: usize, capacity: usize, resident_blocks: usize) -> Splits {
        let tiles = capacity.div_ceil(self.rows).max(1);
        let wanted = (resident_blocks / anchors.div_ceil(self.anchors).max(1)).clamp(1, tiles);
        let per_split = tiles.div_ceil(wanted);
        Splits { count: tiles.div_ceil(per_split), tiles: per_split }
    }

    /// A block for each group of anchors and range, with the shared memory of the tiles alone.
    pub fn shape(&self, anchors: usize, splits: Splits) -> LaunchShape {
        let grid = (anchors.div_ceil(self.anchors).max(1) as u32, splits.count as u32);
        LaunchShape::new(grid, self.threads(), self.shared_bytes())
    }
}
