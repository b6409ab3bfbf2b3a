//! What the fused pair loss can reach on each device, by counting: `cargo bench --bench counted`. Needs no device and measures nothing.
//!
//! `.ci/kernel-budget.tsv` has what one warp issues for a tile, read from the machine code; `devices.rs` has what a multiprocessor does
//! in a cycle. A tile takes at least as long as the busiest of three units needs for it: tensor cores, issue slots, shared memory. That
//! is a ceiling, for perfect overlap: neither latencies nor barriers nor instruction fetches are in it.

mod budget;
mod devices;

use budget::{Budget, Counted};
use devices::{DEVICES, Device};
use xbm_fast::kernel_args::tiling::Tiling;

/// Rows of the memory, and anchors, of the times that are printed.
const ROWS: usize = 60_000;
const BATCHES: [usize; 2] = [64, 256];
/// Cycles of one wavefront of shared memory: 128 bytes.
const WAVEFRONT_BYTES: f64 = 128.0;
/// Wavefronts of an LDSM of four matrices.
const WAVEFRONTS_PER_LDSM: f64 = 4.0;
const SUBCORES: f64 = 4.0;

/// What a tile costs a multiprocessor, in cycles of the unit that is busy, and what it computes.
struct Tile {
    tensor: f64,
    issue: f64,
    shared: f64,
    flops: f64,
}

impl Tile {
    fn new(device: &Device, tiling: &Tiling, counted: &Counted, slots: f64, products: f64) -> Self {
        let warps = f64::from(tiling.threads() / 32);
        // Rows are copied by every thread, and land in shared memory once.
        let copied = (tiling.rows * tiling.length * 2) as f64 / WAVEFRONT_BYTES;
        Self {
            tensor: warps / SUBCORES * counted.hmma * products * device.cycles_per_hmma,
            issue: warps / SUBCORES * slots,
            shared: warps * counted.ldsm * WAVEFRONTS_PER_LDSM + copied + exchanged(tiling),
            flops: 4.0 * (tiling.anchors * tiling.rows * tiling.length) as f64 * products,
        }
    }

    fn cycles(&self) -> f64 {
        self.tensor.max(self.issue).max(self.shared)
    }

    fn limiter(&self) -> &'static str {
        let cycles = self.cycles();
        if cycles <= self.tensor {
            "tensor cores"
        } else if cycles <= self.shared {
            "shared memory"
        } else {
            "issue slots"
        }
    }
}

/// Wavefronts of the reduce-scatter: every partial similarity is written and read once.
fn exchanged(tiling: &Tiling) -> f64 {
    2.0 * (tiling.anchors * tiling.rows * 4 * (tiling.slices() - 1)) as f64 / WAVEFRONT_BYTES
}

/// One line: a device and a length, every pair kept and every pair easy.
fn line(device: &Device, tiling: &Tiling, counted: &Counted) -> String {
    let dense = Tile::new(device, tiling, counted, counted.tile_kept, 1.0);
    // Easy pairs have their second product skipped.
    let easy = Tile::new(device, tiling, counted, counted.tile_easy, 0.5);
    let reached = device.flops_per_cycle().min(dense.flops / dense.cycles());
    let ceiling = device.per_second(reached) / 1e12;
    let times: Vec<String> = BATCHES
        .iter()
        .map(|&anchors| {
            let tiles = (anchors.div_ceil(tiling.anchors) * ROWS.div_ceil(tiling.rows)) as f64;
            let bytes = (2 * ROWS * tiling.length) as f64 / device.bytes_per_second;
            let micros = |tile: &Tile| 1e6 * bytes.max(tiles * tile.cycles() / device.per_second(1.0));
            let flops = 4.0 * (anchors * ROWS * tiling.length) as f64;
            let floor = 1e6 * bytes.max(flops / device.peak);
            format!("{:>8.1} {:>8.1} {:>7.1}", micros(&dense), micros(&easy), floor)
        })
        .collect();
    format!(
        "{:<9} {:>11} {:<14} {:>6.0} {:>5.0} %   {}",
        device.name,
        tiling.suffix(),
        dense.limiter(),
        ceiling,
        100.0 * ceiling * 1e12 / device.peak,
        times.join("  ")
    )
}

fn main() {
    let budget = Budget::read();
    println!(
        "the fused pair loss, constant curves, fp16: ceilings counted from machine code, for perfect overlap; nothing was run"
    );
    println!("times in microseconds for {ROWS} rows: every pair kept, every pair easy, floor by bytes or peak");
    let batches: Vec<String> = BATCHES.iter().map(|anchors| format!("{:>25}", format!("{anchors} anchors"))).collect();
    println!("{:<9} {:>11} {:<14} {:>6} {:>7}   {}", "device", "length", "limiter", "TFLOPS", "of peak", batches.join("  "));
    for device in &DEVICES {
        for dim in [64, 128, 256, 512, 1024] {
            let Some(tiling) = Tiling::new(dim, device.shared_limit) else { continue };
            println!("{}", line(device, &tiling, budget.of(&tiling, device.architecture)));
        }
    }
}
