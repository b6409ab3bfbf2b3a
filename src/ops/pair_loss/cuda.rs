//! The pair loss on a GPU, two ways with the same result up to rounding: fused (`kernels/pair_loss.cu`), which never stores a
//! similarity, for 16-bit rows of the lengths that kernel exists for; and unfused, over chunks of the memory that stay in second-level
//! cache: matrix product, weights, matrix product. The order of sums depends on sizes only.
//!
//! A similarity that is not finite makes its row's loss not finite; nothing is read back to look for it.

use super::{OwnRows, PairLoss, PairLossGeometry, PairLossInputs, PairLossOutputs};
use crate::backend::Cuda;
use crate::backend::cublaslt::{Factor, Matmul, Matrices};
use crate::backend::cuda::{DeviceMemory, PairLossPath, expect_full, width};
use crate::error::{Error, Result, expect_len};
use crate::kernel::Format;
use crate::kernel::pair_loss::{PairLossCombineParams, PairLossParams, PairRows, PairWeightsParams, Tiling, row_shape};
use crate::kernel::weighting::CurveParams;
use crate::weighting::PairWeighting;

/// Similarities of a chunk: with their weights 24 MiB, which second-level caches hold.
const CHUNK_PAIRS: usize = 4 << 20;
/// Rows of a chunk are a multiple of this, so that every row of similarities begins on 16 bytes.
const ROW_MULTIPLE: usize = 8;

/// Sums of each anchor, before scaling.
struct Sums {
    /// `(splits, anchors, dim)`.
    gradients: DeviceMemory,
    /// `(splits, anchors)`.
    losses: DeviceMemory,
    /// `(splits, anchors, 2)`.
    kept: DeviceMemory,
    splits: usize,
}

impl Sums {
    fn new(cuda: &Cuda, geometry: &PairLossGeometry, splits: usize) -> Result<Self> {
        let bytes = splits * geometry.anchors * size_of::<f32>();
        Ok(Self {
            gradients: cuda.scratch(bytes * geometry.dim)?,
            losses: cuda.scratch(bytes)?,
            kept: cuda.scratch(2 * bytes)?,
            splits,
        })
    }
}

impl PairLoss for Cuda {
    fn pair_loss(
        &self,
        geometry: &PairLossGeometry,
        weighting: &PairWeighting,
        scale: f32,
        inputs: PairLossInputs<'_, Self>,
        mut outputs: PairLossOutputs<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        weighting.validate()?;
        if !weighting.is_plain() {
            return Err(Error::config(format!(
                "weighting `{weighting}` depends on the row, which is not done on a GPU; use --device cpu"
            )));
        }
        check(geometry, &inputs, &outputs)?;
        if geometry.anchors == 0 {
            return Ok(());
        }
        let count = self.rows_in_use(geometry, &inputs)?;
        let rows = self.pair_rows(geometry, weighting, &inputs, count.as_ref())?;
        let sums = match self.fused_tiling(geometry)? {
            Some(tiling) => self.fused_sums(geometry, &tiling, rows, &inputs)?,
            None => self.unfused_sums(geometry, rows, &inputs)?,
        };
        let params = PairLossCombineParams {
            gradients: sums.gradients.address(),
            losses: sums.losses.address(),
            kept: sums.kept.address(),
            unit: 0,
            norms: 0,
            gradient: self.address_mut(&mut outputs.gradient),
            row_losses: self.address_mut(&mut outputs.row_losses),
            row_kept: self.integers(outputs.kept.read()),
            anchors: geometry.anchors as u32,
            dim: geometry.dim as u32,
            splits: sums.splits as u32,
            accumulate: u32::from(accumulate),
            scale,
            padding: 0,
        };
        // SAFETY: the outputs have the lengths of this geometry, checked above, and the sums were made for it.
        unsafe { self.launch("pair_loss_rows", "pair_loss_combine", row_shape(geometry.anchors), params) }
    }
}

impl Cuda {
    /// `None` for the unfused way.
    fn fused_tiling(&self, geometry: &PairLossGeometry) -> Result<Option<Tiling>> {
        let tiling = Tiling::new(geometry.dim).filter(|_| self.format() != Format::F32);
        let wish = self.options().pair_loss;
        match wish.chosen(self.capability(), geometry.anchors, geometry.dim) {
            PairLossPath::Unfused => Ok(None),
            _ if tiling.is_some() || wish == PairLossPath::Auto => Ok(tiling),
            _ => {
                let found = format!("{} of {}", self.options().numbers.name(), geometry.dim);
                Err(Error::shape("rows of the fused pair loss", "fp16 or bf16 of 64, 128, 256 or 512", found))
            }
        }
    }

    /// The number of rows in use, on the device, where it is not all that there are: it grows from step to step, and passed by value no
    /// step would be like the one before.
    fn rows_in_use(&self, geometry: &PairLossGeometry, inputs: &PairLossInputs<'_, Self>) -> Result<Option<DeviceMemory>> {
        if geometry.rows == all_rows(geometry, inputs) { Ok(None) } else { self.stage_values(&[geometry.rows as u32]).map(Some) }
    }

    fn pair_rows(
        &self,
        geometry: &PairLossGeometry,
        weighting: &PairWeighting,
        inputs: &PairLossInputs<'_, Self>,
        count: Option<&DeviceMemory>,
    ) -> Result<PairRows> {
        let (mut own_slots, mut anchor_instances, mut memory_instances) = (0, 0, 0);
        match inputs.own {
            OwnRows::None => {}
            OwnRows::Slot(slots) => own_slots = self.integers(slots),
            OwnRows::Instance { anchors, rows } => {
                (anchor_instances, memory_instances) = (self.integers(anchors), self.integers(rows));
            }
        }
        Ok(PairRows {
            anchor_labels: self.integers(inputs.anchor_labels),
            memory_labels: self.integers(inputs.memory_labels),
            own_slots,
            anchor_instances,
            memory_instances,
            count: count.map_or(0, DeviceMemory::address),
            row_scales: 0,
            row_gates: 0,
            anchor_count: geometry.anchors as u32,
            rows: if count.is_some() { all_rows(geometry, inputs) } else { geometry.rows } as u32,
            positive: CurveParams::try_from(&weighting.positive)?,
            negative: CurveParams::try_from(&weighting.negative)?,
        })
    }

    fn fused_sums(
        &self,
        geometry: &PairLossGeometry,
        tiling: &Tiling,
        rows: PairRows,
        inputs: &PairLossInputs<'_, Self>,
    ) -> Result<Sums> {
        // By the size of the ring, not by how much of it is in use: sums are always added in the same order.
        let capacity = inputs.memory.buffer.len() / geometry.dim;
        let splits = tiling.splits(geometry.anchors, capacity, self.multiprocessors());
        let sums = Sums::new(self, geometry, splits.count)?;
        let params = PairLossParams {
            rows,
            anchors: self.address_in(inputs.anchors, self.format())?,
            memory: self.address_in(inputs.memory, self.format())?,
            gradients: sums.gradients.address(),
            losses: sums.losses.address(),
            kept: sums.kept.address(),
            statistics: 0,
            tiles_per_split: splits.tiles as u32,
            padding: 0,
        };
        let name = format!("pair_loss_{}_{}", self.format().suffix(), geometry.dim);
        // SAFETY: the inputs have the lengths of this geometry, checked by the caller, and the sums were made for these splits.
        unsafe { self.launch("pair_loss", &name, tiling.shape(geometry.anchors, splits), params)? };
        Ok(sums)
    }

    fn unfused_sums(&self, geometry: &PairLossGeometry, rows: PairRows, inputs: &PairLossInputs<'_, Self>) -> Result<Sums> {
        let PairLossGeometry { anchors, dim, .. } = *geometry;
        // Those in use, up to the next power of two: what lies behind them is no pair, and steps are alike.
        let (format, row_count) = (self.format(), geometry.rows.next_power_of_two().min(rows.rows as usize));
        let sums = Sums::new(self, geometry, 1)?;
        for (memory, bytes) in [(&sums.gradients, anchors * dim * 4), (&sums.losses, anchors * 4), (&sums.kept, anchors * 8)] {
            self.clear(memory.address(), bytes)?;
        }
        let chunk = (CHUNK_PAIRS / anchors).clamp(1, row_count.max(1)).next_multiple_of(ROW_MULTIPLE);
        let similarities = self.scratch(anchors * chunk * width(Format::F32))?;
        let weights = self.scratch(anchors * chunk * width(format))?;
        let anchor_rows = self.address_in(inputs.anchors, format)?;
        let memory = self.address_in(inputs.memory, format)?;
        for first in (0..row_count).step_by(chunk) {
            let count = chunk.min(row_count - first);
            let chunk_rows = memory + (first * dim * width(format)) as u64;
            let forward = Matmul { output_stride: chunk, ..Matmul::packed([anchors, count, dim], format).right_transposed() };
            let left = Factor { transposed: false, stride: chunk };
            let backward = Matmul { left, accumulate: true, ..Matmul::packed([anchors, dim, count], format) };
            let params = PairWeightsParams {
                rows,
                similarities: similarities.address(),
                weights: weights.address(),
                row_losses: sums.losses.address(),
                kept: sums.kept.address(),
                first_row: first as u32,
                columns: chunk as u32,
                first_chunk: u32::from(first == 0),
                padding: 0,
            };
            let to_similarities = Matrices { left: anchor_rows, right: chunk_rows, output: similarities.address(), bias: 0 };
            let to_gradient = Matrices { left: weights.address(), right: chunk_rows, output: sums.gradients.address(), bias: 0 };
            let name = format!("pair_weights_{}", format.suffix());
            // SAFETY: the inputs have the lengths of this geometry, checked by the caller; a chunk's rows lie within the memory, and
            // columns past the last row are neither read as similarities nor multiplied.
            unsafe {
                self.matmul(&forward, 1.0, &to_similarities)?;
                self.launch("pair_loss_rows", &name, row_shape(anchors), params)?;
                self.matmul(&backward, 1.0, &to_gradient)?;
            }
        }
        Ok(sums)
    }
}

/// Rows of the memory from the first of these on, in use or not.
fn all_rows(geometry: &PairLossGeometry, inputs: &PairLossInputs<'_, Cuda>) -> usize {
    (inputs.memory.buffer.len() - inputs.memory.start) / geometry.dim
}

fn check(geometry: &PairLossGeometry, inputs: &PairLossInputs<'_, Cuda>, outputs: &PairLossOutputs<'_, Cuda>) -> Result<()> {
    let PairLossGeometry { anchors, rows, dim } = *geometry;
    expect_len("anchors", anchors * dim, inputs.anchors.len)?;
    expect_len("anchor labels", anchors, inputs.anchor_labels.len)?;
    expect_len("memory", rows * dim, inputs.memory.len)?;
    expect_len("memory labels", rows, inputs.memory_labels.len)?;
    match inputs.own {
        OwnRows::None => {}
        OwnRows::Slot(slots) => expect_len("own slots", anchors, slots.len)?,
        OwnRows::Instance { anchors: anchor_ids, rows: row_ids } => {
            expect_len("anchor instance ids", anchors, anchor_ids.len)?;
            expect_len("memory instance ids", rows, row_ids.len)?;
        }
    }
    expect_len("gradient", anchors * dim, outputs.gradient.len)?;
    expect_len("row losses", anchors, outputs.row_losses.len)?;
    expect_len("kept counts", 2 * anchors, outputs.kept.len)?;
    if dim == 0 && anchors > 0 {
        return Err(Error::shape("embedding length", "at least 1", 0));
    }
    expect_full("gradient", outputs.gradient.read())?;
    expect_full("row losses", outputs.row_losses.read())
}
