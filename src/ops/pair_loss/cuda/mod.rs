//! The pair loss on a GPU, two ways with the same result up to rounding: fused (`kernels/pair_loss/fused.cu`), which never stores a
//! similarity, for 16-bit rows of the lengths that kernel exists for, on compute capability 9.0 by products of warpgroups; and unfused, over chunks of the memory that stay in second-level
//! cache: matrix product, weights, matrix product. The order of sums depends on sizes only.
//!
//! Where a weight depends on the row, the memory is gone through once or more before, for the normalizers of the rows (`normalize.rs`). Counted
//! triplets, mining of the hardest, and a batch with itself need whole rows of similarities: they are stored, as many rows at a time as
//! fit a fixed budget (`materialized.rs`), whatever the path asked for.
//!
//! A similarity that is not finite makes its row's loss not finite; nothing is read back to look for it.

mod fused;
mod materialized;
mod normalize;
mod unfused;
mod warpgroup;

use super::{CompareWith, PairLoss, PairLossCall, PairLossGeometry, PairLossInputs, PairLossOutputs, SelfPairMask, soft_labels};
use crate::device::Cuda;
use crate::device::cuda::kernel::Format;
use crate::device::cuda::{DeviceMemory, PairLossPath, expect_full};
use crate::error::{Error, Result};
use crate::kernel_args::pair_loss::PairRows;
use crate::kernel_args::pair_loss::combine::{CombineParams, combine_shape};
use crate::kernel_args::pair_loss::fused::Epilogue;
use crate::kernel_args::pair_loss::tiling::{DIM_MULTIPLE, LENGTHS, Tiling};
use crate::kernel_args::pair_loss::warpgroup::{CAPABILITY, STEM, WarpgroupTiling};
use crate::kernel_args::pair_loss::weighting::CurveParams;
use crate::loss::{Mining, Normalization, PairWeighting};
use crate::ops::In;
use normalize::Normalizers;

impl<'a> CompareWith<'a, Cuda> {
    /// On a GPU a memory's rows are numbers like the anchors'.
    fn numbers(&self) -> In<'a, Cuda> {
        let (Self::Numbers(span) | Self::Stored(span)) = *self;
        span
    }
}

/// Sums of each anchor, before scaling.
struct Sums {
    /// `(splits, anchors, dim)`.
    gradients: DeviceMemory,
    /// `(loss_parts, anchors)`.
    losses: DeviceMemory,
    /// `(kept_parts, anchors, 2)`.
    kept: DeviceMemory,
    splits: usize,
    loss_parts: usize,
    kept_parts: usize,
    /// Of the rows, where weights depend on them.
    normalizers: Option<Normalizers>,
}

impl Sums {
    /// For gradients in `splits` and sums of rows in `parts`.
    fn new(cuda: &Cuda, geometry: &PairLossGeometry, splits: usize, parts: usize) -> Result<Self> {
        let bytes = geometry.anchors * size_of::<f32>();
        Ok(Self {
            gradients: cuda.scratch(splits * bytes * geometry.dim)?,
            losses: cuda.scratch(parts * bytes)?,
            kept: cuda.scratch(2 * parts * bytes)?,
            splits,
            loss_parts: parts,
            kept_parts: parts,
            normalizers: None,
        })
    }
}

/// What every way reads.
struct Reads<'a, 'b> {
    cuda: &'a Cuda,
    geometry: PairLossGeometry,
    weighting: &'a PairWeighting,
    inputs: &'a PairLossInputs<'b, Cuda>,
    rows: PairRows,
    /// The number of rows in use, which `rows` points to.
    _count: Option<DeviceMemory>,
}

impl PairLoss for Cuda {
    fn pair_loss(&self, call: PairLossCall<'_, Self>) -> Result<()> {
        check(&call.geometry, &call.inputs, &call.outputs)?;
        if call.geometry.anchors == 0 {
            return Ok(());
        }
        let PairLossCall { geometry, weighting, scale, accumulate, inputs, outputs } = call;
        let reads = Reads::new(self, &geometry, weighting, &inputs)?;
        let by_rows = !weighting.depends_on_similarity_alone() && geometry.rows > 0;
        let sums = match self.way(&geometry)? {
            _ if by_rows && needs_whole_rows(weighting) => reads.materialized_sums(false)?,
            Way::Fused(tiling) => reads.fused_sums(&tiling, reads.measured_if(by_rows, &tiling)?)?,
            Way::Warpgroups(last, Some(tiling)) => reads.warpgroup_sums(&last, reads.measured_if(by_rows, &tiling)?)?,
            Way::Warpgroups(last, None) if !by_rows => reads.warpgroup_sums(&last, None)?,
            _ if by_rows => reads.materialized_sums(false)?,
            _ => reads.unfused_sums()?,
        };
        self.combine(&geometry, &sums, scale, outputs, accumulate)
    }

    fn batch_pair_loss(&self, call: PairLossCall<'_, Self>) -> Result<()> {
        let geometry = call.geometry;
        if geometry.anchors != geometry.rows {
            return Err(Error::shape("rows of a batch compared with itself", geometry.anchors, geometry.rows));
        }
        if call.weighting.depends_on_similarity_alone() || geometry.anchors == 0 {
            return self.pair_loss(PairLossCall { scale: 2.0 * call.scale, ..call });
        }
        check(&geometry, &call.inputs, &call.outputs)?;
        let sums = Reads::new(self, &geometry, call.weighting, &call.inputs)?.materialized_sums(true)?;
        self.combine(&geometry, &sums, call.scale, call.outputs, call.accumulate)
    }
}

/// Whether the pairs of a row have to be compared with one another, not only with what they sum to.
fn needs_whole_rows(weighting: &PairWeighting) -> bool {
    let sides = [&weighting.positive, &weighting.negative];
    sides.iter().any(|side| matches!(side.mining, Mining::Hardest(_)) || matches!(side.scale, Normalization::Triplets(_)))
}

/// How a loss against the memory is computed.
enum Way {
    Fused(Tiling),
    /// The last pass by products of warpgroups; those before it tiled as the others', if rows are no longer than theirs.
    Warpgroups(WarpgroupTiling, Option<Tiling>),
    Unfused,
}

impl Cuda {
    fn way(&self, geometry: &PairLossGeometry) -> Result<Way> {
        let tiling = Tiling::new(geometry.dim, self.shared_limit()).filter(|_| self.format() != Format::F32);
        let warpgroups = self.warpgroup_tiling(geometry)?;
        let wish = self.options().pair_loss;
        match (wish.chosen((self.capability(), warpgroups.is_some()), geometry.anchors, geometry.dim), tiling, warpgroups) {
            (PairLossPath::Unfused, ..) => Ok(Way::Unfused),
            (_, tiling, Some(warpgroups)) => Ok(Way::Warpgroups(warpgroups, tiling)),
            (_, Some(tiling), None) => Ok(Way::Fused(tiling)),
            _ if wish == PairLossPath::Auto => Ok(Way::Unfused),
            _ => {
                let found = format!("{} of {}", self.options().precision.name(), geometry.dim);
                let longest = LENGTHS.into_iter().rfind(|&dim| Tiling::new(dim, self.shared_limit()).is_some()).unwrap_or_default();
                let expected = format!("fp16 or bf16 of a multiple of {DIM_MULTIPLE} up to {longest}");
                Err(Error::shape("rows of the fused pair loss", expected, found))
            }
        }
    }

    /// Where device and build have kernels of warpgroups: a build for `90` without the `a` has none.
    fn warpgroup_tiling(&self, geometry: &PairLossGeometry) -> Result<Option<WarpgroupTiling>> {
        if self.capability() != CAPABILITY || self.format() == Format::F32 {
            return Ok(None);
        }
        let Some(tiling) = WarpgroupTiling::new(geometry.dim, geometry.anchors) else { return Ok(None) };
        Ok(self.has_kernel(STEM, &tiling.kernel(Epilogue::Constant, self.format()))?.then_some(tiling))
    }

    /// Adds the sums of the splits.
    fn combine(
        &self,
        geometry: &PairLossGeometry,
        sums: &Sums,
        scale: f32,
        mut outputs: PairLossOutputs<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        let params = CombineParams {
            gradients: sums.gradients.address(),
            losses: sums.losses.address(),
            kept: sums.kept.address(),
            row_normalizers: sums.normalizers.as_ref().map_or(0, Normalizers::address),
            gradient: self.address_mut(&mut outputs.gradient),
            row_losses: self.address_mut(&mut outputs.row_losses),
            row_kept: self.integers(outputs.kept.read()),
            anchors: geometry.anchors as u32,
            dim: geometry.dim as u32,
            splits: sums.splits as u32,
            accumulate: u32::from(accumulate),
            scale,
            loss_parts: sums.loss_parts as u32,
            kept_parts: sums.kept_parts as u32,
            padding: 0,
        };
        // SAFETY: the outputs have the lengths of this geometry, checked by the callers, and the sums were made for it.
        unsafe { self.launch("pair_loss/combine", "pair_loss_combine", combine_shape(geometry.anchors, geometry.dim), params) }
    }
}

impl<'a, 'b> Reads<'a, 'b> {
    fn measured_if(&self, by_rows: bool, tiling: &Tiling) -> Result<Option<Normalizers>> {
        by_rows.then(|| self.measured(tiling)).transpose()
    }

    fn new(
        cuda: &'a Cuda,
        geometry: &PairLossGeometry,
        weighting: &'a PairWeighting,
        inputs: &'a PairLossInputs<'b, Cuda>,
    ) -> Result<Self> {
        let PairWeighting { positive, negative } = weighting;
        let memory = inputs.memory.numbers();
        let all = (memory.buffer.len() - memory.start) / geometry.dim.max(1);
        // Where it is not all that there are: it grows from step to step, and passed by value no step would be like the one before.
        let count = if geometry.rows == all { None } else { Some(cuda.stage_values(&[geometry.rows as u32])?) };
        let mut rows = PairRows {
            anchor_labels: cuda.integers(inputs.anchor_labels),
            memory_labels: cuda.integers(inputs.memory_labels),
            count: count.as_ref().map_or(0, DeviceMemory::address),
            anchor_count: geometry.anchors as u32,
            // Those in use, up to the next power of two; what lies behind them is no pair.
            rows: geometry.rows.next_power_of_two().min(all) as u32,
            positive_tails: u32::from(positive.reports_tails(true)),
            negative_tails: u32::from(negative.reports_tails(false)),
            ..PairRows::new(CurveParams::try_from(positive)?, CurveParams::try_from(negative)?)
        };
        match inputs.self_pairs {
            SelfPairMask::None => {}
            SelfPairMask::Slot(slots) => rows.own_slots = cuda.integers(slots),
            SelfPairMask::Instance { anchors, rows: ids } => {
                (rows.anchor_instances, rows.memory_instances) = (cuda.integers(anchors), cuda.integers(ids));
            }
        }
        if let Some((soft, labels)) = soft_labels(geometry, weighting, inputs.soft.as_ref())? {
            rows.soft_labels = cuda.address_in(labels.labels, Format::F32)?;
            (rows.anchor_soft, rows.memory_soft) = (cuda.integers(labels.anchors), cuda.integers(labels.rows));
            (rows.soft_width, rows.soft_least, rows.soft_count) = (soft.width, soft.least, labels.labels.len as u32);
        }
        Ok(Self { cuda, geometry: *geometry, weighting, inputs, rows, _count: count })
    }
}

fn check(geometry: &PairLossGeometry, inputs: &PairLossInputs<'_, Cuda>, outputs: &PairLossOutputs<'_, Cuda>) -> Result<()> {
    super::check(geometry, inputs, outputs)?;
    expect_full("gradient", outputs.gradient.read())?;
    expect_full("row losses", outputs.row_losses.read())
}
