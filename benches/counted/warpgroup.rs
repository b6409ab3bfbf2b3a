//! The fused pair loss by products of warpgroups: what a tile costs a multiprocessor, and a batch the device. A product of 64 x N x 16 takes
//! N / 2 cycles of the tensor cores; of shared memory it takes what its operands there have, each 128 bytes a cycle.

use crate::budget::{Counted, Pairs};
use crate::devices::Device;
use crate::{LAUNCH, SUBCORES, Sizes, Ways};
use xbm_fast::kernel_args::pair_loss::warpgroup::WarpgroupTiling;

/// Bytes that shared memory moves in a cycle.
const WAVEFRONT_BYTES: f64 = 128.0;
/// Warps of a warpgroup, rows of its products, and their inner dimension.
const WARPS: f64 = 4.0;
const ANCHORS: usize = 64;
const DEPTH: usize = 16;
/// Warpgroups of a block that multiply.
const GROUPS: usize = 2;

/// The kernel of one length for a batch.
pub struct Warpgroups<'a> {
    pub device: &'a Device,
    pub tiling: WarpgroupTiling,
    pub counted: &'a Counted,
}

/// Cycles of one tile by the unit that is busy.
struct Tile {
    tensor: f64,
    issue: f64,
    shared: f64,
}

impl Warpgroups<'_> {
    fn tile(&self, pairs: Pairs) -> Tile {
        let Self { device, tiling, counted } = self;
        let (slices, sharing, rows, anchors) = (tiling.slices(), tiling.sharing(), tiling.rows(), tiling.anchors());
        let length = tiling.length / slices;
        // What a multiprocessor does for the tile is a product of similarities, and one of gradients unless all pairs are easy.
        let products = if matches!(pairs, Pairs::Easy) { 1.0 } else { 2.0 };
        let tensor = products * 2.0 * (anchors * rows * length) as f64 / device.flops_per_cycle();
        // A turn of the loop is a tile of each warpgroup, of which two share a block's tile or have one each.
        let tiles_a_turn = sharing as f64;
        let issue = GROUPS as f64 * WARPS / SUBCORES * counted.slots[pairs as usize] / tiles_a_turn;

        let (groups, steps) = (GROUPS / sharing, length / DEPTH);
        let similarity_bytes = groups * steps * (ANCHORS + rows) * DEPTH * 2;
        let columns = length / sharing;
        // The own weights are in registers where rows have no slices.
        let weights_from_memory = if slices > 1 { 2 } else { sharing - 1 };
        let gradient_bytes = rows / DEPTH * (groups * sharing * DEPTH * columns * 2 + weights_from_memory * ANCHORS * DEPTH * 2);
        let copied = rows * length * 2;
        let published = if sharing > 1 { ANCHORS * rows * 2 } else { 0 };
        let exchanged = 2 * (slices - 1) * ANCHORS * tiling.rows_of_a_box() * 4;
        let bytes = similarity_bytes as f64 + (products - 1.0) * gradient_bytes as f64 + (copied + published + exchanged) as f64;
        Tile { tensor, issue, shared: bytes / WAVEFRONT_BYTES }
    }

    /// Blocks that run at a time, each alone on its multiprocessor, in whole clusters.
    fn resident_clusters(&self, anchors: usize) -> usize {
        let (x, y) = self.tiling.cluster_shape(anchors).cluster;
        (self.device.multiprocessors as usize / (x * y) as usize).max(1)
    }
}

impl Ways for Warpgroups<'_> {
    fn name(&self) -> String {
        format!("{}w", self.tiling.suffix())
    }

    fn device(&self) -> &Device {
        self.device
    }

    fn limiter(&self, pairs: Pairs) -> &'static str {
        let Tile { tensor, issue, shared } = self.tile(pairs);
        if tensor >= issue.max(shared) {
            "tensor cores"
        } else if shared >= issue {
            "shared memory"
        } else {
            "issue slots"
        }
    }

    fn ceiling(&self, pairs: Pairs) -> f64 {
        self.device.peak * self.tensor_share(pairs)
    }

    fn tensor_share(&self, pairs: Pairs) -> f64 {
        let Tile { tensor, issue, shared } = self.tile(pairs);
        tensor / tensor.max(issue).max(shared)
    }

    /// The tiles of the block that has most of them, or the memory's bytes; the gradients that clusters leave, written and read through the
    /// second-level cache; two launches.
    fn seconds(&self, sizes: Sizes, pairs: Pairs) -> f64 {
        let Self { device, tiling, .. } = self;
        let grid = tiling.grid(sizes.anchors, sizes.rows, self.resident_clusters(sizes.anchors));
        let Tile { tensor, issue, shared } = self.tile(pairs);
        let multiplied = grid.splits.tiles as f64 * tensor.max(issue).max(shared) / device.clock;
        let read = (2 * sizes.rows * sizes.dim) as f64 / device.bytes_per_second;
        let combined = (8 * grid.gradients() * sizes.anchors * sizes.dim) as f64 / device.cache_bytes_per_second();
        multiplied.max(read) + combined + 2.0 * LAUNCH
    }
}
