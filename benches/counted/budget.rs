//! The checked-in counts of the kernels' machine code.

use std::collections::HashMap;
use std::path::Path;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::pair_loss::fused::Epilogue;
use xbm_fast::kernel_args::pair_loss::tiling::Tiling;
use xbm_fast::kernel_args::pair_loss::warpgroup::WarpgroupTiling;

/// What pairs have in common on a way through the tile loop, as `.ci/kernel_budget.py` describes them.
#[derive(Clone, Copy)]
pub enum Pairs {
    /// Negatives without weight: the second product is skipped.
    Easy,
    /// Negatives with weight.
    Negatives,
    /// With positives in every block of 16 anchors and 8 rows besides: the longest way.
    Kept,
}

/// What a warp issues for one tile, by [`Pairs`], and the blocks that registers allow a multiprocessor.
pub struct Counted {
    pub ldsm: [f64; 3],
    pub hmma: [f64; 3],
    pub slots: [f64; 3],
    pub blocks: f64,
    /// Slots of one similarity between the products.
    pub slots_of_a_pair: [f64; 3],
}

/// Of each kernel and architecture.
pub struct Budget(HashMap<(String, String), Counted>);

impl Budget {
    /// `.ci/kernel-budget.tsv`; rows without a tile loop are left out.
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/kernel-budget.tsv");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let names = lines.next().expect("a line of names");
        let column = |name: &str| names.iter().position(|found| *found == name).unwrap_or_else(|| panic!("a column `{name}`"));
        let columns = |names: [&str; 3]| names.map(column);
        let ldsm = columns(["ldsm_easy", "ldsm", "ldsm"]);
        let hmma = columns(["hmma_easy", "hmma", "hmma"]);
        let slots = columns(["tile_easy", "tile_negatives", "tile_kept"]);
        let of_a_pair = columns(["pair_easy", "pair_negatives", "pair_kept"]);
        let blocks = column("blocks");
        let rows = lines.filter_map(|row| {
            let number = |column: usize| row[column].parse().ok();
            let numbers = |[easy, negatives, kept]: [usize; 3]| Some([number(easy)?, number(negatives)?, number(kept)?]);
            let counted = Counted {
                ldsm: numbers(ldsm)?,
                hmma: numbers(hmma)?,
                slots: numbers(slots)?,
                blocks: number(blocks)?,
                slots_of_a_pair: numbers(of_a_pair)?,
            };
            Some(((row[0].to_owned(), row[1].to_owned()), counted))
        });
        Self(rows.collect())
    }

    /// The fused pair loss of constant curves in fp16.
    pub fn of(&self, tiling: &Tiling, architecture: &str) -> &Counted {
        self.of_kernel(Epilogue::Constant.kernel(Format::F16, tiling), architecture)
    }

    /// The same by products of warpgroups.
    pub fn of_warpgroups(&self, tiling: &WarpgroupTiling) -> &Counted {
        self.of_kernel(tiling.kernel(Epilogue::Constant, Format::F16), "sm_90a")
    }

    fn of_kernel(&self, name: String, architecture: &str) -> &Counted {
        let row = self.0.get(&(name.clone(), architecture.to_owned()));
        row.unwrap_or_else(|| panic!("{name} for {architecture}: expected a row in the budget"))
    }
}
