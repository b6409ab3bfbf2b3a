//! Host side of `kernels/pair_loss/fused_warpgroup.cu` and `warpgroup_tile.cuh`: the fused pair loss on sm_90a.

use super::PairRows;
use super::fused::Epilogue;
use super::tiling::{DIM_MULTIPLE, Splits};
use crate::device::cuda::kernel::{Format, LaunchShape};
use crate::device::cuda::tensor_map::{PANEL_COLUMNS, TensorMap};
use bytemuck::{Pod, Zeroable};

/// The source of the kernels.
pub const STEM: &str = "pair_loss/fused_warpgroup";
/// Compute capability that the kernels exist for: no other has their instructions.
pub const CAPABILITY: i32 = 90;
/// Longest rows that the kernels are made for, in ascending order; shorter rows take the next.
pub const LENGTHS: [usize; 5] = [128, 256, 512, 1024, 2048];
/// Anchors of a warpgroup.
const GROUP_ANCHORS: usize = 64;
/// Part of a row that a block holds at most.
const SLICE: usize = 512;
/// Blocks of a cluster without slices, and with them.
const CLUSTER: usize = 4;
const LARGEST_CLUSTER: usize = 8;
const THREADS: u32 = 384;

/// Argument of `pair_loss_warpgroup_<epilogue>_<format>_<tiling>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct WarpgroupParams {
    /// `(anchors, dim)`, 16 bit, in boxes of [`WarpgroupTiling::ANCHORS_OF_A_BOX`] rows.
    pub anchors: TensorMap,
    /// `(rows, dim)`, 16 bit, in boxes of [`WarpgroupTiling::rows_of_a_box`] rows.
    pub memory: TensorMap,
    /// Labels, curves and their like.
    pub rows: PairRows,
    /// `(`[`WarpgroupGrid::gradients`]`, anchors, dim)` f32, written.
    pub gradients: u64,
    /// `(`[`WarpgroupGrid::row_sums`]`, anchors)` f32, written.
    pub losses: u64,
    /// `(`[`WarpgroupGrid::row_sums`]`, anchors, 2)` i32, written.
    pub kept: u64,
    /// Tiles of memory rows a block goes through.
    pub tiles_per_split: u32,
    /// Length of a row, a multiple of [`DIM_MULTIPLE`].
    pub dim: u32,
}

/// How a block of two consuming warpgroups and a producer divides the work: the twin of `WarpgroupShape`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarpgroupTiling {
    /// Longest row.
    pub length: usize,
    /// Whether tiles are half as large and twice as many are under way: for few anchors, which are bound by the memory's bytes, and for the
    /// longest rows, whose slices need the room for what they exchange.
    pub deep: bool,
}

/// Blocks of a cluster: with slices of the same rows, with other anchors for the same rows, and with other splits, whose gradients they add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cluster {
    slices: usize,
    sharers: usize,
    splits: usize,
}

/// How a batch and a memory are divided among clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarpgroupGrid {
    cluster: Cluster,
    /// Row sums that a block leaves.
    sharing: usize,
    /// Ranges of the memory, a multiple of those of a cluster: the last may be empty.
    pub splits: Splits,
}

impl WarpgroupTiling {
    /// Rows of the boxes in which anchors are copied.
    pub const ANCHORS_OF_A_BOX: usize = GROUP_ANCHORS;

    /// For rows of `dim` numbers and so many anchors; `None` for rows longer than the longest, and for those whose length is no multiple of
    /// [`DIM_MULTIPLE`].
    pub fn new(dim: usize, anchors: usize) -> Option<Self> {
        let length = LENGTHS.into_iter().find(|&length| length >= dim)?;
        let exists = dim > 0 && dim.is_multiple_of(DIM_MULTIPLE);
        exists.then_some(Self { length, deep: length == 2048 || (length == 512 && anchors <= GROUP_ANCHORS) })
    }

    /// All that there are for rows of that length.
    pub fn all_of(dim: usize) -> Vec<Self> {
        let mut all: Vec<Self> = [1, usize::MAX].into_iter().filter_map(|anchors| Self::new(dim, anchors)).collect();
        all.dedup();
        all
    }

    /// That of a kernel of this name; `None` for kernels without one.
    pub fn of_kernel(name: &str) -> Option<Self> {
        let suffix = name.strip_prefix("pair_loss_warpgroup_")?.splitn(3, '_').nth(2)?;
        LENGTHS.into_iter().flat_map(Self::all_of).find(|tiling| tiling.suffix() == suffix)
    }

    /// The end of the names of its kernels, such as `deep_512`.
    pub fn suffix(&self) -> String {
        format!("{}{}", if self.deep { "deep_" } else { "" }, self.length)
    }

    /// The kernel of an epilogue and a format.
    pub fn kernel(&self, epilogue: Epilogue, format: Format) -> String {
        format!("pair_loss_warpgroup_{}_{}_{}", epilogue.name(), format.suffix(), self.suffix())
    }

    /// Warpgroups with the same anchors, each with a part of the gradient's columns.
    pub fn sharing(&self) -> usize {
        if self.length > 256 { 2 } else { 1 }
    }

    /// Anchors of a block.
    pub fn anchors(&self) -> usize {
        2 * GROUP_ANCHORS / self.sharing()
    }

    /// Blocks that share the length of a row.
    pub fn slices(&self) -> usize {
        self.length.div_ceil(SLICE)
    }

    /// Memory rows of a box that is copied: the share of a tile that one slice weighs.
    pub fn rows_of_a_box(&self) -> usize {
        self.rows() / self.slices()
    }

    /// Memory rows of a tile.
    pub fn rows(&self) -> usize {
        match self.length {
            128 => 128,
            _ if self.deep => 32,
            _ => 64,
        }
    }

    /// Tiles that are under way.
    pub fn stages(&self) -> usize {
        if self.length > 256 && !self.deep { 2 } else { 4 }
    }

    /// Shared memory of a block in bytes: anchors, stages of memory rows with labels and instance ids, weights that warpgroups exchange,
    /// similarities that slices exchange, which weights are not 0, barriers.
    pub fn shared_bytes(&self) -> u32 {
        let (stages, sharing, slices) = (self.stages(), self.sharing(), self.slices());
        let rows = (self.anchors() + stages * self.rows()) * self.length.min(SLICE) * 2;
        let weights = if sharing == 2 { 2 * GROUP_ANCHORS * PANEL_COLUMNS * 2 } else { 0 };
        let exchanged = 2 * (slices - 1) * GROUP_ANCHORS * self.rows_of_a_box() * 4;
        let (ids, kept, barriers) = (2 * stages * self.rows() * 4, 2 * 2 * slices * 4 * 4, (2 * stages * sharing + 8) * 8);
        (rows + weights + exchanged + ids + kept + barriers) as u32
    }

    fn cluster(&self, anchors: usize) -> Cluster {
        let slices = self.slices();
        let blocks = if slices == 1 { CLUSTER } else { LARGEST_CLUSTER / slices };
        let sharers = if self.groups(anchors).is_multiple_of(2) { 2 } else { 1 };
        Cluster { slices, sharers, splits: blocks / sharers }
    }

    fn groups(&self, anchors: usize) -> usize {
        anchors.div_ceil(self.anchors()).max(1)
    }

    /// A launch of one cluster.
    pub fn cluster_shape(&self, anchors: usize) -> LaunchShape {
        let Cluster { slices, sharers, splits } = self.cluster(anchors);
        let cluster = ((slices * sharers) as u32, splits as u32);
        LaunchShape::new(cluster, THREADS, self.shared_bytes()).in_clusters(cluster)
    }

    /// How a batch and a memory of `capacity` rows are divided among the clusters that run at a time. Depends on sizes and the device only.
    pub fn grid(&self, anchors: usize, capacity: usize, resident_clusters: usize) -> WarpgroupGrid {
        let cluster = self.cluster(anchors);
        let tiles = capacity.div_ceil(self.rows()).max(1);
        // Whole clusters along the splits.
        let wanted = (resident_clusters * cluster.sharers / self.groups(anchors)).max(1) * cluster.splits;
        let per_split = tiles.div_ceil(wanted);
        let count = tiles.div_ceil(per_split).next_multiple_of(cluster.splits);
        WarpgroupGrid { cluster, sharing: self.sharing(), splits: Splits { count, tiles: per_split } }
    }

    /// Launch of a kernel.
    pub fn shape(&self, anchors: usize, grid: &WarpgroupGrid) -> LaunchShape {
        LaunchShape {
            grid: ((self.groups(anchors) * self.slices()) as u32, grid.splits.count as u32),
            ..self.cluster_shape(anchors)
        }
    }
}

impl WarpgroupGrid {
    /// Gradients that are left to be added: one of each row of clusters.
    pub fn gradients(&self) -> usize {
        self.splits.count / self.cluster.splits
    }

    /// Sums of each row that are left to be added: of every warpgroup that weighs other pairs of it.
    pub fn row_sums(&self) -> usize {
        self.splits.count * self.cluster.slices * self.sharing
    }
}
