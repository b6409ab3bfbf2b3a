//! The laws of the rows on a GPU, and the passes over the memory that find them.

use crate::cuda::pair_loss::law_shape;
use crate::cuda::row_law::{LawStep, PairLawsParams, SideParams};
use crate::device::Cuda;
use crate::device::cuda::DeviceMemory;
use crate::error::Result;
use crate::loss::{PairWeighting, RowLaw};

/// The law of every anchor's row.
pub(super) struct Laws {
    cuda: Cuda,
    weighting: PairWeighting,
    memory: DeviceMemory,
    anchors: usize,
}

impl Laws {
    /// Before anything is known of the rows.
    pub(super) fn open(cuda: &Cuda, weighting: &PairWeighting, anchors: usize) -> Result<Self> {
        let memory = cuda.scratch(anchors * size_of::<RowLaw>())?;
        let laws = Self { cuda: cuda.clone(), weighting: weighting.clone(), memory, anchors };
        laws.step(LawStep::Open, None, 0, None)?;
        Ok(laws)
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
        for (needed, step) in [(passes.mining, LawStep::Mine), (passes.sums, LawStep::Scale), (passes.balance, LawStep::Balance)] {
            if needed {
                observe(statistics)?;
                self.step(step, Some(statistics), splits, last)?;
            }
        }
        Ok(())
    }

    fn step(&self, step: LawStep, statistics: Option<&DeviceMemory>, splits: usize, last: Option<&DeviceMemory>) -> Result<()> {
        let address = |memory: Option<&DeviceMemory>| memory.map_or(0, DeviceMemory::address);
        let params = PairLawsParams {
            statistics: address(statistics),
            last: address(last),
            laws: self.memory.address(),
            anchors: self.anchors as u32,
            splits: splits as u32,
            step: step as u32,
            shared_loss: u32::from(self.weighting.shares_its_loss()),
            positive: SideParams::try_from(&self.weighting.positive)?,
            negative: SideParams::try_from(&self.weighting.negative)?,
        };
        // SAFETY: the laws were made for these anchors, the statistics for these splits of them.
        unsafe { self.cuda.launch("pair_laws", "pair_laws", law_shape(self.anchors), params) }
    }
}
