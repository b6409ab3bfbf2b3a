//! The fused way: one launch over the memory, and one more for each pass that the normalizers of the rows need.

use super::normalize::Normalizers;
use super::{Reads, Sums};
use crate::device::cuda::DeviceMemory;
use crate::error::Result;
use crate::kernel_args::pair_loss::fused::{Epilogue, PairLossParams, shape, shared_bytes};
use crate::kernel_args::pair_loss::row_stats::{self, RowStatsParams};
use crate::kernel_args::pair_loss::tiling::{Splits, Tiling};
use crate::kernel_args::pair_loss::{PairRows, PairTiles};
use crate::loss::SideStatistics;

impl Reads<'_, '_> {
    /// `measured` are the normalizers of the rows, where weights depend on them.
    pub(super) fn fused_sums(&self, tiling: &Tiling, measured: Option<Normalizers>) -> Result<Sums> {
        let (cuda, geometry) = (self.cuda, &self.geometry);
        let mut rows = self.rows_of_capacity();
        rows.row_normalizers = measured.as_ref().map_or(0, Normalizers::address);
        let epilogue = Epilogue::of(&rows);
        let (name, weighing) = (epilogue.kernel(cuda.format(), tiling), epilogue.tiling(tiling));
        let resident =
            cuda.resident_blocks::<PairLossParams>("pair_loss/fused", &name, weighing.threads(), shared_bytes(&weighing))?;
        let splits = weighing.splits(geometry.anchors, self.capacity(), resident);
        let mut sums = Sums::new(cuda, geometry, splits.count, splits.count)?;
        sums.normalizers = measured;
        let (gradients, losses, kept) = (sums.gradients.address(), sums.losses.address(), sums.kept.address());
        let params = PairLossParams { tiles: self.tiles(rows, splits)?, gradients, losses, kept };
        // SAFETY: the inputs have the lengths of this geometry, checked by the caller, and the sums were made for these splits.
        unsafe { cuda.launch("pair_loss/fused", &name, shape(&weighing, geometry.anchors, splits), params)? };
        Ok(sums)
    }

    /// The normalizers of the rows, by as many passes as the weighting needs.
    pub(super) fn measured(&self, tiling: &Tiling) -> Result<Normalizers> {
        let (cuda, anchors) = (self.cuda, self.geometry.anchors);
        let normalizers = Normalizers::open(cuda, self.weighting, anchors)?;
        let rows = PairRows { row_normalizers: normalizers.address(), ..self.rows_of_capacity() };
        let (stem, name) = ("pair_loss/row_stats", row_stats::kernel(cuda.format(), tiling));
        let resident = cuda.resident_blocks::<RowStatsParams>(stem, &name, tiling.threads(), tiling.shared_bytes())?;
        let splits = tiling.splits(anchors, self.capacity(), resident);
        let tiles = self.tiles(rows, splits)?;
        let statistics = cuda.scratch(splits.count * anchors * size_of::<[SideStatistics; 2]>())?;
        let observe = |statistics: &DeviceMemory| {
            let params = RowStatsParams { tiles, statistics: statistics.address() };
            // SAFETY: as for the loss; the statistics were made for these splits.
            unsafe { cuda.launch(stem, &name, tiling.shape(anchors, splits), params) }
        };
        normalizers.measure(&statistics, splits.count, None, observe)?;
        Ok(normalizers)
    }

    /// Rows of the ring. Launches depend on them, not on how much of it is in use: sums are always added in the same order.
    pub(super) fn capacity(&self) -> usize {
        self.inputs.memory.numbers().buffer.len() / self.geometry.dim
    }

    /// The kernels read the number of rows in use; the one that they are given must not change with it from step to step.
    pub(super) fn rows_of_capacity(&self) -> PairRows {
        let all = self.capacity() - self.inputs.memory.numbers().start / self.geometry.dim;
        if self.rows.count == 0 { self.rows } else { PairRows { rows: all as u32, ..self.rows } }
    }

    fn tiles(&self, rows: PairRows, splits: Splits) -> Result<PairTiles> {
        let format = self.cuda.format();
        Ok(PairTiles {
            rows,
            anchors: self.cuda.address_in(self.inputs.anchors, format)?,
            memory: self.cuda.address_in(self.inputs.memory.numbers(), format)?,
            tiles_per_split: splits.tiles as u32,
            dim: self.geometry.dim as u32,
        })
    }
}
