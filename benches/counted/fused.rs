//! The fused pair loss: what a tile costs a multiprocessor, and a batch the device.

use crate::budget::{Counted, Pairs};
use crate::devices::Device;
use crate::{LAUNCH, SUBCORES, Sizes, Ways};
use xbm_fast::kernel_args::pair_loss::fused::shared_bytes;
use xbm_fast::kernel_args::pair_loss::tiling::Tiling;

/// Bytes of a wavefront of shared memory, which takes a cycle.
const WAVEFRONT_BYTES: f64 = 128.0;
/// Wavefronts of an LDSM of four matrices.
const WAVEFRONTS_PER_LDSM: f64 = 4.0;
/// Shared memory of every block that is not the kernel's, in bytes.
const RESERVED_SHARED: usize = 1 << 10;

/// The kernel of one length on one device.
pub struct Fused<'a> {
    pub device: &'a Device,
    pub tiling: Tiling,
    pub counted: &'a Counted,
}

/// Cycles of one tile by the unit that is busy, and what it computes.
struct Tile {
    tensor: f64,
    issue: f64,
    shared: f64,
    flops: f64,
}

impl Tile {
    fn cycles(&self) -> f64 {
        self.tensor.max(self.issue).max(self.shared)
    }
}

impl Fused<'_> {
    fn tile(&self, pairs: Pairs) -> Tile {
        let Self { device, tiling, counted } = self;
        let warps = f64::from(tiling.threads() / 32);
        let at = pairs as usize;
        // Rows are copied by every thread, and land in shared memory once; every partial similarity is written and read once.
        let copied = (tiling.rows * tiling.length * 2) as f64 / WAVEFRONT_BYTES;
        let exchanged = 2.0 * (tiling.anchors * tiling.rows * 4 * (tiling.slices() - 1)) as f64 / WAVEFRONT_BYTES;
        Tile {
            tensor: warps / SUBCORES * counted.hmma[at] * device.cycles_per_hmma,
            issue: warps / SUBCORES * counted.slots[at],
            shared: warps * counted.ldsm[at] * WAVEFRONTS_PER_LDSM + copied + exchanged,
            flops: 4.0 * (tiling.anchors * tiling.rows * tiling.length) as f64 * counted.hmma[at]
                / counted.hmma[Pairs::Kept as usize],
        }
    }

    /// Blocks that the device runs at a time.
    fn resident_blocks(&self) -> usize {
        let by_shared = self.device.shared / (shared_bytes(&self.tiling) as usize + RESERVED_SHARED);
        self.device.multiprocessors as usize * by_shared.min(self.counted.blocks as usize).max(1)
    }
}

impl Ways for Fused<'_> {
    fn name(&self) -> String {
        self.tiling.suffix()
    }

    fn device(&self) -> &Device {
        self.device
    }

    fn limiter(&self, pairs: Pairs) -> &'static str {
        let tile = self.tile(pairs);
        let cycles = tile.cycles();
        if cycles <= tile.tensor {
            "tensor cores"
        } else if cycles <= tile.shared {
            "shared memory"
        } else {
            "issue slots"
        }
    }

    fn ceiling(&self, pairs: Pairs) -> f64 {
        let tile = self.tile(pairs);
        self.device.per_second(self.device.flops_per_cycle().min(tile.flops / tile.cycles()))
    }

    fn tensor_share(&self, pairs: Pairs) -> f64 {
        let tile = self.tile(pairs);
        tile.tensor / tile.cycles()
    }

    /// The tiles or the memory's bytes, partial gradients written and read through the second-level cache, two launches.
    fn seconds(&self, sizes: Sizes, pairs: Pairs) -> f64 {
        let Self { device, tiling, .. } = self;
        let tiles = (sizes.anchors.div_ceil(tiling.anchors) * sizes.rows.div_ceil(tiling.rows)) as f64;
        let bytes = (2 * sizes.rows * sizes.dim) as f64 / device.bytes_per_second;
        let splits = tiling.splits(sizes.anchors, sizes.rows, self.resident_blocks()).count;
        let combined = (8 * splits * sizes.anchors * sizes.dim) as f64 / device.cache_bytes_per_second();
        bytes.max(tiles * self.tile(pairs).cycles() / device.per_second(1.0)) + combined + 2.0 * LAUNCH
    }
}
