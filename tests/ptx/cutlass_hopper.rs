//! Two matrix products of CUTLASS for sm_90a, which hardware has run: what they compute on the machine says whether its tensor maps,
//! swizzles, mbarriers, clusters, descriptors and products of warpgroups are those of the hardware. What is changed in them on purpose
//! must be found.

use crate::cutlass::{Aligned, aligned};
use software_gpu::Order;
use software_gpu::ptx::{Class, Counts, Launch, Library, Region, run};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

/// A kernel: how its numbers are written, and where those of A and B lie.
#[derive(Clone, Copy)]
struct Gemm {
    kernel: &'static str,
    mantissa_bits: u32,
    exponent_bias: i32,
    /// Whether K is contiguous in both operands, rather than M and N.
    k_contiguous: bool,
}

const HALF: Gemm = Gemm { kernel: "hopper_gemm_f16", mantissa_bits: 10, exponent_bias: 15, k_contiguous: true };
const BFLOAT: Gemm = Gemm { kernel: "hopper_gemm_bf16", mantissa_bits: 7, exponent_bias: 127, k_contiguous: false };

impl Gemm {
    /// Numbers that are different from each other, and their bits: 1.xx times a power of two from 1/4 to 2, of either sign.
    fn numbers(&self, count: usize, seed: u32) -> Vec<(f64, u16)> {
        let mut state = seed;
        let number = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (mantissa, power) = (state >> 12 & ((1 << self.mantissa_bits) - 1), (state >> 24 & 3).cast_signed() - 2);
            let exponent = (self.exponent_bias + power).cast_unsigned();
            let magnitude = (1.0 + f64::from(mantissa) / f64::from(1 << self.mantissa_bits)) * 2_f64.powi(power);
            let negative = state >> 31 == 1;
            let bits = u32::from(negative) << 15 | exponent << self.mantissa_bits | mantissa;
            (if negative { -magnitude } else { magnitude }, bits as u16)
        };
        (0..count).map(number).collect()
    }
}

fn folder() -> String {
    env::var("CUTLASS_HOPPER_GEMM").expect("CUTLASS_HOPPER_GEMM")
}

fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| fs::read_to_string(format!("{}/gemm.ptx", folder())).expect("gemm.ptx"))
}

/// How a launch goes.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    order: Order,
    late_copies: bool,
}

/// Runs a product; the largest error, and what was counted.
fn product(library: &Library, gemm: &Gemm, [m, n, k]: [usize; 3], schedule: Schedule) -> Result<(f64, Counts), String> {
    let (a, b) = (gemm.numbers(m * k, 1), gemm.numbers(n * k, 2));
    let bits = |numbers: &[(f64, u16)]| numbers.iter().map(|number| number.1).collect::<Vec<u16>>();
    let (mut a_bits, mut b_bits) = (aligned(&bits(&a)), aligned(&bits(&b)));
    let mut c = vec![Aligned([0xff; 64]); (4 * m * n).div_ceil(64)];
    let region = |lines: &mut Vec<Aligned>, bytes: usize, number| Region {
        start: lines.as_mut_ptr().expose_provenance() as u64,
        bytes: bytes as u64,
        number,
        writable: true,
    };
    let regions = vec![region(&mut a_bits, 2 * m * k, 1), region(&mut b_bits, 2 * n * k, 2), region(&mut c, 4 * m * n, 3)];
    let mut arguments = vec![gemm.kernel.to_owned()];
    arguments.extend([m, n, k].map(|size| size.to_string()));
    arguments.extend(regions.iter().map(|region| region.start.to_string()));
    arguments.push("0.5".into());
    let printed = Command::new(format!("{}/params", folder())).args(&arguments).output().expect("the program runs");
    assert!(printed.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&printed.stderr));
    let printed = String::from_utf8(printed.stdout).expect("numbers");
    let (shape, params) = printed.split_once('\n').expect("two lines");
    let shape: Vec<u32> = shape.split(' ').map(|number| number.parse().expect("a number")).collect();
    let params: Vec<u8> = params.split_whitespace().map(|number| number.parse().expect("a byte")).collect();
    let launch = Launch {
        grid: [shape[0], shape[1], shape[2]],
        block: [shape[3], 1, 1],
        cluster: [shape[5], shape[6], shape[7]],
        shared_bytes: shape[4],
        order: schedule.order,
        seed: 3,
        late_copies: schedule.late_copies,
        needs_written: true,
    };
    let counts = run(library.kernel(gemm.kernel).expect("the kernel"), &launch, &params, regions)?;
    let mut largest: f64 = 0.0;
    for row in 0..m {
        for column in 0..n {
            let of_a = |at: usize| a[if gemm.k_contiguous { row * k + at } else { at * m + row }].0;
            let of_b = |at: usize| b[if gemm.k_contiguous { column * k + at } else { at * n + column }].0;
            let exact: f64 = 0.5 * (0..k).map(|at| of_a(at) * of_b(at)).sum::<f64>();
            let place = 4 * (row * n + column);
            let found = f32::from_le_bytes(c[place / 64].0[place % 64..][..4].try_into().expect("four bytes"));
            let error = (f64::from(found) - exact).abs();
            largest = if error.is_nan() { f64::INFINITY } else { largest.max(error) };
        }
    }
    Ok((largest, counts))
}

/// Every order with copies and products as late as they may be, and at once.
fn schedules() -> impl Iterator<Item = Schedule> {
    let orders = [Order::Fifo, Order::Reverse, Order::Random, Order::Greedy];
    orders.into_iter().flat_map(|order| [true, false].map(|late_copies| Schedule { order, late_copies }))
}

const SHAPES: [[usize; 3]; 5] = [[128, 128, 64], [256, 384, 192], [520, 136, 72], [8, 8, 8], [200, 264, 600]];

#[test]
#[ignore = "needs what `.ci/kernels ptx` makes: CUTLASS_HOPPER_GEMM is a folder with gemm.ptx and the program that prints parameters"]
fn products_of_cutlass_for_hopper_are_right() {
    let library = Library::parse(text()).unwrap();
    for gemm in [HALF, BFLOAT] {
        for shape @ [m, n, k] in SHAPES {
            for schedule in schedules() {
                let name = gemm.kernel;
                let (error, counts) = product(&library, &gemm, shape, schedule)
                    .unwrap_or_else(|words| panic!("{m} x {n} x {k}, {schedule:?}: {words}"));
                assert!(error < 1e-5 * k as f64, "{name}, {m} x {n} x {k}, {schedule:?}: off by {error}");
                let (products, copied) = (counts.of(Class::Product), counts.bytes_copied);
                assert!(products > 0 && copied > 0);
                println!(
                    "{name}, {m} x {n} x {k}, {schedule:?}: off by at most {error:.1e}; {products} products, {copied} bytes copied"
                );
            }
        }
    }
}

/// What is changed in the lines that hold some words, by replacing others; and what must be said of it, or nothing where the product
/// may just be wrong.
#[rustfmt::skip]
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    ("a wait for one group of products fewer", "wgmma.wait_group", " 0;", " 1;", "touched before wgmma.wait_group"),
    ("no commit", "wgmma.commit_group", "wgmma.commit_group.sync.aligned;", "", "touched before wgmma.wait_group"),
    ("no fence of products", "wgmma.fence", "wgmma.fence.sync.aligned;", "", "wgmma.fence is missing"),
    ("no fence of barriers", "fence.mbarrier_init", "fence.mbarrier_init.release.cluster;", "", "neither fence.mbarrier_init nor"),
    ("no barrier of the cluster", "barrier.cluster", "barrier.cluster", "//", "where no mbarrier was initialised"),
    ("half of the bytes expected", "mbarrier.arrive.expect_tx", "LAST", "16384", ""),
    ("more bytes expected", "mbarrier.arrive.expect_tx", "LAST", "32784", "lacks 0 arrivals and 16 bytes"),
    ("always the same parity", "mbarrier.try_wait.parity", "PARITY", "0", ""),
    ("stages given back to the own block only", "mapa.shared::cluster", "mapa", "", ""),
    ("no registers given back", "setmaxnreg.dec", " 40;", " 168;", "registers, and 0 are free"),
    ("another stride of both operands", "or.b64", "4611686293305360384", "4611686297600327680", ""),
    ("another leading offset", "or.b64", "4611686293338849280", "4611686293338914816", ""),
    ("a transposed operand", "wgmma.mma_async", "LAST", "BIT", ""),
    ("the other format", "wgmma.mma_async", "FORMAT", "", ""),
];

/// A line with a fault.
fn changed(line: &str, from: &str, to: &str) -> String {
    let operands: Vec<&str> = line.trim_end().trim_end_matches(';').split(',').collect();
    let before = |count: usize| operands[..count].join(",");
    match from {
        "LAST" => {
            let bit = if line.trim_end().ends_with("0;") { "1" } else { "0" };
            format!("{}, {};", before(operands.len() - 1), if to == "BIT" { bit } else { to })
        }
        "PARITY" => [&[before(2).as_str(), to], &operands[3..]].concat().join(",") + ";",
        "FORMAT" if line.contains(".bf16.bf16") => line.replace(".bf16.bf16", ".f16.f16"),
        "FORMAT" => line.replace(".f16.f16", ".bf16.bf16"),
        _ if from.starts_with("mapa") => operands
            .first()
            .map_or(String::new(), |first| format!("{}, {};", first.replace("mapa.shared::cluster.u32", "mov.b32"), operands[1])),
        _ => line.replace(from, to),
    }
}

#[test]
#[ignore = "needs what `.ci/kernels ptx` makes: CUTLASS_HOPPER_GEMM is a folder with gemm.ptx and the program that prints parameters"]
fn faults_in_products_of_cutlass_are_found() {
    for &(what, words, from, to, expected) in FAULTS {
        let lines = text().lines().map(|line| if line.contains(words) { changed(line, from, to) } else { line.to_owned() });
        let faulty = lines.collect::<Vec<_>>().join("\n");
        assert_ne!(faulty, text().trim_end(), "{what}: nothing is changed");
        let library = Library::parse(&faulty).unwrap_or_else(|words| panic!("{what}: {words}"));
        let mut found = Vec::new();
        // One schedule after another, until it is found.
        let runs = [BFLOAT, HALF].into_iter().flat_map(|gemm| schedules().map(move |schedule| (gemm, schedule)));
        let is_found = runs.into_iter().any(|(gemm, schedule)| {
            let words = match product(&library, &gemm, [136, 128, 600], schedule) {
                Ok((error, _)) if error < 1e-2 => return false,
                Ok((error, _)) => format!("off by {error}"),
                Err(words) => words,
            };
            found.push(words);
            found.last().is_some_and(|words| words.contains(expected))
        });
        println!("{what}: {}", found.last().map_or("", String::as_str));
        assert!(is_found, "{what}: expected `{expected}`, found {found:?}");
    }
}
