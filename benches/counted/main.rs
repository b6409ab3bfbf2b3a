//! What the pair loss, and retrieval, can reach on each device, by counting: `cargo bench --bench counted`. Needs no device and measures
//! nothing; docs/device-predictions.md holds what it prints.
//!
//! `.ci/kernel-budget.tsv` has what one warp issues for a tile, read from the machine code; `devices.rs` has what a multiprocessor does
//! in a cycle. A tile takes at least as long as the busiest of three units needs for it: tensor cores, issue slots, shared memory. That
//! is a ceiling, for perfect overlap: neither latencies nor barriers nor instruction fetches are in it. The ways beside it are counted
//! as favourably: `unfused.rs`.

mod budget;
mod devices;
mod fused;
mod retrieval;
mod unfused;
mod warpgroup;

use budget::{Budget, Pairs};
use devices::{DEVICES, Device};
use fused::Fused;
use warpgroup::Warpgroups;
use xbm_fast::device::cuda::PairLossPath;
use xbm_fast::kernel_args::pair_loss::tiling::Tiling;
use xbm_fast::kernel_args::pair_loss::warpgroup::{CAPABILITY, WarpgroupTiling};

/// A batch against a memory.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Rows of the batch.
    pub anchors: usize,
    /// Rows of the memory.
    pub rows: usize,
    /// Length of a row.
    pub dim: usize,
}

const ROWS: usize = 60_000;
const BATCHES: [usize; 4] = [64, 128, 256, 512];
const DIMS: [usize; 6] = [64, 128, 256, 512, 1024, 2048];
const SUBCORES: f64 = 4.0;
/// Seconds from the end of a launch to the begin of the next that depends on it, in a graph: 3.4 us a launch of 2.9 us (NVIDIA's "Getting
/// Started with CUDA Graphs").
const LAUNCH: f64 = 0.5e-6;

/// A fused kernel on a device.
pub trait Ways {
    /// Its tiling, as in the names of kernels; `w` where warpgroups multiply.
    fn name(&self) -> String;
    /// What it runs on.
    fn device(&self) -> &Device;
    /// The unit that is busiest.
    fn limiter(&self, pairs: Pairs) -> &'static str;
    /// FLOP/s of the products that are done, for perfect overlap.
    fn ceiling(&self, pairs: Pairs) -> f64;
    /// Share of the time of a tile that tensor cores are busy.
    fn tensor_share(&self, pairs: Pairs) -> f64;
    /// Seconds of a batch.
    fn seconds(&self, sizes: Sizes, pairs: Pairs) -> f64;
}

/// The kernel that the engine takes on a device for rows of that length and so many anchors, where it has a fused one.
fn kernel<'a>(budget: &'a Budget, device: &'a Device, dim: usize, anchors: usize) -> Option<Box<dyn Ways + 'a>> {
    if let Some(tiling) = WarpgroupTiling::new(dim, anchors).filter(|_| device.capability == CAPABILITY) {
        return Some(Box::new(Warpgroups { device, tiling, counted: budget.of_warpgroups(&tiling) }));
    }
    Some(Box::new(by_warps(budget, device, dim)?))
}

/// The kernel whose warps multiply by themselves.
fn by_warps<'a>(budget: &'a Budget, device: &'a Device, dim: usize) -> Option<Fused<'a>> {
    let tiling = Tiling::new(dim, device.shared_limit)?;
    Some(Fused { device, tiling, counted: budget.of(&tiling, device.architecture) })
}

/// Every fused kernel of a device that this counts.
fn kernels<'a>(budget: &'a Budget, device: &'a Device) -> impl Iterator<Item = Box<dyn Ways + 'a>> {
    let warps = DIMS.into_iter().filter_map(move |dim| Some(Box::new(by_warps(budget, device, dim)?) as Box<dyn Ways + 'a>));
    let has_warpgroups = device.capability == CAPABILITY;
    let tilings = DIMS.into_iter().filter(move |&dim| has_warpgroups && dim > 64).flat_map(WarpgroupTiling::all_of);
    warps.chain(tilings.map(move |tiling| Box::new(Warpgroups { device, tiling, counted: budget.of_warpgroups(&tiling) }) as _))
}

fn print_ceilings(budget: &Budget) {
    println!("Ceilings of the fused pair loss: constant curves, fp16. Share: of the device's peak.");
    println!("{:31}{:^24}{:^24}{:^22}", "", "negatives with weight", "and positives", "easy negatives");
    println!("{:9} {:>11}  {:<8}{}", "device", "length", "", "TFLOPS share limiter    ".repeat(3).trim_end());
    for device in &DEVICES {
        for fused in kernels(budget, device) {
            let cells = [Pairs::Negatives, Pairs::Kept, Pairs::Easy].map(|pairs| {
                let ceiling = fused.ceiling(pairs);
                format!("{:>6.0} {:>3.0} % {:<11}", ceiling / 1e12, 100.0 * ceiling / device.peak, short(fused.limiter(pairs)))
            });
            println!("{:9} {:>11}         {}", device.name, fused.name(), cells.join("").trim_end());
        }
    }
}

/// Of a unit, for a column.
fn short(unit: &'static str) -> &'static str {
    unit.split(' ').next().unwrap_or(unit)
}

fn print_times(budget: &Budget) {
    println!(
        "\nMicroseconds against {ROWS} rows: fused, by pairs as above; through cuBLASLt and by torch.compile, at best; the floor, by"
    );
    println!("the memory's bytes or the peak; the way that is taken, and what the other one would take of its time at least.");
    println!(
        "{:9} {:>5} {:>7} {:>9} {:>9} {:>8} {:>9} {:>8} {:>7}  taken",
        "device", "dim", "anchors", "negatives", "positives", "easy", "cuBLASLt", "compile", "floor"
    );
    for device in &DEVICES {
        for sizes in all_sizes() {
            if let Some(fused) = kernel(budget, device, sizes.dim, sizes.anchors) {
                println!("{}", line_of_times(device, &*fused, sizes));
            }
        }
    }
}

/// What a batch takes, in seconds.
struct Times {
    negatives: f64,
    kept: f64,
    easy: f64,
    cublaslt: f64,
    taken: PairLossPath,
}

impl Times {
    fn new(fused: &dyn Ways, sizes: Sizes) -> Self {
        let [negatives, kept, easy] = [Pairs::Negatives, Pairs::Kept, Pairs::Easy].map(|pairs| fused.seconds(sizes, pairs));
        let device = fused.device();
        let taken = PairLossPath::Auto.chosen((device.capability, device.capability == CAPABILITY), sizes.anchors, sizes.dim);
        Self { negatives, kept, easy, cublaslt: unfused::cublaslt(device, sizes), taken }
    }

    /// Of the way that is not taken, as a multiple of the time of the other: with pairs that all have weight, and with half of them easy.
    fn ratios(&self) -> [f64; 2] {
        [self.negatives, (self.negatives + self.easy) / 2.0].map(|fused| match self.taken {
            PairLossPath::Unfused => fused / self.cublaslt,
            _ => self.cublaslt / fused,
        })
    }
}

fn line_of_times(device: &Device, fused: &dyn Ways, sizes: Sizes) -> String {
    let Sizes { anchors, rows, dim } = sizes;
    let times = Times::new(fused, sizes);
    let compile = unfused::torch_compile(device, sizes);
    let floor = ((2 * rows * dim) as f64 / device.bytes_per_second).max(4.0 * (anchors * rows * dim) as f64 / device.peak);
    let [negatives, kept, easy, cublaslt, compile, floor] =
        [times.negatives, times.kept, times.easy, times.cublaslt, compile, floor].map(|seconds| seconds * 1e6);
    let [all, half] = times.ratios();
    let name = if times.taken == PairLossPath::Unfused { "cuBLASLt" } else { "fused" };
    format!(
        "{:9} {dim:>5} {anchors:>7} {negatives:>9.1} {kept:>9.1} {easy:>8.1} {cublaslt:>9.1} {compile:>8.1} {floor:>7.1}  {name:8} {all:.2} {half:.2}",
        device.name,
    )
}

/// Every length and batch.
fn all_sizes() -> impl Iterator<Item = Sizes> {
    DIMS.into_iter().flat_map(|dim| BATCHES.map(|anchors| Sizes { anchors, rows: ROWS, dim }))
}

/// Of every device.
fn all_times(budget: &Budget) -> impl Iterator<Item = (&'static Device, Sizes, Times)> {
    DEVICES.iter().flat_map(move |device| {
        all_sizes().filter_map(move |sizes| {
            let fused = kernel(budget, device, sizes.dim, sizes.anchors)?;
            Some((device, sizes, Times::new(&*fused, sizes)))
        })
    })
}

/// Fused against cuBLASLt where both multiply by `mma`, and the choices that the count does not bear out.
fn print_comparisons(budget: &Budget) {
    let mma = |device: &Device, sizes: &Sizes| !(90..120).contains(&device.capability) && sizes.dim <= 512;
    let least = all_times(budget)
        .filter(|(device, sizes, _)| mma(device, sizes))
        .map(|(_, _, times)| times.cublaslt / times.negatives)
        .fold(f64::INFINITY, f64::min);
    let verdict = if least >= 1.0 { "met" } else { "missed" };
    println!(
        "compute capability 8.x and 12.x, up to length 512: cuBLASLt takes at least {least:.3} times as long as fused, 1 wanted: {verdict}"
    );
    println!("Ways that are taken although the other one is counted quicker where half of the pairs are easy:");
    let mut count = 0;
    for (device, sizes, times) in all_times(budget) {
        let [_, ratio] = times.ratios();
        if ratio < 1.0 {
            println!("    {}, {} anchors of {}: {ratio:.2}", device.name, sizes.anchors, sizes.dim);
            count += 1;
        }
    }
    println!("    {count} of {}", all_times(budget).count());
}

fn print_targets(budget: &Budget) {
    println!("\nTargets, and what was counted:");
    let a100 = &DEVICES[0];
    for (dim, target) in [(128, 95.0), (256, 90.0), (512, 85.0)] {
        let fused = by_warps(budget, a100, dim).expect("a kernel of this length");
        let [negatives, kept] = [Pairs::Negatives, Pairs::Kept].map(|pairs| 100.0 * fused.tensor_share(pairs));
        let verdict = if negatives >= target { "met" } else { "missed" };
        println!(
            "A100, length {dim}: tensor cores busy {negatives:.0} % of a tile of negatives, {target} wanted: {verdict}; {kept:.0} % with positives"
        );
    }
    print_targets_of_warpgroups(budget);
    for architecture in ["sm_80", "sm_90a", "sm_120"] {
        let tiling = Tiling::of_length(128, false);
        let counted = budget.of(&tiling, architecture);
        let [easy, negatives, kept] = counted.slots_of_a_pair;
        let verdict = |found: f64, target: f64| if found <= target { "met" } else { "missed" };
        println!(
            "{architecture}, length 128: slots of a similarity {easy} easy, 6 wanted: {}; {negatives} of negatives, {kept} with positives, 12 wanted: {}",
            verdict(easy, 6.0),
            verdict(negatives, 12.0)
        );
        let ratio = counted.ldsm[1] / counted.hmma[1];
        println!("{architecture}, length 128: LDSM to HMMA {ratio:.2}, 0.45 wanted: {}", verdict(ratio, 0.45));
    }
}

fn print_targets_of_warpgroups(budget: &Budget) {
    let h200 = DEVICES.iter().find(|device| device.name == "H200").expect("an H200");
    let verdict = |met: bool| if met { "met" } else { "missed" };
    for dim in [128, 256, 512] {
        let fused = kernel(budget, h200, dim, 256).expect("a kernel of this length");
        let [negatives, easy] = [Pairs::Negatives, Pairs::Easy].map(|pairs| 100.0 * fused.tensor_share(pairs));
        println!(
            "H200, length {dim}: tensor cores busy {negatives:.0} % of a tile of negatives with weight, 90 wanted: {}; {easy:.0} % of easy ones",
            verdict(negatives >= 90.0)
        );
    }
    for (anchors, target) in [(64, 24.0), (256, 56.0)] {
        let sizes = Sizes { anchors, rows: ROWS, dim: 512 };
        let micros = 1e6 * kernel(budget, h200, 512, anchors).expect("a kernel of this length").seconds(sizes, Pairs::Negatives);
        println!(
            "H200, {anchors} anchors of 512 against {ROWS} rows: {micros:.1} us of negatives with weight, {target} wanted: {}",
            verdict(micros <= target)
        );
    }
}

/// A test set of 60,000 rows of 512 numbers: evaluation of Stanford Online Products is of this size.
fn print_retrieval() {
    println!(
        "\nMilliseconds for the ranks of {ROWS} rows of 512 16-bit numbers among themselves: products, similarities read, both, floor."
    );
    for device in &DEVICES {
        let [product, read] = retrieval::ranks(device, ROWS, 512).map(|seconds| seconds * 1e3);
        let floor = 2e3 * (ROWS * ROWS) as f64 * 512.0 / device.peak;
        println!("{:9} {product:>6.1} {read:>6.1} {:>6.1} {floor:>6.1}", device.name, product + read);
    }
    let h200 = DEVICES.iter().find(|device| device.name == "H200").expect("an H200");
    let found = 1e3 * retrieval::ranks(h200, ROWS, 512).iter().sum::<f64>();
    let verdict = if found < 10.0 { "met" } else { "missed" };
    println!("H200: {found:.1} ms for the ranks of {ROWS} rows, under 10 wanted: {verdict}");
}

fn main() {
    let budget = Budget::read();
    print_ceilings(&budget);
    print_times(&budget);
    print_targets(&budget);
    print_comparisons(&budget);
    print_retrieval();
}
