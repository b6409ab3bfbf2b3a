//! The fused way: one launch over the memory, and one more for each pass that the normalizers of the rows need.

use super::normalize::Normalizers;
use super::{Reads, Sums};
use crate::device::cuda::DeviceMemory;
use crate::error::Result;
use crate::kernel_args::pair_loss::PairTiles;
use crate::kernel_args::pair_loss::fused::{Epilogue, PairLossParams, shape, shared_bytes};
use crate::kernel_args::pair_loss::row_stats::{self, RowStatsParams};
use crate::kernel_args::pair_loss::tiling::{Splits, Tiling};
use crate::loss::SideStatistics;

impl Reads<'_, '_> {
    pub(super) fn fused_sums(&self, tiling: &Tiling, by_rows: bool) -> Result<Sums> {
        let (cuda, geometry) = (self.cuda, &self.geometry);
        // By the size of the ring, not by how much of it is in use: sums are always added in the same order.
        let capacity = self.inputs.memory.numbers().buffer.len() / geometry.dim;
        let epilogue = if by_rows { Epilogue::Curve } else { Epilogue::of(&self.rows) };
        let (name, weighing) = (epilogue.kernel(cuda.format(), tiling), epilogue.tiling(tiling));
        let shared = shared_bytes(&weighing);
        let resident = cuda.resident_blocks::<PairLossParams>("pair_loss/fused", &name, weighing.threads(), shared)?;
        let splits = weighing.splits(geometry.anchors, capacity, resident);
        let mut sums = Sums::new(cuda, geometry, splits.count, splits.count)?;
        let mut rows = self.rows;
        if rows.count != 0 {
            // The kernel reads the number of rows in use; this one must not change with it from step to step.
            rows.rows = (capacity - self.inputs.memory.numbers().start / geometry.dim) as u32;
        }
        let mut tiles = PairTiles {
            rows,
            anchors: cuda.address_in(self.inputs.anchors, cuda.format())?,
            memory: cuda.address_in(self.inputs.memory.numbers(), cuda.format())?,
            tiles_per_split: splits.tiles as u32,
            dim: geometry.dim as u32,
        };
        if by_rows {
            let normalizers = Normalizers::open(cuda, self.weighting, geometry.anchors)?;
            tiles.rows.row_normalizers = normalizers.address();
            self.measure(&normalizers, tiling, tiling.splits(geometry.anchors, capacity, resident), tiles)?;
            sums.normalizers = Some(normalizers);
        }
        let (gradients, losses, kept) = (sums.gradients.address(), sums.losses.address(), sums.kept.address());
        let params = PairLossParams { tiles, gradients, losses, kept };
        // SAFETY: the inputs have the lengths of this geometry, checked by the caller, and the sums were made for these splits.
        unsafe { cuda.launch("pair_loss/fused", &name, shape(&weighing, geometry.anchors, splits), params)? };
        Ok(sums)
    }

    fn measure(&self, normalizers: &Normalizers, tiling: &Tiling, splits: Splits, tiles: PairTiles) -> Result<()> {
        let tiles = PairTiles { tiles_per_split: splits.tiles as u32, ..tiles };
        let (cuda, anchors) = (self.cuda, self.geometry.anchors);
        let statistics = cuda.scratch(splits.count * anchors * size_of::<[SideStatistics; 2]>())?;
        let name = row_stats::kernel(cuda.format(), tiling);
        let observe = |statistics: &DeviceMemory| {
            let params = RowStatsParams { tiles, statistics: statistics.address() };
            // SAFETY: as for the loss; the statistics were made for these splits.
            unsafe { cuda.launch("pair_loss/row_stats", &name, tiling.shape(anchors, splits), params) }
        };
        normalizers.measure(&statistics, splits.count, None, observe)
    }
}
