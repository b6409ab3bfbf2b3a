//! A kernel that is known to be right on hardware and was not written here: a matrix product of CUTLASS. What it computes on the
//! machine says whether the machine's copies, matrix loads and products are those of the hardware.

use software_gpu::Order;
use software_gpu::ptx::{Class, Launch, Library, Region, run};
use std::process::Command;
use std::{env, fs};

/// Halves that are exact and different from each other, and their bits.
fn halves(count: usize, seed: u32) -> Vec<(f64, u16)> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // 1.xxxxxxxxxx times a power of two from 1/4 to 2, of either sign.
            let bits = (state >> 16 & 0x83ff | (13 + (state >> 12 & 3)) << 10) as u16;
            let exponent = i32::from(bits >> 10 & 31) - 15;
            let magnitude = (1.0 + f64::from(bits & 0x3ff) / 1024.0) * 2_f64.powi(exponent);
            (if bits & 0x8000 == 0 { magnitude } else { -magnitude }, bits)
        })
        .collect()
}

#[test]
#[ignore = "needs what `.ci/kernels ptx` makes: CUTLASS_GEMM is a folder with gemm.ptx and the program that prints its parameters"]
fn a_product_of_cutlass_is_right() {
    let folder = env::var("CUTLASS_GEMM").expect("CUTLASS_GEMM");
    let text = fs::read_to_string(format!("{folder}/gemm.ptx")).expect("gemm.ptx");
    let library = Library::parse(&text).unwrap();
    let kernel = library.kernel("cutlass_gemm").expect("the kernel");
    for (m, n, k) in [(64, 64, 32), (128, 192, 256), (100, 72, 40), (7, 4, 8)] {
        for order in [Order::Fifo, Order::Reverse, Order::Random] {
            let (mut a, mut b) = (halves(m * k, 1), halves(n * k, 2));
            let bits = |numbers: &mut Vec<(f64, u16)>| numbers.iter().map(|number| number.1).collect::<Vec<u16>>();
            let (mut a_bits, mut b_bits) = (aligned(&bits(&mut a)), aligned(&bits(&mut b)));
            let mut c = vec![Aligned([0; 64]); (4 * m * n).div_ceil(64)];
            let region = |lines: &mut Vec<Aligned>, bytes: usize, number| Region {
                start: lines.as_mut_ptr().expose_provenance() as u64,
                bytes: bytes as u64,
                number,
                writable: true,
            };
            let regions = vec![region(&mut a_bits, 2 * m * k, 1), region(&mut b_bits, 2 * n * k, 2), region(&mut c, 4 * m * n, 3)];
            let mut arguments = [m, n, k].map(|size| size.to_string()).to_vec();
            arguments.extend(regions.iter().map(|region| region.start.to_string()));
            arguments.push("0.5".into());
            let printed = Command::new(format!("{folder}/params")).args(&arguments).output().expect("the program runs").stdout;
            let printed = String::from_utf8(printed).expect("numbers");
            let (shape, params) = printed.split_once('\n').expect("two lines");
            let shape: Vec<u32> = shape.split(' ').map(|number| number.parse().expect("a number")).collect();
            let params: Vec<u8> = params.split_whitespace().map(|number| number.parse().expect("a byte")).collect();
            let launch = Launch {
                grid: [shape[0], shape[1], 1],
                block: [shape[2], 1, 1],
                cluster: [1; 3],
                shared_bytes: shape[3],
                order,
                seed: 3,
                late_copies: true,
                // Behind its last step it loads fragments that it never multiplies.
                needs_written: false,
            };
            let counts = run(kernel, &launch, &params, regions).unwrap_or_else(|words| panic!("{m} x {n} x {k}: {words}"));
            let mut largest: f64 = 0.0;
            for row in 0..m {
                for column in 0..n {
                    let exact: f64 = 0.5 * (0..k).map(|at| a[row * k + at].0 * b[column * k + at].0).sum::<f64>();
                    let place = 4 * (row * n + column);
                    let found = f32::from_le_bytes(c[place / 64].0[place % 64..][..4].try_into().expect("four bytes"));
                    largest = largest.max((f64::from(found) - exact).abs());
                }
            }
            assert!(largest < 1e-5 * k as f64, "{m} x {n} x {k}, {order:?}: off by {largest}");
            assert!(counts.of(Class::Product) > 0 && counts.of(Class::LoadMatrix) > 0 && counts.of(Class::CopyAsync) > 0);
            println!(
                "{m} x {n} x {k}, {order:?}: off by at most {largest:.1e}; {} products, {} matrix loads",
                counts.of(Class::Product),
                counts.of(Class::LoadMatrix)
            );
        }
    }
}

#[derive(Clone)]
#[repr(C, align(64))]
pub struct Aligned(pub [u8; 64]);

pub fn aligned(numbers: &[u16]) -> Vec<Aligned> {
    let mut lines = vec![Aligned([0; 64]); numbers.len().div_ceil(32)];
    for (at, number) in numbers.iter().enumerate() {
        lines[at / 32].0[2 * (at % 32)..][..2].copy_from_slice(&number.to_le_bytes());
    }
    lines
}
