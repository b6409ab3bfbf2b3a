//! Whether pruning by 8-bit codes would pay on a GPU, by counting: `cargo bench --bench pruning -- CHECKPOINT...` takes checkpoints of runs
//! on a ring memory, `RUN/checkpoints/step-*.safetensors`, and prints a line of a table for each and for each number of its newest rows.
//!
//! The CPU leaves out every pair that codes prove to have no weight ([`xbm_fast::cpu::int8_prune`]); a GPU can only leave out whole blocks of
//! pairs. A block survives if it holds one pair that has to be multiplied in full: a positive, or a negative that may be above the
//! threshold. Beside the share that survives stands the share of blocks with a pair that is kept in truth, below which no bound can get.
//! docs/performance-log.md holds what was found.

mod blocks;
mod comparison;

use blocks::{Marks, Shares};
use comparison::Comparison;
use std::path::{Path, PathBuf};

/// Anchors and rows of what is left out together: a pair, the smallest product of tensor cores, and a warp's tile of all anchors.
const BLOCKS: [(usize, usize); 3] = [(1, 1), (16, 8), (64, 16)];
/// Newest rows of a memory that are compared with, where it holds so many.
const ROWS: [usize; 3] = [8192, 32_768, 60_000];

fn main() -> xbm_fast::Result<()> {
    let checkpoints: Vec<PathBuf> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).map(PathBuf::from).collect();
    if checkpoints.is_empty() {
        println!("nothing to count: cargo bench --bench pruning -- RUN/checkpoints/step-000400.safetensors");
        return Ok(());
    }
    println!("Per cent of pairs or blocks: with a positive, with a pair that is kept, that survive.");
    println!(
        "| checkpoint | rows |{} similarity of negatives |",
        BLOCKS.map(|(anchors, rows)| format!(" {anchors} x {rows} |")).join("")
    );
    println!("|---|---|{}---|", "---|".repeat(BLOCKS.len()));
    checkpoints.iter().try_for_each(|path| print_counts(path))
}

fn print_counts(path: &Path) -> xbm_fast::Result<()> {
    let compared = Comparison::load(path)?;
    let mut sizes: Vec<usize> = ROWS.iter().map(|&rows| rows.min(compared.rows())).collect();
    sizes.dedup();
    for rows in sizes {
        let mut shares = [Shares::default(); BLOCKS.len()];
        for batch in 0..compared.batches() {
            let marks = Marks::new(&compared, batch, rows);
            BLOCKS.iter().zip(&mut shares).for_each(|(&block, shares)| *shares += marks.shares(block));
        }
        let cells: Vec<String> = shares.iter().map(Shares::to_string).collect();
        let (median, high) = compared.negatives(rows);
        println!("| {} | {rows} | {} | {median:.2}, {high:.2} |", compared.name, cells.join(" | "));
    }
    Ok(())
}
