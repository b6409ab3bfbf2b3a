//! The normalizers of the rows on a GPU, and the passes over the memory that find them.

use crate::device::Cuda;
use crate::device::cuda::DeviceMemory;
use crate::error::Result;
use crate::kernel_args::pair_loss::normalize::{NormalizeParams, NormalizeStep, SideParams, normalize_shape};
use crate::loss::{PairWeighting, RowNormalizer};

/// The normalizer of every anchor's row.
pub(super) struct Normalizers {
    cuda: Cuda,
    weighting: PairWeighting,
    memory: DeviceMemory,
    anchors: usize,
}

impl Normalizers {
    /// Before anything is known of the rows.
    pub(super) fn open(cuda: &Cuda, weighting: &PairWeighting, anchors: usize) -> Result<Self> {
        let memory = cuda.scratch(anchors * size_of::<RowNormalizer>())?;
        let normalizers = Self { cuda: cuda.clone(), weighting: weighting.clone(), memory, anchors };
        normalizers.step(NormalizeStep::Open, None, 0, None)?;
        Ok(normalizers)
    }

    pub(super) fn address(&self) -> u64 {
        self.memory.address()
    }

    /// Goes through the memory as often as the weighting needs: `observe` puts a pass that writes the statistics of all splits on the
    /// stream. `last` is needed where the hardest pairs are mined.
    pub(super) fn measure(
        &self,
        statistics: &DeviceMemory,
        splits: usize,
        last: Option<&DeviceMemory>,
        mut observe: impl FnMut(&DeviceMemory) -> Result<()>,
    ) -> Result<()> {
        let passes = self.weighting.passes();
        for (needed, step) in
            [(passes.mining, NormalizeStep::Mine), (passes.sums, NormalizeStep::Scale), (passes.balance, NormalizeStep::Balance)]
        {
            if needed {
                observe(statistics)?;
                self.step(step, Some(statistics), splits, last)?;
            }
        }
        Ok(())
    }

    fn step(
        &self,
        step: NormalizeStep,
        statistics: Option<&DeviceMemory>,
        splits: usize,
        last: Option<&DeviceMemory>,
    ) -> Result<()> {
        let address = |memory: Option<&DeviceMemory>| memory.map_or(0, DeviceMemory::address);
        let params = NormalizeParams {
            statistics: address(statistics),
            last: address(last),
            normalizers: self.memory.address(),
            anchors: self.anchors as u32,
            splits: splits as u32,
            step: step as u32,
            shared_loss: u32::from(self.weighting.shares_its_loss()),
            positive: SideParams::try_from(&self.weighting.positive)?,
            negative: SideParams::try_from(&self.weighting.negative)?,
        };
        // SAFETY: the normalizers were made for these anchors, the statistics for these splits of them.
        unsafe { self.cuda.launch("pair_loss/normalize", "pair_normalize", normalize_shape(self.anchors), params) }
    }
}
