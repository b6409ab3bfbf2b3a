//! The checked-in counts of the kernels' machine code.

use std::collections::HashMap;
use std::path::Path;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::pair_loss::fused::Epilogue;
use xbm_fast::kernel_args::tiling::Tiling;

/// What a warp issues for one tile.
pub struct Counted {
    pub ldsm: f64,
    pub hmma: f64,
    pub tile_easy: f64,
    pub tile_kept: f64,
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
        let [ldsm, hmma, easy, kept] = ["ldsm", "hmma", "tile_easy", "tile_kept"].map(column);
        let rows = lines.filter_map(|row| {
            let number = |column: usize| row[column].parse().ok();
            let counted = Counted { ldsm: number(ldsm)?, hmma: number(hmma)?, tile_easy: number(easy)?, tile_kept: number(kept)? };
            Some(((row[0].to_owned(), row[1].to_owned()), counted))
        });
        Self(rows.collect())
    }

    /// The fused pair loss of constant curves in fp16.
    pub fn of(&self, tiling: &Tiling, architecture: &str) -> &Counted {
        let name = Epilogue::Constant.kernel(Format::F16, tiling);
        let row = self.0.get(&(name.clone(), architecture.to_owned()));
        row.unwrap_or_else(|| panic!("{name} for {architecture}: expected a row in the budget"))
    }
}
