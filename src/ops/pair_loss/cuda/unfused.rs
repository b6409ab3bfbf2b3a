//! The unfused way where a weight depends on its similarity alone: the memory in chunks that stay in second-level cache.

use super::{PairLossGeometry, Reads, Sums};
use crate::device::cublaslt::{Factor, Matmul, Matrices};
use crate::device::cuda::kernel::Format;
use crate::device::cuda::width;
use crate::error::Result;
use crate::kernel_args::pair_loss::materialized::{PairWeightsParams, weights_kernel, weights_parts, weights_shape};

/// Rows of a chunk are a multiple of this, so that every row of similarities begins on 16 bytes.
pub(super) const ROW_MULTIPLE: usize = 8;

impl Reads<'_, '_> {
    pub(super) fn unfused_sums(&self) -> Result<Sums> {
        let PairLossGeometry { anchors, dim, .. } = self.geometry;
        let (cuda, format, row_count) = (self.cuda, self.cuda.format(), self.rows.rows as usize);
        // Half of the second-level cache for similarities and weights: the rest is for the memory's rows.
        let chunk_pairs = cuda.second_level_cache() / 2 / (width(Format::F32) + width(format));
        let chunk = (chunk_pairs / anchors).clamp(1, row_count.max(1)).next_multiple_of(ROW_MULTIPLE);
        let (chunks, parts) = (row_count.div_ceil(chunk), weights_parts(chunk));
        let sums = Sums::new(cuda, &self.geometry, 1, chunks * parts)?;
        cuda.clear(sums.gradients.address(), anchors * dim * width(Format::F32))?;
        let similarities = cuda.scratch(anchors * chunk * width(Format::F32))?;
        let weights = cuda.scratch(anchors * chunk * width(format))?;
        let anchor_rows = cuda.address_in(self.inputs.anchors, format)?;
        let memory = cuda.address_in(self.inputs.memory.numbers(), format)?;
        for (index, first) in (0..row_count).step_by(chunk).enumerate() {
            let count = chunk.min(row_count - first);
            let chunk_rows = memory + (first * dim * width(format)) as u64;
            let forward = Matmul { output_stride: chunk, ..Matmul::packed([anchors, count, dim], format).right_transposed() };
            let left = Factor { transposed: false, stride: chunk };
            let backward = Matmul { left, accumulate: true, ..Matmul::packed([anchors, dim, count], format) };
            let params = PairWeightsParams {
                rows: self.rows,
                similarities: similarities.address(),
                weights: weights.address(),
                losses: sums.losses.address(),
                kept: sums.kept.address(),
                first_row: first as u32,
                columns: chunk as u32,
                first_part: (index * parts) as u32,
                first_anchor: 0,
            };
            let to_similarities = Matrices { left: anchor_rows, right: chunk_rows, output: similarities.address(), bias: 0 };
            let to_gradient = Matrices { left: weights.address(), right: chunk_rows, output: sums.gradients.address(), bias: 0 };
            let name = weights_kernel(&self.rows, format);
            // SAFETY: the inputs have the lengths of this geometry, checked by the caller; a chunk's rows lie within the memory, and
            // columns past the last row are neither read as similarities nor multiplied.
            unsafe {
                cuda.matmul(&forward, 1.0, &to_similarities)?;
                cuda.launch("pair_loss/materialized", &name, weights_shape(anchors, chunk), params)?;
                cuda.matmul(&backward, 1.0, &to_gradient)?;
            }
        }
        Ok(sums)
    }
}
