//! The fused way on compute capability 9.0: the same passes, with the last one by tensor maps and products of warpgroups.

use super::normalize::Normalizers;
use super::{Reads, Sums};
use crate::device::cuda::tensor_map::TensorMap;
use crate::error::Result;
use crate::kernel_args::pair_loss::fused::Epilogue;
use crate::kernel_args::pair_loss::warpgroup::{STEM, WarpgroupParams, WarpgroupTiling};

impl Reads<'_, '_> {
    /// `measured` are the normalizers of the rows, where weights depend on them.
    pub(super) fn warpgroup_sums(&self, tiling: &WarpgroupTiling, measured: Option<Normalizers>) -> Result<Sums> {
        let (cuda, geometry, format) = (self.cuda, &self.geometry, self.cuda.format());
        let mut rows = self.rows_of_capacity();
        rows.row_normalizers = measured.as_ref().map_or(0, Normalizers::address);
        let name = tiling.kernel(Epilogue::of(&rows), format);
        let resident = cuda.resident_clusters::<WarpgroupParams>(STEM, &name, tiling.cluster_shape(geometry.anchors))?;
        let grid = tiling.grid(geometry.anchors, self.capacity(), resident);
        let mut sums = Sums::new(cuda, geometry, grid.gradients(), grid.row_sums())?;
        sums.normalizers = measured;
        let memory = self.inputs.memory.numbers();
        let anchors = cuda.address_in(self.inputs.anchors, format)?;
        let params = WarpgroupParams {
            anchors: TensorMap::of_rows(anchors, geometry.anchors, geometry.dim, WarpgroupTiling::ANCHORS_OF_A_BOX, format)?,
            memory: TensorMap::of_rows(
                cuda.address_in(memory, format)?,
                rows.rows as usize,
                geometry.dim,
                tiling.rows_of_a_box(),
                format,
            )?,
            rows,
            gradients: sums.gradients.address(),
            losses: sums.losses.address(),
            kept: sums.kept.address(),
            tiles_per_split: grid.splits.tiles as u32,
            dim: geometry.dim as u32,
        };
        // SAFETY: the inputs have the lengths of this geometry, checked by the caller, and the sums were made for these splits.
        unsafe { cuda.launch(STEM, &name, tiling.shape(geometry.anchors, &grid), params)? };
        Ok(sums)
    }
}
