//! The unfused way where a weight depends on its similarity alone: the memory in chunks that stay in second-level cache.

use super::{PairLossGeometry, Reads, Sums};
use crate::device::cublaslt::{Factor, Matmul, Matrices};
use crate::device::cuda::kernel::Format;
use crate::device::cuda::width;
use crate::error::Result;
use crate::kernel_args::pair_loss::materialized::{PairWeightsParams, row_shape};

/// Similarities of a chunk: with their weights 24 MiB, which second-level caches hold.
const CHUNK_PAIRS: usize = 4 << 20;
/// Rows of a chunk are a multiple of this, so that every row of similarities begins on 16 bytes.
pub(super) const ROW_MULTIPLE: usize = 8;

impl Reads<'_, '_> {
    pub(super) fn unfused_sums(&self) -> Result<Sums> {
        let PairLossGeometry { anchors, dim, .. } = self.geometry;
        let (cuda, format, row_count) = (self.cuda, self.cuda.format(), self.rows.rows as usize);
        let sums = Sums::new(cuda, &self.geometry, 1)?;
        for (memory, bytes) in [(&sums.gradients, anchors * dim * 4), (&sums.losses, anchors * 4), (&sums.kept, anchors * 8)] {
            cuda.clear(memory.address(), bytes)?;
        }
        let chunk = (CHUNK_PAIRS / anchors).clamp(1, row_count.max(1)).next_multiple_of(ROW_MULTIPLE);
        let similarities = cuda.scratch(anchors * chunk * width(Format::F32))?;
        let weights = cuda.scratch(anchors * chunk * width(format))?;
        let anchor_rows = cuda.address_in(self.inputs.anchors, format)?;
        let memory = cuda.address_in(self.inputs.memory.numbers(), format)?;
        for first in (0..row_count).step_by(chunk) {
            let count = chunk.min(row_count - first);
            let chunk_rows = memory + (first * dim * width(format)) as u64;
            let forward = Matmul { output_stride: chunk, ..Matmul::packed([anchors, count, dim], format).right_transposed() };
            let left = Factor { transposed: false, stride: chunk };
            let backward = Matmul { left, accumulate: true, ..Matmul::packed([anchors, dim, count], format) };
            let params = PairWeightsParams {
                rows: self.rows,
                similarities: similarities.address(),
                weights: weights.address(),
                row_losses: sums.losses.address(),
                kept: sums.kept.address(),
                first_row: first as u32,
                columns: chunk as u32,
                first_chunk: u32::from(first == 0),
                first_anchor: 0,
            };
            let to_similarities = Matrices { left: anchor_rows, right: chunk_rows, output: similarities.address(), bias: 0 };
            let to_gradient = Matrices { left: weights.address(), right: chunk_rows, output: sums.gradients.address(), bias: 0 };
            let name = format!("pair_weights_{}", format.suffix());
            // SAFETY: the inputs have the lengths of this geometry, checked by the caller; a chunk's rows lie within the memory, and
            // columns past the last row are neither read as similarities nor multiplied.
            unsafe {
                cuda.matmul(&forward, 1.0, &to_similarities)?;
                cuda.launch("pair_loss/materialized", &name, row_shape(anchors), params)?;
                cuda.matmul(&backward, 1.0, &to_gradient)?;
            }
        }
        Ok(sums)
    }
}
